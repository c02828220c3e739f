"""The figures of quality, against known truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from config.compose import compose
from config.schema import MonitorSettings
from engine.localisations import empty_batch
from engine.monitor.figures import QUALITY_SCHEMA, Field, Quality, QualityMeter, density_map
from engine.monitor.windows import Window, Windows
from simulation.dataset import make_simulator
from tests.engine.monitor.samples import CAMERA, MODEL, batch, even_rows, on_lines, seen, source


def window_of(numbers: range, per_frame: int, seed: int = 0) -> Window:
    """One window, whatever its frames' times."""
    windows = Windows(1e9, 0)
    frames = np.arange(numbers.start, numbers.stop)
    list(windows.add(seen(frames, 0.01, even_rows(frames, per_frame, seed))))
    return next(windows.finish())


def meter(**settings: float) -> QualityMeter:
    never = {"frc_every": 1e12}
    return QualityMeter(MonitorSettings(**{**never, **settings}), CAMERA, source(), MODEL)  # type: ignore[arg-type]


def test_counts_densities_and_medians() -> None:
    quality = meter().measure(window_of(range(100, 200), 12), target=0.7)
    assert (quality.first_frame, quality.frame, quality.frames, quality.localisations) == (100, 199, 100, 1200)
    assert quality.localisations_per_frame == 12
    assert quality.area == pytest.approx(24)
    assert quality.density == pytest.approx(0.5)
    assert (quality.photons, quality.background, quality.precision) == (1000, 20, 12)
    assert (quality.target, quality.psf_sigma, quality.drift_x, quality.frc) == (0.7, None, None, None)
    assert quality.warnings == []


def test_missing_frames_do_not_count() -> None:
    windows, numbers = Windows(1e9, 0), np.array([3, 4, 9])
    list(windows.add(seen(numbers, 0.01, even_rows(numbers, 8))))
    quality = meter().measure(next(windows.finish()))
    assert (quality.frames, quality.localisations_per_frame) == (3, 8)


def test_frames_without_localisations_have_figures_too() -> None:
    windows, numbers = Windows(1e9, 0), np.arange(10)
    list(windows.add(seen(numbers, 0.01, empty_batch())))
    quality = meter().measure(next(windows.finish()))
    assert (quality.density, quality.photons, quality.precision) == (0, None, None)
    assert np.sum(quality.density_map) == 0


def test_the_map_tells_where_localisations_are() -> None:
    field = Field(60, 40, (10, 20), 100.0)
    x, y = np.array([1050.0, 1950.0, 6990.0, 999.0]), np.array([2050.0, 2950.0, 5990.0, 2500.0])
    cells = np.array(density_map(x, y, 2, field))
    assert cells.shape == (4, 6)
    assert np.argwhere(cells).tolist() == [[0, 0], [3, 5]]
    assert cells[0, 0] == pytest.approx(1.0)  # two in two frames and 1 µm²
    assert np.array(density_map(x, y, 1, Field(2048, 1024, (0, 0), 100.0))).shape == (16, 16)


def test_the_rows_schema_is_that_of_the_figures() -> None:
    assert [item.name for item in dataclasses.fields(Quality)] == QUALITY_SCHEMA.names


def test_the_psf_is_measured_on_the_frames() -> None:
    size = ["dataset.frames=10", "dataset.height=64", "dataset.width=64", "dataset.density=0.3"]
    settings = compose(["camera=challenge_emccd", "optics.psf_sigma=150", *size, "dataset.background=5"])
    simulator = make_simulator(settings)
    truth = simulator.emitters(0, 10)
    bright = truth.filter(truth["photons"].to_numpy() > 300)
    rows = batch({name: bright[name].to_numpy() for name in ("frame", "x", "y", "photons")})
    pictures = dict(enumerate(simulator.frames(0, 10)))
    windows, numbers = Windows(1e9, 0), np.arange(10)
    list(windows.add(seen(numbers, 0.03, rows, pictures)))
    measured = QualityMeter(MonitorSettings(), simulator.camera, source(64, 64), MODEL)
    width = measured.measure(next(windows.finish())).psf_sigma
    assert width == pytest.approx(150, rel=0.1)


@pytest.mark.parametrize(("per_frame", "words"), [(100, "The density is"), (10, None)])
def test_what_lies_outside_the_models_training_is_said(per_frame: int, words: str | None) -> None:
    found = meter().measure(window_of(range(50), per_frame)).warnings
    assert [text for text in found if words is None or not text.startswith(words)] == []
    assert len(found) == (words is not None)


def test_dim_data_is_said_to_be_dim() -> None:
    numbers = np.arange(50)
    dim = batch({"frame": numbers, "photons": np.full(50, 30.0), "background": np.full(50, 20.0)})
    windows = Windows(1e9, 0)
    list(windows.add(seen(numbers, 0.01, dim)))
    assert [text.split(";")[0] for text in meter().measure(next(windows.finish())).warnings] == [
        "The median photons per localisation is 30"
    ]


def test_drift_and_resolution_come_every_so_often_and_at_the_end() -> None:
    random = np.random.default_rng(0)
    windows, measured = Windows(1.0, 0), meter(frc_every=5.0, frc_block=20)
    found: list[Quality] = []
    for number in range(1200):
        x, y = on_lines(40, 6400.0, random)
        drift = 0.05 * number
        rows = batch({
            "frame": np.full(len(x), number), "x": x + random.normal(drift, 12, len(x)),
            "y": y + random.normal(0, 12, len(x)), "sigma_x": np.full(len(x), 12.0), "sigma_y": np.full(len(x), 12.0),
        })  # fmt: skip
        at = np.array([number])
        found += [measured.measure(window) for window in windows.add(seen(at, 0.01, rows))]
    last = list(windows.finish())
    found += [measured.measure(window, last=window is last[-1]) for window in last]
    assert [quality.frc is None for quality in found] == [True] * 4 + [False] * 8
    assert len({quality.frc for quality in found}) == 4  # none, at 5 s, at 10 s, at the end
    assert found[9].drift_x == pytest.approx(25, abs=6)  # from the middle of the first 5 s to that of the second
    assert found[9].drift_y == pytest.approx(0, abs=6)
    assert found[-1].drift_x == pytest.approx(42.5, abs=8)
    assert 40 < (found[-1].frc or 0) < 200


def test_a_crowded_segment_is_thinned_out() -> None:
    measured = meter(frc_every=20.0)
    for seed in range(3):
        measured.measure(dataclasses.replace(window_of(range(100), 1000, seed), end=1.0 + seed))
    assert [len(part["x"]) for part in measured._segment] == [10_000] * 3
