"""The spool: frames that wait for inference, in memory up to a limit and beyond it on disk.

    put ─▶ [ memory ] ─▶ [ segment · segment · segment ] ─▶ inference      first in, first out

Memory holds the oldest frames. Once it is full, new frames go to disk until the disk is worked off; then memory takes
them again. A segment is a file to which the acquisition thread appends while the inference thread reads it; it is
deleted as soon as it is read. So memory stays the same whatever the lag, and the camera is never held up by inference.
"""

from __future__ import annotations

import logging
import shutil
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from acquisition.source import Frames
from config.errors import RunError
from engine.channel import ConsumerGone
from engine.ledger import Ranges
from engine.output.disk import write_all
from engine.waiting import Taken, joined, pop_joined

logger = logging.getLogger(__name__)

SEGMENT = 64 * 2**20
"""Size at which a file of the spool is full [bytes]."""
RESERVE = 512 * 2**20
"""Space that the spool leaves free on its disk, so that the run can still be recorded [bytes]."""
HEADER = struct.Struct("<qqq8s")
"""Before each block in a segment: frames, height, width, type of the pixels. Times and numbers follow, then pixels."""
PREFIX = "liveloc-spool-"
LOCK = "in-use.lock"
"""In the folder of a spool; the system frees it when the process ends, however it does."""
BEING_MADE = 60.0
"""A spool younger than so many seconds may not be locked yet."""
PATIENCE = 5.0
"""Seconds to wait for a write to end before its file is given up."""


class FrameSpool:
    """A FrameQueue whose ``put`` never waits for inference."""

    def __init__(
        self, folder: Path | None, memory: float, block: int, segment: int = SEGMENT, reserve: int = RESERVE
    ) -> None:
        """``folder``: where to spool, None: the system's folder for temporary files. Nothing is made before it is
        needed, and at the end a folder of the spool's own inside it is removed. ``memory`` in MB, ``block`` in frames,
        ``segment`` and ``reserve`` in bytes.
        """
        self._folder, self._block = folder, block
        self._memory_limit, self._segment_size, self._reserve = int(memory * 1e6), segment, reserve
        self._memory: deque[Taken] = deque()
        self._memory_bytes = 0
        self._segments: deque[_Segment] = deque()
        self._last: Taken | None = None
        """The block that no longer went to disk: nothing comes after it."""
        self._own: Path | None = None
        self._in_use: FileLock | None = None
        self._made = 0
        self._writing = self._finished = self._left = False
        self._changed = threading.Condition()

    @property
    def skipped(self) -> Ranges:
        """See FrameQueue; a spool gives up none."""
        return ()

    @property
    def spooled(self) -> tuple[int, int]:
        """See FrameQueue."""
        segments = tuple(self._segments)
        return sum(segment.waiting_frames for segment in segments), sum(segment.size for segment in segments)

    def put(self, item: Taken) -> None:
        """Append a block. Raises ConsumerGone; RunError where the disk takes no more, and the block is kept still."""
        with self._changed:
            if self._left:
                raise ConsumerGone
            if not self._segments and self._memory_bytes + item.frames.pixels.nbytes <= self._memory_limit:
                self._memory.append(item)
                self._memory_bytes += item.frames.pixels.nbytes
                self._changed.notify_all()
                return
            self._writing = True
        try:
            self._segment_with_room().append(item)
        except OSError as error:
            self._last = item
            raise self._refused(error) from error
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()

    def finish(self) -> None:
        """No more blocks will come. Those that wait are still delivered."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def leave(self) -> None:
        """No more blocks will be taken; what waits is dropped and the files are deleted."""
        with self._changed:
            self._left = True
            self._memory.clear()
            self._last = None
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._writing, PATIENCE)
            segments = tuple(self._segments)
            self._segments.clear()
        for segment in segments:
            segment.remove()
        if self._own is not None and self._in_use is not None:
            self._in_use.release()
            shutil.rmtree(self._own, ignore_errors=True)

    def __iter__(self) -> Iterator[Taken]:
        """Blocks in order, waiting for each, until the producer has finished and none is left."""
        while (item := self._next()) is not None:
            yield item

    def __len__(self) -> int:
        """Blocks that wait."""
        return len(self._memory) + sum(segment.waiting for segment in tuple(self._segments)) + (self._last is not None)

    # The inference thread's side.

    def _next(self) -> Taken | None:
        with self._changed:
            self._changed.wait_for(lambda: self._finished or len(self) > 0)
            if self._memory:
                item = pop_joined(self._memory, self._block)
                self._memory_bytes -= item.frames.pixels.nbytes
                return item
            segment = next((segment for segment in self._segments if segment.waiting), None)
            if segment is None:
                item, self._last = self._last, None  # type: ignore[assignment]
                return item
        try:
            return segment.read_joined(self._block)
        finally:
            self._delete_what_was_read()

    def _delete_what_was_read(self) -> None:
        done = []
        with self._changed:
            while self._segments and not self._segments[0].waiting and not self._being_written(self._segments[0]):
                done.append(self._segments.popleft())
        for segment in done:
            segment.remove()

    def _being_written(self, segment: _Segment) -> bool:
        return self._writing and segment is self._segments[-1]

    # The acquisition thread's side.

    def _segment_with_room(self) -> _Segment:
        """The newest segment, or a new one. Raises OSError."""
        with self._changed:
            newest = self._segments[-1] if self._segments else None
        if newest is not None and newest.size < self._segment_size:
            return newest
        segment = _Segment(self._new_path())
        with self._changed:
            if newest is not None:
                newest.seal()
            self._segments.append(segment)
        return segment

    def _new_path(self) -> Path:
        if self._own is None:
            self._own = self._make_folder()
            logger.warning(
                "inference is slower than the camera: frames wait on disk, in %s, and are worked off later. "
                "run.policy=newest skips frames instead.",
                self._own,
            )
        free = shutil.disk_usage(self._own).free
        if free < self._segment_size + self._reserve:
            raise OSError(
                f"{free / 1e6:.0f} MB are free there, and {self._reserve / 1e6:.0f} MB are kept for the recording"
            )
        self._made += 1
        return self._own / f"{self._made:06}.frames"

    def _make_folder(self) -> Path:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        _remove_what_was_left(self._folder or Path(tempfile.gettempdir()))
        made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._folder))
        self._in_use = FileLock(made / LOCK)
        self._in_use.acquire(blocking=False)
        return made

    def _refused(self, error: OSError) -> RunError:
        return RunError(
            f"frames that wait for inference cannot be written to {self._own or self._folder}: "
            f"{error.strerror or error}. Those that came are analysed and recorded. Free space on that disk, choose "
            "another with run.spool=FOLDER, raise run.memory, or skip frames with run.policy=newest."
        )


def _remove_what_was_left(folder: Path) -> None:
    """Remove spools whose process was killed: nobody else can read their frames, and they may fill the disk."""
    for left in folder.glob(f"{PREFIX}*"):
        try:
            if not (left / LOCK).exists() or time.time() - left.stat().st_mtime < BEING_MADE:
                continue
            with FileLock(left / LOCK).acquire(blocking=False):
                pass
        except (Timeout, OSError):  # in use, or somebody else's
            continue
        shutil.rmtree(left, ignore_errors=True)
        logger.warning("removed %s: frames that waited for a run that was killed", left)


class _Segment:
    """One file of blocks. One thread appends, one reads; ``waiting`` tells what is between them."""

    def __init__(self, path: Path) -> None:
        """Make the file. Raises OSError."""
        self.path = path
        self.size = 0
        """Bytes written."""
        self._written = self._written_frames = 0
        self._read = self._read_frames = 0
        self._writer = FileIO(path, "xb")
        self._reader = path.open("rb")
        self._header: tuple[int, int, int, np.dtype[Any]] | None = None
        """Of the next block to read, where it was read already."""

    @property
    def waiting(self) -> int:
        """Blocks written and not yet read."""
        return self._written - self._read

    @property
    def waiting_frames(self) -> int:
        """Frames written and not yet read."""
        return max(0, self._written_frames - self._read_frames)

    def append(self, item: Taken) -> None:
        """Write a block; it counts only once it is whole. Raises OSError."""
        frames = item.frames
        count, height, width = frames.pixels.shape
        head = HEADER.pack(count, height, width, frames.pixels.dtype.str.encode())
        stamps = item.came.astype("f8").tobytes() + frames.times.astype("f8").tobytes()
        stamps += frames.numbers.astype("i8").tobytes()
        pixels = np.ascontiguousarray(frames.pixels)
        write_all(self._writer, memoryview(head + stamps))
        write_all(self._writer, pixels.reshape(-1).view(np.uint8).data)
        self.size += len(head) + len(stamps) + pixels.nbytes
        self._written_frames += count
        self._written += 1

    def read_joined(self, most: int) -> Taken:
        """The next blocks as one of at most ``most`` frames, or one block. Raises RunError, OSError."""
        parts = [self._read_block()]
        count = len(parts[0])
        while self.waiting and count + self._next_header()[0] <= most:
            parts.append(self._read_block())
            count += len(parts[-1])
        return joined(parts)

    def seal(self) -> None:
        """Nothing more will be appended."""
        self._writer.close()

    def remove(self) -> None:
        """Close and delete."""
        self._writer.close()
        self._reader.close()
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:  # on Windows a virus scanner may hold it: the spool's folder is removed at the end
            logger.info("%s could not be deleted yet: %s", self.path, error)

    def _read_block(self) -> Taken:
        count, height, width, dtype = self._next_header()
        came, times = self._array((count,), np.dtype(np.float64)), self._array((count,), np.dtype(np.float64))
        numbers = self._array((count,), np.dtype(np.int64))
        pixels = self._array((count, height, width), dtype)
        self._header = None
        self._read += 1
        self._read_frames += count
        return Taken(Frames(pixels, numbers, times), came)

    def _next_header(self) -> tuple[int, int, int, np.dtype[Any]]:
        if self._header is None:
            count, height, width, name = HEADER.unpack(self._array((HEADER.size,), np.dtype(np.uint8)).tobytes())
            self._header = count, height, width, np.dtype(name.rstrip(b"\0").decode())
        return self._header

    def _array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        array = np.empty(shape, dtype)
        if self._reader.readinto(array.reshape(-1).view(np.uint8).data) < array.nbytes:
            raise RunError(
                f"the spool file {self.path} became shorter: somebody else changed it. Frames in it are lost, and "
                "run.json lists them. Leave the spool's folder alone while a run goes on."
            )
        return array
