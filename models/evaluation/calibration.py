"""Whether a model's own words can be trusted: its sigmas and its probabilities, and numbers that put them right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from models.evaluation.metrics import match
from models.evaluation.strata import spread
from models.evaluation.trial import RADIUS, Trial, column
from models.evaluation.verdict import Columns, axes_of, chosen
from simulation.domain import FAINTEST

Floats: TypeAlias = NDArray[np.float64]

PHOTONS = 1000.0
"""Unit of photons in corrections."""
BINS = 20
"""Of the reliability curve, evenly from 0 to 1."""


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


@dataclass(frozen=True)
class Corrections:
    """Monotone maps that put a model's own words right; as it stands, they change nothing.

    A sigma s [pixels] of a localisation with n found photons becomes
    ``sigma_scale`` · s^``sigma_power`` · (n / PHOTONS)^``photon_power``, a probability p becomes
    σ(``logit_scale`` · logit p + ``logit_shift``).
    """

    sigma_scale: float = 1.0
    sigma_power: float = 1.0
    photon_power: float = 0.0
    logit_scale: float = 1.0
    logit_shift: float = 0.0

    def sigma(self, sigma: NDArray[Any], photons: NDArray[Any], pixel: float) -> Floats:
        """Corrected standard deviations [nm]; ``sigma`` and ``pixel`` in nm, ``photons`` as found, at least 1."""
        light = (np.maximum(photons, 1.0) / PHOTONS) ** self.photon_power
        return np.asarray(pixel * self.sigma_scale * (sigma / pixel) ** self.sigma_power * light, np.float64)

    def probability(self, probability: NDArray[Any]) -> Floats:
        """Corrected probabilities."""
        return np.asarray(expit(self.logit_scale * _logit(probability) + self.logit_shift), np.float64)


def fit_corrections(emitters: Columns, pixel: float, claimed: Floats, right: NDArray[np.bool_]) -> Corrections:
    """The most likely corrections for a verdict's emitters (``pixel`` in nm) and for ``reliability``'s answer.

    Sigmas: normal errors, maximum likelihood (so the spread of error / sigma becomes 1 overall). Probabilities: Platt's
    logistic regression on the log-odds. Two or three numbers each, so some hundreds of localisations are plenty.
    """
    found = chosen(emitters, emitters["found"].astype(bool))
    light = np.stack([found["found_photons"]] * 2, 1)
    sigmas = _fit_sigma(axes_of(found, "error") / pixel, axes_of(found, "sigma") / pixel, light)
    return Corrections(*sigmas, *_fit_probability(claimed, right))


def _fit_sigma(error: Floats, sigma: Floats, photons: Floats) -> tuple[float, float, float]:
    """Scale and powers for sigmas [pixels] (N, 2) and found photons; 1, 1 and 0 without any."""
    known = np.isfinite(error) & np.isfinite(sigma) & (sigma > 0)
    if not known.any():
        return 1.0, 1.0, 0.0
    squares, logs = error[known] ** 2, np.log(sigma[known])
    light = np.log(np.maximum(photons[known], 1.0) / PHOTONS)
    middle, bright = float(logs.mean()), float(light.mean())

    def unlikelihood(values: Floats) -> float:
        wide = values[0] + values[1] * (logs - middle) + values[2] * (light - bright)
        # What the data do not tell, where all have the same sigma or photons, stays as it was.
        kept = 1e-6 * float((values[1] - 1) ** 2 + values[2] ** 2)
        return float(np.mean(wide + 0.5 * squares * np.exp(-2 * wide))) + kept

    level, power, lit = minimize(unlikelihood, [middle, 1.0, 0.0], method="Nelder-Mead").x
    return float(math.exp(level - power * middle - lit * bright)), float(power), float(lit)


def _fit_probability(claimed: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and shift of the log-odds; 1 and 0 where all are right or all wrong."""
    if not len(right) or right.all() or not right.any():
        return 1.0, 0.0
    odds, sign = _logit(claimed), np.where(right, -1.0, 1.0)

    def unlikelihood(values: Floats) -> float:
        return float(np.mean(np.logaddexp(0, sign * (values[0] * odds + values[1]))))

    slope, shift = minimize(unlikelihood, [1.0, 0.0], method="BFGS").x
    return float(slope), float(shift)


def _logit(probability: NDArray[Any]) -> Floats:
    return np.asarray(logit(np.clip(probability, 1e-4, 1 - 1e-4)), np.float64)
