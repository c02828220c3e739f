"""How long frames wait for their localisations: measured for every frame, kept in little memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW = 5.0
"""What counts as the last seconds [s]."""
DECADES, PER_DECADE = (-4, 6), 100
"""The histogram of the whole run: from 0.1 ms to 11 days, in steps of 2.3 %."""


@dataclass(frozen=True)
class Delay:
    """Seconds from the time a frame was taken until its localisations were recorded, over some frames."""

    median: float
    """[s]"""
    p99: float
    """99th percentile [s]."""
    longest: float
    """[s]"""


class DelayMeter:
    """Collects delays. One thread adds, any thread asks.

    The last seconds are kept frame by frame; the whole run as a logarithmic histogram, so that hours of frames take no
    more memory than seconds of them. Its percentiles are right to a step, 2.3 %.
    """

    def __init__(self, clock: Callable[[], float], window: float = WINDOW) -> None:
        """``clock`` gives seconds; ``window`` is what counts as the last seconds."""
        self._clock, self._window = clock, window
        self._latest: deque[tuple[float, NDArray[np.float64]]] = deque()
        self._counts = np.zeros((DECADES[1] - DECADES[0]) * PER_DECADE, np.int64)
        self._longest = 0.0
        self._lock = threading.Lock()

    def add(self, delays: NDArray[np.float64]) -> None:
        """Note the delays of some frames [s]."""
        if not len(delays):
            return
        place = np.log10(np.maximum(delays, 10.0 ** DECADES[0])) - DECADES[0]
        bins = np.minimum((place * PER_DECADE).astype(np.int64), len(self._counts) - 1)
        with self._lock:
            self._counts += np.bincount(bins, minlength=len(self._counts))
            self._longest = max(self._longest, float(delays.max()))
            self._latest.append((self._clock(), delays))
            self._forget()

    def recent(self) -> Delay | None:
        """Over the last seconds; None where no frame was finished in them."""
        with self._lock:
            self._forget()
            latest = [delays for _, delays in self._latest]
        if not latest:
            return None
        delays = np.concatenate(latest)
        median, p99 = np.percentile(delays, [50, 99])
        return Delay(float(median), float(p99), float(delays.max()))

    def whole(self) -> Delay | None:
        """Over the whole run; None before the first frame is finished."""
        with self._lock:
            counts, longest = self._counts.copy(), self._longest
        total = np.cumsum(counts)
        if not total[-1]:
            return None
        median, p99 = (self._edge(int(np.searchsorted(total, share * total[-1]))) for share in (0.5, 0.99))
        return Delay(min(median, longest), min(p99, longest), longest)

    def _forget(self) -> None:
        now = self._clock()
        while self._latest and now - self._latest[0][0] > self._window:
            self._latest.popleft()

    @staticmethod
    def _edge(place: int) -> float:
        """The middle of a step of the histogram [s]."""
        return float(10.0 ** (DECADES[0] + (place + 0.5) / PER_DECADE))
