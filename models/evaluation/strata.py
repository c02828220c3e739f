"""Figures by kind of emitter: by photons, by signal to noise, by nearest neighbour, by place in a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.evaluation.verdict import Columns, axes_of, chosen

Floats: TypeAlias = NDArray[np.float64]

EDGES: dict[str, tuple[float, ...]] = {
    "photons": (100, 200, 300, 500, 700, 1000, 1500, 2500, 5000, math.inf),
    "snr": (0, 3, 5, 7, 10, 14, 20, 30, math.inf),
    "found_photons": (0, 100, 200, 300, 500, 700, 1000, 1500, 2500, 5000, math.inf),
    "sigma_x": (0, 5, 8, 11, 14, 18, 22, 27, 35, 50, math.inf),
    "z": (-1000, -600, -400, -300, -200, -100, 0, 100, 200, 300, 400, 600, 1000),
    "neighbour": (0, 150, 250, 350, 500, 700, 1000, 1500, math.inf),
}
"""Column of a verdict's emitters → edges of its bins. Lengths in nm."""
FEWEST = 20
"""Pairs under which no figure is worked out from them."""


@dataclass(frozen=True)
class Precision:
    """How close the found ones of some emitters are, NaN where there are too few."""

    emitters: int
    """That count, found or not."""
    recall: float
    """Share of them that was found."""
    rmse: float
    """Lateral [nm]."""
    bound: float
    """Root mean square of the same pairs' single-frame bounds, lateral [nm]."""
    over_bound: float
    """RMSE over that."""
    summed_bound: float
    """The same with all frames of the emitter inside the context [nm]."""
    over_summed: float
    sigma_spread: float
    """Standard deviation of error / predicted sigma over both axes; 1 where sigmas are right."""
    photon_ratio: float
    """Median of found over true photons."""
    rmse_z: float = math.nan
    """[nm]"""
    over_bound_z: float = math.nan
    over_summed_z: float = math.nan
    sigma_spread_z: float = math.nan


@dataclass(frozen=True)
class Stratum:
    """Precision in one bin."""

    by: str
    low: float
    high: float
    figures: Precision


def strata(emitters: Columns, by: str) -> list[Stratum]:
    """Precision in each bin of ``by``, a key of EDGES; bins without an emitter are left out."""
    if by not in emitters:
        return []
    bins = np.digitize(emitters[by], EDGES[by]) - 1
    limits = zip(EDGES[by], EDGES[by][1:], strict=False)
    return [
        Stratum(by, low, high, precision(chosen(emitters, bins == index)))
        for index, (low, high) in enumerate(limits)
        if (bins == index).any()
    ]


def precision(emitters: Columns) -> Precision:
    """Of a verdict's emitters, or some of them."""
    total = len(emitters["found"])
    pairs = chosen(emitters, emitters["found"].astype(bool))
    enough = len(pairs["found"]) >= FEWEST
    error, single, summed = (axes_of(pairs, name) for name in ("error", "bound", "summed"))
    deep = "error_z" in pairs
    depth = [axes_of(pairs, name, lateral=False) for name in ("error", "bound", "summed", "sigma")]
    return Precision(
        emitters=total,
        recall=len(pairs["found"]) / total if total else math.nan,
        rmse=_size(error) if enough else math.nan,
        bound=_size(single) if enough else math.nan,
        over_bound=_size(error) / _size(single) if enough else math.nan,
        summed_bound=_size(summed) if enough else math.nan,
        over_summed=_size(error) / _size(summed) if enough else math.nan,
        sigma_spread=spread(error, axes_of(pairs, "sigma")) if enough else math.nan,
        photon_ratio=float(np.median(pairs["found_photons"] / pairs["photons"])) if enough else math.nan,
        rmse_z=_size(depth[0]) if enough and deep else math.nan,
        over_bound_z=_size(depth[0]) / _size(depth[1]) if enough and deep else math.nan,
        over_summed_z=_size(depth[0]) / _size(depth[2]) if enough and deep else math.nan,
        sigma_spread_z=spread(depth[0], depth[3]) if enough and deep else math.nan,
    )


def spread(error: NDArray[Any], sigma: NDArray[Any]) -> float:
    """Standard deviation of error / sigma, about nought; NaN without any."""
    normal = (error / sigma).ravel()
    return float(np.sqrt(np.mean(normal**2))) if len(normal) else math.nan


@dataclass(frozen=True)
class BiasCell:
    """The mean error of emitters that stand in one part of a pixel."""

    x: float
    """Middle of the part, from the pixel's corner [pixels]."""
    y: float
    emitters: int
    bias_x: float
    """Mean of found minus true [nm]; NaN with too few."""
    bias_y: float


def bias_map(emitters: Columns, pixel: float, cells: int = 5) -> list[BiasCell]:
    """Mean errors by the true place within a pixel of ``pixel`` nm, ``cells`` × ``cells`` parts, row by row."""
    found = chosen(emitters, emitters["found"].astype(bool))
    column, row = (np.floor(found[axis] / pixel % 1 * cells).astype(np.int64) for axis in ("x", "y"))
    return [
        _cell(chosen(found, (column == i) & (row == j)), (i + 0.5) / cells, (j + 0.5) / cells)
        for j in range(cells)
        for i in range(cells)
    ]


def _cell(found: Columns, x: float, y: float) -> BiasCell:
    count = len(found["x"])
    means = [float(np.mean(found[name])) if count >= FEWEST else math.nan for name in ("error_x", "error_y")]
    return BiasCell(x, y, count, *means)


def bias_noise(emitters: Columns, cells: Sequence[BiasCell]) -> float:
    """What a map of an unbiased method would show, root mean square of its cells and axes [nm]: chance alone."""
    found = chosen(emitters, emitters["found"].astype(bool))
    counts = [cell.emitters for cell in cells if cell.emitters >= FEWEST]
    error = axes_of(found, "error")
    if not counts:
        return math.nan
    return float(np.sqrt(np.mean(error**2) * np.mean([1 / count for count in counts])))


def _size(vectors: NDArray[Any]) -> float:
    """Root mean square length of vectors (N, D); inf is left out with its row."""
    finite = vectors[np.isfinite(vectors).all(1)]
    return float(np.sqrt((finite**2).sum(1).mean())) if len(finite) else math.nan
