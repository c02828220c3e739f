"""Tables of localisations: building one from columns, and what its schema metadata says of the recording.

A log or a Parquet file alone must suffice to render or convert it, so the facts that its rows do not hold travel in the
Arrow schema metadata, as text, under the keys below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from config.errors import TableError
from engine.localisations import LOCALISATION_SCHEMA

RUN_ID = "run_id"
"""The run that made the table."""
PIXEL_SIZE = "pixel_size_nm"
"""Width of a camera pixel in the sample [nm]."""
WIDTH = "width_px"
"""Columns of the recorded frame [pixels]."""
HEIGHT = "height_px"
"""Rows of the recorded frame [pixels]."""
FRAMES = "frames"
"""Frames of the recording."""
PSF_SIGMA = "psf_sigma_nm"
"""Standard deviation of the Gaussian point-spread function [nm], where it is known."""


def describe_field(
    run_id: str | None = None,
    pixel_size: float | None = None,
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
    psf_sigma: float | None = None,
) -> dict[str, str]:
    """Schema metadata that says what is known; None is left out. Units as at the keys above."""
    facts: dict[str, object] = {
        RUN_ID: run_id,
        PIXEL_SIZE: pixel_size,
        WIDTH: width,
        HEIGHT: height,
        FRAMES: frames,
        PSF_SIGMA: psf_sigma,
    }
    return {key: str(value) for key, value in facts.items() if value is not None}


def metadata_of(table: pa.Table) -> dict[str, str]:
    """The schema metadata as text; Arrow keeps it as bytes."""
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}


def with_metadata(table: pa.Table, facts: Mapping[str, str]) -> pa.Table:
    """The same table, with ``facts`` added to its metadata or put in place of what it said before."""
    return table.replace_schema_metadata({**metadata_of(table), **facts})


def known(table: pa.Table, key: str) -> float | None:
    """The number that the metadata gives for ``key``, None where it gives none. Raises TableError for a non-number."""
    text = metadata_of(table).get(key)
    try:
        return None if text is None else float(text)
    except ValueError as error:
        raise TableError(f"the table's metadata says {key} is {text!r}, which is no number. Give it anew.") from error


def required(table: pa.Table, key: str, purpose: str, remedy: str) -> float:
    """The positive number for ``key``. Raises TableError that names the purpose and what to do."""
    value = known(table, key)
    if value is None or not value > 0:
        found = "nothing" if value is None else f"{value:g}"
        raise TableError(f"{purpose} needs {key} in the table's metadata, which says {found}. {remedy}")
    return value


def table_from_columns(columns: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> pa.Table:
    """A table with LOCALISATION_SCHEMA from columns of one length, in the schema's units.

    What a format does not tell is NaN, and null for z and sigma_z: it is not known, which is not nought.
    """
    rows = len(columns["frame"])
    arrays = [_column(field, columns.get(field.name), rows) for field in LOCALISATION_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=LOCALISATION_SCHEMA.with_metadata(dict(metadata)))


def _column(field: pa.Field[Any], values: NDArray[Any] | None, rows: int) -> pa.Array[Any]:
    filled = np.full(rows, np.nan) if values is None else values
    unknown = np.ones(rows, bool) if values is None and field.nullable else None
    array: pa.Array[Any] = pa.array(filled.astype(field.type.to_pandas_dtype()), field.type, mask=unknown)
    return array


def conform(table: pa.Table, name: str) -> pa.Table:
    """The table with exactly the columns and types of LOCALISATION_SCHEMA, its metadata kept.

    Raises TableError, naming the column, where one is missing or of a type that cannot be cast.
    """
    require_columns(table.column_names, LOCALISATION_SCHEMA.names, name)
    try:
        plain = table.select(LOCALISATION_SCHEMA.names).cast(LOCALISATION_SCHEMA.remove_metadata())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise TableError(f"{name}: a column is not of the type that liveloc writes: {error}.") from error
    schema = LOCALISATION_SCHEMA.with_metadata(table.schema.metadata)
    return pa.Table.from_arrays(plain.columns, schema=schema)


def require_columns(found: Iterable[str], expected: Iterable[str], name: str) -> None:
    """Raise TableError that names the first missing column, all that are expected and all that are there."""
    there, wanted = list(found), list(expected)
    missing = [column for column in wanted if column not in there]
    if missing:
        raise TableError(
            f"{name} has no column {missing[0]!r}. Expected {', '.join(wanted)}; found {', '.join(there) or 'none'}."
        )


def numpy_column(table: pa.Table, column: str) -> NDArray[Any]:
    """A column as numpy; null becomes NaN."""
    values: NDArray[Any] = table.column(column).to_numpy()
    return values


def has_depth(table: pa.Table) -> bool:
    """Whether any row has a z."""
    return table.num_rows > 0 and table.column("z").null_count < table.num_rows
