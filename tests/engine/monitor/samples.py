"""Localisations of known truth, and what a monitor needs to know of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from acquisition.camera import Camera
from acquisition.source import Frames, Pixels, SourceDescription
from engine.localisations import LOCALISATION_SCHEMA
from engine.monitor.windows import Seen
from engine.runtimes.model_file import ModelDescription

CAMERA = Camera("test", 100.0, 1.0, 1.0, 1.0, 100.0)
MODEL = ModelDescription(
    name="test", version="1", context=(2, 2), state_shape=(8, 2), psf_sigma=(0.8, 1.8), photons=(100.0, 5000.0),
    background=(1.0, 200.0), density=(0.0, 0.04), cameras=("emccd", "scmos"),
)  # fmt: skip


def source(height: int = 40, width: int = 60, exposure: float | None = 10.0) -> SourceDescription:
    return SourceDescription("test", height, width, np.dtype(np.uint16), None, exposure)


def frames(first: int, count: int, height: int = 40, width: int = 60, times: float = np.nan) -> Frames:
    """``times``: seconds between frames, NaN for a source that does not know."""
    numbers = np.arange(first, first + count)
    pixels = np.full((count, height, width), 100, np.uint16)
    return Frames(pixels, numbers, (numbers.astype(np.float64) + 1) * times)


def seen(
    numbers: NDArray[np.int64], interval: float, rows: pa.RecordBatch, pictures: dict[int, Pixels] | None = None
) -> Seen:
    """Frames that came every ``interval`` seconds, and the rows that were decided with them."""
    return Seen(numbers, numbers.astype(np.float64) * interval, rows, pictures or {})


def batch(columns: Mapping[str, NDArray[Any]]) -> pa.RecordBatch:
    """Rows with these columns; the others are 0, and null for z."""
    rows = len(columns["frame"])
    arrays = [
        pa.nulls(rows, item.type) if item.nullable else pa.array(columns.get(item.name, np.zeros(rows))).cast(item.type)
        for item in LOCALISATION_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=LOCALISATION_SCHEMA)


def even_rows(numbers: NDArray[np.int64], per_frame: int, seed: int = 0) -> pa.RecordBatch:
    """``per_frame`` localisations in each frame, anywhere in a field of 6 by 4 µm; photons 1000, precision 12 nm."""
    random = np.random.default_rng(seed)
    count = len(numbers) * per_frame
    columns = {"photons": 1000.0, "background": 20.0, "sigma_x": 10.0, "sigma_y": 14.0}
    return batch(
        {
            "frame": np.repeat(numbers, per_frame),
            "x": random.uniform(0, 6000, count),
            "y": random.uniform(0, 4000, count),
            **{name: np.full(count, value) for name, value in columns.items()},
        }
    )


def on_lines(count: int, size: float, random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places on twelve lines that cross a field of ``size`` [nm], always the same ones."""
    shape = np.random.default_rng(6)
    angle, place = shape.random(12) * np.pi, shape.random((2, 12)) * size
    line, along = random.integers(0, 12, count), random.uniform(-0.6, 0.6, count) * size
    x, y = place[0, line] + along * np.cos(angle[line]), place[1, line] + along * np.sin(angle[line])
    inside = (x > 0) & (x < size) & (y > 0) & (y < size)
    return x[inside], y[inside]
