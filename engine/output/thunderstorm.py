"""ThunderSTORM's CSV: nanometres from the corner, as here; frames count from 1, there and only there.

Written are ThunderSTORM's own columns first, then four of ours that it and other readers carry along as plain numbers:

    id, frame, x [nm], y [nm], (z [nm]), (sigma [nm]), intensity [photon], offset [photon], uncertainty_xy [nm],
    (uncertainty_z [nm]), uncertainty_x [nm], uncertainty_y [nm], uncertainty_photon [photon], probability

- ``uncertainty_xy`` is the root mean square of our sigma_x and sigma_y, ``offset`` our background per pixel.
- ``sigma`` is the width of the point-spread function. liveloc does not fit it: it is written where the optics are known
  (metadata ``psf_sigma_nm``) and left out where they are not. Picasso's importer needs it.
- ``bkgstd`` and ``chi2`` are never written, as liveloc does not measure them.
- A column of which nothing is known (all NaN) is left out.

Numbers are written with the shortest text that gives back the same float32, so a round trip changes nothing.
"""

from __future__ import annotations

import csv
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray

from config.errors import TableError
from engine.output.table import (
    PSF_SIGMA,
    describe_field,
    has_depth,
    known,
    numpy_column,
    require_columns,
    table_from_columns,
)

logger = logging.getLogger(__name__)

NANOMETRES = {"nm": 1.0, "um": 1e3, "\u00b5m": 1e3, "\u03bcm": 1e3}
"""Length units that ThunderSTORM offers, in nm (some write Greek mu for micro). ``px`` needs the pixel size."""

SOURCES = {
    "frame": ("frame",),
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
    "photons": ("intensity",),
    "background": ("offset",),
    "sigma_x": ("uncertainty_x", "uncertainty_xy", "uncertainty"),
    "sigma_y": ("uncertainty_y", "uncertainty_xy", "uncertainty"),
    "sigma_z": ("uncertainty_z",),
    "sigma_photons": ("uncertainty_photon",),
    "probability": ("probability",),
}
"""Our columns, and the ThunderSTORM quantities that fill them, the best first."""

LENGTHS = {"x", "y", "z", "sigma_x", "sigma_y", "sigma_z"}
COUNTS = {"photons", "background", "sigma_photons"}


def write_thunderstorm(table: pa.Table, path: Path) -> None:
    """Write a table of localisations as ThunderSTORM CSV. Raises OSError."""
    arrow_csv.write_csv(_thunderstorm_table(table), path)


def _thunderstorm_table(table: pa.Table) -> pa.Table:
    """The columns of the file, in their order."""
    deep, psf_sigma = has_depth(table), known(table, PSF_SIGMA)
    columns: dict[str, NDArray[Any] | None] = {
        "id": np.arange(1, table.num_rows + 1),
        "frame": numpy_column(table, "frame") + 1,
        "x [nm]": numpy_column(table, "x"),
        "y [nm]": numpy_column(table, "y"),
        "z [nm]": numpy_column(table, "z") if deep else None,
        "sigma [nm]": None if deep or psf_sigma is None else np.full(table.num_rows, psf_sigma, np.float32),
        "intensity [photon]": _known_part(table, "photons"),
        "offset [photon]": _known_part(table, "background"),
        "uncertainty_xy [nm]": _lateral_uncertainty(table),
        "uncertainty_z [nm]": numpy_column(table, "sigma_z") if deep else None,
        "uncertainty_x [nm]": _known_part(table, "sigma_x"),
        "uncertainty_y [nm]": _known_part(table, "sigma_y"),
        "uncertainty_photon [photon]": _known_part(table, "sigma_photons"),
        "probability": _known_part(table, "probability"),
    }
    return pa.table({name: pa.array(values) for name, values in columns.items() if values is not None})


def _known_part(table: pa.Table, column: str) -> NDArray[Any] | None:
    """The column, or None where nothing of it is known."""
    values = numpy_column(table, column)
    return None if len(values) and np.isnan(values).all() else values


def _lateral_uncertainty(table: pa.Table) -> NDArray[np.float32] | None:
    sigma_x, sigma_y = _known_part(table, "sigma_x"), _known_part(table, "sigma_y")
    if sigma_x is None or sigma_y is None:
        return None
    mean: NDArray[np.float32] = np.sqrt((sigma_x**2 + sigma_y**2) / 2).astype(np.float32)
    return mean


def read_thunderstorm(path: Path, pixel_size: float | None = None) -> pa.Table:
    """Read a ThunderSTORM CSV, old headers and new, 2-D and 3-D.

    ``pixel_size`` [nm] is needed only where the file's lengths are in ``px``. A ``sigma`` column goes into the metadata
    if it is the same in every row; fitted widths have no column here and are left.
    Raises TableError, naming the column, for missing columns, unknown units, text among numbers and frames below 1.
    """
    header = _header(path)
    chosen = _choose_columns(header, path)
    sigma = next((name for name in header if _quantity(name)[0] == "sigma"), None)
    raw = _read_numbers(path, {*chosen.values(), *([sigma] if sigma else [])})
    columns: dict[str, NDArray[Any]] = {
        ours: numpy_column(raw, theirs) * _factor(ours, theirs, pixel_size, path) for ours, theirs in chosen.items()
    }
    columns["frame"] = _from_one(columns["frame"], path)
    facts = {} if sigma is None else _constant_sigma(numpy_column(raw, sigma), _factor("x", sigma, pixel_size, path))
    return table_from_columns(columns, facts | describe_field(pixel_size=pixel_size))


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = next(csv.reader(file), [])
    if not header:
        raise TableError(f"{path} is empty. Expected a ThunderSTORM table with a header line.")
    return header


def _quantity(name: str) -> tuple[str, str]:
    """``x [nm]`` → (``x``, ``nm``); a name without a unit has an empty one."""
    match = re.fullmatch(r"\s*(.*?)\s*(?:\[(.*)\])?\s*", name)
    return (match[1], match[2] or "") if match else (name, "")


def _choose_columns(header: list[str], path: Path) -> dict[str, str]:
    """Our column → the file's, the best of those that it has."""
    quantities = {_quantity(name)[0]: name for name in header}
    if not {"frame", "x", "y"} <= quantities.keys():
        require_columns(header, ["frame", "x [nm]", "y [nm]"], str(path))
    best = {ours: next((name for name in theirs if name in quantities), "") for ours, theirs in SOURCES.items()}
    return {ours: quantities[name] for ours, name in best.items() if name}


def _factor(ours: str, theirs: str, pixel_size: float | None, path: Path) -> float:
    """What the file's number is multiplied by to be in our unit. Raises TableError for a unit that cannot be turned."""
    unit = _quantity(theirs)[1]
    if ours in LENGTHS:
        return _length_factor(theirs, unit, pixel_size, path)
    if ours in COUNTS and unit not in ("photon", "photons"):
        raise TableError(
            f"{path}: column {theirs!r} must be in [photon], found [{unit}]. "
            "Set the camera in ThunderSTORM's camera setup and export again."
        )
    return 1.0


def _length_factor(theirs: str, unit: str, pixel_size: float | None, path: Path) -> float:
    if unit == "px" and pixel_size is not None:
        return pixel_size
    if unit == "px":
        raise TableError(f"{path}: column {theirs!r} is in camera pixels. Give their size in nm (--pixel-size).")
    if unit not in NANOMETRES:
        raise TableError(f"{path}: column {theirs!r} must be in [nm], [um] or [px], found [{unit}]. Export it in nm.")
    return NANOMETRES[unit]


def _read_numbers(path: Path, columns: set[str]) -> pa.Table:
    options = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.float64()),
        include_columns=sorted(columns),
        null_values=["", "NaN", "nan"],
    )
    try:
        return arrow_csv.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise TableError(f"{path}: a column of {sorted(columns)} cannot be read as numbers: {error}.") from error


def _from_one(frames: NDArray[np.float64], path: Path) -> NDArray[np.int64]:
    """Frame numbers that count from 0. Raises TableError where they are not whole or do not count from 1."""
    if not np.array_equal(frames, np.floor(frames)):
        raise TableError(f"{path}: column 'frame' must hold whole numbers and has others or gaps. Repair that column.")
    if len(frames) and frames.min() < 1:
        raise TableError(
            f"{path}: column 'frame' counts from 1 in ThunderSTORM's tables, found {frames.min():g}. Picasso exports "
            "such tables, counted from 0 and half a pixel off: convert Picasso's .hdf5 instead, or add 1 to each frame."
        )
    return frames.astype(np.int64) - 1


def _constant_sigma(values: NDArray[np.float64], factor: float) -> dict[str, str]:
    """The width of the point-spread function, where the file gives every row the same."""
    if not len(values):
        return {}
    if np.ptp(values) == 0:
        return {PSF_SIGMA: f"{values[0] * factor:g}"}
    logger.info("fitted widths (column 'sigma') have no place in a table of localisations and were left out")
    return {}
