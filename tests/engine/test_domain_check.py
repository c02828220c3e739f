"""The check of the acquisition against the model."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from acquisition.source import Frames
from config.compose import compose
from engine.domain_check import DomainCheck, psf_width
from engine.localisations import LOCALISATION_SCHEMA, empty_batch
from engine.observer import ObservedLocaliser
from engine.runtimes.model_file import ModelDescription, row_columns
from simulation.dataset import make_simulator
from simulation.simulator import Simulator

MODEL = ModelDescription(
    name="test", version="1", context=(4, 4), state_shape=(8, 2), psf_sigma=(0.8, 1.8), photons=(100.0, 5000.0),
    background=(1.0, 200.0), density=(0.0, 0.04), cameras=("emccd",),
)  # fmt: skip


def simulator(psf_sigma: float, *more: str) -> Simulator:
    size = ["dataset.frames=60", "dataset.height=64", "dataset.width=64", "dataset.density=0.2"]
    return make_simulator(compose(["camera=challenge_emccd", f"optics.psf_sigma={psf_sigma}", *size, *more]))


class Oracle:
    """A localiser that knows the truth, a little blurred."""

    context = (4, 4)

    def __init__(self, acquisition: Simulator) -> None:
        self.acquisition = acquisition

    def describe(self) -> ModelDescription:
        return MODEL

    def push(self, frames: Frames) -> pa.RecordBatch:
        truth = self.acquisition.emitters(int(frames.numbers[0]), int(frames.numbers[-1]) + 1)
        truth = truth.filter(truth["photons"].to_numpy() > 200)
        noise = np.random.default_rng(0).normal(0, 20, len(truth))
        columns: dict[str, NDArray[np.generic]] = {
            "frame": truth["frame"].to_numpy(),
            "x": truth["x"].to_numpy() + noise,
            "y": truth["y"].to_numpy() - noise,
            "photons": truth["photons"].to_numpy(),
            "background": np.full(len(truth), self.acquisition.dataset.background),
        }
        arrays = [
            pa.array(columns[field.name]).cast(field.type)
            if field.name in columns
            else pa.nulls(len(truth), field.type)
            for field in LOCALISATION_SCHEMA
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=LOCALISATION_SCHEMA)

    def flush(self) -> pa.RecordBatch:
        return empty_batch()


def warnings_of(
    acquisition: Simulator,
    log: pytest.LogCaptureFixture,
    psf_sigma: float | None = None,
    model: ModelDescription = MODEL,
) -> list[str]:
    check = DomainCheck(model, acquisition.camera, psf_sigma)
    localiser = ObservedLocaliser(Oracle(acquisition), [check])
    log.clear()
    with log.at_level(logging.INFO, "engine.domain_check"):
        for start in range(0, 60, 16):
            pixels = acquisition.frames(start, min(start + 16, 60))
            localiser.push(Frames(pixels, np.arange(start, start + len(pixels)), np.zeros(len(pixels))))
        localiser.flush()
    return [record.getMessage() for record in log.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("sigma", [90.0, 135.0, 180.0, 260.0])
def test_the_width_is_measured(sigma: float) -> None:
    acquisition = simulator(sigma)
    truth = acquisition.emitters()
    truth = truth.filter(truth["photons"].to_numpy() > 300)
    x, y, bright = (truth[name].to_numpy().astype(np.float64) for name in ("x", "y", "photons"))
    photons = acquisition.camera.to_photons(acquisition.frames(0, 60))
    measured = psf_width(photons, truth["frame"].to_numpy(), x / 100, y / 100, bright)
    assert measured == pytest.approx(sigma / 100, rel=0.08)


def test_data_that_fit_give_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert warnings_of(simulator(135), caplog, 135) == []


def test_a_wide_psf_is_measured_and_told(caplog: pytest.LogCaptureFixture) -> None:
    (words,) = warnings_of(simulator(270), caplog)
    assert "pixels wide" in words


def test_spots_out_of_focus_are_wide_and_no_fault_of_a_model_that_finds_z(caplog: pytest.LogCaptureFixture) -> None:
    deep = replace(MODEL, columns=row_columns(3))
    assert warnings_of(simulator(270), caplog, 135, deep) == []


def test_an_optics_setting_that_the_frames_contradict_is_told(caplog: pytest.LogCaptureFixture) -> None:
    (words,) = warnings_of(simulator(120), caplog, 170)
    assert "optics.psf_sigma says 170 nm" in words


def test_photons_and_background_outside_the_training_are_told(caplog: pytest.LogCaptureFixture) -> None:
    words = warnings_of(simulator(135, "dataset.background=400", "dataset.photons=20000"), caplog)
    assert any("median background" in text for text in words)
    assert any("photons per localisation" in text for text in words)


def test_too_few_spots_are_not_judged() -> None:
    nothing = np.empty(0)
    assert psf_width(np.zeros((3, 20, 20), np.float32), nothing.astype(np.int64), nothing, nothing, nothing) is None


def test_a_run_without_localisations_passes(caplog: pytest.LogCaptureFixture) -> None:
    assert warnings_of(simulator(135, "dataset.density=0"), caplog) == []
