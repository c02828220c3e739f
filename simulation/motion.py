"""Motion of the sample against the camera: steady drift, random drift and vibration."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from config.schema import DatasetSettings

STRETCH = 4096
"""Frames of random drift that are drawn together."""

Floats = NDArray[np.float64]


class Motion:
    """Where the sample is in any frame; it follows from ``dataset.seed``, whatever was asked for before.

    Vibration is averaged over the exposure: what is slower than a frame moves it, what is faster blurs it.
    """

    def __init__(self, dataset: DatasetSettings) -> None:
        self._dataset = dataset
        self._exposure = dataset.exposure / 1000
        self._ends: list[Floats] = [np.zeros(2)]
        """Random drift (x, y) [nm] at the end of each stretch that was needed so far: 16 bytes for 4,096 frames."""
        self._steps = lru_cache(maxsize=2)(self._draw_steps)
        self._phases = np.random.default_rng((dataset.seed, 11)).uniform(0, 2 * np.pi, 2)

    @property
    def still(self) -> bool:
        """Whether the sample stays where it is."""
        dataset = self._dataset
        return not (any(dataset.drift) or dataset.drift_walk or dataset.vibration)

    @property
    def blur(self) -> float:
        """Standard deviation along x and along y of vibration faster than a frame [nm]."""
        return self._dataset.vibration * math.sqrt(1 - self._slow_share() ** 2)

    def path(self, start: int, stop: int) -> Floats:
        """Places (T, 3) of the sample, x, y, z [nm], 0 in frame 0 but for vibration; a frame's place is its mean."""
        time: Floats = np.arange(start, stop, dtype=np.float64) * self._exposure
        path: Floats = time[:, None] * np.array(self._dataset.drift)
        if self._dataset.drift_walk:
            path[:, :2] += self._walk(start, stop)
        if self._dataset.vibration:
            path[:, :2] += self._vibration(time)
        return path

    def _slow_share(self) -> float:
        """Amplitude of the frames' mean place over that of the vibration."""
        return float(np.sinc(self._dataset.vibration_frequency * self._exposure))

    def _vibration(self, time: Floats) -> Floats:
        angle = 2 * np.pi * self._dataset.vibration_frequency * (time + self._exposure / 2)
        swing = math.sqrt(2) * self._dataset.vibration * self._slow_share()
        moved: Floats = swing * np.sin(angle[:, None] + self._phases)
        return moved

    def _walk(self, start: int, stop: int) -> Floats:
        parts = [self._stretch(number) for number in range(start // STRETCH, (stop - 1) // STRETCH + 1)]
        first = start // STRETCH * STRETCH
        whole = np.concatenate(parts) if parts else np.zeros((0, 2))
        return whole[start - first : stop - first]

    def _stretch(self, number: int) -> Floats:
        while len(self._ends) <= number:
            self._ends.append(self._ends[-1] + self._steps(len(self._ends) - 1).sum(0))
        steps: Floats = self._steps(number)
        return self._ends[number] + np.cumsum(steps, 0) - steps

    def _draw_steps(self, number: int) -> Floats:
        generator = np.random.default_rng((self._dataset.seed, 12, number))
        return generator.normal(0, self._dataset.drift_walk * math.sqrt(self._exposure), (STRETCH, 2))
