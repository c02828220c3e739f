"""An sCMOS whose pixels differ, drawn where none was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from acquisition.camera import Camera
from config.errors import SettingsError
from engine.output.disk import replacing

GAIN_SPREAD = 0.03
"""Standard deviation of the gain over its mean."""
OFFSET_SPREAD = 2.0
"""Standard deviation of the offset [ADU]."""
NOISE_SPREAD = 0.25
"""Standard deviation of the logarithm of the read noise: most pixels are near the median, a few far above."""


def with_maps(camera: Camera, shape: tuple[int, int], seed: int) -> Camera:
    """The camera with an offset, gain and read noise for each pixel (H, W) around its own.

    Raises SettingsError for an EMCCD, whose pixels share one output amplifier, and where maps were measured.
    """
    values = (camera.baseline, camera.e_per_adu, camera.read_noise)
    if camera.em_gain > 1 or not all(isinstance(value, float | int) for value in values):
        raise SettingsError(
            f"dataset.pixel_maps draws the maps of an sCMOS, but the camera {camera.name} has "
            f"{'an EM register' if camera.em_gain > 1 else 'measured maps'}. Take camera=scmos, or pixel_maps=false."
        )
    generator = np.random.default_rng((seed, 21))
    offset, gain, noise = generator.standard_normal((3, *shape), dtype=np.float32)
    return replace(
        camera,
        baseline=np.float32(camera.baseline) + OFFSET_SPREAD * offset,
        e_per_adu=np.float32(camera.e_per_adu) * np.clip(1 + GAIN_SPREAD * gain, 0.5, 1.5),
        read_noise=np.float32(camera.read_noise) * np.exp(NOISE_SPREAD * noise),
    )


def save_maps(camera: Camera, path: Path) -> None:
    """Write the maps as ``camera.maps`` reads them (.npz). Raises OSError."""
    gain = 1 / np.asarray(camera.e_per_adu, np.float32)
    variance = (np.asarray(camera.read_noise, np.float32) * gain) ** 2
    with replacing(path) as temporary:
        np.savez_compressed(temporary, offset=np.asarray(camera.baseline, np.float32), gain=gain, variance=variance)
