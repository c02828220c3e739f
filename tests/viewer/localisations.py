"""Localisations of known places for the viewer's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from engine.output.table import table_from_columns
from viewer.points import PointStore


def batch_of(x: Any, y: Any, **columns: Any) -> pa.RecordBatch:
    """A batch; columns that are not given are 10 nm, 1000 photons, probability 0.9 and frame 0, without depth."""
    rows = len(x)
    filled: dict[str, Any] = {
        "frame": 0, "photons": 1000.0, "background": 5.0, "sigma_x": 10.0, "sigma_y": 10.0,
        "sigma_photons": 50.0, "probability": 0.9, **columns, "x": x, "y": y,
    }  # fmt: skip
    arrays = {name: np.broadcast_to(np.asarray(values), rows).copy() for name, values in filled.items()}
    return table_from_columns(arrays, {}).combine_chunks().to_batches()[0]


def scattered(rows: int, seed: int = 0, field: float = 10_000.0, deep: bool = True) -> pa.RecordBatch:
    """Localisations all over a square field [nm] with every column at random, frames in order."""
    rng = np.random.default_rng(seed)
    return batch_of(
        rng.uniform(0, field, rows),
        rng.uniform(0, field, rows),
        frame=np.sort(rng.integers(0, 1 + rows // 50, rows)),
        photons=rng.lognormal(7, 0.5, rows),
        background=rng.uniform(1, 20, rows),
        sigma_x=rng.uniform(5, 20, rows),
        sigma_y=rng.uniform(5, 20, rows),
        probability=rng.beta(5, 1, rows),
        **({"z": rng.normal(0, 300, rows), "sigma_z": rng.uniform(10, 60, rows)} if deep else {}),
    )


def store_of(*batches: pa.RecordBatch) -> PointStore:
    """A store that holds them."""
    store = PointStore()
    for batch in batches:
        store.append(batch)
    return store
