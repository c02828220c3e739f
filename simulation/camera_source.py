"""The simulated camera: a simulated acquisition that arrives frame by frame in real time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import numpy as np

from acquisition.source import Frames, SourceDescription
from config.schema import Settings
from simulation.dataset import make_simulator
from simulation.simulator import Simulator

RENDER = 32
"""Frames rendered ahead at once."""


class SimulatedCamera:
    """A FrameSource that gives each frame when its exposure ends, by deadlines, so that delays do not add up.

    The clock and the wait are injected, so that tests need not take time.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._settings = settings
        self._stopped = threading.Event()
        self._clock = clock
        self._wait = wait or self._stopped.wait
        self._simulator: Simulator | None = None

    @property
    def simulator(self) -> Simulator:
        """What is being acquired; it knows the truth."""
        if self._simulator is None:
            self._simulator = make_simulator(self._settings)
        return self._simulator

    def open(self) -> SourceDescription:
        """See FrameSource.open. Raises CalibrationMissing, SettingsError."""
        dataset = self._settings.dataset
        return SourceDescription(
            name=f"simulated {self.simulator.camera.name}",
            height=dataset.height,
            width=dataset.width,
            dtype=np.dtype(np.uint16),
            frames=dataset.frames,
            exposure=dataset.exposure,
        )

    def blocks(self, size: int) -> Iterator[Frames]:
        """Every frame that has been exposed since the last block, at most ``size``."""
        exposure = self._settings.dataset.exposure / 1000
        total = self._settings.dataset.frames
        begin = self._clock()
        for start in range(0, total, RENDER):
            pixels = self.simulator.frames(start, min(start + RENDER, total))
            done = start
            while done < start + len(pixels):
                self._wait(max(0.0, begin + (done + 1) * exposure - self._clock()))
                if self._stopped.is_set():
                    return
                exposed = int((self._clock() - begin) / exposure + 1e-6)  # rounding must not hide a frame
                stop = min(max(exposed, done + 1), done + size, start + len(pixels))
                numbers = np.arange(done, stop)
                yield Frames(pixels[done - start : stop - start], numbers, (numbers.astype(np.float64) + 1) * exposure)
                done = stop

    def stop(self) -> None:
        """See FrameSource.stop."""
        self._stopped.set()

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
