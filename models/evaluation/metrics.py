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

AXIAL = 500.0
"""Largest axial distance of a pair in 3-D [nm]."""


@dataclass(frozen=True)
class Matching:
    """Which localisation is which emitter: ``found[i]`` (row of the table) is ``true[i]`` (row of the truth)."""

    found: NDArray[np.int64]
    true: NDArray[np.int64]
    distance: NDArray[np.float64]
    """[nm]"""
    ignored: NDArray[np.int64]
    """Rows of the table that sit on an emitter too dim to count: neither hit nor false alarm."""
    false: NDArray[np.int64]
    """Rows of the table without an emitter."""
    missed: NDArray[np.int64]
    """Rows of the truth that count and were not found."""

    @property
    def false_positives(self) -> int:
        """Localisations without an emitter."""
        return len(self.false)

    @property
    def false_negatives(self) -> int:
        """Emitters that count and were not found."""
        return len(self.missed)


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
    rmse_z: float = math.nan
    """Root mean square axial distance of the pairs [nm]; NaN in 2-D."""

    @property
    def jaccard(self) -> float:
        """TP / (TP + FP + FN), 0 to 1; NaN where nothing was there and nothing was found."""
        everything = self.true_positives + self.false_positives + self.false_negatives
        return self.true_positives / everything if everything else math.nan

    @property
    def efficiency(self) -> float:
        """See ``efficiency``."""
        return efficiency(self.jaccard, self.rmse)

    @property
    def precision(self) -> float:
        """Share of the localisations that are right; NaN without any."""
        found = self.true_positives + self.false_positives
        return self.true_positives / found if found else math.nan

    @property
    def recall(self) -> float:
        """Share of the emitters that were found; NaN without any."""
        there = self.true_positives + self.false_negatives
        return self.true_positives / there if there else math.nan

    @property
    def efficiency_3d(self) -> float:
        """Mean of the lateral and the axial efficiency (α = 1 and 0.5 per nm); NaN in 2-D."""
        return (self.efficiency + efficiency(self.jaccard, self.rmse_z, 0.5)) / 2


def efficiency(jaccard: float, rmse: float, alpha: float = 1.0) -> float:
    """E = 100 − √((100 − 100·JI)² + α²·RMSE²), α in 1/nm (Sage et al. 2019, eq. 3)."""
    return 100 - math.hypot(100 - 100 * jaccard, alpha * rmse)


def score(table: pa.Table, truth: pa.Table, radius: float = 250.0, floor: float = 0.0) -> Score:
    """Compare a table of localisations with a truth table (frame, x, y, photons), every frame counting.

    ``floor``: emitters with fewer photons than this in a frame are "don't care" [photons].
    """
    return score_of(match(table, truth, radius, floor), table, truth, radius)


def score_of(pairs: Matching, table: pa.Table, truth: pa.Table, radius: float) -> Score:
    """The figures of a matching of these tables within ``radius`` nm."""
    rmse = float(np.sqrt(np.mean(pairs.distance**2))) if len(pairs.distance) else math.nan
    return Score(
        radius, len(pairs.found), pairs.false_positives, pairs.false_negatives, rmse, _axial(pairs, table, truth)
    )


def match(table: pa.Table, truth: pa.Table, radius: float, floor: float = 0.0, axial: float = AXIAL) -> Matching:
    """Greedy nearest pairs in each frame, within ``radius`` nm; emitters that count are served before dim ones.

    Where both tables have z, a pair's may differ by ``axial`` nm at most.
    """
    found, true = _points(table, radius), _points(truth, radius)
    depths = (_depth(table), _depth(truth)) if has_depths(table, truth) else None
    counts = truth["photons"].to_numpy() >= floor
    bright, dim = np.flatnonzero(counts), np.flatnonzero(~counts)

    def pairs(
        rows: NDArray[np.int64], those: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        near = _near(found[rows], true[those], radius)
        if depths is not None:
            near = near[np.abs(depths[0][rows][near["i"]] - depths[1][those][near["j"]]) <= axial]
        taken = near[_greedy(near)]
        return rows[taken["i"]], those[taken["j"]], taken["v"]

    hits, partners, distance = pairs(np.arange(len(found)), bright)
    ignored = pairs(np.setdiff1d(np.arange(len(found)), hits), dim)[0]
    return Matching(
        found=hits,
        true=partners,
        distance=distance,
        ignored=ignored,
        false=np.setdiff1d(np.arange(len(found)), np.concatenate([hits, ignored])),
        missed=np.setdiff1d(bright, partners),
    )


def has_depths(*tables: pa.Table) -> bool:
    """Whether each of the tables tells z."""
    return all("z" in table.column_names and table["z"].null_count < table.num_rows for table in tables)


def _depth(table: pa.Table) -> NDArray[np.float64]:
    """Of each row [nm]."""
    return table["z"].to_numpy().astype(np.float64)


def _axial(pairs: Matching, table: pa.Table, truth: pa.Table) -> float:
    if not len(pairs.found) or not has_depths(table, truth):
        return math.nan
    return float(np.sqrt(np.mean((_depth(table)[pairs.found] - _depth(truth)[pairs.true]) ** 2)))


def _points(table: pa.Table, radius: float) -> NDArray[np.float64]:
    """Points (N, 3) in nm whose third axis keeps frames further apart than any pair may be."""
    x, y, frame = (table[name].to_numpy().astype(np.float64) for name in ("x", "y", "frame"))
    return np.stack([x, y, frame * 4 * radius], 1)


def _near(first: NDArray[np.float64], second: NDArray[np.float64], radius: float) -> NDArray[np.void]:
    """Pairs within ``radius``, the nearest first: i and j, rows of first and second, and v, the distance."""
    if not len(first) or not len(second):
        return np.empty(0, [("i", np.int64), ("j", np.int64), ("v", np.float64)])
    near = KDTree(first).sparse_distance_matrix(KDTree(second), radius, output_type="ndarray")
    return near[np.argsort(near["v"], kind="stable")]


def _greedy(near: NDArray[np.void]) -> list[int]:
    """Which pairs to take, one after the other, so that each i and each j is used once."""
    used_i, used_j = set[int](), set[int]()
    taken = []
    for row, (i, j) in enumerate(zip(near["i"].tolist(), near["j"].tolist(), strict=True)):
        if i not in used_i and j not in used_j:
            used_i.add(i)
            used_j.add(j)
            taken.append(row)
    return taken
