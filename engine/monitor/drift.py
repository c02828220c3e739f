"""Sample drift, from the localisations themselves, while they come.

Source: redundant cross-correlation, Wang et al. 2014 (Optics Express 22:15982). The run is cut into segments; each
pair of their pictures gives a shift, and the segments' places are the ones that fit all shifts best, outliers weighed
down.

Cost and memory are bounded: the field is folded into a square of at most ``LARGEST`` pixels (see frc.py; a folded
picture shifts as the whole does), and when there are ``SEGMENTS`` segments, neighbours are put together, each moved to
its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.sparse.csgraph import connected_components

from engine.output.image import render
from engine.output.table import describe_field, table_from_columns

Floats: TypeAlias = NDArray[np.float64]
Spectrum: TypeAlias = NDArray[np.complexfloating[Any, Any]]

PIXEL = 20.0
"""Pixel of the pictures [nm]; shifts are found to a small part of it."""
LARGEST = 512
"""Most pixels of a side: a segment takes 1 MB."""
SEGMENTS = 32
"""Segments that are kept apart."""
REACH = 1000.0
"""Largest shift between two segments that is looked for [nm]."""
CLEAR = 8.0
"""A peak counts that stands out by this many standard deviations of what is around it."""
TOLERANCE = 10.0
"""Shifts that disagree with the others by more than this weigh little [nm]."""
ROUNDS = 20
"""Rounds of weighing."""
LOOSE = 1e-9
"""Weight that holds segments which no shift links to the others, so that the equations have one solution."""


@dataclass
class _Segment:
    """The Fourier transform of one segment's picture, and where it lies as last found, (x, y) [nm]."""

    spectrum: Spectrum
    place: Floats


class DriftEstimator:
    """Where the sample has gone since the first segment."""

    def __init__(self, width: float, height: float) -> None:
        """For a field of ``width`` by ``height`` [nm]."""
        self._side = fft.next_fast_len(min(LARGEST, max(16, math.ceil(max(width, height) / PIXEL))), real=True)
        self._segments: list[_Segment] = []
        self._shifts: dict[tuple[int, int], Floats] = {}
        """Shift of the second segment against the first, by their indices, where one was found."""

    def add(self, x: Floats, y: Floats, sigma_x: Floats, sigma_y: Floats) -> tuple[float, float] | None:
        """Take the next segment's localisations (N,) [nm]; give its place against the first, (x, y) [nm].

        None where its picture shares too little with the others'. The sample's drift is positive along rising x, y.
        """
        if len(self._segments) >= SEGMENTS:
            self._merge()
        spectrum = self._spectrum(x, y, sigma_x, sigma_y)
        newest = len(self._segments)
        self._segments.append(_Segment(spectrum, np.zeros(2)))
        self._compare(newest)
        places = _fit(newest + 1, self._shifts)
        for segment, place in zip(self._segments, places, strict=True):
            segment.place = np.where(np.isnan(place), segment.place, place)
        found = places[newest]
        return None if np.isnan(found).any() else (float(found[0]), float(found[1]))

    def _spectrum(self, x: Floats, y: Floats, sigma_x: Floats, sigma_y: Floats) -> Spectrum:
        """Of the folded picture, its mean taken away."""
        period = self._side * PIXEL
        columns = {"frame": np.zeros(len(x)), "x": x % period, "y": y % period, "sigma_x": sigma_x, "sigma_y": sigma_y}
        picture = render(table_from_columns(columns, describe_field(pixel_size=period, width=1, height=1)), PIXEL)
        spectrum: Spectrum = fft.rfft2(picture)
        spectrum[0, 0] = 0
        return spectrum

    def _compare(self, newest: int) -> None:
        """Find the shifts of one segment against all before it."""
        for other in range(newest):
            shift = self._shift(self._segments[other].spectrum, self._segments[newest].spectrum)
            if shift is not None:
                self._shifts[other, newest] = shift

    def _shift(self, first: Spectrum, second: Spectrum) -> Floats | None:
        """(x, y) [nm] from the first picture to the second; None without a clear peak."""
        correlation = fft.irfft2(first.conj() * second, (self._side, self._side))
        reach = min(self._side // 2 - 1, round(REACH / PIXEL))
        near = np.roll(correlation, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
        row, column = np.unravel_index(int(np.argmax(near)), near.shape)
        middle = np.median(near)
        spread = 1.4826 * np.median(np.abs(near - middle))
        if near[row, column] - middle <= CLEAR * spread:
            return None
        peak = _peak(near, int(row), int(column))
        return None if peak is None else (peak - reach) * PIXEL

    def _merge(self) -> None:
        """Put neighbours together, each moved back by what it drifted since the earlier one."""
        pairs = zip(self._segments[::2], self._segments[1::2], strict=True)
        self._segments = [_Segment(self._joined(*pair), pair[0].place) for pair in pairs]
        self._shifts = {}
        for index in range(1, len(self._segments)):
            self._compare(index)

    def _joined(self, first: _Segment, second: _Segment) -> Spectrum:
        x, y = second.place - first.place
        rows, columns = fft.fftfreq(self._side, PIXEL), fft.rfftfreq(self._side, PIXEL)
        turn = np.exp(2j * np.pi * (rows[:, None] * y + columns[None] * x))
        joined: Spectrum = (first.spectrum + second.spectrum * turn).astype(first.spectrum.dtype)
        return joined


def _peak(values: NDArray[Any], row: int, column: int) -> Floats | None:
    """(x, y) of the top [pixels]: least squares of a paraboloid to 5×5 samples; None at the border or on a ridge."""
    if not (2 <= row < values.shape[0] - 2 and 2 <= column < values.shape[1] - 2):
        return None
    dy, dx = np.mgrid[-2:3, -2:3].reshape(2, -1).astype(np.float64)
    design = np.stack([np.ones(25), dx, dy, dx * dx, dx * dy, dy * dy], 1)
    patch = values[row - 2 : row + 3, column - 2 : column + 3].reshape(-1).astype(np.float64)
    _, by_x, by_y, xx, xy, yy = np.linalg.lstsq(design, patch)[0]
    curvature = np.array([[2 * xx, xy], [xy, 2 * yy]])
    if np.linalg.eigvalsh(curvature).max() >= 0:
        return None
    offset = np.linalg.solve(curvature, [-by_x, -by_y])
    return None if np.abs(offset).max() > 2 else np.array([column, row]) + offset


def _fit(count: int, shifts: dict[tuple[int, int], Floats]) -> Floats:
    """(count, 2) places [nm] that fit the shifts best, the first at 0; NaN where no chain of shifts leads to the first.

    Weighted least squares; the weights follow a Cauchy loss of width TOLERANCE, so that false peaks hardly count.
    """
    places = np.full((count, 2), np.nan)
    places[0] = 0.0
    if not shifts:
        return places
    (first, second), found = np.array(list(shifts)).T, np.array(list(shifts.values()))
    linked = np.zeros((count, count))
    linked[first, second] = 1
    group = connected_components(linked, directed=False)[1]
    weights, solved = np.ones(len(found)), places
    for _ in range(ROUNDS):
        solved = _solve(count, first, second, found, weights)
        weights = 1 / (1 + ((solved[second] - solved[first] - found) ** 2).sum(1) / TOLERANCE**2)
    places[group == group[0]] = solved[group == group[0]]
    return places


def _solve(count: int, first: NDArray[np.int64], second: NDArray[np.int64], shifts: Floats, weights: Floats) -> Floats:
    """(count, 2) places of least weighted squares, the first at 0, by their normal equations: the pairs' Laplacian."""
    matrix, right = np.diag(np.full(count, LOOSE)), np.zeros((count, 2))
    np.add.at(matrix, (first, first), weights)
    np.add.at(matrix, (second, second), weights)
    np.add.at(matrix, (first, second), -weights)
    np.add.at(matrix, (second, first), -weights)
    np.add.at(right, second, weights[:, None] * shifts)
    np.add.at(right, first, -weights[:, None] * shifts)
    solved = np.linalg.solve(matrix, right)
    return np.asarray(solved - solved[0], np.float64)
