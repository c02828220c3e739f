"""The account of frames: which numbers came, which are missing, which were not analysed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from config.errors import RunError

Ranges = tuple[range, ...]
"""Frame numbers as increasing, disjoint ranges; a million lost frames in a row cost no more than one."""


class FrameLedger:
    """Keeps the numbers of all frames that came from the source, as ranges. One thread adds, any thread asks."""

    def __init__(self) -> None:
        self.count = 0
        """Frames that came."""
        self._came: Ranges = ()

    def in_order(self, numbers: NDArray[np.int64]) -> int:
        """How many of ``numbers``, from the first on, increase as they must after all that came before."""
        wrong = np.flatnonzero(np.diff(numbers, prepend=self._last(numbers)) < 1)
        return int(wrong[0]) if len(wrong) else len(numbers)

    def add(self, numbers: NDArray[np.int64]) -> None:
        """Book frames that came. Raises RunError where a number repeats or goes back, and books nothing then."""
        good = self.in_order(numbers)
        if good < len(numbers):
            before = numbers[good - 1] if good else self._last(numbers)
            raise RunError(
                f"frame numbers must increase, but frame {numbers[good]} came after frame {before}: the source repeats "
                "or reorders frames. All before it were analysed. Check the recording, or the camera's settings."
            )
        if good:
            self._book(numbers)
            self.count += good

    def _last(self, numbers: NDArray[np.int64]) -> int:
        """The newest number that is booked; before the first, one that ``numbers`` may follow."""
        if self._came:
            return self._came[-1].stop - 1
        return int(numbers[0]) - 1 if len(numbers) else -1

    def _book(self, numbers: NDArray[np.int64]) -> None:
        came = list(self._came)
        for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
            first, stop = int(run[0]), int(run[-1]) + 1
            if came and came[-1].stop == first:
                first = came.pop().start
            came.append(range(first, stop))
        self._came = tuple(came)  # replaced whole, so that a reader on another thread sees the old one or the new

    def missing(self) -> Ranges:
        """Numbers between the first and the last frame that never came."""
        return tuple(range(left.stop, right.start) for left, right in pairwise(self._came))

    def after(self, count: int) -> Ranges:
        """Numbers of the frames that came, without the first ``count`` of them."""
        return tuple(_skip(self._came, count))

    @property
    def streak(self) -> int:
        """Frames since the last gap, or since the beginning."""
        return len(self._came[-1]) if self._came else 0


def _skip(ranges: Ranges, count: int) -> Iterator[range]:
    for numbers in ranges:
        if rest := numbers[count:]:
            yield rest
        count = max(0, count - len(numbers))


def numbers_of(*groups: Iterable[range]) -> list[int]:
    """All numbers of some ranges, in order."""
    return sorted(chain.from_iterable(chain.from_iterable(groups)))
