"""Which runtime is taken, what of that is kept, and what a damaged or absent cache does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.errors import ModelFileInvalid, RuntimeUnavailable, SettingsError
from engine.runtimes import cache, choice, load_runtime, settle
from engine.runtimes.choice import Candidate, Wanted, candidates, choose
from models.export import build_step
from models.weights import model_path
from tests.precisions import PRECISIONS

ONNX, TORCH, BF16 = Candidate("onnx", "fp32"), Candidate("torch", "fp32"), Candidate("torch", "bf16")
MODEL = model_path("small")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def rates(monkeypatch: pytest.MonkeyPatch, known: dict[Candidate, float]) -> list[Candidate]:
    """Have candidates measure as given; the list tells which were measured."""
    measured: list[Candidate] = []

    def measure(runtime: Any) -> float:
        measured.append(runtime)
        return known[runtime]

    monkeypatch.setattr(choice, "frames_per_second", measure)
    return measured


def itself(one: Candidate) -> Any:
    return one


def chosen_by(found: list[Candidate], about: str = "") -> tuple[Any, Any]:
    return choose(found, itself, about)


@pytest.mark.parametrize(
    ("wanted", "gpu", "expected"),
    [
        (("auto", "auto"), False, ["onnx-fp32", "torch-fp32", "torch-bf16"]),
        (("auto", "auto"), True, ["onnx-fp32", "torch-fp32", "torch-bf16", "torch-fp16", "onnx-fp16"]),
        (("onnx", "auto"), False, ["onnx-fp32"]),
        (("auto", "bf16"), False, ["torch-bf16"]),
        (("torch", "fp16"), False, []),
    ],
)
def test_what_comes_into_question(wanted: tuple[str, str], gpu: bool, expected: list[str]) -> None:
    found = [str(one) for one in candidates(*wanted, ["onnx", "torch"], gpu)]
    assert found == expected
    assert [Candidate.named(words) for words in found] == candidates(*wanted, ["onnx", "torch"], gpu)


def test_a_form_without_a_file_is_left_out() -> None:
    assert candidates("auto", "auto", ["torch"], gpu=False) == [TORCH, BF16]


def test_the_fastest_is_taken_and_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = rates(monkeypatch, {ONNX: 100.0, TORCH: 90.0, BF16: 150.0})
    assert chosen_by([ONNX, TORCH, BF16], "a model") == (BF16, BF16)
    assert measured == [ONNX, TORCH, BF16]
    assert chosen_by([ONNX, TORCH, BF16], "a model") == (BF16, None)
    assert chosen_by([ONNX, TORCH, BF16], "another model") == (BF16, BF16)
    assert len(measured) == 6


def test_the_more_exact_one_is_taken_where_they_are_about_as_fast(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates(monkeypatch, {ONNX: 100.0, TORCH: 80.0, BF16: 104.0})
    assert chosen_by([ONNX, TORCH, BF16])[0] == ONNX


def test_one_that_does_not_run_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, {TORCH: 5.0})

    def make(one: Candidate) -> Any:
        if one != TORCH:
            raise RuntimeUnavailable("no such card")
        return one

    assert choose([ONNX, TORCH, BF16], make, "")[0] == TORCH
    with pytest.raises(RuntimeUnavailable, match="onnx-fp32, torch-bf16"):
        choose([ONNX, BF16], make, "")


@pytest.mark.parametrize("content", ["{", "[1]", '{"something": "else"}', "\x00"])
def test_a_damaged_cache_costs_a_measurement(folder: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    folder.mkdir()
    (folder / cache.FILE).write_text(content)
    rates(monkeypatch, {ONNX: 100.0, BF16: 50.0})
    assert chosen_by([ONNX, BF16])[0] == ONNX
    assert chosen_by([ONNX, BF16]) == (ONNX, None)


def test_a_cache_that_cannot_be_written_stops_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_text("a file where the folder should be")
    rates(monkeypatch, {ONNX: 100.0, BF16: 50.0})
    assert chosen_by([ONNX, BF16])[0] == ONNX


def test_what_a_cache_names_but_is_not_asked_for_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, {ONNX: 1.0, TORCH: 2.0})
    chosen_by([ONNX, TORCH])
    (key,) = cache._read()
    cache.keep(key, {"chosen": "tensorflow-fp64"})
    assert chosen_by([ONNX, TORCH])[0] == TORCH


def test_a_real_model_is_measured_and_then_taken_without(folder: Path) -> None:
    chosen, runtime = settle(MODEL, Wanted(device="cpu"), build_step)
    assert chosen.runtime in runtime.name
    assert cache._read()
    assert settle(MODEL, Wanted(device="cpu"), build_step)[0] == chosen


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precisions_agree_on_what_there_is(precision: str) -> None:
    frames = np.random.default_rng(0).poisson(20, (6, 48, 40)).astype(np.float32)
    frames[:, 20:23, 10:13] += 120
    runtime = load_runtime(MODEL, Wanted("torch", "cpu", precision, 2), build_step)
    assert precision in runtime.name
    valid = np.repeat([False, True], [sum(runtime.description.context), 6])
    rows, _ = runtime.step(frames, runtime.blank_state(48, 40), valid, 0.5)
    bright = rows[rows[:, 3] > 700]
    assert len(bright) == 2  # four frames of the six still wait for their future
    assert bright[:, 1] == pytest.approx(11.5, abs=0.05)
    assert bright[:, 2] == pytest.approx(21.5, abs=0.05)
    assert rows.dtype == np.float32


def test_tiles_are_torchs() -> None:
    chosen, _ = settle(MODEL, Wanted(device="cpu", precision="fp32", tile="64"), build_step)
    assert chosen == TORCH


def test_what_cannot_be_had_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="fp16"):
        settle(MODEL, Wanted("onnx", "cpu", "bf16"), build_step)
    with pytest.raises(SettingsError, match="tile=64: ONNX Runtime"):
        settle(MODEL, Wanted("onnx", "cpu", tile="64"), build_step)
    with pytest.raises(SettingsError, match="auto, onnx or torch"):
        settle(MODEL, Wanted("tensorflow"), build_step)
    with pytest.raises(ModelFileInvalid, match=r"no model file at .*absent\.onnx"):
        settle(tmp_path / "absent.onnx", Wanted(), build_step)


def test_a_precision_that_the_processor_lacks_is_refused_and_never_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtimes.torch_runtime.computes_in_bf16", lambda gpu: False)
    with pytest.raises(RuntimeUnavailable, match=r"this processor does not compute in bfloat16\. Set"):
        load_runtime(MODEL, Wanted("torch", "cpu", "bf16"), build_step)
    assert settle(MODEL, Wanted("torch", "cpu"), build_step)[0] == TORCH
