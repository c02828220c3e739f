"""What every reader of recorded stacks gives: a Stack of frames that are read where and when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acquisition.source import Pixels
from config.errors import SourceUnreadable

Int64s: TypeAlias = NDArray[np.int64]
Seconds: TypeAlias = NDArray[np.float64]
Clock: TypeAlias = Callable[[range], Seconds]
"""Seconds since the recording began of the stored frames at the given places; NaN where unknown."""


@dataclass(frozen=True)
class Rectangle:
    """Part of a frame [pixels]."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class StackInfo:
    """What a recording is."""

    name: str
    height: int
    width: int
    dtype: np.dtype[Any]
    """Type of the stored pixels, in the file's byte order."""
    numbers: Int64s
    """(N,) frame numbers of the frames that the recording announces, strictly increasing."""
    readable: int
    """How many of them, from the first, are complete."""
    exposure: float | None = None
    """Time between frames [ms]."""
    camera: dict[str, float] = field(default_factory=dict)
    """Fields of CameraSettings that the metadata told."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded frame."""
        return self.height * self.width * self.dtype.itemsize


class Stack(ABC):
    """An open recording. Used by one thread."""

    def __init__(self, info: StackInfo, clock: Clock) -> None:
        self.info = info
        self.times = clock

    @abstractmethod
    def read(self, places: range, part: Rectangle) -> Pixels:
        """Pixels (T, h, w), native byte order, of stored frames. Raises SourceUnreadable."""

    @abstractmethod
    def close(self) -> None:
        """Close the files. May be called twice."""

    def cut_short(self, place: int) -> SourceUnreadable:
        """The error for a frame that is announced but not, or not completely, there."""
        total, name = len(self.info.numbers), self.info.name
        if place == 0:
            return SourceUnreadable(f"{name} is truncated: not even its first frame is complete. Copy it again.")
        last = int(self.info.numbers[place - 1])
        return SourceUnreadable(
            f"{name} is truncated: it should hold {total} frames, but only those up to frame {last} are complete. "
            f"Copy it again, or analyse what is there with run.stop={last + 1}."
        )


class PlainStack(Stack):
    """Frames that lie uncompressed somewhere in one or more files: read with plain seeks, in bulk where adjacent."""

    def __init__(self, info: StackInfo, clock: Clock, paths: Sequence[Path], files: Int64s, offsets: Int64s) -> None:
        """files, offsets: (N,) index into ``paths`` and byte offset of each frame."""
        super().__init__(info, clock)
        self._paths, self._files, self._offsets = paths, files, offsets
        self._open: dict[int, FileIO] = {}

    def read(self, places: range, part: Rectangle) -> Pixels:
        """See Stack. Only the rows of ``part`` are read."""
        rows = np.empty((len(places), part.height, self.info.width), self.info.dtype)
        skipped = part.y * self.info.width * self.info.dtype.itemsize
        for first, last in self._runs(places, whole=part.height == self.info.height):
            target = rows[first - places.start : last - places.start].reshape(-1).view(np.uint8)
            self._fill(target, first, int(self._offsets[first]) + skipped)
        return native(rows[:, :, part.x : part.x + part.width])

    def close(self) -> None:
        """See Stack."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _runs(self, places: range, whole: bool) -> list[tuple[int, int]]:
        """Split into (first, last + 1) that lie without a gap in one file; single frames unless ``whole`` ones."""
        if not whole:
            return [(place, place + 1) for place in places]
        here = slice(places.start, places.stop)
        adjacent = np.diff(self._offsets[here]) == self.info.frame_bytes
        adjacent &= np.diff(self._files[here]) == 0
        cuts = [places.start, *(places.start + 1 + np.flatnonzero(~adjacent)).tolist(), places.stop]
        return list(pairwise(cuts))

    def _fill(self, target: NDArray[np.uint8], place: int, offset: int) -> None:
        file = self._file(int(self._files[place]))
        file.seek(offset)
        filled = 0
        while filled < len(target):
            count = file.readinto(target[filled:].data)
            if not count:
                raise self.cut_short(place + filled // self.info.frame_bytes)
            filled += count

    def _file(self, index: int) -> FileIO:
        if index not in self._open:
            try:
                self._open[index] = self._paths[index].open("rb", buffering=0)
            except OSError as error:
                raise SourceUnreadable(
                    f"{self._paths[index]}, a part of {self.info.name}, cannot be opened: {error.strerror}."
                ) from error
        return self._open[index]


def native(pixels: NDArray[Any]) -> Pixels:
    """The same pixels, contiguous and in this machine's byte order."""
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def unknown_times(places: range) -> Seconds:
    """The Clock of a recording that tells nothing of time."""
    return np.full(len(places), np.nan)


def regular_times(numbers: Int64s, interval: float) -> Clock:
    """The Clock of a recording whose frames follow every ``interval`` [ms]."""

    def clock(places: range) -> Seconds:
        return np.asarray(numbers[places.start : places.stop] * (interval / 1000.0), dtype=np.float64)

    return clock


def times_every(numbers: Int64s, interval: float | None) -> Clock:
    """``regular_times`` where the interval [ms] is known, else ``unknown_times``."""
    return unknown_times if interval is None else regular_times(numbers, interval)
