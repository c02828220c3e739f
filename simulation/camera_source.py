"""The simulated camera: a simulated acquisition that arrives frame by frame in real time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from acquisition.light import ActivationLight
from acquisition.pace import Pace
from acquisition.source import Frames, SourceDescription
from config.schema import Settings
from simulation.dataset import make_live_simulator
from simulation.live import LiveSimulator

log = logging.getLogger(__name__)

PIXELS_AT_ONCE = 1 << 18
"""Most pixels rendered before the next look at whether to stop."""
LATE = 1.0
"""Seconds behind its deadlines from which a camera that renders too slowly says so."""


class SimulatedCamera:
    """A FrameSource that gives each frame when its exposure ends, by deadlines, so that delays do not add up.

    A frame is rendered once it is due, with the light as it is then. No frame is ever left out: a reader that comes
    late gets every frame, in larger blocks. The clock and the wait are injected, so that tests need not take time.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
        *,
        endless: bool = False,
    ) -> None:
        """``endless``: run until stopped, and not for ``dataset.frames``.

        The exposure is ``source.exposure``, or ``dataset.exposure`` where that is not given.
        """
        exposure = settings.source.exposure or settings.dataset.exposure
        self._settings = replace(settings, dataset=replace(settings.dataset, exposure=exposure))
        self._frames = None if endless else settings.dataset.frames
        self._stopped = threading.Event()
        self._clock = clock
        self._wait = wait or self._stopped.wait
        self._simulator: LiveSimulator | None = None
        self._said_slow = False

    @property
    def simulator(self) -> LiveSimulator:
        """What is being acquired; it knows the truth. Raises CalibrationMissing, SettingsError."""
        if self._simulator is None:
            self._simulator = make_live_simulator(self._settings)
        return self._simulator

    def light(self) -> ActivationLight:
        """The light that switches emitters on: power 1 gives ``dataset.density``, and p gives p times that."""
        return self.simulator.light

    def open(self) -> SourceDescription:
        """See FrameSource.open. Raises CalibrationMissing, SettingsError."""
        dataset = self._settings.dataset
        return SourceDescription(
            name=f"simulated {self.simulator.camera.name}",
            height=dataset.height,
            width=dataset.width,
            dtype=np.dtype(np.uint16),
            frames=self._frames,
            exposure=dataset.exposure,
        )

    def blocks(self, size: int) -> Iterator[Frames]:
        """Every frame that has been exposed since the last block, at most ``size``."""
        height, width = self.simulator.shape
        size = max(1, min(size, PIXELS_AT_ONCE // (height * width)))
        exposure = self._settings.dataset.exposure / 1000
        pace = Pace(exposure, self._clock, self._wait)
        done = 0
        while self._frames is None or done < self._frames:
            ended = pace.wait_for(done)
            if self._stopped.is_set():
                return
            stop = min(ended, done + size, ended if self._frames is None else self._frames)
            began = self._clock()
            pixels = self.simulator.expose(stop - done)
            self._say_if_slow((self._clock() - began) / len(pixels), exposure, pace.ended() - stop)
            numbers = np.arange(done, stop)
            yield Frames(pixels, numbers, (numbers.astype(np.float64) + 1) * exposure)
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

    def _say_if_slow(self, spent: float, exposure: float, behind: int) -> None:
        """``spent`` on a frame [s]; ``behind``: frames that are due already."""
        if self._said_slow or spent <= exposure or behind * exposure < LATE:
            return
        self._said_slow = True
        log.warning(
            "the simulated camera is too slow for its rate: a frame of %.3g ms takes %.3g ms to render. Frames come "
            "late, none is lost. Give a longer dataset.exposure or a smaller dataset.height and dataset.width",
            exposure * 1000,
            spent * 1000,
        )
