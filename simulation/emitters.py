"""The truth of a simulated acquisition, as a table: one row an emitter and frame."""

from __future__ import annotations

import pyarrow as pa

UNITS = {"frame": "1", "emitter": "1", "x": "nm", "y": "nm", "photons": "photon", "z": "nm"}
"""Columns in order, with their units. x, y from the outer corner of pixel (0, 0), z over the focal plane."""

EMITTER_SCHEMA = pa.schema(
    [
        pa.field(name, pa.int64() if unit == "1" else pa.float32(), nullable=False, metadata={"unit": unit})
        for name, unit in UNITS.items()
    ]
)
"""Schema of a truth table. ``photons`` are those that the emitter sends to the detector in that frame."""
