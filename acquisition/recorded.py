"""The recorded source: replays a stack from disk, in bounded memory, if wanted at the rate of its recording."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

import numpy as np

from acquisition.files.find import open_stack
from acquisition.files.stack import Rectangle, Stack, StackInfo
from acquisition.pace import Pace
from acquisition.source import Frames, SourceDescription
from config.errors import SettingsError, SourceError
from config.schema import RunSettings

BLOCK_BYTES = 32 * 2**20
"""Largest block handed out: bounds memory, and how long ``stop`` may have to wait for one."""


class RecordedSource:
    """A stack on disk as a FrameSource: TIFF in its dialects, NDTiff, Picasso raw (see acquisition/files).

    Frames are numbered from 0 at the recording's start, so ``start=100`` begins with number 100. Frames that the
    recording announces but does not hold are gaps in the numbers.
    """

    def __init__(
        self,
        path: Path,
        start: int = 0,
        stop: int | None = None,
        roi: tuple[int, int, int, int] | None = None,
        *,
        paced: bool = False,
        exposure: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        """start, stop: first frame number and the one to stop before; roi: x, y, width, height [pixels].

        ``paced``: give each frame when its exposure would end, gaps included, by deadlines. ``exposure``: time between
        frames [ms], instead of the recording's own. ``clock`` and ``wait`` are injected by tests.
        """
        self._path, self._start, self._stop, self._roi = Path(path), start, stop, roi
        self._paced, self._exposure = paced, exposure
        self._stopped = Event()
        self._clock, self._wait = clock, wait or self._stopped.wait
        self._stack: Stack | None = None

    def open(self) -> SourceDescription:
        """Find and check the recording.

        Raises SourceUnreadable for files, SettingsError for start, stop and roi, SourceError where the pace is unknown.
        """
        self._stack = open_stack(self._path)
        try:
            part, places = region(self._stack.info, self._roi), self._places(self._stack)
            self._check_pace(self._stack.info)
        except (SettingsError, SourceError):
            self.close()
            raise
        return description(self._stack.info, part, len(places), self._exposure)

    def blocks(self, size: int) -> Iterator[Frames]:
        """Blocks of up to ``size`` frames. Raises SourceUnreadable where a frame turns out to be damaged."""
        yield from self._give(size, self._places(self._opened()))

    def block_frames(self, size: int) -> int:
        """Frames of each block that ``blocks(size)`` gives, save the last: fewer than ``size`` where they are large."""
        return _step(self._opened().info, size)

    def some_blocks(self, size: int, first: int, stop: int) -> Iterator[Frames]:
        """The blocks ``first`` to before ``stop`` of those that ``blocks(size)`` gives, each as it is there.

        May be called again and again, for parts in any order. Raises SourceUnreadable.
        """
        stack = self._opened()
        places, step = self._places(stack), _step(stack.info, size)
        yield from self._give(size, places[first * step : stop * step])

    def _give(self, size: int, places: range) -> Iterator[Frames]:
        """The frames at some places, in blocks."""
        stack = self._opened()
        part, step = region(stack.info, self._roi), _step(stack.info, size)
        ready = self._ready(stack.info, places)
        done = places.start
        while done < places.stop:
            here = range(done, min(done + step, ready(done)))
            if self._stopped.is_set():
                return
            numbers = stack.info.numbers[here.start : here.stop].copy()
            yield Frames(stack.read(here, part), numbers, stack.times(here))
            done = here.stop

    def stop(self) -> None:
        """End ``blocks`` before its next block. Any thread."""
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

    def _opened(self) -> Stack:
        if self._stack is None:
            raise RuntimeError("RecordedSource.blocks was called before open, or after close")
        return self._stack

    def _ready(self, info: StackInfo, places: range) -> Callable[[int], int]:
        """A function that waits until the frame at a place is due, and gives the place behind the last that is."""
        interval = self._exposure or info.exposure
        if not self._paced or interval is None:
            return lambda _: places.stop
        pace, first = Pace(interval / 1000, self._clock, self._wait), int(info.numbers[places.start])

        def ready(place: int) -> int:
            ended = pace.wait_for(int(info.numbers[place]) - first)
            return min(places.stop, int(np.searchsorted(info.numbers, first + ended)))

        return ready

    def _check_pace(self, info: StackInfo) -> None:
        if self._paced and not (self._exposure or info.exposure):
            raise SourceError(
                f"{info.name} does not tell how fast it was recorded, so it cannot be given at that rate. Set "
                "source.exposure to the time between two frames in ms, or source.paced=false."
            )

    def _places(self, stack: Stack) -> range:
        """Stored frames to give. Raises SourceUnreadable where not all of them are complete."""
        self._check_numbers(stack.info)
        first = int(np.searchsorted(stack.info.numbers, self._start))
        last = len(stack.info.numbers)
        if self._stop is not None:
            last = int(np.searchsorted(stack.info.numbers, self._stop))
        if last > stack.info.readable:
            raise stack.cut_short(stack.info.readable)
        return range(first, last)

    def _check_numbers(self, info: StackInfo) -> None:
        last = int(info.numbers[-1])
        if not 0 <= self._start <= last:
            raise SettingsError(
                f"run.start must be a frame of {info.name}, 0 to {last}; it is {self._start}. Frames count from 0."
            )
        check_window(self._start, self._stop)


def _step(info: StackInfo, size: int) -> int:
    """Frames of a block when ``size`` are asked for."""
    return max(1, min(size, BLOCK_BYTES // info.frame_bytes))


def rectangle(run: RunSettings) -> tuple[int, int, int, int] | None:
    """run.roi as x, y, width, height [pixels]."""
    roi = run.roi
    return (roi[0], roi[1], roi[2], roi[3]) if roi else None


def check_window(start: int, stop: int | None) -> None:
    """Refuse a first frame and one to stop before between which there are none. Raises SettingsError."""
    if start < 0:
        raise SettingsError(f"run.start must be 0 or more; it is {start}. Frames count from 0.")
    if stop is not None and stop <= start:
        raise SettingsError(
            f"run.stop is the frame to stop before, so it must be above run.start={start}; it is {stop}."
        )


def region(info: StackInfo, roi: tuple[int, int, int, int] | None) -> Rectangle:
    """The part of the frames to analyse, everything without ``roi``: x, y, width, height. Raises SettingsError."""
    part = Rectangle(*(roi or (0, 0, info.width, info.height)))
    inside = part.x >= 0 and part.y >= 0 and part.width > 0 and part.height > 0
    if not inside or part.x + part.width > info.width or part.y + part.height > info.height:
        given = ", ".join(map(str, astuple(part)))
        raise SettingsError(
            f"run.roi (x, y, width, height) must lie inside the frames of {info.name}, which are "
            f"{info.width} pixels wide and {info.height} high; it is {given}."
        )
    return part


def description(
    info: StackInfo, part: Rectangle, frames: int | None, exposure: float | None = None
) -> SourceDescription:
    """What a recording, or this part of it, is as a source; ``exposure`` [ms] wins over the recording's own."""
    return SourceDescription(
        name=info.name,
        height=part.height,
        width=part.width,
        dtype=info.dtype.newbyteorder("="),
        frames=frames,
        exposure=exposure or info.exposure,
        origin=(part.x, part.y),
        camera=({"saturation": 255.0} if info.dtype.itemsize == 1 else {}) | info.camera,
    )
