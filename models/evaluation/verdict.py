"""A table of localisations judged against a truth: what became of every emitter and of every localisation.

Everything that is reported later is worked out from these two tables, so they can be kept and looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.evaluation.metrics import Score, has_depths, match, score_of
from models.evaluation.trial import PHOTON_FLOOR, RADIUS, Trial, column

Floats: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = dict[str, NDArray[Any]]

AXES = ("x", "y", "z")


@dataclass(frozen=True, eq=False)
class Verdict:
    """One table against one trial."""

    trial: Trial
    score: Score
    emitters: Columns
    """One row an emitter and frame that counts, by column (N,): frame, x, y, photons, neighbour and (in 3-D) z [nm],
    snr, bound_* and summed_* (nm, x, y, z), found, and for those that were found error_*, sigma_* [nm], found_photons,
    sigma_photons [photons], probability."""
    localisations: Columns
    """One row a localisation: frame, x, y, photons, probability; hit, ignored (on an emitter too dim to count)."""


def judge(table: pa.Table, trial: Trial, radius: float = RADIUS, floor: float = PHOTON_FLOOR) -> Verdict:
    """Match a table (LOCALISATION_SCHEMA's columns, as far as they are known) with a trial's truth."""
    pairs = match(table, trial.truth, radius, floor)
    counted = np.sort(np.concatenate([pairs.true, pairs.missed]))
    emitters = _facts(trial, counted)
    place = np.searchsorted(counted, pairs.true)
    found = np.zeros(len(counted), bool)
    found[place] = True
    emitters["found"] = found
    for name, values in _outcome(table.take(pairs.found), trial.truth.take(pairs.true)).items():
        emitters[name] = np.full(len(counted), np.nan)
        emitters[name][place] = values
    localisations: Columns = {name: column(table, name) for name in ("frame", "x", "y", "photons", "probability")}
    for name, rows in (("hit", pairs.found), ("ignored", pairs.ignored)):
        localisations[name] = np.zeros(table.num_rows, bool)
        localisations[name][rows] = True
    return Verdict(trial, score_of(pairs, table, trial.truth, radius), emitters, localisations)


def pooled(parts: Sequence[Columns]) -> Columns:
    """The rows of several, one below the other; columns that all have."""
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def chosen(columns: Columns, rows: NDArray[Any]) -> Columns:
    """Some of the rows."""
    return {name: values[rows] for name, values in columns.items()}


def axes_of(columns: Columns, prefix: str, lateral: bool = True) -> Floats:
    """(N, 2) of x and y, or (N, 1) of z; NaN where they are not known."""
    names = [f"{prefix}_{axis}" for axis in (AXES[:2] if lateral else AXES[2:])]
    rows = len(columns["frame"])
    return np.stack([columns.get(name, np.full(rows, np.nan)) for name in names], 1)


def _facts(trial: Trial, rows: NDArray[np.int64]) -> Columns:
    """What is known of the emitters before anybody looks for them."""
    facts: Columns = {name: column(trial.truth, name)[rows] for name in ("frame", "x", "y", "photons")}
    facts["neighbour"] = trial.neighbour[rows]
    if has_depths(trial.truth) and np.ptp(column(trial.truth, "z")) > 0:
        facts["z"] = column(trial.truth, "z")[rows]
    if trial.limits is not None:
        facts["snr"] = trial.limits.snr[rows]
        for name, limit in (("bound", trial.limits.single), ("summed", trial.limits.summed)):
            facts |= {f"{name}_{axis}": values[rows] for axis, values in zip(AXES, limit.T, strict=False)}
    return facts


def _outcome(found: pa.Table, true: pa.Table) -> Columns:
    """Of the pairs: errors, found minus true, and what the table says of itself."""
    axes = AXES if has_depths(found, true) else AXES[:2]
    outcome: Columns = {f"error_{axis}": column(found, axis) - column(true, axis) for axis in axes}
    outcome |= {f"sigma_{axis}": column(found, f"sigma_{axis}") for axis in axes}
    outcome["found_photons"] = column(found, "photons")
    return outcome | {name: column(found, name) for name in ("sigma_photons", "probability")}
