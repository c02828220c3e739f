"""The following source: reads a recording while another program, such as Micro-Manager, is still writing it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from acquisition.files.find import open_growing
from acquisition.files.growing import GrowingStack, NewFrame
from acquisition.files.stack import Rectangle
from acquisition.recorded import BLOCK_BYTES, check_window, description, region
from acquisition.source import Frames, SourceDescription
from config.errors import SettingsError, SourceStopped

log = logging.getLogger(__name__)

LOOK_EVERY = 0.05
"""Seconds between two looks at a recording that has nothing new."""
SETTLING = 0.5
"""Seconds for which the end marker must stand: a full file looks like the last one until the next begins."""


class FollowSource:
    """A growing recording as a FrameSource: an NDTiff dataset, or a TIFF stack page by page (OME-TIFF, BigTIFF).

    May be opened before the recording exists, while it is written or once it is complete. A frame is given once it is
    whole, within about 0.1 s (a newest TIFF page of unknown origin: 0.25 s). It ends with the writer's end marker.
    A TIFF other than Micro-Manager's has none: it ends when nothing was written for ``silence`` seconds. A dataset that
    is silent for so long without its end marker was abandoned: that is an error.
    """

    def __init__(
        self,
        path: Path,
        start: int = 0,
        stop: int | None = None,
        roi: tuple[int, int, int, int] | None = None,
        *,
        exposure: float | None = None,
        silence: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """start, stop: first frame number and the one to stop before; roi: x, y, width, height [pixels].

        ``exposure``: time between frames [ms] where the recording does not tell it; ``silence`` in s (at least five
        exposures are waited).
        """
        self._path, self._start, self._stop, self._roi = Path(path), start, stop, roi
        self._exposure, self._silence, self._clock = exposure, silence, clock
        self._stopped = Event()
        self._stack: GrowingStack | None = None
        self._first: NewFrame | None = None

    def open(self) -> SourceDescription:
        """Wait for the first frame and say what is being recorded.

        Raises SourceUnreadable for what cannot be followed, SettingsError for start, stop and roi, SourceStopped when
        ``stop`` comes before the first frame.
        """
        check_window(self._start, self._stop)
        self._stack = self._await_first()
        try:
            part = region(self._stack.info, self._roi)
        except SettingsError:
            self.close()
            raise
        told = description(self._stack.info, part, None, self._exposure)
        self._silence = max(self._silence, 5 * (told.exposure or 0.0) / 1000)
        log.info("following %s", told.name)
        return told

    def blocks(self, size: int) -> Iterator[Frames]:
        """Every frame that was written since the last block, at most ``size``. Raises SourceError."""
        stack = self._opened()
        part = region(stack.info, self._roi)
        step = max(1, min(size, BLOCK_BYTES // stack.info.frame_bytes))
        patience = _Patience(stack, self._silence, self._clock)
        while not self._stopped.is_set():
            found = stack.more(step)
            self._first = self._first or (found[0] if found else None)
            wanted = [frame for frame in found if self._is_wanted(frame)]
            if wanted:
                yield self._block(stack, wanted, part)
            if self._stop is not None and found and found[-1].number >= self._stop - 1:
                return
            if found:
                patience.renew()
            elif patience.is_over():
                return
            else:
                self._stopped.wait(LOOK_EVERY)

    def stop(self) -> None:
        """End ``open`` and ``blocks`` at once. Any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Close the files. May be called twice."""
        if self._stack is not None:
            self._stack.close()
            self._stack = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> GrowingStack:
        if self._stack is None:
            raise RuntimeError("FollowSource.blocks was called before open, or after close")
        return self._stack

    def _await_first(self) -> GrowingStack:
        """The recording, as soon as it has a frame."""
        said = False
        while not self._stopped.is_set():
            stack = open_growing(self._path)
            if stack is not None:
                return stack
            if not said:
                log.warning("%s. Start the acquisition, or stop with Ctrl-C", self._why_wait())
                said = True
            self._stopped.wait(LOOK_EVERY)
        raise SourceStopped(f"stopped before {self._path} had its first frame.")

    def _why_wait(self) -> str:
        if self._path.exists():
            return f"waiting for the first frame of {self._path}"
        lost = "" if self._path.parent.is_dir() else ", nor is its folder: is the path right?"
        return f"waiting for {self._path}, which is not there yet{lost}"

    def _is_wanted(self, frame: NewFrame) -> bool:
        return frame.number >= self._start and (self._stop is None or frame.number < self._stop)

    def _block(self, stack: GrowingStack, frames: list[NewFrame], part: Rectangle) -> Frames:
        numbers = np.array([frame.number for frame in frames], dtype=np.int64)
        return Frames(stack.read(frames, part), numbers, self._times(stack, frames))

    def _times(self, stack: GrowingStack, frames: list[NewFrame]) -> NDArray[np.float64]:
        """Seconds since the first frame, NaN where unknown."""
        first, interval = self._first or frames[0], self._exposure or stack.info.exposure
        if first.seconds is None:
            return np.array([frame.number * interval / 1000 if interval else np.nan for frame in frames])
        since = [np.nan if frame.seconds is None else frame.seconds - first.seconds for frame in frames]
        # A later frame cannot have the first one's time: then the clock was never read.
        pairs = zip(since, frames, strict=True)
        return np.array([time if time or frame is first else np.nan for time, frame in pairs])


class _Patience:
    """Decides whether a recording that has nothing new is over."""

    def __init__(self, stack: GrowingStack, silence: float, clock: Callable[[], float]) -> None:
        self._stack, self._silence, self._clock = stack, silence, clock
        self._pulse = stack.pulse()
        self.renew()

    def renew(self) -> None:
        """Something new has come."""
        self._quiet_since = self._clock()
        self._ended_since: float | None = None

    def is_over(self) -> bool:
        """Raises SourceStopped where the recording was deleted, replaced or abandoned."""
        now, pulse = self._clock(), self._stack.pulse()
        if pulse != self._pulse:
            self._pulse = pulse
            self.renew()
        if self._stack.ended():
            self._ended_since = now if self._ended_since is None else self._ended_since
            return now - self._ended_since >= SETTLING
        self._ended_since = None
        return now - self._quiet_since >= self._silence and self._has_fallen_silent()

    def _has_fallen_silent(self) -> bool:
        name = self._stack.info.name
        if self._stack.has_end_marker:
            raise SourceStopped(
                f"{name}: nothing was written for {self._silence:g} s, and its end marker is missing. The program that "
                "writes it has stopped, or pauses for longer: then give source.silence in seconds. The frames that "
                "came are analysed."
            )
        log.warning("%s: nothing was written for %g s: taken for its end (source.silence)", name, self._silence)
        return True
