"""How often each value has come, counted as it comes, so that a histogram costs the same at any number of points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viewer.codes import TOP, UNKNOWN, Scale

FRAME_BINS = 8192
"""Bins of the tally of frames: their width doubles when they no longer reach."""
OUTLIERS = 0.0005
"""Share of the values at each end that may lie outside an extent."""


@dataclass(frozen=True)
class Histogram:
    """Counts in bins of equal width."""

    low: float
    high: float
    """Outer edges of the first and the last bin, in the column's unit."""
    counts: NDArray[np.float64]
    """(bins,); fractions arise where a bin's edge falls between two values that are kept apart."""


class Tally:
    """Counts of the codes of one column."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._counts = np.zeros(TOP + 1, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """Count (N,) values."""
        self._counts += np.bincount(self._scale.encode(values), minlength=TOP + 1)

    def extent(self) -> tuple[float, float]:
        """What all but a few outliers lie between; NaN where no value is known."""
        cumulative = np.cumsum(self._counts[UNKNOWN + 1 :])
        if not cumulative[-1]:
            return np.nan, np.nan
        skipped = int(cumulative[-1] * OUTLIERS)
        first = np.searchsorted(cumulative, skipped, side="right")
        last = np.searchsorted(cumulative, cumulative[-1] - skipped, side="left")
        low, high = self._scale.decode(np.array([first + 0.5, last + 1.5]))
        return float(low), float(high)

    def histogram(self, bins: int, low: float, high: float) -> Histogram:
        """(bins,) counts from ``low`` to ``high``; what lies outside is left out."""
        edges = self._scale.decode(np.arange(UNKNOWN + 1, TOP + 2) - 0.5)
        return _rebinned(edges, self._counts[UNKNOWN + 1 :], bins, low, high)


class FrameTally:
    """Counts of frame numbers, which have no largest value."""

    def __init__(self) -> None:
        self._counts = np.zeros(FRAME_BINS, np.int64)
        self._width = 1
        """Frames in a bin."""
        self._start = 0
        """First frame of the first bin."""
        self._extent: tuple[int, int] | None = None

    def add(self, frames: NDArray[np.int64]) -> None:
        """Count (N,) frame numbers."""
        if not frames.size:
            return
        low, high = int(frames.min()), int(frames.max())
        self._reach(low, high)
        self._counts += np.bincount((frames - self._start) // self._width, minlength=FRAME_BINS)

    def extent(self) -> tuple[float, float]:
        """First and last frame with a localisation; NaN where there is none."""
        return (np.nan, np.nan) if self._extent is None else (float(self._extent[0]), float(self._extent[1]))

    def histogram(self, bins: int, low: float, high: float) -> Histogram:
        """(bins,) counts from frame ``low`` to frame ``high``."""
        edges = self._start + np.arange(FRAME_BINS + 1, dtype=np.float64) * self._width
        return _rebinned(edges, self._counts, bins, low, high)

    def _reach(self, low: int, high: int) -> None:
        """Make the bins wide enough for ``low`` to ``high`` and everything that was counted before."""
        before = self._extent
        if before is None:
            self._start = low
        else:
            low, high = min(low, before[0]), max(high, before[1])
        self._extent = low, high
        while low < self._start or high >= self._start + FRAME_BINS * self._width:
            self._widen(downward=low < self._start)

    def _widen(self, downward: bool) -> None:
        """Two bins become one; those that become free lie before the first or behind the last."""
        joined, half = self._counts.reshape(-1, 2).sum(axis=1), FRAME_BINS // 2
        self._counts = np.zeros(FRAME_BINS, np.int64)
        self._counts[half if downward else 0 :][:half] = joined
        self._start -= FRAME_BINS * self._width if downward else 0
        self._width *= 2


def _rebinned(edges: NDArray[np.float64], counts: NDArray[np.int64], bins: int, low: float, high: float) -> Histogram:
    """Counts between ``edges`` shared out over ``bins`` equal bins from ``low`` to ``high``."""
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        return Histogram(low, high, np.zeros(bins))
    cumulative = np.concatenate([[0], np.cumsum(counts)])
    return Histogram(low, high, np.diff(np.interp(np.linspace(low, high, bins + 1), edges, cumulative)))
