"""A small but real bench of an untrained network: its rows, its files, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from config.compose import compose
from config.errors import RunError, SettingsError
from config.schema import BenchSettings, NetworkSettings, Settings, TrainingSettings
from models.bench.bench import Result, bench, check, write_rows
from models.bench.jobs import Job, Prepared
from models.bench.page import machine_in_words, verdicts, write_page
from models.bench.plot import write_plot
from models.bench.prepare import precisions
from models.bench.speed import measure
from models.export import describe
from models.registry import build_network
from models.weights_file import write_weights

TINY = NetworkSettings(past=1, future=1, encoder=[8, 8], features=8, heads=2, decoder=[8, 8, 8])
EXPECTED = {"model": "tiny", "runtime": "torch-fp32", "precision": "fp32", "device": "cpu", "height": 24, "width": 24}


def settings(*overrides: str) -> Settings:
    short = ("bench.seconds=0.05", "bench.sizes=[24]", "run.threads=1", "run.device=cpu")
    return compose(["camera=challenge_emccd", "optics=challenge", "dataset=density_1", *short, *overrides])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file beside an ONNX file that is none."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    write_weights(build_network(TINY).state_dict(), describe(TINY, TrainingSettings(), 0, "tiny"), path)
    path.with_suffix(".onnx").write_bytes(b"no graph")
    return path


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def found(model: Path, told: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory) -> Result:
    page = tmp_path_factory.mktemp("docs") / "performance.md"
    chosen = settings(f"bench.models=[{model}]", "bench.runtimes=[onnx,torch]", f"bench.page={page}")
    return bench(chosen, lambda *words: told.append(words))


def test_rows(found: Result) -> None:
    (row,) = found.rows
    assert {name: getattr(row, name) for name in EXPECTED} == EXPECTED
    assert row.runs_on.startswith("torch ")
    assert 10 < row.frames_per_second < 1e5
    assert 10 < row.network_frames_per_second < 1e5
    assert row.live_frames_per_second == pytest.approx(0.8 * row.frames_per_second)
    assert 0 < row.live_delay <= row.live_delay_99 < 10
    assert 1e8 < row.memory < 4e9
    assert 0 < row.of_product < 1
    assert row.bottleneck.startswith(("network", "engine"))


def test_a_runtime_that_fails_is_told_and_the_others_are_measured(found: Result) -> None:
    (words,) = found.failures
    assert words.startswith("tiny on onnx-fp32: ")
    assert "cannot be opened as an ONNX model" in words


def test_progress_ends_where_all_is_done(found: Result, told: list[tuple[str, int, int]]) -> None:
    assert found.rows
    assert told[0] == ("starting", 0, 1)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1] == ("the stages of tiny", 3, 4)


def test_stages(found: Result) -> None:
    assert [(times.precision, times.cores) for times in found.stages] == [(name, 1) for name in precisions("cpu")]
    for times in found.stages:
        assert set(times.seconds) == {"encode", "attend", "decode", "detect", "rest"}
        assert all(times.seconds[stage] > 0 for stage in ("encode", "attend", "decode", "detect"))


def test_rows_as_json(found: Result, tmp_path: Path) -> None:
    write_rows([replace(found.rows[0], of_product=math.nan)], tmp_path / "rows.json")
    (row,) = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert {name: row[name] for name in EXPECTED} == EXPECTED
    assert row["frames_per_second"] == found.rows[0].frames_per_second
    assert row["network_frames_per_second"] == found.rows[0].network_frames_per_second
    assert row["of_product"] is None


def test_plot(found: Result, tmp_path: Path) -> None:
    from PIL import Image

    write_plot(found, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > 3 * picture.height


def test_page(found: Result, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "performance.md"
    write_page(found, settings(f"bench.plot={tmp_path / 'pictures' / 'a.png'}"), "liveloc bench seconds=3", page)
    text = page.read_text(encoding="utf-8")
    assert "```\nliveloc bench seconds=3\n```" in text
    assert "![Frames a second, delay, stages](../pictures/a.png)" in text
    assert "No graphics card was here" in text
    assert "| tiny | encode | " in text
    for precision in precisions("cpu"):
        assert text.count(f"of the matrix products' rate in {precision}") == 1
    assert "tiny on onnx-fp32: " in text
    assert machine_in_words(found.machine).startswith(found.machine.name)


def test_a_verdict_names_the_stage_that_takes_long(found: Result) -> None:
    """A network at a hundredth of the peak misses the aim, and at nine tenths reaches it."""
    peak, times = replace(found.machine.peak, copy=1e15), found.stages[0]  # memory that costs nothing
    fast = {stage: cost.floor(peak, "fp32") / 0.9 for stage, cost in found.costs["tiny"].items()}
    reached = replace(found, stages=[replace(times, seconds={**fast, "rest": 0.0})])
    slow = {stage: 100 * seconds for stage, seconds in fast.items()}
    missed = replace(found, stages=[replace(times, seconds={**slow, "rest": 0.0})])
    reached.machine = missed.machine = replace(found.machine, peaks=[peak])
    assert "reached" in next(verdicts(reached))
    words = next(verdicts(missed))
    assert "**missed**" in words
    assert "attend: " in words
    assert "Beside the stages: 0% of the time." in words


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (BenchSettings(runtimes=["tensorflow"]), "bench.runtimes: expected some of onnx-fp32"),
        (BenchSettings(sizes=[]), "bench.sizes"),
        (BenchSettings(sizes=[64, 4]), "bench.sizes: expected one or more heights of 8 pixels and more"),
        (BenchSettings(seconds=0), "bench.seconds"),
        (BenchSettings(output="rows.txt"), "bench.output: expected a .json file"),
        (BenchSettings(plot="nowhere/at/all.png"), "bench.plot: expected a .png file in a folder that exists"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(wanted: BenchSettings, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        check(wanted)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(SettingsError, match="nosuch is neither a shipped model"):
        bench(settings("bench.models=[nosuch]"), lambda *_: None)


def test_a_runtime_that_cannot_be_had_here_is_refused(model: Path, tmp_path: Path) -> None:
    shutil.copy(model, tmp_path / "alone.safetensors")
    chosen = settings(f"bench.models=[{tmp_path / 'alone.safetensors'}]", "bench.runtimes=[onnx]")
    with pytest.raises(SettingsError, match=r"onnx-fp32 cannot run alone here\. There are: torch-fp32, torch-bf16"):
        bench(chosen, lambda *_: None)


def test_a_precision_without_instructions_is_left_out_and_refused_where_it_is_asked_for(
    found: Result, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peak = replace(found.machine.peak, products={"fp32": 1e11})
    jobs = list[Job]()

    def apart(work: object, given: Any, take: Callable[[object], None]) -> None:
        jobs.append(given) if work is measure else take(Prepared(replace(found.machine, peaks=[peak]), found.costs))

    monkeypatch.setattr("models.bench.bench.apart", apart)
    with pytest.raises(RunError, match="nothing could be measured"):
        bench(settings(f"bench.models=[{model}]"), lambda *_: None)
    assert [str(job.candidate) for job in jobs] == ["onnx-fp32", "torch-fp32"]
    with pytest.raises(SettingsError, match=r"torch-bf16: .* computes in fp32 only"):
        bench(settings(f"bench.models=[{model}]", "bench.runtimes=[torch-bf16]"), lambda *_: None)


def test_nothing_measured_is_an_error(found: Result, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def apart(work: object, given: object, take: Callable[[object], None]) -> None:
        if work is measure:
            raise RunError("lost")
        take(Prepared(found.machine, found.costs))

    monkeypatch.setattr("models.bench.bench.apart", apart)
    with pytest.raises(RunError, match=r"nothing could be measured\. tiny on onnx-fp32: lost tiny on torch-fp32: lost"):
        bench(settings(f"bench.models=[{model}]", "bench.runtimes=[onnx,torch]"), lambda *_: None)
