"""The camera chain against its mean and variance."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from simulation.noise import CameraNoise

EMCCD = CameraNoise(
    quantum_efficiency=0.9, em_gain=300.0, e_per_adu=45.0, baseline=100.0, read_noise=74.4, spurious_charge=0.002
)
SCMOS = CameraNoise(
    quantum_efficiency=0.8, em_gain=1.0, e_per_adu=0.5, baseline=100.0, read_noise=1.6, spurious_charge=0.0
)
PIXELS = 200_000


def expose(camera: CameraNoise, photons: float) -> torch.Tensor:
    return camera.expose(torch.full((PIXELS,), photons), torch.Generator().manual_seed(5))


@pytest.mark.parametrize("camera", [EMCCD, SCMOS], ids=["emccd", "scmos"])
@pytest.mark.parametrize("photons", [0.5, 20.0, 400.0])
def test_mean_is_the_calibration(camera: CameraNoise, photons: float) -> None:
    electrons = photons * camera.quantum_efficiency + camera.spurious_charge
    gain, e_per_adu, baseline = camera.em_gain, float(camera.e_per_adu), float(camera.baseline)
    expected = electrons * gain / e_per_adu + baseline - 0.5  # the converter floors
    spread = (math.sqrt(2 * electrons) * gain + float(camera.read_noise)) / e_per_adu
    assert expose(camera, photons).mean().item() == pytest.approx(expected, abs=4 * spread / math.sqrt(PIXELS))


@pytest.mark.parametrize("photons", [20.0, 400.0])
def test_an_em_register_doubles_the_shot_noise_variance(photons: float) -> None:
    adu = expose(EMCCD, photons)
    electrons = (adu - adu.mean()) * EMCCD.e_per_adu / EMCCD.em_gain
    read = (float(EMCCD.read_noise) / EMCCD.em_gain) ** 2
    excess = (electrons.var().item() - read) / (photons * EMCCD.quantum_efficiency)
    assert excess == pytest.approx(2, abs=0.03)


@pytest.mark.parametrize("photons", [20.0, 400.0])
def test_without_a_register_the_variance_is_shot_plus_read_noise(photons: float) -> None:
    variance = (expose(SCMOS, photons) * SCMOS.e_per_adu).var().item()
    quantisation = SCMOS.e_per_adu**2 / 12
    assert variance == pytest.approx(photons * 0.8 + 1.6**2 + quantisation, rel=0.02)


def test_photons_come_back() -> None:
    for camera in (EMCCD, SCMOS):
        assert camera.to_photons(expose(camera, 100.0)).mean().item() == pytest.approx(100, abs=0.5)


def test_maps_act_pixel_by_pixel() -> None:
    baseline = torch.tensor([100.0, 300.0])
    dark = replace(SCMOS, baseline=baseline, read_noise=torch.tensor([0.1, 5.0]))
    adu = dark.expose(torch.zeros(20_000, 2), torch.Generator().manual_seed(0))
    assert torch.allclose(adu.mean(0), baseline - 0.5, atol=0.3)
    assert adu[:, 1].std() > 10 * adu[:, 0].std()


def test_whole_numbers_within_the_converter() -> None:
    adu = replace(EMCCD, saturation=1000.0).expose(torch.full((1000,), 500.0), torch.Generator().manual_seed(0))
    assert adu.max() == 1000
    assert torch.equal(adu, adu.round())
    assert expose(replace(SCMOS, baseline=0.0), 0.0).min() >= 0


def test_the_same_seed_gives_the_same_frames() -> None:
    assert torch.equal(expose(EMCCD, 3.0), expose(EMCCD, 3.0))
