"""Everything that is measured of a model or of tables, section by section; what is written follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from config.schema import EvaluationSettings, Settings
from engine.runtimes.runtime import Runtime
from models.correction import Corrections
from models.evaluation.benchmark import benchmark_row, trial_of
from models.evaluation.calibration import (
    calibration_error,
    coverage,
    fit_corrections,
    reliability,
    reliability_curve,
)
from models.evaluation.experiments import even, isolated_emitters, localiser_of, resolving_power
from models.evaluation.metrics import score
from models.evaluation.sections import Section, flat
from models.evaluation.strata import EDGES, FEWEST, bias_map, bias_noise, precision, strata
from models.evaluation.trial import PHOTON_FLOOR, RADIUS, Trial
from models.evaluation.verdict import Columns, Verdict, chosen, judge, pooled
from simulation.dataset import as_localisations, make_simulator

RULES = (
    "Rules of the 2016 localisation microscopy challenge: in every frame, empty ones too, the nearest pairs within "
    f"{RADIUS:.0f} nm; emitters under {PHOTON_FLOOR:.0f} photons in a frame are neither hit nor miss."
)
BOUNDS = (
    "The bound is the Cramér–Rao lower bound of the same emitters standing alone, background unknown (numeric Fisher "
    "information, excess noise factor of an EMCCD included), from one frame; summed: from all frames of the emitter "
    "inside the localiser's context."
)
BRIGHT = 500.0
"""Isolated emitters from this many photons on go into the bias map: their errors are small [photons]."""
TITLES = {"photons": "photons", "snr": "signal to noise", "neighbour": "nearest neighbour", "z": "height"}
"""Ways of sorting emitters, with their names."""
Progress = Callable[[str], object]
"""Is told what is about to be measured."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A table on one trial."""

    label: str
    """Of the table, or of the condition."""
    table: pa.Table
    """With the improbable localisations too, where there are any."""
    verdict: Verdict
    """Of those at the threshold and above."""
    photons: float
    """Mean of the truth in a fully lit frame, NaN where it is not known [photons]."""

    @classmethod
    def of(cls, label: str, table: pa.Table, trial: Trial, photons: float, threshold: float) -> Judged:
        """Judge what is at least as probable as ``threshold``, and what does not say how probable it is."""
        return cls(label, table, judge(probable(table, threshold), trial), photons)


def probable(table: pa.Table, threshold: float) -> pa.Table:
    """Rows at the threshold and above, and those that do not say how probable they are."""
    improbable = table["probability"].to_numpy() < threshold
    return table if not improbable.any() else table.filter(pa.array(~improbable))


def assess(runtime: Runtime, conditions: Sequence[Settings], progress: Progress = lambda _: None) -> Iterator[Section]:
    """All sections of a model: the conditions, then scenes with camera, optics and light of the first of them."""
    first, context = conditions[0], runtime.description.context
    plan, pixel = first.evaluation, first.camera.pixel_size
    assert pixel is not None
    judged = list(judge_conditions(runtime, conditions, plan, progress))
    yield from sections_of(judged, first.run.threshold, plan, together=True)
    localise = localiser_of(runtime)
    progress("isolated emitters")
    scene = even(first, plan.isolated_background, first.dataset.photons)
    answers = list(isolated_emitters(localise, scene, context))
    yield _isolated_section([flat(row) for row, _ in answers], plan)
    bright = pooled([found for row, found in answers if row.photons >= BRIGHT] or [answers[-1][1]])
    yield _bias_section(bright, pixel)
    progress("point pairs")
    rows = resolving_power(localise, first, context, plan.pair_distances, plan.pair_frames, plan.pairs)
    yield _pairs_section([flat(row) for row in rows], first)
    yield _corrections_section(judged)


def judge_conditions(
    runtime: Runtime, conditions: Sequence[Settings], plan: EvaluationSettings, progress: Progress
) -> Iterator[Judged]:
    """Each condition simulated and localised once, down to improbable localisations."""
    for settings in conditions:
        progress(settings.dataset.name)
        simulator = make_simulator(settings)
        lowest = min([settings.run.threshold, *plan.thresholds])
        table = localiser_of(runtime, lowest)(simulator, settings)
        trial = trial_of(simulator, settings, runtime.description.context)
        background = as_localisations(trial.truth, simulator, settings)["background"]
        trial = replace(trial, truth=trial.truth.append_column("background", background))
        yield Judged.of(settings.dataset.name, table, trial, settings.dataset.photons, settings.run.threshold)


def sections_of(
    judged: Sequence[Judged], threshold: float, plan: EvaluationSettings, together: bool
) -> Iterator[Section]:
    """What follows from tables and their truth. ``together``: strata and probabilities of all as one, else of each."""
    yield _benchmark_section(judged, threshold)
    groups = [("all", list(judged))] if together else [(one.label, [one]) for one in judged]
    emitters = [(label, pooled([one.verdict.emitters for one in members])) for label, members in groups]
    for by, title in TITLES.items():
        rows = [flat({"of": label}, part) for label, columns in emitters for part in strata(columns, by)]
        if rows:
            yield _strata_section(by, title, rows)
    rows = [row for label, columns in emitters for row in _sigma_rows(label, columns)]
    if rows:
        yield _sigma_section(rows)
    rows = [row for label, members in groups for row in _reliability_rows(label, members)]
    if rows:
        yield _reliability_section(rows)
    rows = [row for one in judged for row in _sweep(one, plan.thresholds)]
    if rows:
        yield _sweep_section(rows)


def _benchmark_section(judged: Sequence[Judged], threshold: float) -> Section:
    show = ("condition", "density", "jaccard", "rmse", "efficiency", "jaccard_100nm", "rmse_100nm", "over_bound")
    rows = []
    for one in judged:
        table = probable(one.table, threshold)
        figures = flat(benchmark_row(one.verdict, table, one.photons), precision(one.verdict.emitters))
        deep = {"efficiency_3d": one.verdict.score.efficiency_3d}
        rows.append({**figures, **deep, "condition": one.label, "precision": one.verdict.score.precision})
    return Section(
        "benchmark",
        "Benchmark",
        f"{RULES} {BOUNDS} E = 100 − √((100 − 100·JI)² + RMSE²); threshold {threshold:g}.",
        rows,
        (*show, "over_summed", "rmse_z", "over_summed_z", "efficiency_3d", "sigma_spread", "photon_ratio"),
    )


def _strata_section(by: str, title: str, rows: list[dict[str, Any]]) -> Section:
    units = {
        "photons": "their photons in the frame",
        "snr": "their light over the noise in a spot's 4πσ²",
        "neighbour": "the distance to the nearest other one in the frame [nm]",
        "z": "their height over the focal plane [nm]",
    }[by]
    flat_ones = ("low", "high", "emitters", "recall", "rmse", "over_bound", "over_summed", "sigma_spread")
    shown = (*flat_ones, "rmse_z", "over_bound_z", "over_summed_z", "sigma_spread_z", "photon_ratio")
    note = f"Emitters by {units}; RMSE and bounds, as above, are of those found."
    return Section(f"by_{by}", f"By {title}", note, rows, ("of", *shown))


def _sigma_rows(label: str, emitters: Columns) -> Iterator[dict[str, Any]]:
    """By true photons, by what a user sees of them, and by the sigma itself."""
    if not np.isfinite(emitters["sigma_x"]).any():
        return
    found = chosen(emitters, emitters["found"].astype(bool))
    for by in ("photons", "found_photons", "sigma_x"):
        edges, bins = EDGES[by], np.digitize(found[by], EDGES[by]) - 1
        for index in np.unique(bins).tolist():
            figures = coverage(chosen(found, bins == index))
            if 0 <= index < len(edges) - 1 and figures.pairs >= FEWEST:
                yield flat({"of": label, "by": by, "low": edges[index], "high": edges[index + 1]}, figures)


def _sigma_section(rows: list[dict[str, Any]]) -> Section:
    named = [{"sigma_spread" if name == "spread" else name: value for name, value in row.items()} for row in rows]
    note = (
        "Errors over predicted sigmas, by true photons, by those found, and by the sigma itself [nm]. The spread "
        "should be 1; a normal error lies within one sigma in 0.683, within two in 0.954 of all cases. By true photons "
        "a method that does not know them cannot be right everywhere; by what it says itself it can."
    )
    return Section("sigmas", "Predicted sigmas", note, named)


def _reliability_rows(label: str, members: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    if not all(np.isfinite(one.table["probability"].to_numpy()).all() and one.table.num_rows for one in members):
        return
    answers = [reliability(one.table, one.verdict.trial) for one in members]
    curve = reliability_curve(*(np.concatenate(column) for column in zip(*answers, strict=True)))
    error = calibration_error(curve)
    for part in curve:
        yield flat({"of": label}, part, {"calibration_error": error})


def _reliability_section(rows: list[dict[str, Any]]) -> Section:
    errors = {row["of"]: row["calibration_error"] for row in rows}
    words = ", ".join(f"{label}: {error:.3f}" for label, error in errors.items())
    note = f"How often a localisation of some probability is an emitter. Expected calibration error: {words}."
    shown = ("of", "low", "high", "count", "claimed", "right")
    return Section("reliability", "Probabilities", note, rows, shown)


def _sweep(one: Judged, thresholds: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Figures at each threshold, if the table has probabilities that differ."""
    probability = one.table["probability"].to_numpy()
    if not len(probability) or not np.isfinite(probability).all():
        return
    for threshold in thresholds:
        reached = score(probable(one.table, threshold), one.verdict.trial.truth, RADIUS, PHOTON_FLOOR)
        yield {
            "condition": one.label,
            "threshold": threshold,
            "jaccard": reached.jaccard,
            "rmse": reached.rmse,
            "efficiency": reached.efficiency,
            "precision": reached.precision,
            "recall": reached.recall,
        }


def _sweep_section(rows: list[dict[str, Any]]) -> Section:
    best = [max(part, key=_finite_efficiency) for _, part in groupby(rows, key=lambda row: row["condition"])]
    words = ", ".join(f"{row['condition']} {row['threshold']:.2f} ({row['efficiency']:.1f})" for row in best)
    note = f"The same localisations with another smallest probability. Best efficiency: {words}."
    return Section("thresholds", "Thresholds", note, rows)


def _finite_efficiency(row: dict[str, Any]) -> float:
    value: float = row["efficiency"]
    return -math.inf if math.isnan(value) else value


def _isolated_section(rows: list[dict[str, Any]], plan: EvaluationSettings) -> Section:
    note = (
        f"Emitters with nobody near in space or time, anywhere in a pixel, background {plan.isolated_background:g} "
        f"photons per pixel, fully lit in so many consecutive frames. Bounds as above."
    )
    shown = ("photons", "lit", "emitters", "recall", "rmse", "bound", "summed_bound", "over_bound", "over_summed")
    rest = ("sigma_spread", "within_1", "photon_ratio", "rmse_z", "over_bound_z", "over_summed_z", "sigma_spread_z")
    return Section("isolated", "Isolated emitters", note, rows, (*shown, *rest))


def _bias_section(emitters: Columns, pixel: float) -> Section:
    cells = bias_map(emitters, pixel)
    sizes = [value for cell in cells for value in (cell.bias_x, cell.bias_y) if not math.isnan(value)]
    size = float(np.sqrt(np.mean(np.square(sizes)))) if sizes else math.nan
    chance = bias_noise(emitters, cells)
    note = (
        f"Mean error of isolated emitters of {BRIGHT:g} photons and more by their place within the pixel (x, y from "
        f"its corner). Root mean square of the map {size:.2f} nm; chance alone would give {chance:.2f} nm."
    )
    return Section("bias", "Bias within the pixel", note, [flat(cell) for cell in cells])


def _pairs_section(rows: list[dict[str, Any]], settings: Settings) -> Section:
    note = (
        f"Two emitters of {settings.dataset.photons:g} photons, background {settings.dataset.background:g}, as far "
        "apart as stated, in a frame in which both shine; lit in several frames, one comes on a frame later. Resolved: "
        "each has a localisation of its own, nearer than half their distance."
    )
    return Section("pairs", "Resolving power", note, rows)


def _corrections_section(judged: Sequence[Judged]) -> Section:
    emitters = pooled([one.verdict.emitters for one in judged])
    answers = [reliability(one.table, one.verdict.trial) for one in judged]
    claimed, right = (np.concatenate(column) for column in zip(*answers, strict=True))
    fitted = fit_corrections(emitters, claimed, right)
    note = (
        "The monotone maps that would put sigmas and probabilities right on these data: a sigma s of probability p "
        "becomes scale·s·exp(doubt·(1 − p)), never less; log-odds l become level + slope·(l − knot), another slope "
        "below the knot than above. Nothing to correct: 1, 0, level = knot, 1, 1. Before and after: the sigma spreads "
        "by found photons that are furthest from 1, and the expected calibration error of the probabilities."
    )
    row = {
        **vars(fitted.place),
        **vars(fitted.odds),
        "spread_before": worst_spread(emitters, Corrections()),
        "spread_after": worst_spread(emitters, fitted),
        "calibration_error": calibration_error(reliability_curve(claimed, right)),
        "after_correction": calibration_error(reliability_curve(fitted.probability(claimed), right)),
    }
    return Section("corrections", "What would be corrected", note, [row])


def worst_spread(emitters: Columns, corrections: Corrections) -> float:
    """Of the corrected sigmas' spreads by found photons, the one furthest from 1; NaN without any."""
    found = chosen(emitters, emitters["found"].astype(bool))
    put_right = {name: corrections.sigma(found[name], found["probability"]) for name in ("sigma_x", "sigma_y")}
    spreads = [row["spread"] for row in _sigma_rows("", found | put_right) if row["by"] == "found_photons"]
    return max(spreads, key=lambda value: abs(math.log(value)), default=math.nan)
