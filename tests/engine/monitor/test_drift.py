"""Drift, against a simulated one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.monitor.drift import SEGMENTS, DriftEstimator, _fit
from tests.engine.monitor.samples import on_lines


def segment(
    size: float, count: int, drift: NDArray[np.float64], random: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Localisations of lines with an error of 15 nm, moved by ``drift`` (x, y) [nm]."""
    places = np.stack(on_lines(count, size, random)) + drift[:, None]
    x, y = places + random.normal(0, 15, places.shape)
    return [x, y, np.full(len(x), 15.0), np.full(len(x), 15.0)]


@pytest.mark.parametrize(("size", "count"), [(6400.0, 2000), (51_200.0, 20_000)])
def test_a_known_drift_is_found_to_a_few_nanometres(size: float, count: int) -> None:
    random = np.random.default_rng(0)
    steps = random.normal((4, -3), 6, (SEGMENTS + 8, 2))  # beyond the limit, so that segments were put together
    truth = np.cumsum(steps, 0) - steps[0]
    estimator = DriftEstimator(size, size)
    found = np.array([estimator.add(*segment(size, count, place, random)) for place in truth])
    assert len(estimator._segments) <= SEGMENTS  # memory is bounded
    assert np.abs(truth).max() > 100
    assert np.sqrt(((found - truth) ** 2).mean()) < 2
    assert np.abs(found - truth).max() < 6


def test_pictures_that_share_nothing_give_no_drift() -> None:
    random, estimator = np.random.default_rng(0), DriftEstimator(6400.0, 6400.0)
    found = []
    for _ in range(6):
        x, y = random.random((2, 3000)) * 6400
        found.append(estimator.add(x, y, np.full(3000, 15.0), np.full(3000, 15.0)))
    assert found == [(0.0, 0.0), *[None] * 5]


def test_a_sudden_knock_is_followed() -> None:
    random, estimator = np.random.default_rng(0), DriftEstimator(6400.0, 6400.0)
    knock = np.array([340.0, -260.0])
    for _ in range(4):
        estimator.add(*segment(6400.0, 2000, np.zeros(2), random))
    assert estimator.add(*segment(6400.0, 2000, knock, random)) == pytest.approx(knock, abs=5)


def test_one_false_shift_hardly_counts() -> None:
    truth = np.array([[0.0, 0], [5, 1], [9, 3], [14, 4], [20, 6]])
    shifts = {(i, j): truth[j] - truth[i] for j in range(5) for i in range(j)}
    shifts[0, 4] = np.array([600.0, -400.0])
    assert _fit(5, shifts) == pytest.approx(truth, abs=0.1)


def test_places_without_a_chain_of_shifts_to_the_first_are_unknown() -> None:
    places = _fit(4, {(0, 1): np.array([3.0, 4.0]), (2, 3): np.array([1.0, 1.0])})
    assert places[:2] == pytest.approx(np.array([[0, 0], [3, 4]]))
    assert np.isnan(places[2:]).all()


def test_sigmas_that_are_not_known_are_no_harm() -> None:
    random, estimator = np.random.default_rng(0), DriftEstimator(6400.0, 6400.0)
    unknown = [values if axis < 2 else np.full(len(values), np.nan)
               for axis, values in enumerate(segment(6400.0, 3000, np.zeros(2), random))]  # fmt: skip
    estimator.add(*unknown)
    assert estimator.add(*segment(6400.0, 3000, np.array([30.0, 0.0]), random)) == pytest.approx((30, 0), abs=5)
