"""A recording that another process is still writing, behind one small class; its formats have modules of their own."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np

from acquisition.files.stack import Rectangle, StackInfo, native
from acquisition.source import Pixels
from config.errors import SourceStopped, SourceUnreadable


@dataclass(frozen=True, eq=False)
class NewFrame:
    """A frame that has been written whole."""

    number: int
    """Frame number, from 0."""
    seconds: float | None
    """When it was taken, from an arbitrary zero; None where the recording does not tell."""
    path: Path
    """The file that holds it."""
    offset: int
    """Where its pixels begin [bytes]."""
    page: int | None = None
    """Where its TIFF page begins [bytes]; only where pixels do not lie in the file as in memory."""


class GrowingStack(ABC):
    """An open recording that grows. Used by one thread.

    Nothing is mapped into memory and every look goes to the file itself, so the writer may truncate its files when it
    ends, on Windows too, and no stale buffer is ever read.
    """

    has_end_marker: bool
    """Whether the writer leaves a mark at the end; without one, the end is a silence."""

    def __init__(self, info: StackInfo, watched: Path) -> None:
        """``info`` is told by the first frame; ``watched`` is the file that grows with every frame.

        Raises SourceStopped when that was deleted meanwhile.
        """
        self.info = info
        self._watch(watched)
        self._open: tuple[Path, FileIO] | None = None

    @abstractmethod
    def more(self, limit: int) -> list[NewFrame]:
        """Frames that have been written since the last call, in order, at most ``limit``. Raises SourceError."""

    @abstractmethod
    def ended(self) -> bool:
        """Whether the writer has said that it has ended, and everything that it wrote was given."""

    def read(self, frames: Sequence[NewFrame], part: Rectangle) -> Pixels:
        """Pixels (T, h, w), native byte order. Raises SourceError."""
        pixels = np.empty((len(frames), part.height, part.width), self.info.dtype.newbyteorder("="))
        rows, columns = slice(part.y, part.y + part.height), slice(part.x, part.x + part.width)
        for target, frame in zip(pixels, frames, strict=True):
            target[...] = self._frame(frame)[rows, columns]
        return native(pixels)

    def pulse(self) -> tuple[int, ...]:
        """Changes whenever the writer writes. Raises SourceStopped when what is followed was deleted or replaced."""
        state = self._state(self._watched)
        if _identity(state) != self._identity:
            raise self._gone("was replaced by another", "")
        return state.st_size, state.st_mtime_ns

    def close(self) -> None:
        """Close the files. May be called twice."""
        self._release()

    def _watch(self, path: Path) -> None:
        """Look at this file from now on. Raises SourceStopped."""
        self._watched = path
        self._identity = _identity(self._state(path))

    def _state(self, path: Path) -> os.stat_result:
        try:
            return path.stat()
        except OSError as error:
            raise self._gone("was deleted", str(error.strerror)) from error

    def _frame(self, frame: NewFrame) -> Pixels:
        """One frame (H, W) in the file's byte order."""
        pixels = np.empty((self.info.height, self.info.width), self.info.dtype)
        file = self._file(frame.path)
        file.seek(frame.offset)
        if file.readinto(pixels.reshape(-1).view(np.uint8).data) != pixels.nbytes:
            raise self._gone("was cut short", f"frame {frame.number} is no longer whole")
        return pixels

    def _file(self, path: Path) -> FileIO:
        """The file, open; only the newest is kept open."""
        if self._open is None or self._open[0] != path:
            self._release()
            try:
                self._open = path, path.open("rb", buffering=0)
            except OSError as error:
                raise self._gone("lost one of its files", f"{path.name}: {error.strerror}") from error
        return self._open[1]

    def _release(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _gone(self, what: str, detail: str) -> SourceStopped:
        return SourceStopped(
            f"{self.info.name} {what} while it was followed{f' ({detail})' if detail else ''}. The frames before are "
            "analysed. Leave the recording where it is until the acquisition and the run have ended."
        )


def several_axes(name: str, found: str) -> SourceUnreadable:
    """The error for a recording whose order in time is not known before it is complete."""
    return SourceUnreadable(
        f"{name} has several axes ({found}); only one axis, time, can be followed while it is written. Acquire time "
        "points only, or analyse the recording afterwards with liveloc replay."
    )


def _identity(state: os.stat_result) -> tuple[int, int]:
    """Which file it is, whatever its name."""
    return state.st_dev, state.st_ino
