"""Localisations of real data, where nobody knows the truth: statistics, resolution, and whether the sigmas hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.spatial import KDTree

from config.schema import Settings
from engine.monitor.frc import FrcCurve, RingCorrelation
from engine.output.image import field_size, fitting_pixel, render, write_png
from models.evaluation.compare import names_of, read_any
from models.evaluation.report import write_report
from models.evaluation.sections import Section
from models.evaluation.trial import column

Floats: TypeAlias = NDArray[np.float64]

NEAR = 200.0
"""Localisations of consecutive frames are looked at up to this far from each other [nm]."""
FEWEST = 200
"""Of them, for an estimate."""
SHOWN = ("photons", "background", "sigma_x", "sigma_y", "sigma_z", "probability", "z")
"""Columns whose medians are told, where they are known."""


@dataclass(frozen=True)
class Inspection:
    """Figures of one table; None is what cannot be told."""

    table: str
    localisations: int
    frames: int
    """From the first with a localisation to the last."""
    a_frame: float
    """Localisations a frame."""
    density: float
    """[1/µm²] a frame."""
    medians: dict[str, float]
    """By column, where it is known."""
    frc: float | None
    """Resolution [nm]."""
    repeat_precision: float | None
    """Precision on one axis from molecules seen in consecutive frames [nm]."""


def inspect_table(name: str, table: pa.Table, block: int) -> Inspection:
    """Figures of a table; FRC halves are of ``block`` frames in turn."""
    frame = table["frame"].to_numpy()
    frames = int(np.ptp(frame)) + 1 if len(frame) else 0
    width, height = field_size(table)
    curve = frc_curve(table, block)
    return Inspection(
        table=name,
        localisations=len(frame),
        frames=frames,
        a_frame=len(frame) / frames if frames else math.nan,
        density=len(frame) / (frames * width * height / 1e6) if frames else math.nan,
        medians={key: value for key in SHOWN if not math.isnan(value := _median(column(table, key)))},
        frc=None if curve is None else curve.resolution(),
        repeat_precision=repeat_precision(table),
    )


def frc_curve(table: pa.Table, block: int) -> FrcCurve | None:
    """Fourier ring correlation of two halves; None with too little data."""
    if not table.num_rows:
        return None
    correlation = RingCorrelation(*field_size(table), block=block)
    correlation.add(table["frame"].to_numpy(), column(table, "x"), column(table, "y"))
    return correlation.curve()


def repeat_precision(table: pa.Table) -> float | None:
    """Standard deviation on one axis [nm], from nearest neighbours in consecutive frames.

    A molecule that shines in both is found twice, √2 deviations apart on each axis; strangers add a distance that grows
    linearly (Endesfelder et al. 2014, Histochem. Cell Biol. 141:629, eq. 5, without its middle term). None with fewer
    than FEWEST, or where molecules do not last.
    """
    distance = _repeats(table)
    if len(distance) < FEWEST:
        return None
    counts, edges = np.histogram(distance, 50, (0, NEAR))
    middle = (edges[1:] + edges[:-1]) / 2
    density = counts / counts.sum() / (edges[1] - edges[0])
    start = [max(2.0, float(np.median(distance)) / 2), 0.8, 0.2]
    try:
        fitted = curve_fit(_repeat_density, middle, density, start, bounds=([0.5, 0, 0], [NEAR, 1, 1]))[0]
    except (RuntimeError, OptimizeWarning):
        return None
    return float(fitted[0]) if fitted[1] > 0.05 else None


def _repeat_density(distance: Floats, sigma: float, same: float, others: float) -> Floats:
    """Of nearest distances d: the same molecule, d/(2σ²)·exp(−d²/4σ²), and strangers, ∝ d up to NEAR."""
    own = distance / (2 * sigma**2) * np.exp(-(distance**2) / (4 * sigma**2))
    return same * own + others * 2 * distance / NEAR**2


def _repeats(table: pa.Table) -> Floats:
    """Distance of each localisation's nearest one in the next frame (M,) [nm], where nearer than NEAR."""
    x, y, frame = (column(table, name) for name in ("x", "y", "frame"))
    if len(x) < 2:
        return np.empty(0)
    apart = 4 * NEAR
    later = KDTree(np.stack([x, y, (frame - 1) * apart], 1))
    distance = np.asarray(later.query(np.stack([x, y, frame * apart], 1), distance_upper_bound=NEAR)[0], np.float64)
    return distance[np.isfinite(distance)]


def inspect_files(paths: Sequence[Path], settings: Settings, command: str) -> Section:
    """What is told of each table or run folder; with evaluation.output everything is written there.

    Raises TableError, RunError.
    """
    pixel, block = settings.camera.pixel_size, settings.monitor.frc_block
    tables = [(name, read_any(path, pixel)) for name, path in zip(names_of(paths), paths, strict=True)]
    section = statistics(tables, block)
    if settings.evaluation.output is not None:
        folder = Path(settings.evaluation.output)
        write_report([section], {"command": command}, "Localisations", folder)
        write_pictures(tables, block, settings.run.image_pixel, folder)
    return section


def statistics(tables: Sequence[tuple[str, pa.Table]], block: int) -> Section:
    """What is told of each table, a row each."""
    note = (
        "Medians over all localisations; lengths in nm. FRC: resolution of the picture, from halves of "
        f"{block} frames in turn. Repeats: precision on one axis from molecules seen in consecutive frames, to compare "
        "with sigma_x and sigma_y. – : cannot be told from these data."
    )
    return Section("statistics", "Localisations", note, [_row(inspect_table(*one, block)) for one in tables])


def _row(one: Inspection) -> dict[str, Any]:
    return {
        "of": one.table,
        "localisations": one.localisations,
        "frame span": one.frames,
        "a frame": one.a_frame,
        "density [1/µm²]": one.density,
        **{name: one.medians.get(name, math.nan) for name in SHOWN},
        "FRC [nm]": one.frc,
        "repeats [nm]": one.repeat_precision,
    }


def write_pictures(tables: Sequence[tuple[str, pa.Table]], block: int, pixel: float, folder: Path) -> None:
    """Of each table a picture (PNG, ``pixel`` nm) and its distributions (PNG and SVG). Raises TableError, OSError."""
    from models.evaluation.figures import write_distributions

    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables:
        stem = name.replace("/", "_")
        fitting = fitting_pixel(table, pixel)
        write_png(folder / f"{stem}.png", render(table, fitting), fitting)
        curve = frc_curve(table, block)
        columns = {key: column(table, key) for key in ("frame", "photons", "background", "sigma_x", "probability")}
        rings = None if curve is None else (curve.frequency, curve.correlation)
        write_distributions(columns, rings, folder / f"{stem}_distributions")


def _median(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan
