from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.output.table import describe_field, table_from_columns

MakeTable = Callable[..., pa.Table]


@pytest.fixture(scope="session")
def make_table() -> MakeTable:
    """A table of ``rows`` seeded localisations on 64 by 48 pixels of 100 nm, 2-D unless ``deep``."""

    def make(rows: int = 50, deep: bool = False, seed: int = 0, first_frame: int = 0) -> pa.Table:
        random = np.random.default_rng(seed)
        columns = {
            "frame": first_frame + np.arange(rows) // 3,
            "x": random.uniform(0, 6400, rows),
            "y": random.uniform(0, 4800, rows),
            "photons": random.gamma(4, 250, rows),
            "background": random.uniform(1, 50, rows),
            "sigma_x": random.uniform(5, 40, rows),
            "sigma_y": random.uniform(5, 40, rows),
            "sigma_photons": random.uniform(10, 90, rows),
            "probability": random.uniform(0.5, 1, rows),
        }
        if deep:
            columns |= {"z": random.uniform(-500, 500, rows), "sigma_z": random.uniform(20, 90, rows)}
        return table_from_columns(columns, describe_field("run", 100.0, 64, 48, rows, 135.0))

    return make


@pytest.fixture(scope="session")
def make_batch(make_table: MakeTable) -> Callable[..., pa.RecordBatch]:
    """The same as one batch, as the engine hands it out."""

    def make(rows: int = 50, first_frame: int = 0) -> pa.RecordBatch:
        (batch,) = make_table(rows, seed=first_frame, first_frame=first_frame).to_batches()
        return batch.replace_schema_metadata(None)

    return make


@pytest.fixture(scope="session")
def tables(pytestconfig: pytest.Config) -> Path:
    """The folder of real localisation tables."""
    folder = pytestconfig.rootpath / ".." / "shared" / "data" / "tables"
    if not folder.is_dir():
        pytest.skip("the real localisation tables (../shared/data/tables) are not on this machine")
    return folder
