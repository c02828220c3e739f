"""The PSF against an independent integral."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad
from scipy.stats import norm

from simulation.psf import AstigmaticPsf, FocusCurve, GaussianPsf, Spots, gaussian_frames


def draw(x: float, y: float, sigma: float, shape: tuple[int, int, int] = (1, 24, 28)) -> torch.Tensor:
    one = torch.ones(1, dtype=torch.float64)
    return gaussian_frames(torch.zeros(1, dtype=torch.long), x * one, y * one, 1000 * one, sigma * one, shape)[0]


def test_a_pixel_holds_the_integral_of_the_gaussian() -> None:
    image = draw(11.3, 9.8, 1.35)
    integral, _ = dblquad(lambda v, u: norm.pdf(u, 11.3, 1.35) * norm.pdf(v, 9.8, 1.35), 12, 13, 9, 10)
    assert np.isclose(image[9, 12], 1000 * integral, rtol=1e-6)


def test_photons_are_conserved_and_centred() -> None:
    for sigma in (0.8, 1.35, 1.8):
        image = draw(12.71, 13.14, sigma)
        rows, columns = torch.meshgrid(torch.arange(24) + 0.5, torch.arange(28) + 0.5, indexing="ij")
        assert np.isclose(image.sum(), 1000, rtol=2e-5)
        assert np.isclose((image * columns).sum() / image.sum(), 12.71, atol=1e-4)
        assert np.isclose((image * rows).sum() / image.sum(), 13.14, atol=1e-4)


def test_light_of_an_emitter_on_the_border_is_cut_not_folded() -> None:
    image = draw(0.0, 12.0, 1.0)
    assert np.isclose(image.sum(), 500, rtol=1e-4)
    assert image[:, 10:].abs().max() < 1e-3


def test_emitters_add_in_their_own_frames() -> None:
    frame = torch.tensor([0, 2, 2])
    x, y, photons = torch.tensor([5.0, 5.0, 5.0]), torch.tensor([6.0, 6.0, 6.0]), torch.tensor([100.0, 30.0, 70.0])
    image = gaussian_frames(frame, x, y, photons, torch.full((3,), 1.2), (3, 16, 16))
    assert torch.allclose(image[0], image[2], atol=1e-4)
    assert image[1].abs().max() == 0


def test_no_emitters_no_light() -> None:
    nothing = torch.zeros(0)
    assert gaussian_frames(nothing.long(), nothing, nothing, nothing, nothing, (2, 4, 4)).sum() == 0


def spots(z: float, x: float = 12.4, y: float = 11.7, width: float = 1.0, photons: float = 1000.0) -> Spots:
    one = torch.ones(1, dtype=torch.float64)
    return Spots(torch.zeros(1, dtype=torch.long), x * one, y * one, z * one, photons * one, width * one)


def measured_widths(image: torch.Tensor) -> tuple[float, float]:
    """Standard deviations along x and y, less what a pixel's own width adds."""
    profiles = image.sum(0).double(), image.sum(1).double()
    found = []
    for profile in profiles:
        place = torch.arange(len(profile)) + 0.5
        share = profile / profile.sum()
        mean = (share * place).sum()
        found.append(float(((share * (place - mean) ** 2).sum() - 1 / 12).sqrt()))
    return found[0], found[1]


def test_a_calibration_curve_is_the_published_polynomial() -> None:
    curve = FocusCurve(1.3, focus=-200.0, depth=400.0, third=0.2, fourth=0.1)
    z = torch.tensor([-200.0, 200.0, -600.0], dtype=torch.float64)
    assert np.allclose(curve(z), [1.3, 1.3 * np.sqrt(2.3), 1.3 * np.sqrt(1 + 1 - 0.2 + 0.1)])


@pytest.mark.parametrize("z", [-400.0, -200.0, 0.0, 200.0, 350.0])
def test_astigmatic_widths_follow_their_curves(z: float) -> None:
    psf = AstigmaticPsf(FocusCurve(1.2, -200.0), FocusCurve(1.2, 200.0))
    image = psf.frames(spots(z, 20.4, 19.7), (1, 40, 40))[0]
    expected = [1.2 * np.sqrt(1 + ((z - focus) / 400) ** 2) for focus in (-200, 200)]
    assert np.allclose(measured_widths(image), expected, rtol=2e-3)
    assert np.isclose(image.sum(), 1000, rtol=1e-4)


def test_a_wide_emitter_and_motion_within_a_frame_widen_the_psf() -> None:
    assert np.allclose(measured_widths(GaussianPsf(1.2).frames(spots(0, width=1.5), (1, 24, 24))[0]), 1.8, rtol=2e-3)
    still, moved = (AstigmaticPsf(FocusCurve(1.2), FocusCurve(1.0), blur) for blur in (0.0, 0.5))
    assert np.allclose(measured_widths(still.frames(spots(0), (1, 24, 24))[0]), (1.2, 1.0), rtol=2e-3)
    expected = (np.hypot(1.2, 0.5), np.hypot(1.0, 0.5))
    assert np.allclose(measured_widths(moved.frames(spots(0), (1, 24, 24))[0]), expected, rtol=2e-3)
