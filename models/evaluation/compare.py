"""Any tables side by side on the same truth: ours, a rival's, another setting's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from acquisition.camera import Camera
from config.errors import SettingsError, TableError
from config.schema import Settings
from engine.output.formats import read_table
from engine.output.image import field_size
from engine.output.table import require_columns
from models.evaluation.assessment import Judged, sections_of
from models.evaluation.benchmark import field_area
from models.evaluation.crlb import Detector
from models.evaluation.sections import Section
from models.evaluation.trial import Optics, Trial, widths_of

IN_A_RUN = ("localisations.arrows", "localisations.parquet", "localisations.hdf5", "localisations.csv")
"""What holds the localisations of a run folder, the best first."""
TRUTH = "emitters.parquet"
"""What holds the truth of a simulated data set."""
NEEDED = ("frame", "x", "y", "photons")
"""Columns that a truth must have."""


def compare_tables(truth: Path, tables: Sequence[Path], settings: Settings) -> list[Section]:
    """All sections of tables judged on one truth; the tables' names are those of their files or run folders.

    ``truth``: a folder that `liveloc simulate` wrote, or a table. ``settings`` gives the rules, and, where the truth
    does not come with its own, the camera and the optics for the bounds. Raises TableError, SettingsError.
    """
    known = settings_of(truth, settings)
    trial = trial_from(truth, known)
    photons = known.dataset.photons if known is not settings else float("nan")
    judged = [
        Judged.of(name, _in_frames(read_any(path, known.camera.pixel_size), trial), trial, photons, known.run.threshold)
        for name, path in zip(names_of(tables), tables, strict=True)
    ]
    return list(sections_of(judged, known.run.threshold, known.evaluation, together=False))


def names_of(paths: Sequence[Path]) -> list[str]:
    """Short names: the last part of each path, with as much before it as tells them apart."""
    parts = [path.resolve().with_suffix("").parts if path.is_file() else path.resolve().parts for path in paths]
    for length in range(1, max((len(part) for part in parts), default=0) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def read_any(path: Path, pixel_size: float | None = None) -> pa.Table:
    """A table file of any format, or the localisations of a run folder. ``pixel_size`` [nm]. Raises TableError."""
    if not path.is_dir():
        return read_table(path, pixel_size)
    for name in IN_A_RUN:
        if (path / name).is_file():
            return read_table(path / name, pixel_size)
    raise TableError(
        f"{path} holds no localisations: expected one of {', '.join(IN_A_RUN)}. Give a run folder or a table."
    )


def settings_of(truth: Path, given: Settings) -> Settings:
    """Camera, optics and data set that the truth was simulated with, else the ``given`` ones. Raises SettingsError."""
    path = (truth if truth.is_dir() else truth.parent) / "settings.yaml"
    if not path.is_file():
        return given
    try:
        kept = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Settings), OmegaConf.load(path)))
    except (OmegaConfBaseException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"{path} cannot be read as settings: {reason}. Simulate the data set again.") from error
    assert isinstance(kept, Settings)
    return replace(given, camera=kept.camera, optics=kept.optics, dataset=kept.dataset)


def trial_from(path: Path, settings: Settings) -> Trial:
    """The truth with what is known of its microscope. Raises TableError."""
    truth = read_truth(path, settings.camera.pixel_size)
    simulated = (path if path.is_dir() else path.parent).joinpath("settings.yaml").is_file()
    if simulated:
        frames, area = settings.dataset.frames, field_area(settings)
    else:
        last = truth["frame"].to_numpy().max(initial=-1)
        width, height = field_size(truth)
        frames, area = int(last) + 1, max(width * height / 1e6, 1e-6)
    context = settings.network.past, settings.network.future
    return Trial(truth_name(path), truth, max(frames, 1), area, _optics(settings, simulated), context)


def truth_name(path: Path) -> str:
    """For people."""
    return path.resolve().name if path.is_dir() else path.stem


def read_truth(path: Path, pixel_size: float | None = None) -> pa.Table:
    """A truth: frame, x, y [nm], photons at least. Raises TableError."""
    file = path / TRUTH if path.is_dir() else path
    if file.suffix.lower() != ".parquet" or not file.is_file():
        return read_table(file, pixel_size)
    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{file} cannot be read as Parquet: {error}.") from error
    require_columns(table.column_names, NEEDED, str(file))
    return _with_background(table, file.with_suffix(".csv")) if path.is_dir() else table


def _with_background(truth: pa.Table, beside: Path) -> pa.Table:
    """The truth with each emitter's own background, which a simulated data set tells in its table of the same rows."""
    if not beside.is_file() or (table := read_table(beside)).num_rows != truth.num_rows:
        return truth
    return truth.append_column("background", table["background"])


def _optics(settings: Settings, simulated: bool) -> Optics | None:
    """None where the camera or the PSF's width is not known: the tables are then scored without bounds."""
    known = (settings.camera.em_gain, settings.camera.quantum_efficiency, settings.camera.pixel_size)
    widths = None if None in known else widths_of(settings.optics, settings.camera.pixel_size or math.nan)
    if widths is None:
        return None
    shape = (settings.dataset.height, settings.dataset.width)
    camera = Camera.from_settings(settings.camera, {}, shape, (0, 0))
    return Optics(Detector.of(camera), widths, settings.dataset.background, shape if simulated else None)


def _in_frames(table: pa.Table, trial: Trial) -> pa.Table:
    """Without rows of frames that the truth does not cover. Raises TableError where none is left of many."""
    frame: np.ndarray[Any, np.dtype[np.int64]] = table["frame"].to_numpy()
    inside = (frame >= 0) & (frame < trial.frames)
    if len(frame) and not inside.any():
        raise TableError(
            f"no localisation lies in the truth's frames 0 to {trial.frames - 1}; the table's begin at {frame.min()}. "
            "Compare a table with the truth of the same frames."
        )
    return table.filter(pa.array(inside))
