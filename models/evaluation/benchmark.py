"""The benchmark: acquisitions simulated under stated conditions, localised by a model file, scored with the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from acquisition.camera import Camera
from acquisition.source import Frames
from config.schema import DatasetSettings, Settings
from engine.runtimes.runtime import Runtime
from engine.streaming import StreamingLocaliser
from models.evaluation.crlb import Detector
from models.evaluation.metrics import score
from models.evaluation.strata import spread
from models.evaluation.trial import PHOTON_FLOOR, TIGHT, Optics, Trial, widths_of
from models.evaluation.verdict import Verdict, axes_of, chosen, judge
from simulation.dataset import make_simulator

BLOCK = 64
"""Frames simulated at once."""


class Movie(Protocol):
    """What can be localised without a file: a Simulator, or a planned scene."""

    @property
    def dataset(self) -> DatasetSettings:
        """How many frames there are, and how large."""
        ...

    @property
    def camera(self) -> Camera:
        """Its calibration."""
        ...

    def frames(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Camera frames (T, H, W) [ADU]."""
        ...

    def emitters(self) -> pa.Table:
        """The truth."""
        ...


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
    """Standard deviation of error / predicted sigma over both axes, about nought; 1 where sigmas are right."""
    photon_ratio: float
    """Median of found over true photons."""


def benchmark(runtime: Runtime, conditions: Sequence[Settings]) -> Iterator[BenchmarkRow]:
    """One row a condition. Each is an acquisition with camera, optics, dataset and run.threshold of its settings."""
    for settings in conditions:
        simulator = make_simulator(settings)
        localiser = StreamingLocaliser(runtime, simulator.camera, settings.run.threshold, block=settings.run.block)
        yield compare(localise(simulator, localiser), simulator.emitters(), settings)


def localise(movie: Movie, localiser: StreamingLocaliser) -> pa.Table:
    """A whole simulated acquisition through a localiser."""
    batches = []
    for start in range(0, movie.dataset.frames, BLOCK):
        pixels = movie.frames(start, min(start + BLOCK, movie.dataset.frames))
        numbers = np.arange(start, start + len(pixels))
        batches.append(localiser.push(Frames(pixels, numbers, np.full(len(pixels), np.nan))))
    return pa.Table.from_batches([*batches, localiser.flush()])


def trial_of(movie: Movie, settings: Settings, context: tuple[int, int] | None = None) -> Trial:
    """The truth of a simulated acquisition, and its microscope; ``context`` is that of the model to be judged."""
    dataset = settings.dataset
    widths = widths_of(settings.optics, movie.camera.pixel_size)
    shape = (dataset.height, dataset.width)
    return Trial(
        name=dataset.name,
        truth=movie.emitters(),
        frames=dataset.frames,
        area=field_area(settings),
        optics=None if widths is None else Optics(Detector.of(movie.camera), widths, dataset.background, shape),
        context=context,
    )


def compare(table: pa.Table, truth: pa.Table, settings: Settings) -> BenchmarkRow:
    """Score one table under one condition."""
    trial = Trial(settings.dataset.name, truth, settings.dataset.frames, field_area(settings))
    return benchmark_row(judge(table, trial), table, settings.dataset.photons)


def benchmark_row(verdict: Verdict, table: pa.Table, photons: float) -> BenchmarkRow:
    """The figures of one table, judged within 250 nm; ``photons``: mean in a fully lit frame [photons]."""
    trial, wide = verdict.trial, verdict.score
    tight = score(table, trial.truth, TIGHT, PHOTON_FLOOR)
    pairs = chosen(verdict.emitters, verdict.emitters["found"])
    error = axes_of(pairs, "error")
    ratio = pairs["found_photons"] / pairs["photons"]
    return BenchmarkRow(
        condition=trial.name,
        density=trial.density,
        photons=photons,
        frames=trial.frames,
        jaccard=wide.jaccard,
        rmse=wide.rmse,
        efficiency=wide.efficiency,
        jaccard_100nm=tight.jaccard,
        rmse_100nm=tight.rmse,
        offset_x=float(np.mean(error[:, 0])) if len(ratio) else np.nan,
        offset_y=float(np.mean(error[:, 1])) if len(ratio) else np.nan,
        sigma_spread=spread(error, axes_of(pairs, "sigma")),
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


def field_area(settings: Settings) -> float:
    """Of the field [µm²]."""
    assert settings.camera.pixel_size is not None
    return settings.dataset.height * settings.dataset.width * (settings.camera.pixel_size / 1000) ** 2
