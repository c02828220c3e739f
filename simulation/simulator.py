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
from config.schema import DatasetSettings, PhotophysicsSettings
from simulation.augmentation import widths
from simulation.background import Background
from simulation.emitters import EMITTER_SCHEMA
from simulation.motion import Motion
from simulation.noise import CameraNoise
from simulation.photophysics import blink_trains, frame_traces, lead_in
from simulation.psf import GaussianPsf, Psf, Spots
from simulation.states import Trains, chain_trains, make_chain, merged
from simulation.structures import Places, dyes, heights, scattered

MARGIN = 5.0
"""Emitters of a random field stand up to this far outside it [pixels]: their light reaches in."""


class Microscope:
    """What lies between emitters and ADU: the point-spread function, the background and the camera."""

    def __init__(self, dataset: DatasetSettings, camera: Camera, psf: Psf | float, generator: torch.Generator) -> None:
        """``psf``, or the standard deviation [nm] of a Gaussian one; ``generator`` draws the background."""
        self.shape = (dataset.height, dataset.width)
        self._seed = dataset.seed
        self._psf = GaussianPsf(psf / camera.pixel_size) if isinstance(psf, float | int) else psf
        self._noise = camera_noise(camera)
        self._background = Background(dataset, generator)

    def light(
        self,
        frame: Tensor,
        x: Tensor,
        y: Tensor,
        photons: Tensor,
        frames: int,
        z: Tensor | None = None,
        width: Tensor | None = None,
    ) -> Tensor:
        """Expected photons (frames, H, W) of emitters: index of the frame, place [pixels], photons; (N,) each.

        ``z`` [nm], in focus where it is not given; ``width`` of each one's PSF over the usual one.
        """
        z = torch.zeros_like(x) if z is None else z
        spots = Spots(frame, x, y, z, photons, torch.ones_like(x) if width is None else width)
        return self._psf.frames(spots, (frames, *self.shape))

    def background(self, start: int, frames: int) -> Tensor:
        """Expected background (frames, H, W), or (H, W) where it is the same in all [photons]."""
        return self._background.frames(start, frames)

    def expose(self, start: int, light: Tensor) -> NDArray[np.uint16]:
        """Camera frames (T, H, W) [ADU] of emitters' light (T, H, W); ``start`` is the first frame's number."""
        whole = light + self.background(start, len(light))
        return np.stack([self._frame(number, image) for number, image in enumerate(whole, start)])

    def _frame(self, number: int, light: Tensor) -> NDArray[np.uint16]:
        """One frame; its noise depends on the seed and its number alone."""
        generator = torch.Generator().manual_seed((self._seed + 1) * 1_000_003 + number)
        adu: NDArray[Any] = self._noise.expose(light, generator).numpy()
        return adu.astype(np.uint16)


class Simulator:
    """Simulated acquisition of a blinking sample through a camera. Everything follows from ``dataset.seed``."""

    def __init__(
        self,
        dataset: DatasetSettings,
        camera: Camera,
        psf: Psf | float,
        photophysics: PhotophysicsSettings | None = None,
        sigma_spread: float = 0.0,
    ) -> None:
        """``psf``, or the standard deviation [nm] of a Gaussian one; ``sigma_spread`` of its width over emitters.

        ``photophysics``: two states where it is not given. Raises SettingsError.
        """
        self.dataset = dataset
        self.camera = camera
        self._photophysics = photophysics or PhotophysicsSettings()
        generator = torch.Generator().manual_seed(dataset.seed)
        self._microscope = Microscope(dataset, camera, psf, generator)
        self._draw_emitters(sigma_spread, generator)

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
        frame, x, y, photons, z, width = (
            column[low:high] for column in (self._frame, self._x, self._y, self._photons, self._z, self._width)
        )
        return self._microscope.light(frame - start, x, y, photons, stop - start, z, width)

    def background(self, start: int, stop: int) -> Tensor:
        """Expected background (T, H, W) [photons]."""
        return self._microscope.background(start, stop - start).expand(stop - start, *self.shape)

    def emitters(self, start: int = 0, stop: int | None = None) -> pa.Table:
        """The truth (EMITTER_SCHEMA) of emitters inside the field, sorted by frame."""
        wanted = (self._frame >= start) & (self._frame < (self.dataset.frames if stop is None else stop))
        columns = (self._frame, self._emitter, self._x, self._y, self._photons, self._z)
        return truth_table([column[wanted].numpy() for column in columns], self.shape, self.camera.pixel_size)

    def _draw_emitters(self, sigma_spread: float, generator: torch.Generator) -> None:
        dataset = self.dataset
        trains, places = self._trains_and_places(generator)
        brightness = dataset.photons + dataset.photons_sd * torch.randn(trains.emitters, generator=generator)
        blink, frame, lit = frame_traces(trains.blinks, dataset.frames)
        emitter, light = trains.blinks.emitter[blink], lit * trains.level[blink]
        if self._photophysics.kind == "states":
            emitter, frame, light = merged(emitter, frame, light)
        order = torch.argsort(frame, stable=True)
        self._emitter, self._frame = emitter[order], frame[order]
        # A dye that draws almost no light is none; the floor keeps a normal tail from going negative.
        self._photons = brightness.clamp(min=0.05 * dataset.photons)[self._emitter] * light[order]
        width = widths(len(places), sigma_spread, generator) if sigma_spread > 0 else torch.ones(len(places))
        self._width = width[self._emitter]
        self._put(places[self._emitter])

    def _put(self, places: Places) -> None:
        """Keep where each row's emitter is in its frame, the sample's motion included."""
        motion, size = Motion(self.dataset), self.camera.pixel_size
        self._x, self._y, self._z = places.x, places.y, places.z
        if not motion.still:
            moved = torch.from_numpy(motion.path(0, self.dataset.frames)).float()[self._frame]
            self._x, self._y = self._x + moved[:, 0] / size, self._y + moved[:, 1] / size
            self._z = self._z + moved[:, 2]

    def _trains_and_places(self, generator: torch.Generator) -> tuple[Trains, Places]:
        """Blink trains, and for each emitter its place: as many as give the mean density of emitters that are on."""
        dataset = self.dataset
        margin, area = populated(dataset, self.camera.pixel_size)
        trains = self._trains(dataset.density * area, generator)
        if dataset.structure == "random":
            x, y = scattered(trains.emitters, dataset.height, dataset.width, margin, generator)
            return trains, Places(x, y, heights(trains.emitters, dataset, generator))
        sites = dyes(dataset, self.camera.pixel_size, generator)
        assert sites is not None
        return trains, sites[torch.randint(len(sites), (trains.emitters,), generator=generator)]

    def _trains(self, alight: float, generator: torch.Generator) -> Trains:
        """Blink trains of so many emitters that ``alight`` of them are on at any moment."""
        dataset = self.dataset
        if self._photophysics.kind == "states":
            chain = make_chain(self._photophysics)
            return chain_trains(chain, alight, dataset.frames, dataset.exposure / 1000, generator)
        on, off = dataset.on_time / dataset.exposure, dataset.off_time / dataset.exposure
        window = dataset.frames + lead_in(on, off, dataset.blinks)
        number = int(torch.poisson(torch.tensor(alight * window / (dataset.blinks * on)), generator=generator))
        blinks = blink_trains(number, dataset.frames, on, off, dataset.blinks, generator)
        return Trains(blinks, torch.ones(len(blinks.start)), number)


def populated(dataset: DatasetSettings, pixel_size: float) -> tuple[float, float]:
    """How far outside the field emitters stand [pixels], and the area that holds them [µm²]; ``pixel_size`` in nm."""
    margin = MARGIN if dataset.structure == "random" else 0.0
    return margin, (dataset.height + 2 * margin) * (dataset.width + 2 * margin) * (pixel_size / 1000) ** 2


def truth_table(columns: Sequence[NDArray[Any]], shape: tuple[int, int], pixel_size: float) -> pa.Table:
    """The truth (EMITTER_SCHEMA) of emitters inside the field.

    ``columns``: frame, emitter, x, y [pixels], photons, (N,) each, and z [nm] where it is not 0; ``pixel_size`` in nm.
    """
    frame, emitter, x, y, photons, *depth = columns
    z = depth[0] if depth else np.zeros(len(x), np.float32)
    inside = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
    told = (frame, emitter, x * np.float32(pixel_size), y * np.float32(pixel_size), photons, z)
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
