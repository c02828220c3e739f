"""How good localisations are against a truth.

The rules are those of the 2016 SMLM challenge (Sage et al. 2019, Nat. Methods 16:387).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import KDTree


@dataclass(frozen=True)
class Matching:
    """Which localisation is which emitter: ``found[i]`` (row of the table) is ``true[i]`` (row of the truth)."""

    found: NDArray[np.int64]
    true: NDArray[np.int64]
    distance: NDArray[np.float64]
    """[nm]"""
    ignored: int
    """Localisations that sit on an emitter too dim to count: neither hit nor false alarm."""
    false_positives: int
    false_negatives: int


@dataclass(frozen=True)
class Score:
    """The challenge's figures."""

    radius: float
    """Largest distance of a pair [nm]."""
    true_positives: int
    false_positives: int
    false_negatives: int
    rmse: float
    """Root mean square lateral distance of the pairs [nm]; NaN without any."""

    @property
    def jaccard(self) -> float:
        """TP / (TP + FP + FN), 0 to 1; NaN where nothing was there and nothing was found."""
        everything = self.true_positives + self.false_positives + self.false_negatives
        return self.true_positives / everything if everything else math.nan

    @property
    def efficiency(self) -> float:
        """See ``efficiency``."""
        return efficiency(self.jaccard, self.rmse)


def efficiency(jaccard: float, rmse: float, alpha: float = 1.0) -> float:
    """E = 100 − √((100 − 100·JI)² + α²·RMSE²), α in 1/nm (Sage et al. 2019, eq. 3)."""
    return 100 - math.hypot(100 - 100 * jaccard, alpha * rmse)


def score(table: pa.Table, truth: pa.Table, radius: float = 250.0, floor: float = 0.0) -> Score:
    """Compare a table of localisations with a truth table (frame, x, y, photons), every frame counting.

    ``floor``: emitters with fewer photons than this in a frame are "don't care" [photons].
    """
    pairs = match(table, truth, radius, floor)
    rmse = float(np.sqrt(np.mean(pairs.distance**2))) if len(pairs.distance) else math.nan
    return Score(radius, len(pairs.found), pairs.false_positives, pairs.false_negatives, rmse)


def match(table: pa.Table, truth: pa.Table, radius: float, floor: float = 0.0) -> Matching:
    """Greedy nearest pairs in each frame, within ``radius`` nm; emitters that count are served before dim ones."""
    found, true = _points(table, radius), _points(truth, radius)
    counts = truth["photons"].to_numpy() >= floor
    bright, dim = np.flatnonzero(counts), np.flatnonzero(~counts)
    hits, partners, distance = _greedy(found, true[bright], radius)
    rest = np.setdiff1d(np.arange(len(found)), hits)
    ignored = len(_greedy(found[rest], true[dim], radius)[0])
    return Matching(
        found=hits,
        true=bright[partners],
        distance=distance,
        ignored=ignored,
        false_positives=len(rest) - ignored,
        false_negatives=len(bright) - len(hits),
    )


def _points(table: pa.Table, radius: float) -> NDArray[np.float64]:
    """Points (N, 3) in nm whose third axis keeps frames further apart than any pair may be."""
    x, y, frame = (table[name].to_numpy().astype(np.float64) for name in ("x", "y", "frame"))
    return np.stack([x, y, frame * 4 * radius], 1)


def _greedy(
    first: NDArray[np.float64], second: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs (rows of first, rows of second, distance), the nearest first, each row used once."""
    if not len(first) or not len(second):
        empty = np.empty(0, np.int64)
        return empty, empty, np.empty(0)
    near = KDTree(first).sparse_distance_matrix(KDTree(second), radius, output_type="ndarray")
    near = near[np.argsort(near["v"], kind="stable")]
    free_first, free_second = np.ones(len(first), bool), np.ones(len(second), bool)
    taken = []
    for row, (i, j) in enumerate(zip(near["i"].tolist(), near["j"].tolist(), strict=True)):
        if free_first[i] and free_second[j]:
            free_first[i] = free_second[j] = False
            taken.append(row)
    pairs = near[taken]
    return pairs["i"], pairs["j"], pairs["v"]
