"""Whether a model's own words can be trusted: its sigmas and its probabilities, and numbers that put them right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logit

from models.correction import SUREST, Corrections, Odds, Width
from models.evaluation.metrics import match
from models.evaluation.strata import FEWEST, spread
from models.evaluation.trial import RADIUS, Trial, column
from models.evaluation.verdict import Columns, axes_of, chosen
from simulation.domain import FAINTEST

Floats: TypeAlias = NDArray[np.float64]

BINS = 20
"""Of the reliability curve, evenly from 0 to 1."""
WIDEST, DOUBTS = (0.0, 3.0), (0.0, 3.0)
"""Logarithms of factors by which a sigma may change: none is narrowed. In a wide domain sure ones are too wide on
average, as those lit for long are; those seen once would then be too narrow (docs/decisions.md)."""
KNOTS, SLOPES = (-3.0, 3.0), (0.05, 20.0)
"""Of maps of log-odds: they must rise; further away few data would decide."""
KEPT = 1e-6
"""How strongly a correction that the data say nothing of is kept from changing."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Localisations of about one probability."""

    low: float
    high: float
    count: int
    claimed: float
    """Their mean probability."""
    right: float
    """Share of them that is an emitter."""


def reliability(table: pa.Table, trial: Trial, floor: float = FAINTEST) -> tuple[Floats, NDArray[np.bool_]]:
    """Probability and rightness of each localisation (N,).

    The most probable are given their emitters first, 5 % at a time and the nearest within that, so that an improbable
    one beside a probable one does not take its emitter. ``floor`` [photons] is that of the training, since that is what
    a probability was learned for; those on even dimmer emitters are left out.
    """
    probability = column(table, "probability")
    truth, left = trial.truth, np.arange(trial.truth.num_rows)
    claimed, right = list[Floats](), list[NDArray[np.bool_]]()
    for low in np.arange(BINS)[::-1] / BINS:
        rows = np.flatnonzero((probability >= low) & (probability < (low + 1 / BINS if low < 1 - 1 / BINS else np.inf)))
        pairs = match(table.take(rows), truth.take(left), RADIUS, floor)
        judged = np.setdiff1d(np.arange(len(rows)), pairs.ignored)
        claimed.append(probability[rows[judged]])
        right.append(np.isin(judged, pairs.found))
        left = np.delete(left, pairs.true)
    return np.concatenate(claimed), np.concatenate(right)


def reliability_curve(claimed: Floats, right: NDArray[np.bool_]) -> list[ReliabilityBin]:
    """By probability; empty bins are left out."""
    bins = np.minimum((claimed * BINS).astype(np.int64), BINS - 1)
    return [
        ReliabilityBin(
            index / BINS,
            (index + 1) / BINS,
            int((bins == index).sum()),
            float(claimed[bins == index].mean()),
            float(right[bins == index].mean()),
        )
        for index in np.unique(bins).tolist()
    ]


def calibration_error(curve: list[ReliabilityBin]) -> float:
    """Expected calibration error: how far claimed and right are apart, weighed by how many there are."""
    total = sum(part.count for part in curve)
    return sum(part.count * abs(part.claimed - part.right) for part in curve) / total if total else math.nan


@dataclass(frozen=True)
class Coverage:
    """How often the truth lies within what a sigma promises, for emitters of about as many photons."""

    pairs: int
    spread: float
    """Standard deviation of error / sigma about nought; 1 is right."""
    within_1: float
    """Share within one sigma, each axis by itself; 0.683 for a normal error."""
    within_2: float
    """Within two; 0.954."""


def coverage(emitters: Columns) -> Coverage:
    """Of the found ones of a verdict's emitters."""
    found = chosen(emitters, emitters["found"].astype(bool))
    error, sigma = axes_of(found, "error"), axes_of(found, "sigma")
    if not len(error):
        return Coverage(0, math.nan, math.nan, math.nan)
    size = np.abs(error / sigma)
    return Coverage(len(error), spread(error, sigma), float(np.mean(size < 1)), float(np.mean(size < 2)))


def fit_corrections(emitters: Columns, claimed: Floats, right: NDArray[np.bool_]) -> Corrections:
    """The most likely corrections for a verdict's emitters and for ``reliability``'s answer.

    Probabilities: logistic regression on the log-odds. Sigmas: normal errors, maximum likelihood, and they are only
    widened. A few numbers each, so some hundreds of localisations are plenty.
    """
    found = chosen(emitters, emitters["found"].astype(bool))
    sure, miscounted = found["probability"], (found["found_photons"] - found["photons"])[:, None]
    return Corrections(
        odds=fit_odds(claimed, right),
        place=_fit_width(axes_of(found, "error"), axes_of(found, "sigma"), sure),
        photons=_fit_width(miscounted, found["sigma_photons"][:, None], sure),
        depth=_fit_width(axes_of(found, "error", lateral=False), axes_of(found, "sigma", lateral=False), sure),
    )


def _fit_width(error: Floats, sigma: Floats, probability: Floats) -> Width:
    """Of errors and sigmas (N, axes) in the same unit, and probabilities (N,)."""
    known = np.isfinite(error) & np.isfinite(sigma) & (sigma > 0)
    if known.sum() < FEWEST:
        return Width()
    squares = (error[known] / sigma[known]) ** 2
    doubt = np.broadcast_to((1 - np.nan_to_num(probability, nan=1.0))[:, None], error.shape)[known]

    def unlikelihood(values: Floats) -> float:
        wide = values[0] + values[1] * doubt
        return float(np.mean(wide + 0.5 * squares * np.exp(-2 * wide))) + KEPT * float(values[1] ** 2)

    start = [min(max(0.0, 0.5 * math.log(float(squares.mean()) + 1e-12)), WIDEST[1]), 0.0]
    level, by_doubt = minimize(unlikelihood, start, bounds=[WIDEST, DOUBTS]).x
    return Width(math.exp(level), float(by_doubt))


def fit_odds(claimed: Floats, right: NDArray[np.bool_]) -> Odds:
    """The most likely map of ``reliability``'s answer; none where too few are right or too few wrong.

    Where either side of the knot is empty, its slope stays as it was.
    """
    if min(right.sum(), (~right).sum()) < FEWEST:
        return Odds()
    odds, sign = np.clip(logit(claimed), -SUREST, SUREST), np.where(right, -1.0, 1.0)

    def unlikelihood(values: Floats) -> float:
        knot, level, below, above = values
        beyond = odds - knot
        new = level + below * np.minimum(beyond, 0) + above * np.maximum(beyond, 0)
        kept = KEPT * float((below - 1) ** 2 + (above - 1) ** 2)
        return float(np.mean(np.logaddexp(0, sign * new))) + kept

    bounds = [KNOTS, (None, None), SLOPES, SLOPES]
    fits = [minimize(unlikelihood, [knot, knot, 1.0, 1.0], bounds=bounds) for knot in (-1.5, 0.0, 1.5)]
    return Odds(*(float(value) for value in min(fits, key=lambda fit: fit.fun).x))
