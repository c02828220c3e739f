"""Where frames enter the engine: each is booked, checked, and put where it waits for inference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from acquisition.source import Frames, SourceDescription
from config.errors import RunError
from engine.ledger import FrameLedger
from engine.status import RateMeter
from engine.waiting import FrameQueue, Taken


class Intake:
    """Books blocks and passes them on. The acquisition thread calls ``take``; any thread may ask and set ``paused``."""

    def __init__(self, queue: FrameQueue, clock: Callable[[], float], live: bool, most: int | None) -> None:
        """``most``: frames to take; ``live``: the frames' own times tell how long ago they were taken."""
        self._queue, self._clock, self._live, self._most = queue, clock, live, most
        self.came = FrameLedger()
        """Frames that came."""
        self.paused_out = FrameLedger()
        """Those of them that came while paused, which are not analysed."""
        self.rate = RateMeter(clock)
        self.paused = False

    @property
    def full(self) -> bool:
        """Whether as many frames came as were wanted."""
        return self._most is not None and self.came.count >= self._most

    def take(self, frames: Frames, description: SourceDescription) -> None:
        """Book a block and pass it on, up to the first frame whose number is out of order; that one ends the run.

        Frames beyond those that are wanted are left. Raises RunError, ConsumerGone.
        """
        _check_numbered(frames)
        if self._most is not None:
            frames = _cut(frames, self._most - self.came.count)
        good = self.came.in_order(frames.numbers)
        if good:
            self._pass_on(_cut(frames, good), description)
        if good < len(frames):
            self.came.add(frames.numbers[good:])

    def _pass_on(self, frames: Frames, description: SourceDescription) -> None:
        _check_size(frames, description)
        came = self._times(frames)
        self.came.add(frames.numbers)
        self.rate.count(self.came.count)
        if self.paused:
            self.paused_out.add(frames.numbers)
        else:
            self._queue.put(Taken(frames, came))

    def _times(self, frames: Frames) -> NDArray[np.float64]:
        """When each frame was taken [s]: the newest one now, those before it earlier by what their own times tell."""
        now = self._clock()
        ago = frames.times[-1] - frames.times if self._live else np.zeros(len(frames))
        return now - np.where(ago > 0, ago, 0.0)


def _cut(frames: Frames, count: int) -> Frames:
    if count >= len(frames):
        return frames
    return Frames(frames.pixels[:count], frames.numbers[:count], frames.times[:count])


def _check_numbered(frames: Frames) -> None:
    if len(frames.pixels) != len(frames.numbers):
        raise RunError(
            f"the source gave {len(frames.pixels)} frames with {len(frames.numbers)} numbers; "
            "each frame needs its own. This is a fault of the source: please report it."
        )


def _check_size(frames: Frames, description: SourceDescription) -> None:
    found, expected = frames.pixels.shape[1:], (description.height, description.width)
    if found != expected:
        raise RunError(
            f"frames must be {expected[1]}×{expected[0]} pixels, as at the start of the run, but from frame "
            f"{frames.numbers[0]} on they are {found[1]}×{found[0]}: the camera's region of interest or binning was "
            "changed. All before it were analysed. Leave them as they are during a run, and start a new run."
        )
