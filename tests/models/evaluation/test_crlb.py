"""The bounds against closed forms, published values, brute force and symmetry."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import erf

from models.evaluation.crlb import (
    Detector,
    Spots,
    bound,
    mortensen,
    place_information,
    signal_to_noise,
    single_frame_bound,
    summed_information,
)

PERFECT = Detector(quantum_efficiency=1.0, excess=1.0, read_variance=0.0, spurious_charge=0.0, pixel_size=100.0)
CHALLENGE = Detector(0.9, 2.0, (74.4 / 300) ** 2, 0.002, 100.0)
SIGMA = 1.35


def spots(count: int, photons: float, background: float, sigma: float = SIGMA) -> Spots:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(20, 21, (2, count))
    same = np.ones(count)
    return Spots(x, y, photons * same, background * same, sigma * same, sigma * same)


@pytest.mark.parametrize(("photons", "background"), [(200, 5), (300, 10), (1000, 20), (1000, 200), (5000, 1)], ids=str)
def test_it_agrees_with_the_closed_form(photons: float, background: float) -> None:
    mean = single_frame_bound(spots(200, photons, background), PERFECT).mean(0)
    assert mean == pytest.approx([mortensen(photons, background, 135, 100)] * 2, rel=5e-3)


def test_without_background_it_is_the_width_over_the_root_of_the_photons() -> None:
    sharp = single_frame_bound(spots(50, 1000, 1e-6, sigma=2.0), PERFECT)
    assert sharp.mean() == pytest.approx(math.hypot(200, 100 / math.sqrt(12)) / math.sqrt(1000), rel=0.01)


def test_an_em_register_doubles_the_variance() -> None:
    plain = single_frame_bound(spots(20, 500, 10), PERFECT)
    assert single_frame_bound(spots(20, 500, 10), replace(PERFECT, excess=2.0)) == pytest.approx(plain * math.sqrt(2))


def test_losing_photons_is_having_fewer() -> None:
    dim = single_frame_bound(spots(20, 500, 10), replace(PERFECT, quantum_efficiency=0.5))
    assert dim == pytest.approx(single_frame_bound(spots(20, 250, 5), PERFECT))


def test_read_noise_is_as_bad_as_background_of_its_variance() -> None:
    noisy = single_frame_bound(spots(20, 500, 10), replace(PERFECT, read_variance=4.0))
    assert noisy == pytest.approx(single_frame_bound(spots(20, 500, 14), PERFECT))


def drawn_bound(photons: float, background: float, on_time: float = 2.0, molecules: int = 4000) -> tuple[float, float]:
    """Root mean square lateral bounds [nm], single and summed, over the frames of blinking molecules of 100 photons and
    more: the benchmark's light, drawn without any of our simulation.
    """
    rng = np.random.default_rng(1)
    begin, lasts = rng.uniform(0, 1, molecules), rng.exponential(on_time, molecules)
    bright = np.clip(rng.normal(photons, 0.3 * photons, molecules), 0.05 * photons, None)
    last = np.ceil(begin + lasts).astype(int)
    emitter = np.repeat(np.arange(molecules), last)
    frame = np.concatenate([np.arange(count) for count in last])
    lit = np.minimum(frame + 1, (begin + lasts)[emitter]) - np.maximum(frame, begin[emitter])
    light, same = bright[emitter] * lit, np.ones(len(frame))
    x, y = rng.uniform(20, 21, (2, molecules))
    emitters = Spots(x[emitter], y[emitter], light, background * same, SIGMA * same, SIGMA * same)
    information = place_information(emitters, CHALLENGE)
    summed = summed_information(information, frame, emitter, None)
    counted = light >= 100
    single, together = (np.sqrt((bound(told[counted]) ** 2).sum(1).mean()) for told in (information, summed))
    return float(single), float(together)


@pytest.mark.parametrize(
    ("photons", "background", "single", "summed"),
    [(1000, 20, 31.4, 17.6), (300, 10, 41.0, 25.7)],
    ids=["bright", "dim"],
)
def test_the_benchmarks_published_bounds(photons: float, background: float, single: float, summed: float) -> None:
    # Their draws of on-times and photons are not published; ours differ by up to 6 %.
    assert drawn_bound(photons, background) == pytest.approx((single, summed), rel=0.065)


def test_the_ceiling_of_the_efficiency_follows() -> None:
    from models.evaluation.metrics import efficiency

    assert efficiency(1.0, drawn_bound(1000, 20)[1]) == pytest.approx(82.4, abs=0.6)


def test_frames_of_one_molecule_add_up() -> None:
    light = spots(4, 800, 20)
    same = replace(light, x=light.x[:1].repeat(4), y=light.y[:1].repeat(4))
    information = place_information(same, PERFECT)
    summed = bound(summed_information(information, np.arange(4), np.zeros(4, int), None))
    assert summed == pytest.approx(bound(information) / 2)


def test_the_context_limits_what_adds_up() -> None:
    information = np.broadcast_to(np.eye(2), (6, 2, 2)).copy()
    frame, emitter = np.array([5, 0, 1, 2, 9, 0]), np.array([1, 1, 1, 1, 1, 2])
    summed = summed_information(information, frame, emitter, (1, 3))[:, 0, 0]
    assert summed.tolist() == [1, 3, 3, 3 - 1 + 1, 1, 1]
    assert summed_information(information, frame, emitter, None)[:, 0, 0].tolist() == [5, 5, 5, 5, 5, 1]


def test_an_emitter_at_the_edge_is_known_less_across_it() -> None:
    edge = replace(spots(1, 1000, 20), x=np.array([0.0]), y=np.array([20.5]))
    across, along = single_frame_bound(edge, PERFECT, (40, 40))[0]
    inside = single_frame_bound(edge, PERFECT)[0]
    assert across > 1.5 * inside[0]
    assert along > 1.2 * inside[1]


def astigmatic(z: NDArray[np.float64], photons: float = 2000.0, background: float = 10.0) -> Spots:
    """Two parabolas 400 nm apart."""
    wide_x, wide_y = (SIGMA * np.sqrt(1 + ((z - focus) / 400) ** 2) for focus in (-200, 200))
    slope_x, slope_y = (SIGMA**2 * (z - focus) / 400**2 / wide for focus, wide in ((-200, wide_x), (200, wide_y)))
    same = np.ones(len(z))
    return Spots(20.5 * same, 20.5 * same, photons * same, background * same, wide_x, wide_y, slope_x, slope_y)


def test_the_axial_bound_agrees_with_differences_of_the_image() -> None:
    """Information by numeric differentiation of an independently written image."""
    truth = np.array([20.3, 20.6, 120.0, 1500.0, 12.0])

    def image(x: float, y: float, z: float, photons: float, background: float) -> NDArray[np.float64]:
        wide = astigmatic(np.array([z]))
        edges = np.arange(13, 29)  # the patch of a fit: four sigmas and the rest of a pixel

        def share(centre: float, sigma: float) -> NDArray[np.float64]:
            return np.diff(erf((edges - centre) / (math.sqrt(2) * sigma))) / 2

        spread = np.outer(share(y, float(wide.sigma_y[0])), share(x, float(wide.sigma_x[0])))
        return photons * spread + background

    steps = np.diag([1e-4, 1e-4, 1e-2, 1e-1, 1e-3])
    slopes = [(image(*(truth + step)) - image(*(truth - step))) / (2 * step.max()) for step in steps]
    expected = image(*truth)
    information = np.array([[(a * b / expected).sum() for a in slopes] for b in slopes])
    deviations = np.sqrt(np.diag(np.linalg.inv(information))) * np.array([100, 100, 1, 1, 1])
    emitter = astigmatic(truth[2:3], truth[3], truth[4])
    placed = replace(emitter, x=truth[:1], y=truth[1:2])
    assert single_frame_bound(placed, PERFECT)[0] == pytest.approx(deviations[:3], rel=2e-3)


def test_a_round_spot_tells_z_by_its_astigmatism_alone() -> None:
    depths = single_frame_bound(astigmatic(np.array([-300.0, 0.0, 300.0])), PERFECT)[:, 2]
    assert depths[0] == pytest.approx(depths[2])
    assert 10 < depths[1] < 40
    flat = replace(astigmatic(np.array([0.0])), slope_x=np.zeros(1), slope_y=np.zeros(1))
    assert np.isinf(single_frame_bound(flat, PERFECT)).all()


def test_signal_to_noise_by_hand() -> None:
    light = spots(1, 900, 0.0)
    assert signal_to_noise(light, PERFECT)[0] == pytest.approx(30)
    area = 4 * math.pi * SIGMA**2
    assert signal_to_noise(spots(1, 900, 10), PERFECT)[0] == pytest.approx(900 / math.sqrt(900 + 10 * area))


def test_no_emitters_have_no_bounds() -> None:
    nothing = spots(0, 1, 1)
    assert single_frame_bound(nothing, PERFECT).shape == (0, 2)
