"""The localisation table: one Arrow schema from the network to the last file."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

UNITS = {
    "frame": "1",
    "x": "nm",
    "y": "nm",
    "z": "nm",
    "photons": "photon",
    "background": "photon/pixel",
    "sigma_x": "nm",
    "sigma_y": "nm",
    "sigma_z": "nm",
    "sigma_photons": "photon",
    "probability": "1",
}
"""Columns in order, with their units. x, y from the outer corner of pixel (0, 0) of the recorded frame."""

LOCALISATION_SCHEMA = pa.schema(
    [
        pa.field(name, pa.int64() if name == "frame" else pa.float32(), name in ("z", "sigma_z"), {"unit": unit})
        for name, unit in UNITS.items()
    ]
)
"""Schema of every table of localisations. z and sigma_z are null for a 2-D model."""


def empty_batch() -> pa.RecordBatch:
    """A batch with no rows."""
    return pa.RecordBatch.from_pylist([], LOCALISATION_SCHEMA)


def joined_batches(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """All rows in one batch, in order."""
    full = [batch for batch in batches if batch.num_rows]
    if len(full) < 2:
        return full[0] if full else empty_batch()
    return pa.Table.from_batches(full).combine_chunks().to_batches()[0]
