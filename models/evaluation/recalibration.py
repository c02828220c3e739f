"""Corrections for a trained network, fitted on fixed scenes of the domain that it was trained for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from config.schema import TrainingSettings
from engine.output.table import table_from_columns
from engine.runtimes.runtime import Runtime
from models.correction import Corrections
from models.evaluation.calibration import (
    calibration_error,
    fit_corrections,
    fit_odds,
    reliability,
    reliability_curve,
)
from models.evaluation.trial import Trial, column
from models.evaluation.verdict import judge
from simulation.domain import Domain

SEED = 3 << 61
"""Beyond every seed of a training's scenes, and of its validation's."""
SCENES = 512
"""Each of them a microscope, dye, density and camera of its own."""
COUNTED = 8
"""Frames of a scene that are looked at: those that have their whole context."""
LOWEST = 0.02
"""Smallest probability that is looked at, before correction."""
SURE = 0.5
"""Sigmas are fitted on localisations of this probability and more, after correction."""
FAINTEST = 1.0
"""Emitters from this many photons on are known, so that finding one too dim to count is not taken for an error."""
PIXEL = 100.0
"""Scenes are in pixels; the metrics want a size for one [nm]."""
IN_PIXELS = ("x", "y", "sigma_x", "sigma_y")
HELD_BACK = 4
"""One scene in so many is not fitted on; it says how right the corrections are."""


@dataclass(frozen=True)
class Calibration:
    """How a model was put right. The errors are of scenes that were not fitted on."""

    corrections: Corrections
    scenes: int
    localisations: int
    error_before: float
    """Expected calibration error of the probabilities."""
    error_after: float

    def to_dict(self) -> dict[str, Any]:
        """As a model's description keeps it, in JSON; what is not known is None."""
        return {name: None if value != value else value for name, value in asdict(self).items()}  # noqa: PLR0124


def recalibrate(runtime: Runtime, recipe: TrainingSettings, scenes: int = SCENES) -> Calibration:
    """Simulate, localise, match and fit; ``runtime`` runs the network as it was trained. A minute for the default
    network on one core. What hardly anything is known of is left as it is.
    """
    domain = Domain(recipe.domain, sum(runtime.description.context) + COUNTED, recipe.size, faintest=FAINTEST)
    tables = [_look(runtime, domain, number) for number in range(scenes)]
    fitted, held = (
        _together(tables[number] for number in range(scenes) if (number % HELD_BACK == 0) is back)
        for back in (False, True)
    )
    found, trial = fitted
    claimed, right = reliability(found, trial)
    odds = fit_odds(claimed, right)
    sure = odds.of(torch.from_numpy(column(found, "probability"))).numpy() >= SURE
    corrections = fit_corrections(judge(found.filter(pa.array(sure)), trial).emitters, claimed, right)
    claimed, right = reliability(*held)
    errors = (calibration_error(reliability_curve(said, right)) for said in (claimed, corrections.probability(claimed)))
    return Calibration(corrections, scenes, sum(table.num_rows for table, _ in tables), *errors)


def _look(runtime: Runtime, domain: Domain, number: int) -> tuple[pa.Table, pa.Table]:
    """Localisations and truth of the frames of one scene that have their whole context, frames counted on."""
    past, future = runtime.description.context
    batch = domain.batch(1, torch.Generator().manual_seed(SEED + number))
    photons = batch.photons[0].numpy()
    valid = np.arange(past + future + len(photons)) >= past + future
    rows, _ = runtime.step(photons, runtime.blank_state(*photons.shape[1:]), valid, LOWEST)
    found = dict(zip(runtime.description.columns, rows.T.astype(np.float64), strict=True))
    found["frame"] -= future  # the first frames that are answered lie before the first one
    true = {name: value.numpy() for name, value in vars(batch.truth).items()}
    if "z" not in found:
        del true["z"]
    return _table(found, past, number), _table(true, past, number)


def _table(columns: dict[str, NDArray[Any]], past: int, number: int) -> pa.Table:
    """The COUNTED frames after ``past`` of columns in pixels, as a table in nm."""
    counted = (columns["frame"] >= past) & (columns["frame"] < past + COUNTED)
    kept = {name: values[counted] * (PIXEL if name in IN_PIXELS else 1) for name, values in columns.items()}
    return table_from_columns({**kept, "frame": kept["frame"] - past + number * COUNTED}, {})


def _together(tables: Iterable[tuple[pa.Table, pa.Table]]) -> tuple[pa.Table, Trial]:
    found, truth = (pa.concat_tables(parts) for parts in zip(*tables, strict=True))
    return found, Trial("domain", truth, 1, 1.0)
