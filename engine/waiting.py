"""Frames on their way from acquisition to inference, and the two queues that keep them in memory.

recorded source          HeldFrames: a full queue holds the source up
live, policy newest      NewestFrames: a full queue forgets its oldest frames, and their numbers are kept
live, policy every       FrameSpool (engine/spool.py): what memory does not hold waits on disk
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from acquisition.source import Frames
from engine.channel import Channel, ConsumerGone
from engine.ledger import FrameLedger, Ranges

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Taken:
    """A block of frames and when they were taken."""

    frames: Frames
    came: NDArray[np.float64]
    """(T,) times on the pipeline's clock [s]."""

    def __len__(self) -> int:
        return len(self.frames)


class FrameQueue(Protocol):
    """A queue of frames from the acquisition thread to the inference thread. See Channel for the five methods."""

    @property
    def skipped(self) -> Ranges:
        """Numbers of frames that were taken and then given up, to stay live."""
        ...

    @property
    def spooled(self) -> tuple[int, int]:
        """Frames that wait on disk, and the bytes they take there."""
        ...

    def put(self, item: Taken) -> None:
        """Append a block. Raises ConsumerGone once the other end has left."""
        ...

    def finish(self) -> None:
        """No more blocks will come. Those that wait are still delivered."""
        ...

    def leave(self) -> None:
        """No more blocks will be taken."""
        ...

    def __iter__(self) -> Iterator[Taken]: ...

    def __len__(self) -> int: ...


class HeldFrames(Channel[Taken]):
    """For sources that can wait, such as a file: at most ``size`` blocks, then ``put`` waits."""

    @property
    def skipped(self) -> Ranges:
        """See FrameQueue."""
        return ()

    @property
    def spooled(self) -> tuple[int, int]:
        """See FrameQueue."""
        return 0, 0


class NewestFrames(HeldFrames):
    """For cameras whose picture must not lag: of more than two blocks of frames that wait, the oldest are given up.

    ``put`` never waits. What is given up lies between frames that were analysed and frames that wait, so that it is
    one gap and at least a block of consecutive frames follows it.
    """

    def __init__(self, block: int) -> None:
        """``block``: most frames that are handed on at once."""
        super().__init__(0)
        self._block = block
        self._frames = 0
        self._skipped = FrameLedger()

    @property
    def skipped(self) -> Ranges:
        """See FrameQueue."""
        return self._skipped.came()

    def put(self, item: Taken) -> None:
        """Append a block, and give up the oldest where too many wait. Raises ConsumerGone."""
        with self._changed:
            if self._left:
                raise ConsumerGone
            self._items.append(item)
            self._frames += len(item)
            while self._frames > 2 * self._block and len(self._items) > 1:
                self._give_up(self._items.popleft())
            self._changed.notify_all()

    def _give_up(self, item: Taken) -> None:
        if not self._skipped.count:
            logger.warning(
                "inference is slower than the camera: frames are skipped to stay live (run.policy=newest), from frame "
                "%d on. run.json lists every one.",
                item.frames.numbers[0],
            )
        self._frames -= len(item)
        self._skipped.add(item.frames.numbers)

    def _pop(self) -> Taken:
        item = pop_joined(self._items, self._block)
        self._frames -= len(item)
        return item


def pop_joined(items: deque[Taken], most: int) -> Taken:
    """Take the oldest blocks as one of at most ``most`` frames: a network is quicker on many frames than on one."""
    parts = [items.popleft()]
    count = len(parts[0])
    while items and count + len(items[0]) <= most:
        count += len(items[0])
        parts.append(items.popleft())
    return joined(parts)


def joined(parts: Sequence[Taken]) -> Taken:
    """Consecutive blocks as one."""
    if len(parts) == 1:
        return parts[0]
    frames = [part.frames for part in parts]
    return Taken(
        Frames(
            np.concatenate([one.pixels for one in frames]),
            np.concatenate([one.numbers for one in frames]),
            np.concatenate([one.times for one in frames]),
        ),
        np.concatenate([part.came for part in parts]),
    )
