"""The Fourier ring correlation (FRC) of a growing picture, from two halves of its data, at a cost that does not grow.

Source: Nieuwenhuizen et al. 2013 (Nature Methods 10:557): the resolution is one over the spatial frequency at which
the correlation of two independent halves of the localisations falls under 1/7. The halves are blocks of frames in
turn, since one molecule shines in several frames; a molecule that comes back later may still be in both, which makes
the figure look better than it is.

The field is folded into a square of at most ``LARGEST`` pixels, as a wall is papered in reverse. The Fourier transform
of the folded picture is that of the whole one, taken at every n-th frequency: the correlation keeps its expected
value, every localisation counts, and a field of any size costs the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter1d
from scipy.signal.windows import tukey

Floats: TypeAlias = NDArray[np.float64]

THRESHOLD = 1 / 7
"""Correlation at which a detail counts as resolved."""
PIXEL = 10.0
"""Pixel of the halves [nm]; nothing finer than twice this is told."""
LARGEST = 1024
"""Most pixels of a side: two halves take 8 MB."""
FEWEST = 200
"""Localisations that each half must have."""
COARSEST = 4
"""A curve that falls within this many (smoothed) rings of the centre tells nothing."""
EDGE = 0.25
"""Share of the field's width over which localisations fade in and out; a hard edge would correlate with itself."""
STEPS = 4096
"""Samples of that fading across the field."""


@dataclass(frozen=True, eq=False)
class FrcCurve:
    """Correlation by spatial frequency, smoothed over rings."""

    frequency: Floats
    """(R,) [1/nm], rising."""
    correlation: Floats
    """(R,)"""
    smoothing: float
    """Standard deviation of the smoothing [rings]."""

    def resolution(self) -> float | None:
        """One over the first frequency at which the curve falls under 1/7 [nm]; None where it never stood above.

        A curve that stays above to its end gives the end: the resolution is that or better.
        """
        below = np.flatnonzero(self.correlation[1:] < THRESHOLD) + 1
        if not len(below):
            return float(1 / self.frequency[-1])
        ring = int(below[0])
        if ring < COARSEST * max(1.0, self.smoothing):
            return None
        before, after = self.correlation[ring - 1], self.correlation[ring]
        share = (before - THRESHOLD) / (before - after)
        return float(1 / (self.frequency[ring - 1] + share * (self.frequency[ring] - self.frequency[ring - 1])))


class RingCorrelation:
    """Two halves of a run's localisations, as they come."""

    def __init__(self, width: float, height: float, origin: tuple[float, float] = (0.0, 0.0), block: int = 100) -> None:
        """A field of ``width`` by ``height`` whose corner is at ``origin``, (x, y) [nm]; ``block`` frames a turn."""
        self._size, self._origin, self._block = (width, height), origin, block
        self._side = fft.next_fast_len(min(LARGEST, max(16, math.ceil(max(width, height) / PIXEL))), real=True)
        self._halves = np.zeros((2, self._side, self._side), np.float32)
        self._counts, self._noise = np.zeros(2, np.int64), np.zeros(2)
        """Localisations of each half, and the sum of their squared weights: the power of their shot noise."""
        self._rings, self._blur = _rings(self._side)

    def add(self, frame: NDArray[np.int64], x: Floats, y: Floats) -> None:
        """Take localisations: frame numbers, places [nm]; (N,) each. Those outside the field weigh nothing."""
        half = frame // self._block % 2
        weight = _fade(x - self._origin[0], self._size[0]) * _fade(y - self._origin[1], self._size[1])
        row, column = (np.floor(axis / PIXEL).astype(np.int64) % self._side for axis in (y, x))
        np.add.at(self._halves, (half, row, column), weight)
        self._counts += np.bincount(half, minlength=2)
        self._noise += np.bincount(half, weight**2, 2)

    def curve(self) -> FrcCurve | None:
        """The correlation now; None while a half has too few localisations."""
        if self._counts.min() < FEWEST:
            return None
        first, second = (fft.rfft2(half) for half in self._halves)
        cross = self._sum_rings((first * second.conj()).real / self._blur)
        powers = [
            self._sum_rings(((half * half.conj()).real - noise) / self._blur + noise)
            for half, noise in zip((first, second), self._noise, strict=True)
        ]
        smoothing = max(1.0, self._side / 200)
        summed = [gaussian_filter1d(values, smoothing) for values in (cross, *powers)]
        scale = np.sqrt(np.maximum(summed[1], 0) * np.maximum(summed[2], 0))
        correlation = np.divide(summed[0], scale, out=np.zeros_like(scale), where=scale > 0)
        return FrcCurve(np.arange(len(correlation)) / (self._side * PIXEL), correlation, smoothing)

    def resolution(self) -> float | None:
        """See FrcCurve.resolution; None also while there is too little data."""
        curve = self.curve()
        return None if curve is None else curve.resolution()

    def _sum_rings(self, values: NDArray[Any]) -> Floats:
        """Sum over each ring, from the second on: the first is the mean, and the last within the square is the end."""
        ends = self._side // 2
        sums = np.bincount(self._rings.ravel(), values.ravel() * _halved(self._side, values.shape).ravel())
        sums[0] = sums[1]  # the centre holds the number of localisations and no detail
        return np.asarray(sums[: ends + 1], np.float64)


def _rings(side: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(side, side // 2 + 1) index of the ring of each sample of a real Fourier transform, and the pixels' blur there.

    Putting localisations into pixels dims their common structure by a sinc² in power on each axis, and not their shot
    noise, which is white.
    """
    rows, columns = fft.fftfreq(side)[:, None], fft.rfftfreq(side)[None]
    rings = np.rint(np.hypot(rows, columns) * side).astype(np.int64)
    return rings, ((np.sinc(rows) * np.sinc(columns)) ** 2).astype(np.float32)


def _halved(side: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """How many samples of the whole transform each of the half stands for: two, save in its own mirror's columns."""
    weights = np.full(shape, 2, np.float32)
    weights[:, 0] = 1
    if side % 2 == 0:
        weights[:, -1] = 1
    return weights


def _fade(place: Floats, size: float) -> Floats:
    """Weight 0 to 1 across a field of ``size`` [nm]: full in the middle, a cosine towards the edges, 0 outside."""
    index = np.floor(place / size * STEPS)
    inside = (index >= 0) & (index < STEPS)
    shape = tukey(STEPS, EDGE)
    return np.where(inside, shape[np.where(inside, index, 0).astype(np.int64)], 0.0)
