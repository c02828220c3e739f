"""A whole acquisition: emitters drawn once, camera frames rendered when asked for, in any blocks, always the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from acquisition.camera import Camera
from config.schema import DatasetSettings
from simulation.background import smooth_background
from simulation.emitters import EMITTER_SCHEMA
from simulation.noise import CameraNoise
from simulation.photophysics import Blinks, blink_trains, frame_traces, lead_in
from simulation.psf import gaussian_frames
from simulation.structures import STRUCTURES, scattered

MARGIN = 5.0
"""Emitters of a random field stand up to this far outside it [pixels]: their light reaches in."""


class Simulator:
    """Simulated acquisition of a blinking sample through a camera. Everything follows from ``dataset.seed``."""

    def __init__(self, dataset: DatasetSettings, camera: Camera, psf_sigma: float) -> None:
        """``psf_sigma`` in nm."""
        self.dataset = dataset
        self.camera = camera
        self._sigma = psf_sigma / camera.pixel_size
        self._noise = camera_noise(camera)
        generator = torch.Generator().manual_seed(dataset.seed)
        self._background = smooth_background(
            dataset.height, dataset.width, dataset.background, dataset.background_variation, generator
        )
        self._draw_emitters(generator)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of a frame."""
        return self.dataset.height, self.dataset.width

    def frames(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Camera frames (T, H, W) [ADU], T = stop − start. The same numbers whatever the blocks."""
        light = self.photons(start, stop) + self._background
        return np.stack([self._expose(number, image) for number, image in enumerate(light, start)])

    def photons(self, start: int, stop: int) -> Tensor:
        """Expected photons (T, H, W) of the emitters alone."""
        low, high = (int(torch.searchsorted(self._frame, limit)) for limit in (start, stop))
        part = slice(low, high)
        sigma = torch.full((high - low,), self._sigma)
        return gaussian_frames(
            self._frame[part] - start, self._x[part], self._y[part], self._photons[part], sigma,
            (stop - start, *self.shape),
        )  # fmt: skip

    def emitters(self, start: int = 0, stop: int | None = None) -> pa.Table:
        """The truth (EMITTER_SCHEMA) of emitters inside the field, sorted by frame."""
        height, width = self.shape
        inside = (self._x >= 0) & (self._x < width) & (self._y >= 0) & (self._y < height)
        inside &= (self._frame >= start) & (self._frame < (self.dataset.frames if stop is None else stop))
        scale = self.camera.pixel_size
        columns = (self._frame, self._emitter, self._x * scale, self._y * scale, self._photons)
        return pa.table([pa.array(column[inside].numpy()) for column in columns], schema=EMITTER_SCHEMA)

    def _draw_emitters(self, generator: torch.Generator) -> None:
        dataset = self.dataset
        blinks, x, y = self._blinks_and_places(generator)
        trains = len(x)
        brightness = dataset.photons + dataset.photons_sd * torch.randn(trains, generator=generator)
        blink, frame, lit = frame_traces(blinks, dataset.frames)
        emitter = blinks.emitter[blink]
        order = torch.argsort(frame, stable=True)
        emitter, self._frame = emitter[order], frame[order]
        self._emitter, self._x, self._y = emitter, x[emitter], y[emitter]
        # A dye that draws almost no light is none; the floor keeps a normal tail from going negative.
        self._photons = brightness.clamp(min=0.05 * dataset.photons)[emitter] * lit[order]

    def _blinks_and_places(self, generator: torch.Generator) -> tuple[Blinks, Tensor, Tensor]:
        """Blink trains, and for each its place: as many as give the mean density of emitters that are on."""
        dataset = self.dataset
        on, off = dataset.on_time / dataset.exposure, dataset.off_time / dataset.exposure
        margin = MARGIN if dataset.structure == "random" else 0.0
        area = (dataset.height + 2 * margin) * (dataset.width + 2 * margin) * (self.camera.pixel_size / 1000) ** 2
        window = dataset.frames + lead_in(on, off, dataset.blinks)
        expected = dataset.density * area * window / (dataset.blinks * on)
        trains = int(torch.poisson(torch.tensor(expected), generator=generator))
        blinks = blink_trains(trains, dataset.frames, on, off, dataset.blinks, generator)
        if dataset.structure == "random":
            return blinks, *scattered(trains, dataset.height, dataset.width, margin, generator)
        x, y = STRUCTURES[dataset.structure](dataset.labels, dataset.height, dataset.width, generator)
        label = torch.randint(dataset.labels, (trains,), generator=generator)
        return blinks, x[label], y[label]

    def _expose(self, number: int, light: Tensor) -> NDArray[np.uint16]:
        """One frame; its noise depends on the seed and its number alone."""
        generator = torch.Generator().manual_seed((self.dataset.seed + 1) * 1_000_003 + number)
        adu: NDArray[Any] = self._noise.expose(light, generator).numpy()
        return adu.astype(np.uint16)


def camera_noise(camera: Camera) -> CameraNoise:
    """The noise chain of a calibrated camera."""

    def tensor(value: float | NDArray[np.float32]) -> float | Tensor:
        return value if isinstance(value, float | int) else torch.from_numpy(value)

    return CameraNoise(
        quantum_efficiency=camera.quantum_efficiency,
        em_gain=camera.em_gain,
        e_per_adu=tensor(camera.e_per_adu),
        baseline=tensor(camera.baseline),
        read_noise=tensor(camera.read_noise),
        spurious_charge=camera.spurious_charge,
        saturation=min(camera.saturation, 65535.0),
    )
