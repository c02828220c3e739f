"""The Fourier ring correlation, against theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.monitor.frc import FrcCurve, RingCorrelation


def two_halves(size: float, sigma: float, mean: float, molecules: int, origin: float = 0.0) -> RingCorrelation:
    """Molecules anywhere, each localised Poisson(mean) times in either half with a Gaussian error."""
    random = np.random.default_rng(1)
    places = random.random((2, molecules)) * size + origin
    correlation = RingCorrelation(size, size, (origin, origin), block=50)
    for half in (0, 1):
        which = np.repeat(np.arange(molecules), random.poisson(mean, molecules))
        x, y = places[:, which] + random.normal(0, sigma, (2, len(which)))
        correlation.add(np.full(len(which), 50 * half), x, y)
    return correlation


def theory(frequency: NDArray[np.float64], sigma: float, mean: float) -> NDArray[np.float64]:
    """Common power m²·g² over all of it, m²·g² + m, with g² = exp(−4π²σ²q²): the error of localisations dims it."""
    common = mean * np.exp(-4 * np.pi**2 * sigma**2 * frequency**2)
    return np.asarray(common / (common + 1))


@pytest.mark.parametrize("size", [6400.0, 30_000.0])
@pytest.mark.parametrize(("sigma", "mean"), [(10.0, 5.0), (20.0, 3.0)])
def test_the_curve_and_the_resolution_are_those_of_theory(size: float, sigma: float, mean: float) -> None:
    curve = two_halves(size, sigma, mean, int(200 * (size / 1000) ** 2)).curve()
    assert curve is not None
    away = np.arange(len(curve.frequency)) > 20  # nearer the centre, the field's own shape shows
    expected = theory(curve.frequency, sigma, mean)
    assert np.abs(curve.correlation - expected)[away].max() < 0.08
    assert np.abs(curve.correlation - expected)[away].mean() < 0.02
    assert curve.resolution() == pytest.approx(2 * math.pi * sigma / math.sqrt(math.log(6 * mean)), rel=0.04)


def test_a_region_of_interest_changes_nothing() -> None:
    here, there = (two_halves(6400.0, 15.0, 4.0, 8000, origin).resolution() for origin in (0.0, 12_800.0))
    assert here is not None
    assert there == pytest.approx(here, rel=0.02)


def test_halves_that_share_nothing_have_no_resolution() -> None:
    random = np.random.default_rng(2)
    correlation = RingCorrelation(6400.0, 6400.0, block=10)
    correlation.add(np.arange(20_000) // 100, *random.random((2, 20_000)) * 6400)
    assert correlation.curve() is not None
    assert correlation.resolution() is None


def test_too_few_localisations_in_a_half_tell_nothing() -> None:
    correlation = RingCorrelation(6400.0, 6400.0, block=10)
    correlation.add(np.zeros(5000, np.int64), *np.random.default_rng(0).random((2, 5000)) * 6400)
    assert correlation.resolution() is None


def test_frames_go_to_the_halves_in_blocks() -> None:
    random = np.random.default_rng(3)
    places = random.random((2, 3000)) * 6400
    always, never = RingCorrelation(6400.0, 6400.0, block=10), RingCorrelation(6400.0, 6400.0, block=10)
    for frame in range(40):
        x, y = places + random.normal(0, 10, places.shape)
        always.add(np.full(3000, frame), x, y)
        if frame // 10 % 2 == 0:
            never.add(np.full(3000, frame), x, y)
    assert always.resolution() is not None
    assert never.resolution() is None


def test_a_curve_that_never_falls_gives_its_end() -> None:
    frequency = np.linspace(0, 0.05, 100)
    assert FrcCurve(frequency, np.full(100, 0.9), 1.0).resolution() == pytest.approx(20.0)


def test_the_crossing_is_found_between_rings() -> None:
    frequency = np.linspace(0, 0.05, 101)
    assert FrcCurve(frequency, 1 - frequency / 0.03, 1.0).resolution() == pytest.approx(0.03**-1 * 7 / 6, rel=1e-6)


def test_localisations_outside_the_field_do_no_harm() -> None:
    random = np.random.default_rng(4)
    inside, both = (two_halves(6400.0, 15.0, 4.0, 8000) for _ in range(2))
    both.add(np.arange(400), random.uniform(-5e6, -1, 400), random.uniform(7000, 1e9, 400))
    assert both.resolution() == pytest.approx(inside.resolution())
