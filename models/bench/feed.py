"""Frames that lie in memory, given to the engine as a source gives them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from acquisition.pace import Pace
from acquisition.source import Frames, Pixels, SourceDescription
from engine.status import Status

POLL = 0.01
"""Seconds between two looks at how far the engine is."""


class Feed(Protocol):
    """When frames may be given."""

    def wait_for(self, frame: int) -> int:
        """Wait until ``frame`` (from 0) may be given; how many may be by then."""
        ...

    def given(self, frames: int) -> None:
        """The last of ``frames`` was given. May wait."""
        ...


class MemorySource:
    """A FrameSource of ``frames`` frames: those in memory, again and again."""

    def __init__(self, pixels: Pixels, frames: int, interval: float, feed: Feed) -> None:
        """``pixels`` (T, H, W) [ADU]; ``interval`` between frames, as the source tells it [s]."""
        self._pixels, self._frames, self._interval, self._feed = pixels, frames, interval, feed
        self._stopped = threading.Event()

    def open(self) -> SourceDescription:
        """See FrameSource.open."""
        height, width = self._pixels.shape[1:]
        return SourceDescription(
            "frames in memory", height, width, self._pixels.dtype, self._frames, exposure=1000 * self._interval
        )

    def blocks(self, size: int) -> Iterator[Frames]:
        """See FrameSource.blocks. A block may be shorter than ``size`` where the frames in memory begin anew."""
        done, held = 0, len(self._pixels)
        while done < self._frames and not self._stopped.is_set():
            stop = min(self._feed.wait_for(done), done + size, done + held - done % held, self._frames)
            numbers = np.arange(done, stop)
            pixels = self._pixels[done % held : done % held + len(numbers)]
            yield Frames(pixels, numbers, (numbers.astype(np.float64) + 1) * self._interval)
            done = stop
        self._feed.given(done)

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


class Hungry:
    """As fast as the engine takes them: a few blocks always wait. Notes how fast that is."""

    def __init__(self, status: Callable[[], Status], block: int, future: int, clock: Callable[[], float]) -> None:
        """``future``: frames at the end that the engine does not answer before the source has ended."""
        self._status, self._block, self._future, self._clock = status, block, future, clock
        self._first: tuple[float, int] | None = None
        self._last = (0.0, 0)

    @property
    def rate(self) -> float:
        """Frames a second, from the first frames recorded to the last before the end; NaN where that is one block."""
        first, last = self._first or self._last, self._last
        return (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else float("nan")

    def wait_for(self, frame: int) -> int:
        """See Feed."""
        self._wait_until(frame - 2 * self._block - self._future)
        return frame + self._block

    def given(self, frames: int) -> None:
        """See Feed. Waits for all frames that can be answered now, so that the end of the run is not timed."""
        self._wait_until(frames - self._future)

    def _wait_until(self, analysed: int) -> None:
        while True:
            status = self._status()
            if status.analysed > self._last[1]:
                self._last = self._clock(), status.analysed
                self._first = self._first or self._last
            if status.analysed >= analysed or status.error is not None:
                return
            time.sleep(POLL)


class Steady:
    """At a fixed rate, as a camera that waits for nobody. Notes how much waited when the last frame came."""

    def __init__(self, status: Callable[[], Status], interval: float) -> None:
        """``interval`` between frames [s]."""
        self._status, self._interval = status, interval
        self._pace: Pace | None = None
        self.lag = 0

    def wait_for(self, frame: int) -> int:
        """See Feed. Time begins with the first frame."""
        self._pace = self._pace or Pace(self._interval, time.monotonic, time.sleep)
        return self._pace.wait_for(frame)

    def given(self, frames: int) -> None:  # noqa: ARG002 (the contract's)
        """See Feed."""
        self.lag = self._status().lag
