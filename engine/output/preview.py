"""Now and then a raw camera frame for the viewers, with the localisations that were found in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from acquisition.source import Frames
from engine.ledger import FrameLedger

BYTES_A_SECOND = 20e6
"""Most that previews of large frames take of the wire [bytes/s]: fewer of them are shown then."""

Send = Callable[[int, NDArray[np.generic], pa.RecordBatch, tuple[int, int]], None]
"""``Publisher.send_preview``."""


@dataclass(eq=False)
class _Kept:
    """A frame that waits until its localisations are decided."""

    number: int
    pixels: NDArray[np.generic]
    followers: int
    """Frames pushed after it."""


class PreviewObserver:
    """An Observer that hands on frames at a bounded rate, each as soon as it is decided. It keeps one frame at most."""

    def __init__(
        self,
        send: Send,
        rate: float,
        future: int,
        origin: tuple[int, int] = (0, 0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``rate``: most frames [1/s], 0 for none; ``future``: Localiser.context[1]; ``origin`` of frames [pixels]."""
        self._send, self._rate, self._future, self._origin, self._clock = send, rate, future, origin, clock
        self._pushed = FrameLedger()
        self._kept: _Kept | None = None
        self._next = 0.0 if rate > 0 else float("inf")
        """When the next frame may be sent [s]."""

    def observe(self, frames: Frames | None, batch: pa.RecordBatch) -> None:
        """See Observer.observe."""
        undecided = 0
        if frames is not None and len(frames):
            self._pushed.add(frames.numbers)
            undecided = min(self._future, self._pushed.streak)
            self._keep(frames, undecided)
        if self._kept is not None and self._kept.followers >= undecided:
            self._send(self._kept.number, self._kept.pixels, _rows_of(self._kept.number, batch), self._origin)
            self._kept = None

    def _keep(self, frames: Frames, undecided: int) -> None:
        """Count the followers of the frame that waits, or, when it is time, keep the newest that is decided."""
        if self._kept is not None:
            self._kept.followers += len(frames)
        elif self._clock() >= self._next:
            chosen = max(0, len(frames) - 1 - undecided)
            pixels = frames.pixels[chosen].copy()  # the source may use its memory again
            self._kept = _Kept(int(frames.numbers[chosen]), pixels, len(frames) - 1 - chosen)
            self._next = self._clock() + max(1 / self._rate, pixels.nbytes / BYTES_A_SECOND)


def _rows_of(frame: int, batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.filter(pc.equal(batch["frame"], pa.scalar(frame, pa.int64())))
