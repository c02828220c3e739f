"""Reading, writing and converting tables of localisations; the suffix of a file says its format.

    .csv             ThunderSTORM    engine/output/thunderstorm.py
    .hdf5 .h5        Picasso         engine/output/picasso.py
    .parquet         Parquet         every column and the schema metadata as they are
    .arrows          liveloc's log   engine/output/recorder.py; opens after a crash too

Every other part of liveloc knows nm from the corner and frames from 0; other conventions end here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from config.errors import RecorderFailed, TableError
from engine.output.disk import replacing
from engine.output.picasso import read_picasso, write_picasso
from engine.output.recorder import Recorder, read_log
from engine.output.table import conform, describe_field, metadata_of, with_metadata
from engine.output.thunderstorm import read_thunderstorm, write_thunderstorm


@dataclass(frozen=True)
class Format:
    """How one kind of file is read and written."""

    name: str
    read: Callable[[Path, float | None], pa.Table]
    """(path, pixel size [nm] or None) → table."""
    write: Callable[[pa.Table, Path, Path], None]
    """(table, where to write, the name that it will have)."""


def _read_parquet(path: Path, pixel_size: float | None) -> pa.Table:
    try:
        table = conform(pq.read_table(path), str(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{path} cannot be read as Parquet: {error}.") from error
    return with_metadata(table, describe_field(pixel_size=pixel_size))


def _read_log(path: Path, pixel_size: float | None) -> pa.Table:
    return with_metadata(read_log(path), describe_field(pixel_size=pixel_size))


def _write_log(table: pa.Table, path: Path) -> None:
    try:
        recorder = Recorder(path, metadata_of(table))
        for batch in table.to_batches():
            recorder.write(batch)
        recorder.close()
    except RecorderFailed as error:
        raise TableError(str(error)) from error


PICASSO = Format(
    "Picasso", read_picasso, lambda table, path, name: write_picasso(table, path, name.with_suffix(".yaml"))
)

FORMATS = {
    ".csv": Format("ThunderSTORM", read_thunderstorm, lambda table, path, _: write_thunderstorm(table, path)),
    ".hdf5": PICASSO,
    ".h5": PICASSO,
    ".parquet": Format(
        "Parquet", _read_parquet, lambda table, path, _: pq.write_table(table, path, compression="zstd")
    ),
    ".arrows": Format("log", _read_log, lambda table, path, _: _write_log(table, path)),
}
"""Suffix → format."""


def read_table(path: Path, pixel_size: float | None = None) -> pa.Table:
    """Read localisations (LOCALISATION_SCHEMA, with what the file says of the recording as schema metadata).

    ``pixel_size`` [nm] serves where the file does not tell it, and overrules the file where it does.
    Raises TableError for a missing file, an unknown suffix, and columns or units that are not as they must be.
    """
    kind = format_of(path)
    if not path.is_file():
        raise TableError(f"there is no file {path}. Check the name.")
    return kind.read(path, pixel_size)


def write_table(table: pa.Table, path: Path) -> None:
    """Write localisations (LOCALISATION_SCHEMA); an older file of that name is replaced once the new one is whole.

    Raises TableError for an unknown suffix, for metadata that the format needs, and where the disk refuses.
    """
    kind, whole = format_of(path), conform(table, "the table")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            kind.write(whole, temporary, path)
    except OSError as error:
        raise TableError(f"{path} cannot be written: {error.strerror or error}. Choose another place.") from error


def format_of(path: Path) -> Format:
    """The format that a file's suffix says. Raises TableError with those that there are."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise TableError(
            f"{path.name} has the suffix {path.suffix!r}, which is no table format. "
            "Use .csv (ThunderSTORM), .hdf5 (Picasso), .parquet or .arrows (log)."
        )
    return kind


def convert(
    source: Path,
    destination: Path,
    pixel_size: float | None = None,
    width: int | None = None,
    height: int | None = None,
    psf_sigma: float | None = None,
) -> pa.Table:
    """Read ``source`` and write it as ``destination``; give what the source does not tell. Returns the table.

    pixel_size and psf_sigma in nm, width and height in camera pixels. Raises TableError.
    """
    given = describe_field(pixel_size=pixel_size, width=width, height=height, psf_sigma=psf_sigma)
    table = with_metadata(read_table(source, pixel_size), given)
    write_table(table, destination)
    return table
