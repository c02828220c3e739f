from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from omegaconf import OmegaConf

from config.errors import RecorderFailed, RunError, SettingsError
from config.schema import Settings
from engine.delay import Delay
from engine.output.formats import read_table
from engine.output.recorder import Recorder
from engine.output.run_folder import ModelUsed, RunFacts, RunFolder, messages_for
from engine.output.table import describe_field
from engine.status import Mark, State, Status

MakeBatch = Callable[..., pa.RecordBatch]

STATUS = Status(
    state=State.FINISHED,
    acquired=98,
    analysed=98,
    localisations=50,
    expected=100,
    waiting=(0, 0),
    rate_in=0.0,
    rate_out=0.0,
    elapsed=2.0,
    missing=(range(10, 12), range(40, 41)),
    pending=(),
    dropped_sinks=(),
    error=None,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings()
    settings.run.output = str(tmp_path / "run")
    return settings


def account(folder: RunFolder) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder.path / "run.json").read_text("utf-8"))
    return content


def record(folder: RunFolder, batch: pa.RecordBatch, **field: Any) -> None:
    recorder = Recorder(folder.log_path, describe_field(folder.run_id, **field))
    recorder.write(batch)
    recorder.close()


def test_a_run_that_was_killed_shows_as_running(settings: Settings) -> None:
    with RunFolder.create(settings) as folder:
        assert account(folder)["end_reason"] == "running"
        assert account(folder)["ended"] is None
        folder.finish(STATUS)


def test_the_settings_that_made_it_are_kept(settings: Settings) -> None:
    settings.camera.em_gain = 300.0
    with RunFolder.create(settings) as folder:
        folder.finish(STATUS)
    kept = OmegaConf.merge(OmegaConf.structured(Settings), OmegaConf.load(folder.path / "settings.yaml"))
    assert OmegaConf.to_object(kept) == settings


def test_a_finished_run_has_its_account_tables_and_picture(
    settings: Settings, make_batch: MakeBatch, tmp_path: Path
) -> None:
    settings.run.formats = ["csv", "parquet", "hdf5"]
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")
    with RunFolder.create(settings) as folder:
        used = ModelUsed.of_file(model, "default", "1", "onnx", "cpu")
        folder.begin(RunFacts(used, {"em_gain": 300.0}, {"name": "frames.tif", "height": 48}))
        record(folder, make_batch(50), pixel_size=100.0, width=64, height=48)
        folder.finish(STATUS)
    told = account(folder)
    expected = {
        "end_reason": "finished",
        "frames_seen": 98,
        "missing_frames": [10, 11, 40],
        "missing_ranges": [[10, 11], [40, 40]],
        "localisations": 50,
        "frames_per_second": 49.0,
        "camera": {"em_gain": 300.0},
        "warnings": [],
    }
    assert {key: told[key] for key in expected} == expected
    assert told["model"]["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert told["versions"].keys() >= {"python", "numpy", "pyarrow"}
    assert told["ended"] >= told["started"]
    for name in ("csv", "parquet", "hdf5"):
        assert read_table(folder.path / f"localisations.{name}").num_rows == 50
    assert (folder.path / "image.png").stat().st_size > 500


def test_a_folder_with_a_log_is_never_taken_again(settings: Settings, make_batch: MakeBatch) -> None:
    with RunFolder.create(settings) as folder:
        record(folder, make_batch(5))
        folder.finish(STATUS)
    before = {file: file.read_bytes() for file in folder.path.iterdir()}
    with pytest.raises(RunError, match="never overwritten"):
        RunFolder.create(settings)
    assert {file: file.read_bytes() for file in folder.path.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_a_clear_error(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    settings.run.output = str(tmp_path / "file" / "run")
    with pytest.raises(RunError, match=r"run\.output"):
        RunFolder.create(settings)


def test_a_dated_folder_carries_the_name_and_two_in_one_second_differ(settings: Settings, tmp_path: Path) -> None:
    settings.run.output, settings.run.name = None, "cell 3: a/b"
    paths = []
    for _ in range(2):
        with RunFolder.create(settings, tmp_path, lambda: datetime(2026, 11, 22, 18, 3, 11)) as folder:
            paths.append(folder.path)
    assert [path.name for path in paths] == ["2026-11-22T18-03-11_cell-3-a-b", "2026-11-22T18-03-11_cell-3-a-b-2"]


def test_an_unknown_format_is_refused_before_the_run(settings: Settings, tmp_path: Path) -> None:
    settings.run.formats = ["xls"]
    with pytest.raises(SettingsError, match=r"csv.*'xls'"):
        RunFolder.create(settings)
    assert list(tmp_path.iterdir()) == []


def test_messages_go_into_the_log_and_warnings_into_the_account(settings: Settings) -> None:
    with RunFolder.create(settings) as folder:
        logging.getLogger("engine.anything").info("for the record")
        for _ in range(2):
            logging.getLogger("acquisition.camera").warning("the gain is %d", 7)
        folder.finish(STATUS)
    logging.getLogger("engine.anything").warning("after the run")
    text = (folder.path / "liveloc.log").read_text("utf-8")
    assert "for the record" in text
    assert "after the run" not in text
    assert account(folder)["warnings"] == ["the gain is 7"]


def test_a_table_that_cannot_be_made_is_a_warning_and_the_rest_is_made(
    settings: Settings, make_batch: MakeBatch
) -> None:
    settings.run.formats = ["hdf5", "csv"]
    with RunFolder.create(settings) as folder:
        record(folder, make_batch(5))
        folder.finish(STATUS)
    assert any("pixel_size_nm" in text for text in account(folder)["warnings"])
    assert {file.name for file in folder.path.iterdir()} >= {"localisations.csv", "image.png"}


def test_a_failed_run_lists_what_it_left_undone(settings: Settings) -> None:
    failed = replace(
        STATUS, state=State.FAILED, analysed=90, pending=(range(92, 100),), error=RecorderFailed("no space")
    )
    with RunFolder.create(settings) as folder:
        folder.finish(failed)
    assert account(folder)["end_reason"] == "failed: no space"
    assert account(folder)["missing_frames"] == [10, 11, 40, *range(92, 100)]
    assert account(folder)["unanalysed_ranges"] == [[92, 99]]


def test_an_error_before_the_end_is_written_down(settings: Settings) -> None:
    with pytest.raises(ValueError, match="boom"), RunFolder.create(settings) as folder:
        raise ValueError("boom")
    assert account(folder)["end_reason"] == "failed: boom"


def test_a_stopped_run_says_so(settings: Settings) -> None:
    with RunFolder.create(settings) as folder:
        folder.finish(replace(STATUS, state=State.STOPPED))
    assert account(folder)["end_reason"] == "stopped"


def test_skipped_frames_marks_and_delays_are_kept(settings: Settings) -> None:
    told = replace(
        STATUS,
        skipped_behind=(range(20, 22), range(70, 71)),
        skipped_paused=(range(50, 53),),
        marks=(Mark("buffer changed", 45, 1.5, "2026-11-22T18:03:12.500+00:00"),),
        delay_run=Delay(0.1, 0.4, 0.5),
    )
    with RunFolder.create(settings) as folder:
        assert account(folder)["skipped_frames"] == []
        folder.finish(told)
    kept = account(folder)
    assert kept["skipped_frames"] == [20, 21, 50, 51, 52, 70]
    assert kept["skipped_ranges"] == [[20, 21, "behind"], [50, 52, "paused"], [70, 70, "behind"]]
    (mark,) = kept["marks"]
    assert (mark["text"], mark["frame"], mark["seconds"]) == ("buffer changed", 45, 1.5)
    assert kept["delay"] == {"median": 0.1, "p99": 0.4, "longest": 0.5}


def test_the_account_is_replaced_whole(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunFolder.create(settings) as folder:
        before = account(folder)
        monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
        folder.finish(STATUS)
        monkeypatch.undo()
        assert account(folder) == before
        assert not [file for file in folder.path.iterdir() if file.name.startswith(".")]
        folder.finish(STATUS)


def test_notes_stand_in_the_account(settings: Settings) -> None:
    with RunFolder.create(settings) as folder:
        folder.note("cluster", {"chunks": 3})
        folder.finish(STATUS)
    assert account(folder)["cluster"] == {"chunks": 3}


def test_where_several_runs_go_on_each_keeps_its_own_messages(settings: Settings, tmp_path: Path) -> None:
    other = replace(settings, run=replace(settings.run, output=str(tmp_path / "other")))
    logger = logging.getLogger("engine.test")
    with RunFolder.create(settings) as first, RunFolder.create(other) as second:
        logger.warning("for both")
        with messages_for(second):
            logger.warning("for the second")
            with messages_for(None):
                logger.warning("for none")
        assert first.warnings == ["for both"]
        assert second.warnings == ["for both", "for the second"]
        first.finish(STATUS)
        second.finish(STATUS)
    assert "for the second" not in (first.path / "liveloc.log").read_text(encoding="utf-8")
    assert "for the second" in (second.path / "liveloc.log").read_text(encoding="utf-8")
