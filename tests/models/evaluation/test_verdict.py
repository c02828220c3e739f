"""Tables that are wrong in a known way: what is said of them must be that."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from engine.output.table import table_from_columns
from models.correction import Corrections, Odds, Width
from models.evaluation.assessment import worst_spread
from models.evaluation.calibration import (
    calibration_error,
    coverage,
    fit_corrections,
    fit_odds,
    reliability,
    reliability_curve,
)
from models.evaluation.crlb import Detector
from models.evaluation.strata import bias_map, bias_noise, precision, strata
from models.evaluation.trial import Optics, Trial, Widths
from models.evaluation.verdict import judge, pooled

PIXEL = 100.0
SIDE = 64
OPTICS = Optics(Detector(1.0, 1.0, 0.0, 0.0, PIXEL), Widths(135.0), 20.0, (SIDE, SIDE))


def truth_of(count: int, photons: NDArray[np.float64] | float = 1000.0, seed: int = 0, spacing: int = 8) -> pa.Table:
    """Emitters on a grid, anywhere in their pixel, in as many frames as needed."""
    rng = np.random.default_rng(seed)
    side = SIDE // spacing
    cell = np.arange(count) % side**2
    x = (cell % side * spacing + spacing // 2 + rng.uniform(0, 1, count)) * PIXEL
    y = (cell // side * spacing + spacing // 2 + rng.uniform(0, 1, count)) * PIXEL
    columns = {
        "frame": np.arange(count) // side**2,
        "emitter": np.arange(count),
        "x": x,
        "y": y,
        "photons": np.broadcast_to(photons, count).astype(float),
    }
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def found_of(truth: pa.Table, error: float, claimed: float, seed: int = 1, **more: NDArray[np.float64]) -> pa.Table:
    """A localisation for every emitter, with normal errors of ``error`` nm and sigmas that say ``claimed``."""
    rng = np.random.default_rng(seed)
    rows = truth.num_rows
    columns = {name: truth[name].to_numpy().astype(float) for name in ("x", "y", "photons")}
    columns |= {axis: columns[axis] + error * rng.standard_normal(rows) for axis in ("x", "y")}
    columns |= {name: np.full(rows, claimed) for name in ("sigma_x", "sigma_y")}
    columns |= {"frame": truth["frame"].to_numpy(), "probability": np.full(rows, 0.9), **more}
    return table_from_columns(columns, {})


def trial(truth: pa.Table, optics: Optics | None = OPTICS) -> Trial:
    frames = int(truth["frame"].to_numpy().max()) + 1
    return Trial("made up", truth, frames, (SIDE * PIXEL / 1000) ** 2, optics)


def test_errors_over_bound_and_sigma_are_what_was_put_in() -> None:
    truth = truth_of(3000)
    figures = precision(judge(found_of(truth, 20.0, 10.0), trial(truth)).emitters)
    assert figures.recall == 1
    assert figures.rmse == pytest.approx(20 * math.sqrt(2), rel=0.03)
    assert figures.sigma_spread == pytest.approx(2, rel=0.03)
    assert figures.photon_ratio == pytest.approx(1)
    expected = 6.771 * math.sqrt(2)  # Mortensen's closed form for 1000 photons on a background of 20
    assert figures.bound == pytest.approx(expected, rel=0.01)
    assert figures.over_bound == pytest.approx(20 / 6.771, rel=0.03)


def test_strata_tell_bright_from_dim_and_found_from_missed() -> None:
    photons = np.where(np.arange(2000) % 2, 250.0, 2000.0)
    truth = truth_of(2000, photons)
    bright = found_of(truth.filter(pa.array(photons > 300)), 5.0, 5.0)
    parts = {part.low: part.figures for part in strata(judge(bright, trial(truth)).emitters, "photons")}
    assert parts.keys() == {200, 1500}
    assert parts[200].recall == 0
    assert math.isnan(parts[200].rmse)
    assert parts[1500].recall == 1


def test_neighbours_are_those_of_the_same_frame() -> None:
    truth = pa.table(
        {
            "frame": [0, 0, 1, 2],
            "x": [1000.0, 1300.0, 1000.0, 9000.0],
            "y": [1000.0, 1400.0, 1000.0, 9000.0],
            "photons": [500.0] * 4,
        }
    )
    assert trial(truth, None).neighbour.tolist() == [500, 500, math.inf, math.inf]


def test_dim_emitters_do_not_count_and_their_localisations_are_ignored() -> None:
    truth = truth_of(64, np.where(np.arange(64) < 10, 50.0, 500.0))
    verdict = judge(found_of(truth, 5.0, 5.0), trial(truth))
    assert len(verdict.emitters["found"]) == 54
    assert verdict.localisations["ignored"].sum() == 10
    assert verdict.score.jaccard == 1


def test_without_a_microscope_there_are_no_bounds_and_all_else() -> None:
    truth = truth_of(200)
    figures = precision(judge(found_of(truth, 5.0, 5.0), trial(truth, None)).emitters)
    assert math.isnan(figures.over_bound)
    assert figures.rmse == pytest.approx(5 * math.sqrt(2), rel=0.15)


def test_several_verdicts_are_pooled() -> None:
    truths = [truth_of(100, seed=seed) for seed in (0, 1)]
    parts = [judge(found_of(truth, 5.0, 5.0), trial(truth)).emitters for truth in truths]
    assert precision(pooled(parts)).emitters == 200


def test_nothing_found_is_told_as_such() -> None:
    truth = truth_of(100)
    nothing = found_of(truth.slice(0, 0), 1.0, 1.0)
    verdict = judge(nothing, trial(truth))
    assert verdict.score.jaccard == 0
    assert precision(verdict.emitters).recall == 0
    assert coverage(verdict.emitters).pairs == 0


def test_depth_is_judged_where_both_tell_it() -> None:
    truth = truth_of(1000)
    z = np.random.default_rng(5).uniform(-300, 300, 1000)
    deep = truth.append_column("z", pa.array(z))
    rng = np.random.default_rng(2)
    found = found_of(truth, 5.0, 5.0, z=z + 40 * rng.standard_normal(1000), sigma_z=np.full(1000, 20.0))
    grid = np.linspace(-500, 500, 101)
    curve_x, curve_y = (135 * np.sqrt(1 + ((grid - focus) / 400) ** 2) for focus in (-200, 200))
    curves = Optics(OPTICS.detector, Widths(135.0, grid, curve_x, curve_y), 20.0)
    verdict = judge(found, trial(deep, curves))
    figures = precision(verdict.emitters)
    assert verdict.score.rmse_z == pytest.approx(40, rel=0.08)
    assert figures.rmse_z == pytest.approx(verdict.score.rmse_z)
    assert figures.sigma_spread_z == pytest.approx(2, rel=0.08)
    assert 0.2 < figures.over_bound_z < 4
    too_deep = found_of(truth, 5.0, 5.0, z=z + 600, sigma_z=np.full(1000, 20.0))
    assert judge(too_deep, trial(deep, curves)).score.jaccard == 0


def test_a_bias_map_shows_the_bias_that_was_put_in() -> None:
    truth = truth_of(8000)
    inside = truth["x"].to_numpy() / PIXEL % 1
    found = found_of(truth, 3.0, 3.0)
    pulled = found.set_column(1, "x", pa.array(found["x"].to_numpy() - 10 * (inside - 0.5), pa.float32()))
    emitters = judge(pulled, trial(truth)).emitters
    cells = bias_map(emitters, PIXEL)
    assert len(cells) == 25
    for cell in cells:
        assert cell.bias_x == pytest.approx(-10 * (cell.x - 0.5), abs=1.0)
        assert cell.bias_y == pytest.approx(0, abs=1.0)
    assert bias_noise(judge(found, trial(truth)).emitters, cells) == pytest.approx(3 / math.sqrt(320), rel=0.1)


def test_coverage_of_right_sigmas_is_the_normal_one() -> None:
    truth = truth_of(5000)
    right = coverage(judge(found_of(truth, 12.0, 12.0), trial(truth)).emitters)
    assert (right.spread, right.within_1, right.within_2) == pytest.approx((1, 0.683, 0.954), abs=0.015)
    boastful = coverage(judge(found_of(truth, 12.0, 6.0), trial(truth)).emitters)
    assert boastful.within_1 == pytest.approx(0.383, abs=0.02)


def some_right(count: int = 6000) -> tuple[pa.Table, pa.Table]:
    """Localisations that are right as often as they claim: for the others the emitter is not there."""
    rng = np.random.default_rng(3)
    truth = truth_of(count)
    claimed = rng.uniform(0.1, 1.0, count)
    there = pa.array(rng.uniform(size=count) < claimed)
    return found_of(truth, 5.0, 5.0, probability=claimed), truth.filter(there)


def test_probabilities_that_are_right_have_no_calibration_error() -> None:
    found, truth = some_right()
    curve = reliability_curve(*reliability(found, trial(truth)))
    assert sum(part.count for part in curve) == found.num_rows
    assert calibration_error(curve) < 0.03
    assert all(part.right == pytest.approx(part.claimed, abs=0.1) for part in curve)


def test_an_improbable_localisation_does_not_take_a_probable_ones_emitter() -> None:
    truth = pa.table({"frame": [0], "x": [1000.0], "y": [1000.0], "photons": [500.0]})
    columns = {
        "frame": np.array([0, 0]),
        "x": np.array([1050.0, 1001.0]),
        "y": np.array([1000.0, 1000.0]),
        "photons": np.array([500.0, 500.0]),
        "probability": np.array([0.95, 0.2]),
    }
    claimed, right = reliability(table_from_columns(columns, {}), Trial("one", truth, 1, 1.0))
    assert dict(zip(claimed.round(2).tolist(), right.tolist(), strict=True)) == {0.95: True, 0.2: False}


def test_corrections_undo_what_was_done_to_sigmas_and_probabilities() -> None:
    rng = np.random.default_rng(4)
    truth = truth_of(6000)
    error = np.exp(rng.uniform(math.log(4), math.log(40), 6000))
    found = found_of(truth, 0.0, 1.0)
    moved = {axis: pa.array(found[axis].to_numpy() + error * rng.standard_normal(6000), pa.float32()) for axis in "xy"}
    sigma = pa.array(0.6 * error, pa.float32())
    for name, values in {**moved, "sigma_x": sigma, "sigma_y": sigma}.items():
        found = found.set_column(found.column_names.index(name), name, values)
    emitters = judge(found, trial(truth)).emitters
    odds = rng.normal(0, 2, 20_000)
    meant = 1 / (1 + np.exp(-(0.5 * odds + 0.7)))
    right = rng.uniform(size=20_000) < meant
    claimed = 1 / (1 + np.exp(-odds))
    fitted = fit_corrections(emitters, claimed, right)
    assert fitted.place.doubt == pytest.approx(0, abs=0.01)  # all are as probable: nothing to be learned
    assert fitted.sigma(np.asarray(sigma), emitters["probability"]) == pytest.approx(error, rel=0.08)
    assert fitted.probability(claimed) == pytest.approx(meant, abs=0.04)
    after = calibration_error(reliability_curve(fitted.probability(claimed), right))
    assert after < 0.02 < calibration_error(reliability_curve(claimed, right))


def test_a_bent_map_of_probabilities_is_found() -> None:
    rng = np.random.default_rng(8)
    made = Odds(knot=-1.0, level=-0.4, below=0.9, above=1.6)
    claimed = 1 / (1 + np.exp(-rng.normal(0, 2.5, 40_000)))
    true = made.of(torch.from_numpy(claimed)).numpy()
    fitted = fit_odds(claimed, rng.uniform(size=40_000) < true)
    assert fitted.of(torch.from_numpy(claimed)).numpy() == pytest.approx(true, abs=0.02)
    assert fit_odds(claimed, claimed > 2) == Odds()  # none is right: nothing can be said


def test_sigmas_that_hide_doubt_and_those_of_photons_and_z_are_put_right() -> None:
    rng = np.random.default_rng(9)
    count, sure = 8000, rng.uniform(0.3, 1.0, 8000)
    truth = truth_of(count).append_column("z", pa.array(rng.uniform(-400, 400, count)))
    wrong = np.exp(1.5 * (1 - sure))
    columns = {name: truth[name].to_numpy() + 0.0 for name in ("x", "y", "photons", "z")}
    said = {"sigma_x": 8.0, "sigma_y": 8.0, "sigma_photons": 20.0, "sigma_z": 30.0}
    for name in columns:
        columns[name] += said[f"sigma_{name}"] * wrong * rng.standard_normal(count)
    sigmas = {name: np.full(count, value) for name, value in said.items()}
    table = table_from_columns({"frame": truth["frame"].to_numpy(), "probability": sure, **columns, **sigmas}, {})
    fitted = fit_corrections(judge(table, trial(truth)).emitters, np.empty(0), np.empty(0, bool))
    for width in (fitted.place, fitted.photons, fitted.depth):
        assert width.doubt == pytest.approx(1.5, abs=0.1)


def test_the_spread_furthest_from_1_is_told_before_and_after() -> None:
    truth = truth_of(4000, np.repeat([300.0, 1200.0], 2000))
    sure = np.repeat([0.5, 1.0], 2000)  # of the dim ones half as much is known as they say
    found = found_of(truth, 0.0, 10.0, probability=sure)
    for axis in "xy":
        error = np.repeat([20.0, 10.0], 2000) * np.random.default_rng(ord(axis)).standard_normal(4000)
        moved = pa.array(found[axis].to_numpy() + error, pa.float32())
        found = found.set_column(found.column_names.index(axis), axis, moved)
    emitters = judge(found, trial(truth)).emitters
    fitted = fit_corrections(emitters, np.empty(0), np.empty(0, bool))
    assert worst_spread(emitters, Corrections()) == pytest.approx(2, abs=0.06)
    assert worst_spread(emitters, fitted) == pytest.approx(1, abs=0.05)


def test_sigmas_are_not_narrowed() -> None:
    truth = truth_of(2000)
    emitters = judge(found_of(truth, 5.0, 10.0), trial(truth)).emitters
    assert fit_corrections(emitters, np.empty(0), np.empty(0, bool)).place == Width()


def test_corrections_of_nothing_change_nothing() -> None:
    truth = truth_of(10)
    emitters = judge(found_of(truth.slice(0, 0), 1.0, 1.0), trial(truth)).emitters
    assert fit_corrections(emitters, np.empty(0), np.empty(0, bool)) == Corrections()
