"""The photon-transfer estimate against cameras of known truth, with blinking emitters in the frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from acquisition.calibration import estimate, estimated_settings, first_frames
from acquisition.camera import Camera
from acquisition.source import Frames, Pixels
from config.errors import CalibrationMissing
from config.schema import CameraSettings

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def blinking(frames: int, size: int, background: float, seed: int, sigma: float = 1.3) -> NDArray[np.float64]:
    """Expected photons of a field with uneven background and about one emitter per 150 pixels, on for two frames."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] + 0.5
    light = np.broadcast_to(background * (0.7 + 0.6 * columns / size), (frames, size, size)).copy()
    for _ in range(frames * size**2 // 300):
        x, y = rng.uniform(0, size, 2)
        spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
        first = rng.integers(0, frames)
        light[first : first + 2] += rng.uniform(400, 1600) * spot
    return light


def emccd(light: NDArray[np.float64], seed: int) -> Pixels:
    """The challenge EMCCD: one detected electron is 300/45 ADU."""
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(0.9 * light)
    multiplied = np.where(electrons > 0, rng.gamma(np.maximum(electrons, 1), 300.0), 0.0)
    return np.floor(100 + (multiplied + rng.normal(0, 74.4, light.shape)) / 45).astype(np.uint16)


def scmos(light: NDArray[np.float64], seed: int) -> Pixels:
    """2.1 ADU an electron above 100, read noise 1.4 e⁻."""
    rng = np.random.default_rng(seed)
    return np.floor(100.5 + 2.1 * (rng.poisson(0.8 * light) + rng.normal(0, 1.4, light.shape))).astype(np.uint16)


@pytest.mark.parametrize("frames", [10, 60])
@pytest.mark.parametrize("background", [5.0, 30.0])
def test_emccd_with_emitters_gives_half_its_photons_per_adu(frames: int, background: float) -> None:
    found = estimate(emccd(blinking(frames, 96, background, seed=1), seed=2))
    assert found.trusted
    assert found.photons_per_adu == pytest.approx(45 / 300 / 2, rel=0.15)
    assert found.baseline == pytest.approx(100, abs=10)


@pytest.mark.parametrize("frames", [10, 60])
@pytest.mark.parametrize("background", [5.0, 30.0])
def test_scmos_with_emitters(frames: int, background: float) -> None:
    found = estimate(scmos(blinking(frames, 96, background, seed=3), seed=4))
    assert found.trusted
    assert found.photons_per_adu == pytest.approx(1 / 2.1, rel=0.15)
    assert found.baseline == pytest.approx(100, abs=10)


def test_photons_converted_with_the_estimate_are_those_that_were_detected() -> None:
    light = blinking(40, 96, 20.0, seed=5)
    pixels = scmos(light, seed=6)
    settings, _ = estimated_settings(CameraSettings(estimate=True), {}, blocks(pixels))
    photons = Camera.from_settings(settings, {}, (96, 96), (0, 0)).to_photons(pixels)
    assert photons.mean() == pytest.approx(0.8 * light.mean(), rel=0.2)


def test_the_baseline_stays_between_zero_and_the_darkest_tile() -> None:
    light = np.broadcast_to(np.linspace(1, 60, 64), (20, 64, 64))
    pixels = np.random.default_rng(0).poisson(light).astype(np.uint16)
    found = estimate(pixels)
    assert 0 <= found.baseline <= pixels.mean(axis=0).max()
    assert found.photons_per_adu == pytest.approx(1.0, rel=0.1)


def test_uniform_frames_are_not_trusted_and_the_user_is_told() -> None:
    pixels = (100 + 2 * np.random.default_rng(0).poisson(50, (20, 64, 64))).astype(np.uint16)
    assert not estimate(pixels).trusted
    _, warnings = estimated_settings(CameraSettings(estimate=True), {"pixel_size": 100.0}, blocks(pixels))
    assert any("too uniform" in warning for warning in warnings)


def test_frames_without_noise_or_too_small_are_refused() -> None:
    with pytest.raises(CalibrationMissing, match="needs noise"):
        estimate(np.full((10, 64, 64), 200, np.uint16))
    with pytest.raises(CalibrationMissing, match="at least 12×12"):
        estimate(np.ones((10, 10, 64), np.uint16))
    with pytest.raises(CalibrationMissing, match="needs frames"):
        first_frames(iter([]))


def blocks(pixels: Pixels, size: int = 8) -> Iterator[Frames]:
    for first in range(0, len(pixels), size):
        part = pixels[first : first + size]
        yield Frames(part, np.arange(first, first + len(part)), np.full(len(part), np.nan))


def test_first_frames_takes_no_more_than_it_needs() -> None:
    taken: list[int] = []

    def endless() -> Iterator[Frames]:
        while True:
            taken.append(1)
            yield Frames(np.zeros((30, 8, 8), np.uint16), np.arange(30), np.zeros(30))

    assert first_frames(endless()).shape == (100, 8, 8)
    assert len(taken) == 4


def test_only_gaps_are_filled_and_the_pixel_size_is_assumed_aloud() -> None:
    pixels = emccd(blinking(20, 64, 20.0, seed=1), seed=2)
    settings, warnings = estimated_settings(CameraSettings(baseline=90.0, estimate=True), {}, blocks(pixels))
    assert (settings.baseline, settings.em_gain, settings.quantum_efficiency) == (90.0, 1.0, 1.0)
    assert settings.pixel_size == 100.0
    assert any("scale with it" in warning for warning in warnings)
    assert any("estimated" in warning for warning in warnings)


def test_a_known_em_gain_takes_the_excess_noise_out_again() -> None:
    pixels = emccd(blinking(40, 96, 20.0, seed=1), seed=2)
    known = {"em_gain": 300.0, "pixel_size": 100.0}
    settings, _ = estimated_settings(CameraSettings(estimate=True), known, blocks(pixels))
    assert settings.e_per_adu == pytest.approx(45.0, rel=0.15)
    assert Camera.from_settings(settings, known, (96, 96), (0, 0)).em_gain == 300.0


def test_a_complete_calibration_is_left_alone() -> None:
    complete = CameraSettings(baseline=1.0, e_per_adu=2.0, em_gain=3.0, quantum_efficiency=0.5, pixel_size=5.0)
    assert estimated_settings(complete, {}, iter([])) == (complete, [])


def test_a_given_gain_is_not_combined_with_a_guessed_em_gain() -> None:
    pixels = scmos(blinking(20, 64, 20.0, seed=1), seed=2)
    settings, _ = estimated_settings(CameraSettings(e_per_adu=0.5, estimate=True), {}, blocks(pixels))
    with pytest.raises(CalibrationMissing, match="em_gain"):
        Camera.from_settings(settings, {}, (64, 64), (0, 0))


CASES = [
    # An undocumented camera: about 0.1 photons per ADU above 150 to 215 made its molecules come out in another trial.
    ("pmhc_af647/frames.tif", (0.05, 0.15), (150, 215)),
    # Truth: mean gain 2.11 ADU/e⁻, mean offset 90.4, 18 ADU below the median pixel.
    ("storm_scmos/frames.tif", (0.474 * 0.8, 0.474 * 1.2), (80, 100)),
    ("simulated_microtubules/frames.tif", (0.1, 0.4), (90, 110)),
    ("spt_nucleus/frames.tif", (0.03, 0.3), (120, 210)),
]


@pytest.mark.parametrize(("name", "photons_per_adu", "baseline"), CASES)
def test_real_recordings(name: str, photons_per_adu: tuple[float, float], baseline: tuple[float, float]) -> None:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    found = estimate(tifffile.imread(path))
    assert found.trusted
    assert photons_per_adu[0] < found.photons_per_adu < photons_per_adu[1]
    assert baseline[0] < found.baseline < baseline[1]
