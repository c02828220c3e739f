"""The recorded source: replays a stack from disk, lazily and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

import numpy as np

from acquisition.files.find import open_stack
from acquisition.files.stack import Rectangle, Stack, StackInfo
from acquisition.source import Frames, SourceDescription
from config.errors import SettingsError, SourceUnreadable

BLOCK_BYTES = 32 * 2**20
"""Largest block handed out: bounds memory, and how long ``stop`` may have to wait for one."""


class RecordedSource:
    """A stack on disk as a FrameSource: TIFF in its dialects, NDTiff, Picasso raw (see acquisition/files).

    Frames are numbered from 0 at the recording's start, so ``start=100`` begins with number 100. Frames that the
    recording announces but does not hold are gaps in the numbers.
    """

    def __init__(
        self, path: Path, start: int = 0, stop: int | None = None, roi: tuple[int, int, int, int] | None = None
    ) -> None:
        """start, stop: first frame number and the one to stop before; roi: x, y, width, height [pixels]."""
        self._path, self._start, self._stop, self._roi = Path(path), start, stop, roi
        self._stopped = Event()
        self._stack: Stack | None = None

    def open(self) -> SourceDescription:
        """Find and check the recording. Raises SourceUnreadable for files, SettingsError for start, stop and roi."""
        self._stack = open_stack(self._path)
        try:
            part, places = self._part(self._stack.info), self._places(self._stack)
        except (SettingsError, SourceUnreadable):
            self.close()
            raise
        return _description(self._stack.info, part, len(places))

    def blocks(self, size: int) -> Iterator[Frames]:
        """Blocks of up to ``size`` frames. Raises SourceUnreadable where a frame turns out to be damaged."""
        stack = self._opened()
        part, places = self._part(stack.info), self._places(stack)
        step = max(1, min(size, BLOCK_BYTES // stack.info.frame_bytes))
        for first in range(places.start, places.stop, step):
            if self._stopped.is_set():
                return
            here = range(first, min(first + step, places.stop))
            numbers = stack.info.numbers[here.start : here.stop].copy()
            yield Frames(stack.read(here, part), numbers, stack.times(here))

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

    def _part(self, info: StackInfo) -> Rectangle:
        part = Rectangle(*(self._roi or (0, 0, info.width, info.height)))
        inside = part.x >= 0 and part.y >= 0 and part.width > 0 and part.height > 0
        if not inside or part.x + part.width > info.width or part.y + part.height > info.height:
            given = ", ".join(map(str, astuple(part)))
            raise SettingsError(
                f"run.roi (x, y, width, height) must lie inside the frames of {info.name}, which are "
                f"{info.width} pixels wide and {info.height} high; it is {given}."
            )
        return part

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
        if self._stop is not None and self._stop <= self._start:
            raise SettingsError(
                f"run.stop is the frame to stop before, so it must be above run.start={self._start}; "
                f"it is {self._stop}."
            )


def _description(info: StackInfo, part: Rectangle, frames: int) -> SourceDescription:
    return SourceDescription(
        name=info.name,
        height=part.height,
        width=part.width,
        dtype=info.dtype.newbyteorder("="),
        frames=frames,
        exposure=info.exposure,
        origin=(part.x, part.y),
        camera=({"saturation": 255.0} if info.dtype.itemsize == 1 else {}) | info.camera,
    )
