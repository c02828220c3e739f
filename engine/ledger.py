"""The account of frames: which numbers came, which are missing, which were not analysed."""

from __future__ import annotations

from collections.abc import Iterable
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
        self._closed: list[range] = []
        """Ranges that a gap has ended; only ever appended to."""
        self._state: tuple[int, range | None] = (0, None)
        """How many of the closed ranges count, and the range that may still grow: replaced as one, so that a reader
        on another thread sees the account before a block or after it."""

    def in_order(self, numbers: NDArray[np.int64]) -> int:
        """How many of ``numbers``, from the first on, increase as they must after all that came before."""
        if len(numbers) < 2:  # as many cameras give them, thousands in a second
            return len(numbers) if not len(numbers) or numbers[0] > self._last(numbers) else 0
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

    @property
    def newest(self) -> int | None:
        """The newest number that is booked, or None before the first."""
        _, growing = self._state
        return None if growing is None else growing.stop - 1

    def _last(self, numbers: NDArray[np.int64]) -> int:
        """The newest number that is booked; before the first, one that ``numbers`` may follow."""
        if (newest := self.newest) is not None:
            return newest
        return int(numbers[0]) - 1 if len(numbers) else -1

    def _book(self, numbers: NDArray[np.int64]) -> None:
        _, growing = self._state
        whole = numbers[-1] - numbers[0] == len(numbers) - 1
        for run in [numbers] if whole else np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
            first, stop = int(run[0]), int(run[-1]) + 1
            if growing is not None and growing.stop == first:
                growing = range(growing.start, stop)
                continue
            if growing is not None:
                self._closed.append(growing)
            growing = range(first, stop)
        self._state = len(self._closed), growing

    def came(self) -> Ranges:
        """Numbers that came."""
        closed, growing = self._state
        return () if growing is None else (*self._closed[:closed], growing)

    def missing(self) -> Ranges:
        """Numbers between the first and the last frame that never came."""
        return gaps(self.came())

    def after(self, count: int) -> Ranges:
        """Numbers of the frames that came, without the first ``count`` of them."""
        return skip(self.came(), count)

    @property
    def streak(self) -> int:
        """Frames since the last gap, or since the beginning."""
        _, growing = self._state
        return 0 if growing is None else len(growing)


def gaps(ranges: Ranges) -> Ranges:
    """Numbers between the ranges."""
    return tuple(range(left.stop, right.start) for left, right in pairwise(ranges))


def skip(ranges: Ranges, count: int) -> Ranges:
    """Ranges without the first ``count`` of their numbers."""
    rest = []
    for numbers in ranges:
        if left := numbers[count:]:
            rest.append(left)
        count = max(0, count - len(numbers))
    return tuple(rest)


def union(*groups: Ranges) -> Ranges:
    """All numbers of some groups; ranges that touch become one."""
    joined: list[range] = []
    for numbers in sorted(chain.from_iterable(groups), key=lambda numbers: numbers.start):
        if joined and numbers.start <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, max(joined[-1].stop, numbers.stop))
        else:
            joined.append(numbers)
    return tuple(joined)


def without(ranges: Ranges, removed: Ranges) -> Ranges:
    """The numbers of ``ranges`` that are not in ``removed``. Both increase."""
    rest, cuts, place = list[range](), list(removed), 0
    for numbers in ranges:
        start = numbers.start
        while place < len(cuts) and cuts[place].stop <= start:
            place += 1
        at = place
        while at < len(cuts) and cuts[at].start < numbers.stop:
            if start < cuts[at].start:
                rest.append(range(start, cuts[at].start))
            start = max(start, cuts[at].stop)
            at += 1
        if start < numbers.stop:
            rest.append(range(start, numbers.stop))
    return tuple(rest)


def count(ranges: Iterable[range]) -> int:
    """How many numbers there are."""
    return sum(map(len, ranges))


def numbers_of(*groups: Iterable[range]) -> list[int]:
    """All numbers of some ranges, in order."""
    return sorted(chain.from_iterable(chain.from_iterable(groups)))
