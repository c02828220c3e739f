"""Blinking under a light: against what rates proportional to the light imply."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from config.errors import SourceError
from config.schema import DatasetSettings
from simulation.activation import Blinking, Lit, SimulatedLight

PIXEL = 100.0
DATASET = DatasetSettings(
    height=160, width=160, exposure=20.0, density=1.0, photons=1000.0, photons_sd=0.0, on_time=100.0, off_time=2000.0
)
AREA = 16.0**2
"""Field of the data set [µm²]."""
ON_FRAMES = 5.0
"""Mean on-time [frames]."""


def density(lit: Lit) -> float:
    """Emitters on over one frame and µm², fractions of the frame counted as such."""
    inside = (lit.x >= 0) & (lit.x < 160) & (lit.y >= 0) & (lit.y < 160)
    return float(lit.photons[inside].sum()) / 1000 / AREA


def densities(blinking: Blinking, power: float, frames: int) -> np.ndarray:
    return np.array([density(blinking.frame(power)) for _ in range(frames)])


def test_power_1_gives_the_density_of_the_settings_from_the_first_frame_on() -> None:
    course = densities(Blinking(DATASET, PIXEL), 1.0, 600)
    assert course.mean() == pytest.approx(1.0, rel=0.05)
    assert course[:20].mean() == pytest.approx(1.0, rel=0.15)
    assert course[:200].mean() == pytest.approx(course[-200:].mean(), rel=0.1)


@pytest.mark.parametrize("power", [0.25, 3.0])
def test_density_is_proportional_to_the_power_and_stays_so(power: float) -> None:
    blinking = Blinking(DATASET, PIXEL)
    densities(blinking, power, 40)
    course = densities(blinking, power, 800)
    assert course[:200].mean() == pytest.approx(power, rel=0.12)
    assert course[-200:].mean() == pytest.approx(power, rel=0.12)


def test_a_step_of_power_is_followed_with_the_on_time() -> None:
    """Those that are on finish and new ones come at the new rate: the mean follows as 1 − exp(−t / on-time)."""
    samples = [Blinking(replace(DATASET, seed=seed), PIXEL) for seed in range(6)]
    before = np.mean([densities(sample, 1.0, 30) for sample in samples])
    rise = np.mean([densities(sample, 3.0, 40) for sample in samples], axis=0)
    # The mean over frame n (0-based) of 3 − 2·exp(−t / τ).
    expected = 3 - 2 * np.array([ON_FRAMES * (math.exp(-n / 5) - math.exp(-(n + 1) / 5)) for n in range(40)])
    assert before == pytest.approx(1.0, rel=0.1)
    np.testing.assert_allclose(rise[:10], expected[:10], rtol=0.15)
    assert rise[20:].mean() == pytest.approx(3.0, rel=0.08)


def test_without_light_emitters_finish_their_time_and_none_comes_on() -> None:
    blinking = Blinking(DATASET, PIXEL)
    known = {int(emitter) for _ in range(20) for emitter in blinking.frame(1.0).emitter}
    course = [blinking.frame(0.0) for _ in range(60)]
    assert all(set(lit.emitter.tolist()) <= known for lit in course)
    dimming = [density(lit) for lit in course]
    expected = [5 * (math.exp(-n / 5) - math.exp(-(n + 1) / 5)) for n in range(10)]
    np.testing.assert_allclose(dimming[:5], expected[:5], rtol=0.25)
    assert max(dimming[50:]) < 0.01


def test_no_emitter_shines_longer_than_the_frame_or_twice_at_once() -> None:
    quick = replace(DATASET, on_time=4.0, off_time=4.0, blinks=50.0, density=0.2)
    blinking = Blinking(quick, PIXEL)
    twice = 0
    for _ in range(50):
        lit = blinking.frame(1.0)
        assert np.all(lit.photons > 0)
        together = np.bincount(lit.emitter, weights=lit.photons)
        assert together.max() <= 1000 * (1 + 1e-5)
        twice += int(np.bincount(lit.emitter).max() > 1)
    assert twice > 0  # with such blinking some come back within the frame


def test_quick_blinking_keeps_its_density_too() -> None:
    quick = replace(DATASET, on_time=10.0, off_time=15.0, blinks=20.0)
    assert densities(Blinking(quick, PIXEL), 1.0, 400).mean() == pytest.approx(1.0, rel=0.05)


def test_emitters_blink_as_often_as_they_should_and_bleach() -> None:
    often = replace(DATASET, on_time=20.0, off_time=60.0, blinks=4.0, density=0.1)
    blinking = Blinking(often, PIXEL)
    seen: dict[int, list[int]] = {}
    for number in range(250):
        for emitter in blinking.frame(1.0).emitter.tolist():
            seen.setdefault(emitter, []).append(number)
    born = sorted(emitter for emitter, frames in seen.items() if 5 < frames[0] < 100)
    assert len(born) > 60
    assert max(seen[emitter][-1] - seen[emitter][0] for emitter in born) < 150
    lone = Blinking(replace(often, blinks=1.0), PIXEL)
    once: dict[int, list[int]] = {}
    for number in range(150):
        for emitter in lone.frame(1.0).emitter.tolist():
            once.setdefault(emitter, []).append(number)
    assert all(frames == list(range(frames[0], frames[-1] + 1)) for frames in once.values())


@pytest.mark.parametrize("structure", ["lines", "ring"])
def test_structures_stay_inside_and_keep_the_density(structure: str) -> None:
    blinking = Blinking(replace(DATASET, structure=structure), PIXEL)
    course = [blinking.frame(1.0) for _ in range(200)]
    assert np.mean([density(lit) for lit in course]) == pytest.approx(1.0, rel=0.1)
    assert all(lit.x.min() >= 0 and lit.x.max() <= 160 and lit.y.min() >= 0 and lit.y.max() <= 160 for lit in course)


def test_memory_does_not_grow_with_the_frames() -> None:
    blinking = Blinking(replace(DATASET, height=64, width=64), PIXEL)
    densities(blinking, 1.0, 200)
    sizes = []
    for _ in range(3):
        densities(blinking, 1.0, 700)
        sizes.append(len(blinking._on) + len(blinking._dark))
    assert max(sizes) < 1.25 * min(sizes)


def test_the_same_seed_and_powers_give_the_same_blinking() -> None:
    first, second, other = (Blinking(replace(DATASET, seed=seed), PIXEL) for seed in (3, 3, 4))
    for power in (1.0, 2.5, 0.0, 1.0):
        a, b, c = first.frame(power), second.frame(power), other.frame(power)
        np.testing.assert_array_equal(a.photons, b.photons)
        assert not np.array_equal(a.x, c.x)


@pytest.mark.parametrize("power", [-0.1, math.nan, math.inf])
def test_an_impossible_power_is_refused_and_changes_nothing(power: float) -> None:
    light = SimulatedLight()
    light.set_power(2.0)
    with pytest.raises(SourceError, match="0 or more"):
        light.set_power(power)
    assert light.power() == 2.0
