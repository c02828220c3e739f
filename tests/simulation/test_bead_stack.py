"""A PSF measured on beads that were drawn with a known one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from commands.making import psf as psf_command
from config.compose import compose
from config.errors import SettingsError, SourceUnreadable
from simulation.bead_stack import find_beads, measure_psf
from simulation.dataset import make_simulator
from simulation.psf import AstigmaticPsf, FocusCurve, Spots
from simulation.spline_psf import MeasuredPsf, SplinePsf

TRUE = AstigmaticPsf(FocusCurve(1.2, -200.0), FocusCurve(1.2, 200.0))
PLANES, STEP = 33, 40.0
ALONE = [(25.3, 24.8), (70.6, 30.1), (29.9, 68.2)]
CLOSE = [(72.0, 72.0), (80.0, 75.0)]


def beads(places: list[tuple[float, float]], photons: float = 40_000.0) -> NDArray[np.uint16]:
    """A stack (Z, 100, 100) of beads through focus at plane 16, with noise, over a dark level of 100."""
    z = (torch.arange(PLANES) - PLANES // 2) * STEP
    image = torch.zeros(PLANES, 100, 100)
    for x, y in places:
        one = torch.ones(PLANES)
        spots = Spots(torch.arange(PLANES), x * one, y * one, z, photons * one, one)
        image += TRUE.frames(spots, (PLANES, 100, 100))
    noisy = torch.poisson(image + 10, generator=torch.Generator().manual_seed(1))
    return (noisy + 100).numpy().astype(np.uint16)


def write(folder: Path, stack: NDArray[np.uint16]) -> Path:
    tifffile.imwrite(folder / "beads.tif", stack)
    return folder / "beads.tif"


def test_the_measured_psf_is_the_true_one(tmp_path: Path) -> None:
    found = measure_psf(write(tmp_path, beads(ALONE + CLOSE)), STEP, 100.0)
    assert (found.beads, found.left_out) == (3, 2)
    assert found.disagreement < 0.1
    assert found.psf.z_focus == pytest.approx(PLANES // 2, abs=0.5)
    assert np.allclose(found.psf.values.sum((1, 2)), 1, atol=1e-5)
    shift = (found.psf.z_focus - PLANES // 2) * STEP
    x, y, one = torch.tensor([20.3]), torch.tensor([19.6]), torch.ones(1)
    for z in (-400.0, -150.0, 0.0, 220.0, 410.0):
        drawn = SplinePsf(found.psf).frames(Spots(torch.tensor([0]), x, y, z * one, one, one), (1, 40, 40))
        true = TRUE.frames(Spots(torch.tensor([0]), x, y, (z + shift) * one, one, one), (1, 40, 40))
        assert float((drawn - true).abs().max() / true.max()) < 0.06


def test_spots_too_near_to_others_or_to_the_border_are_left_out() -> None:
    stack = beads([(25, 25), (5, 50), (70, 70), (78, 74)]).astype(float)
    places, left_out = find_beads(stack, 21)
    assert places.shape == (1, 2)  # on the corner of four pixels
    assert set(places.flatten().tolist()) <= {24, 25}
    assert left_out == 3


def test_stacks_without_a_psf_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="no bead"):
        measure_psf(write(tmp_path, np.full((9, 60, 60), 100, np.uint16)), 50, 100)
    with pytest.raises(SourceUnreadable, match="no bead"):
        measure_psf(write(tmp_path, beads([(4, 4)])), 50, 100)
    with pytest.raises(SourceUnreadable, match="shape"):
        measure_psf(write(tmp_path, np.zeros((60, 60), np.uint16)), 50, 100)
    (tmp_path / "text.tif").write_text("no picture")
    with pytest.raises(SourceUnreadable, match="cannot be read"):
        measure_psf(tmp_path / "text.tif", 50, 100)
    with pytest.raises(SourceUnreadable, match="cannot be read"):
        measure_psf(tmp_path / "none.tif", 50, 100)
    for step, pixel, window in ((0, 100, 21), (50, -1, 21), (50, 100, 20)):
        with pytest.raises(SettingsError, match="odd window"):
            measure_psf(write(tmp_path, beads(ALONE)), step, pixel, window)


def test_beads_become_a_simulation(tmp_path: Path) -> None:
    psf_command(write(tmp_path, beads(ALONE)), tmp_path / "psf.h5", STEP, 100.0, 21)
    assert MeasuredPsf.load(tmp_path / "psf.h5").pixel_size == 100
    (tmp_path / "mine.yaml").write_text("psf: spline\npsf_file: psf.h5\n", encoding="utf-8")
    small = ("dataset.frames=5", "dataset.height=32", "dataset.width=32", "dataset.depth=[-300,300]")
    simulator = make_simulator(compose(["camera=challenge_emccd", f"optics={tmp_path / 'mine.yaml'}", *small]))
    assert simulator.frames(0, 5).shape == (5, 32, 32)
    assert np.ptp(simulator.emitters()["z"].to_numpy()) > 300
