"""A simulated acquisition without an end: frames are exposed one after another, in constant memory."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from acquisition.camera import Camera
from config.schema import DatasetSettings
from simulation.activation import Blinking, Lit, SimulatedLight
from simulation.motion import Motion
from simulation.psf import Psf
from simulation.simulator import Microscope, truth_table

Floats: TypeAlias = NDArray[np.float32]


class LiveSimulator:
    """A blinking sample through a camera, under a light that may be changed while it runs.

    The frames follow from ``dataset.seed`` and the light's powers, whatever the blocks. One thread exposes; the light
    may be set from any.
    """

    def __init__(self, dataset: DatasetSettings, camera: Camera, psf: Psf | float, sigma_spread: float = 0.0) -> None:
        """``psf``, or the standard deviation [nm] of a Gaussian one; ``sigma_spread`` of its width over emitters."""
        self.dataset = dataset
        self.camera = camera
        self.light = SimulatedLight()
        self._microscope = Microscope(dataset, camera, psf, torch.Generator().manual_seed(dataset.seed))
        self._motion = Motion(dataset)
        self._sigma_spread = sigma_spread
        self._blinking = self._sample()
        self._exposed = 0
        self._powers: list[tuple[int, float]] = []
        """Where the power changed: first frame with it, and the power. All that is kept of the past."""

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of a frame."""
        return self._microscope.shape

    @property
    def exposed(self) -> int:
        """How many frames have been exposed: the next one's number."""
        return self._exposed

    def expose(self, frames: int) -> NDArray[np.uint16]:
        """The next ``frames`` (1 or more) camera frames (T, H, W) [ADU], each with the light as it is now."""
        # One by one: a single small frame stays below the size from which torch wakes all of its threads.
        return np.concatenate([self._expose_next() for _ in range(frames)])

    def emitters(self, start: int = 0, stop: int | None = None) -> pa.Table:
        """The truth (EMITTER_SCHEMA) in the frames exposed so far, from ``start`` on and before ``stop``.

        Nothing of it is kept while frames are exposed: it is drawn again, a few tenths of a ms a frame.
        """
        stop = self._exposed if stop is None else min(stop, self._exposed)
        blinking, powers, power = self._sample(), dict(self._powers), 1.0
        rows = []
        for number in range(stop):
            power = powers.get(number, power)
            lit = blinking.frame(power)
            if number >= start:
                x, y, z = self._moved(number, lit)
                rows.append((np.full(len(x), number), lit.emitter, x, y, lit.photons, z))
        columns = [np.concatenate(parts) for parts in zip(*rows, strict=True)] if rows else [np.empty(0)] * 6
        return truth_table(columns, self.shape, self.camera.pixel_size)

    def _expose_next(self) -> NDArray[np.uint16]:
        power = self.light.power()
        if not self._powers or self._powers[-1][1] != power:
            self._powers.append((self._exposed, power))
        adu = self._microscope.expose(self._exposed, self._photons(self._blinking.frame(power)))
        self._exposed += 1
        return adu

    def _sample(self) -> Blinking:
        """The sample as it was before the first frame."""
        return Blinking(self.dataset, self.camera.pixel_size, self._sigma_spread)

    def _photons(self, lit: Lit) -> torch.Tensor:
        frame = torch.zeros(len(lit.x), dtype=torch.long)
        columns = (*self._moved(self._exposed, lit), lit.photons, lit.width)
        x, y, z, photons, width = (torch.from_numpy(column) for column in columns)
        return self._microscope.light(frame, x, y, photons, 1, z, width)

    def _moved(self, number: int, lit: Lit) -> tuple[Floats, Floats, Floats]:
        """Where emitters are in frame ``number``, x, y [pixels], z [nm]: the sample may move."""
        if self._motion.still:
            return lit.x, lit.y, lit.z
        x, y, z = self._motion.path(number, number + 1)[0].astype(np.float32)
        size = np.float32(self.camera.pixel_size)
        return lit.x + x / size, lit.y + y / size, lit.z + z
