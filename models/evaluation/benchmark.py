"""The benchmark: acquisitions simulated under stated conditions, localised by a model file, scored with the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from acquisition.source import Frames
from config.schema import Settings
from engine.runtimes.runtime import Runtime
from engine.streaming import StreamingLocaliser
from models.evaluation.metrics import match, score
from simulation.dataset import make_simulator
from simulation.simulator import Simulator

PHOTON_FLOOR = 100.0
"""Emitters with fewer photons in a frame are "don't care"."""
BLOCK = 64
"""Frames simulated at once."""


@dataclass(frozen=True)
class BenchmarkRow:
    """What a model reached under one condition."""

    condition: str
    density: float
    """Emitters that the truth counts, per frame [1/µm²]."""
    photons: float
    """Mean in a fully lit frame."""
    frames: int
    jaccard: float
    rmse: float
    """[nm], pairs within 250 nm."""
    efficiency: float
    jaccard_100nm: float
    rmse_100nm: float
    """[nm], pairs within 100 nm."""
    offset_x: float
    """Mean signed error [nm]."""
    offset_y: float
    """[nm]"""
    sigma_spread: float
    """Standard deviation of error / predicted sigma over both axes; 1 where sigmas are right."""
    photon_ratio: float
    """Median of found over true photons."""


def benchmark(runtime: Runtime, conditions: Sequence[Settings]) -> Iterator[BenchmarkRow]:
    """One row a condition. Each is an acquisition with camera, optics, dataset and run.threshold of its settings."""
    for settings in conditions:
        simulator = make_simulator(settings)
        localiser = StreamingLocaliser(runtime, simulator.camera, settings.run.threshold, block=settings.run.block)
        yield compare(localise(simulator, localiser), simulator.emitters(), settings)


def localise(simulator: Simulator, localiser: StreamingLocaliser) -> pa.Table:
    """A whole simulated acquisition through a localiser."""
    batches = []
    for start in range(0, simulator.dataset.frames, BLOCK):
        pixels = simulator.frames(start, min(start + BLOCK, simulator.dataset.frames))
        numbers = np.arange(start, start + len(pixels))
        batches.append(localiser.push(Frames(pixels, numbers, np.full(len(pixels), np.nan))))
    return pa.Table.from_batches([*batches, localiser.flush()])


def compare(table: pa.Table, truth: pa.Table, settings: Settings) -> BenchmarkRow:
    """Score one table under one condition."""
    wide = score(table, truth, 250.0, PHOTON_FLOOR)
    tight = score(table, truth, 100.0, PHOTON_FLOOR)
    pairs = match(table, truth, 250.0, PHOTON_FLOOR)
    found, true = table.take(pairs.found), truth.take(pairs.true)
    error = {axis: _numpy(found, axis) - _numpy(true, axis) for axis in ("x", "y")}
    normal = np.concatenate([error[axis] / _numpy(found, f"sigma_{axis}") for axis in error])
    ratio = _numpy(found, "photons") / _numpy(true, "photons")
    return BenchmarkRow(
        condition=settings.dataset.name,
        density=truth.num_rows / (settings.dataset.frames * _area(settings)),
        photons=settings.dataset.photons,
        frames=settings.dataset.frames,
        jaccard=wide.jaccard,
        rmse=wide.rmse,
        efficiency=wide.efficiency,
        jaccard_100nm=tight.jaccard,
        rmse_100nm=tight.rmse,
        offset_x=float(np.mean(error["x"])) if len(ratio) else np.nan,
        offset_y=float(np.mean(error["y"])) if len(ratio) else np.nan,
        sigma_spread=float(np.std(normal)) if len(ratio) else np.nan,
        photon_ratio=float(np.median(ratio)) if len(ratio) else np.nan,
    )


def as_markdown(rows: Sequence[BenchmarkRow]) -> str:
    """A table for people."""
    titles = ("condition", "emitters/µm²", "JI", "RMSE [nm]", "E", "JI (100 nm)", "RMSE (100 nm)", "sigma spread")
    header = [_line([*titles, "photons found / true"]), _line(["---"] * 9)]
    return "\n".join([*header, *(_line(_cells(row)) for row in rows)])


def _cells(row: BenchmarkRow) -> list[str]:
    wide = [f"{row.jaccard:.3f}", f"{row.rmse:.1f}", f"{row.efficiency:.1f}"]
    tight = [f"{row.jaccard_100nm:.3f}", f"{row.rmse_100nm:.1f}"]
    return [row.condition, f"{row.density:.2g}", *wide, *tight, f"{row.sigma_spread:.2f}", f"{row.photon_ratio:.2f}"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _area(settings: Settings) -> float:
    """Of the field [µm²]."""
    assert settings.camera.pixel_size is not None
    return settings.dataset.height * settings.dataset.width * (settings.camera.pixel_size / 1000) ** 2


def _numpy(table: pa.Table, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return table[column].to_numpy().astype(np.float64)
