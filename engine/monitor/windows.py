"""Cuts what an Observer sees into windows of equal time of data, each with its frames and its localisations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from acquisition.source import Frames, Pixels

Columns: TypeAlias = dict[str, NDArray[Any]]

COLUMNS = ("frame", "x", "y", "photons", "background", "sigma_x", "sigma_y")
"""What of the localisation table the figures are made of."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen at once: frames that were pushed, and rows that were decided."""

    numbers: NDArray[np.int64]
    """(T,) of the frames; none at the end."""
    times: NDArray[np.float64]
    """(T,) time of data [s]."""
    batch: pa.RecordBatch
    pictures: dict[int, Pixels] = field(default_factory=dict)
    """(H, W) [ADU] of some of the frames, by their number."""


@dataclass(frozen=True, eq=False)
class Window:
    """One window."""

    end: float
    """Where it ends: its time of data since the acquisition began [s]."""
    numbers: NDArray[np.int64]
    """(T,) of its frames, one at least."""
    rows: Columns
    """Columns of its localisations (N,), by name."""
    pictures: dict[int, Pixels]
    """Some of its frames (H, W) [ADU], by number."""


class Windows:
    """Collects until a window is whole. A frame's rows come up to ``future`` frames after it."""

    def __init__(self, every: float, future: int) -> None:
        """``every`` [s] of data a window."""
        self._every, self._future = every, future
        self._numbers, self._times = np.empty(0, np.int64), np.empty(0)
        self._came: list[Seen] = []
        self._rows: Columns | None = None
        self._pictures: dict[int, Pixels] = {}

    def add(self, seen: Seen) -> Iterator[Window]:
        """Take what was seen; give the windows that are whole by it."""
        self._came.append(seen)
        newest = seen.times[-1] if len(seen.times) else -math.inf
        first = self._times[0] if len(self._times) else next((s.times[0] for s in self._came if len(s.times)), math.inf)
        if newest < self._end(first):
            return
        self._gather()
        while (count := self._whole()) is not None:
            yield self._cut(count)

    def finish(self) -> Iterator[Window]:
        """No more will come: give what is left, the last window cut short."""
        self._gather()
        while len(self._times):
            yield self._cut(int(np.searchsorted(self._times >= self._end(self._times[0]), True)))

    def _end(self, time: float) -> float:
        """Where the window of a time of data ends [s]."""
        return (math.floor(time / self._every + 1e-9) + 1) * self._every if math.isfinite(time) else time

    def _gather(self) -> None:
        """Join what came to what is kept."""
        self._numbers = np.concatenate([self._numbers, *(seen.numbers for seen in self._came)])
        self._times = np.concatenate([self._times, *(seen.times for seen in self._came)])
        batches = [seen.batch for seen in self._came if seen.batch.num_rows]
        old = self._rows or {name: np.empty(0, np.int64 if name == "frame" else np.float32) for name in COLUMNS}
        self._rows = {
            name: np.concatenate([old[name], *(batch.column(name).to_numpy(zero_copy_only=False) for batch in batches)])
            for name in COLUMNS
        }
        for seen in self._came:
            self._pictures |= seen.pictures
        self._came = []

    def _whole(self) -> int | None:
        """Frames of the first window, if all of them are decided; None if not."""
        if not len(self._times):
            return None
        later = np.flatnonzero(self._times >= self._end(self._times[0]))
        if not len(later) or self._numbers[later[0] - 1] > self._numbers[-1] - self._future:
            return None
        return int(later[0])

    def _cut(self, count: int) -> Window:
        """Take the first ``count`` frames and their rows out."""
        numbers, end = self._numbers[:count], self._end(self._times[0])
        assert self._rows is not None
        mine = self._rows["frame"] <= numbers[-1]
        rows = {name: values[mine] for name, values in self._rows.items()}
        pictures = {number: pixels for number, pixels in self._pictures.items() if number <= numbers[-1]}
        self._numbers, self._times = self._numbers[count:], self._times[count:]
        self._rows = {name: values[~mine] for name, values in self._rows.items()}
        self._pictures = {number: pixels for number, pixels in self._pictures.items() if number not in pictures}
        return Window(float(end), numbers, rows, pictures)


def seconds(frames: Frames, interval: float | None, now: float) -> NDArray[np.float64]:
    """(T,) time of data of each frame [s]: its own if it is known, else by the ``interval`` [s], else ``now`` [s]."""
    if np.isfinite(frames.times).all():
        return frames.times
    return frames.numbers.astype(np.float64) * interval if interval else np.full(len(frames), now)
