"""A worker's chunks: together they are the undivided run, call for call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from acquisition.recorded import RecordedSource
from config.schema import Settings
from engine.localisations import LOCALISATION_SCHEMA
from engine.output.recorder import LogTail
from engine.scale.plan import Plan
from engine.scale.worker import Examined, Failed, Job, Localised, examine, localise, release
from tests.engine.scale.doubles import (
    DESCRIPTION,
    movie,
    movie_with_gaps,
    open_telling,
    replayed,
    settings_for,
)


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    yield
    release()


def job(stack: Path, settings: Settings, token: str = "job") -> Job:
    found = examine(Job(token, "", stack, settings, open_telling, ""))
    assert isinstance(found, Examined), found
    return Job(token, "", stack, settings, open_telling, found.model.sha256)


def in_chunks(stack: Path, settings: Settings) -> list[pa.RecordBatch]:
    with RecordedSource(stack, settings.run.start, settings.run.stop) as source:
        frames, block = source.open().frames or 0, source.block_frames(settings.run.block)
    plan = Plan.of(frames, block, DESCRIPTION.context, 80, 1, settings.cluster.chunk)
    assert len(plan) > 2
    done = [localise(job(stack, settings), chunk) for chunk in plan]
    return [
        pa.ipc.read_record_batch(pa.py_buffer(batch), LOCALISATION_SCHEMA)
        for one in done
        if isinstance(one, Localised)
        for batch in one.batches
    ]


def recorded(folder: Path) -> list[pa.RecordBatch]:
    return LogTail(folder / "localisations.arrows").read_new()


GAPS = [*range(11), *range(13, 14), *range(20, 47), *range(48, 60), 63, 66, *range(70, 90)]


@pytest.mark.parametrize(("block", "chunk"), [(4, 12), (4, 4), (1, 1), (7, 10), (16, 32)])
@pytest.mark.parametrize("gaps", [False, True])
def test_chunks_together_are_the_undivided_run(tmp_path: Path, gaps: bool, block: int, chunk: int) -> None:
    stack = movie_with_gaps(tmp_path, "a.ome.tif", GAPS) if gaps else movie(tmp_path, "a.tif", 97)
    settings = settings_for(tmp_path, tmp_path / "run", chunk=chunk)
    settings = replace(settings, run=replace(settings.run, block=block))
    assert in_chunks(stack, settings) == recorded(replayed(stack, settings))


def test_a_window_of_a_stack(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, tmp_path / "run")
    settings = replace(settings, run=replace(settings.run, start=5, stop=61))
    batches = in_chunks(movie(tmp_path, "a.tif"), settings)
    assert batches == recorded(replayed(tmp_path / "a.tif", settings))
    assert pa.Table.from_batches(batches)["frame"].to_pylist() == [frame for frame in range(5, 61) for _ in "ab"]


def test_a_stack_is_opened_once_for_all_of_its_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    real = RecordedSource.open
    monkeypatch.setattr(RecordedSource, "open", lambda self: (opened.append(self._path), real(self))[1])
    settings, stacks = settings_for(tmp_path), [movie(tmp_path, f"{name}.tif") for name in "ab"]
    jobs = [job(stack, settings, stack.name) for stack in stacks]
    for one in jobs:
        for chunk in Plan.of(100, 4, DESCRIPTION.context, 80, 1, 12):
            assert isinstance(localise(one, chunk), Localised)
    assert opened == stacks


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    stack, settings = movie(tmp_path, "a.tif"), settings_for(tmp_path)
    good = job(stack, settings)
    chunk = next(iter(Plan.of(100, 4, DESCRIPTION.context, 80)))
    missing = localise(replace(good, token="other", stack=tmp_path / "b.tif"), chunk)
    assert isinstance(missing, Failed)
    assert missing.kind == "SourceUnreadable"
    assert "b.tif" in missing.message
    another = localise(replace(good, sha256="0" * 64), chunk)
    assert isinstance(another, Failed)
    assert "another than the first worker's" in another.message
    bad = replace(settings, model=str(tmp_path / "nowhere.onnx"))
    unknown = examine(replace(good, settings=bad))
    assert isinstance(unknown, Failed)
    assert "nowhere.onnx" in unknown.message


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    good = job(movie(tmp_path, "a.tif"), settings_for(tmp_path))
    (tmp_path / "fail").touch()
    failed = localise(good, next(iter(Plan.of(100, 4, DESCRIPTION.context, 80))))
    assert isinstance(failed, Failed)
    assert (failed.kind, failed.message) == ("ValueError", "the network fell over")
    assert "in _obey" in failed.trace


def test_warnings_come_back_with_the_rows(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    settings.camera.em_gain = 300.0
    done = localise(job(movie(tmp_path, "a.tif"), settings), next(iter(Plan.of(100, 4, DESCRIPTION.context, 80))))
    assert isinstance(done, Localised)
    assert any("was trained for scmos, not for emccd" in words for words in done.warnings)
