"""Splines through a sampled PSF against the PSF itself."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from config.errors import SettingsError
from config.schema import OpticsSettings
from simulation.optics import make_psf
from simulation.psf import AstigmaticPsf, FocusCurve, Spots
from simulation.spline_psf import MeasuredPsf, SplinePsf

TRUE = AstigmaticPsf(FocusCurve(1.2, -200.0), FocusCurve(1.2, 200.0))
Z_STEP, PLANES, SIDE = 50.0, 29, 33


def many(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor, frame: torch.Tensor | None = None) -> Spots:
    one = torch.ones_like(x)
    return Spots(torch.zeros(len(x), dtype=torch.long) if frame is None else frame, x, y, z, 1000 * one, one)


def sampled() -> MeasuredPsf:
    """The true PSF at each plane, in the middle of the central pixel."""
    z = (torch.arange(PLANES) - PLANES // 2) * Z_STEP
    middle = torch.full((PLANES,), SIDE / 2)
    planes = TRUE.frames(many(middle, middle, z, torch.arange(PLANES)), (PLANES, SIDE, SIDE)) / 1000
    return MeasuredPsf(planes.numpy(), Z_STEP, PLANES // 2, 100.0)


def random_spots(count: int = 40) -> Spots:
    generator = torch.Generator().manual_seed(3)
    x, y, z = torch.rand(3, count, generator=generator)
    return many(18 + 8 * x, 18 + 8 * y, (z - 0.5) * 1000, torch.arange(count))


def test_between_samples_a_spline_is_the_psf() -> None:
    shape, spots = (40, 44, 44), random_spots()
    drawn, expected = SplinePsf(sampled()).frames(spots, shape), TRUE.frames(spots, shape)
    error = (drawn - expected).flatten(1).abs().max(1).values
    assert float((error / expected.flatten(1).max(1).values).max()) < 0.01
    assert torch.allclose(drawn.sum((1, 2)), torch.tensor(1000.0), rtol=0.005)


def test_at_its_samples_a_spline_is_exact() -> None:
    measured = sampled()
    middle = torch.tensor([SIDE / 2])
    for plane in (0, 7, PLANES - 1):
        z = torch.tensor([(plane - measured.z_focus) * Z_STEP])
        image = SplinePsf(measured).frames(many(middle, middle, z), (1, SIDE, SIDE))[0] / 1000
        assert np.allclose(image, measured.values[plane], atol=2e-6)


def test_beyond_its_planes_a_spline_stays_and_beyond_the_frame_light_is_cut() -> None:
    psf, middle = SplinePsf(sampled()), torch.tensor([20.0])
    last, beyond = (psf.frames(many(middle, middle, torch.tensor([z])), (1, 40, 40)) for z in (700.0, 5000.0))
    assert torch.allclose(last, beyond)
    edge = psf.frames(many(torch.tensor([0.0]), middle, torch.tensor([0.0])), (1, 40, 40))
    assert np.isclose(edge.sum(), 500, rtol=0.01)
    assert psf.frames(many(*torch.zeros(3, 0)), (2, 8, 8)).sum() == 0


def test_width_of_a_spline_is_about_that_of_its_focus() -> None:
    assert SplinePsf(sampled()).sigma == pytest.approx(1.2 * np.sqrt(1.25), rel=0.05)


def test_a_measured_psf_survives_its_file(tmp_path: Path) -> None:
    measured = sampled()
    measured.save(tmp_path / "psf.h5")
    again = MeasuredPsf.load(tmp_path / "psf.h5")
    assert np.array_equal(again.values, measured.values)
    assert (again.z_step, again.z_focus, again.pixel_size) == (Z_STEP, PLANES // 2, 100.0)
    assert [path.name for path in tmp_path.iterdir()] == ["psf.h5"]


def test_files_that_are_no_psf_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        MeasuredPsf.load(tmp_path / "none.h5")
    (tmp_path / "garbage.h5").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(SettingsError, match="not a measured PSF"):
        MeasuredPsf.load(tmp_path / "garbage.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["values"] = np.zeros((5, 5))
    with pytest.raises(SettingsError, match="not a measured PSF"):
        MeasuredPsf.load(tmp_path / "other.h5")
    MeasuredPsf(np.zeros((9, 8, 8), np.float32), 50, 4, 100).save(tmp_path / "even.h5")
    with pytest.raises(SettingsError, match="odd number"):
        MeasuredPsf.load(tmp_path / "even.h5")


def test_a_psf_goes_with_pixels_of_its_own_size_and_has_one_width(tmp_path: Path) -> None:
    sampled().save(tmp_path / "psf.h5")
    optics = OpticsSettings(psf="spline", psf_file=str(tmp_path / "psf.h5"))
    assert make_psf(optics, 100.2).sigma > 0
    with pytest.raises(SettingsError, match="108"):
        make_psf(optics, 108.0)
    with pytest.raises(SettingsError, match="vibration"):
        make_psf(optics, 100.0, blur=3.0)
    with pytest.raises(SettingsError, match="psf_file"):
        make_psf(OpticsSettings(psf="spline"), 100.0)
