"""A whole acquisition: emitters drawn once, camera frames rendered when asked for, in any blocks, always the same."""

from __future__ import annotations

from collections.abc import Sequence
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


class Microscope:
    """What lies between emitters and ADU: the point-spread function, the background and the camera."""

    def __init__(self, dataset: DatasetSettings, camera: Camera, psf_sigma: float, generator: torch.Generator) -> None:
        """``psf_sigma`` in nm; ``generator`` draws the background."""
        self.shape = (dataset.height, dataset.width)
        self._seed = dataset.seed
        self._sigma = psf_sigma / camera.pixel_size
        self._noise = camera_noise(camera)
        self._background = smooth_background(
            dataset.height, dataset.width, dataset.background, dataset.background_variation, generator
        )

    def light(self, frame: Tensor, x: Tensor, y: Tensor, photons: Tensor, frames: int) -> Tensor:
        """Expected photons (frames, H, W) of emitters: index of the frame, place [pixels], photons; (N,) each."""
        sigma = torch.full((len(frame),), self._sigma)
        return gaussian_frames(frame, x, y, photons, sigma, (frames, *self.shape))

    def expose(self, start: int, light: Tensor) -> NDArray[np.uint16]:
        """Camera frames (T, H, W) [ADU] of emitters' light (T, H, W); ``start`` is the first frame's number."""
        return np.stack([self._frame(number, image) for number, image in enumerate(light + self._background, start)])

    def _frame(self, number: int, light: Tensor) -> NDArray[np.uint16]:
        """One frame; its noise depends on the seed and its number alone."""
        generator = torch.Generator().manual_seed((self._seed + 1) * 1_000_003 + number)
        adu: NDArray[Any] = self._noise.expose(light, generator).numpy()
        return adu.astype(np.uint16)


class Simulator:
    """Simulated acquisition of a blinking sample through a camera. Everything follows from ``dataset.seed``."""

    def __init__(self, dataset: DatasetSettings, camera: Camera, psf_sigma: float) -> None:
        """``psf_sigma`` in nm."""
        self.dataset = dataset
        self.camera = camera
        generator = torch.Generator().manual_seed(dataset.seed)
        self._microscope = Microscope(dataset, camera, psf_sigma, generator)
        self._draw_emitters(generator)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of a frame."""
        return self._microscope.shape

    def frames(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Camera frames (T, H, W) [ADU], T = stop − start. The same numbers whatever the blocks."""
        return self._microscope.expose(start, self.photons(start, stop))

    def photons(self, start: int, stop: int) -> Tensor:
        """Expected photons (T, H, W) of the emitters alone."""
        low, high = (int(torch.searchsorted(self._frame, limit)) for limit in (start, stop))
        frame, x, y, photons = (column[low:high] for column in (self._frame, self._x, self._y, self._photons))
        return self._microscope.light(frame - start, x, y, photons, stop - start)

    def emitters(self, start: int = 0, stop: int | None = None) -> pa.Table:
        """The truth (EMITTER_SCHEMA) of emitters inside the field, sorted by frame."""
        wanted = (self._frame >= start) & (self._frame < (self.dataset.frames if stop is None else stop))
        columns = (self._frame, self._emitter, self._x, self._y, self._photons)
        return truth_table([column[wanted].numpy() for column in columns], self.shape, self.camera.pixel_size)

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
        margin, area = populated(dataset, self.camera.pixel_size)
        window = dataset.frames + lead_in(on, off, dataset.blinks)
        expected = dataset.density * area * window / (dataset.blinks * on)
        trains = int(torch.poisson(torch.tensor(expected), generator=generator))
        blinks = blink_trains(trains, dataset.frames, on, off, dataset.blinks, generator)
        if dataset.structure == "random":
            return blinks, *scattered(trains, dataset.height, dataset.width, margin, generator)
        x, y = STRUCTURES[dataset.structure](dataset.labels, dataset.height, dataset.width, generator)
        label = torch.randint(dataset.labels, (trains,), generator=generator)
        return blinks, x[label], y[label]


def populated(dataset: DatasetSettings, pixel_size: float) -> tuple[float, float]:
    """How far outside the field emitters stand [pixels], and the area that holds them [µm²]; ``pixel_size`` in nm."""
    margin = MARGIN if dataset.structure == "random" else 0.0
    return margin, (dataset.height + 2 * margin) * (dataset.width + 2 * margin) * (pixel_size / 1000) ** 2


def truth_table(columns: Sequence[NDArray[Any]], shape: tuple[int, int], pixel_size: float) -> pa.Table:
    """The truth (EMITTER_SCHEMA) of emitters inside the field.

    ``columns``: frame, emitter, x, y [pixels], photons, (N,) each; ``pixel_size`` in nm.
    """
    frame, emitter, x, y, photons = columns
    inside = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
    told = (frame, emitter, x * np.float32(pixel_size), y * np.float32(pixel_size), photons)
    return pa.table([pa.array(column[inside]) for column in told], schema=EMITTER_SCHEMA)


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
