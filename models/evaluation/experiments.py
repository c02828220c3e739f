"""Questions with a scene of their own: how near the bound a lonely emitter comes, and how near two may stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from config.schema import Settings
from engine.runtimes.runtime import Runtime
from engine.streaming import StreamingLocaliser
from models.evaluation.benchmark import Movie, localise, trial_of
from models.evaluation.calibration import Coverage, coverage
from models.evaluation.metrics import match
from models.evaluation.scenes import PlannedMovie, isolated, point_pairs
from models.evaluation.strata import Precision, precision
from models.evaluation.trial import RADIUS
from models.evaluation.verdict import Columns, axes_of, chosen, judge

Localise = Callable[[Movie, Settings], pa.Table]
"""Gives the localisations of a movie taken with these settings."""
LAG = 1
"""Frames by which the second of a pair comes on after the first, where pairs are seen in several frames."""


def localiser_of(runtime: Runtime, threshold: float | None = None) -> Localise:
    """Localises with a model, from ``threshold`` on (None: that of the settings)."""

    def run(movie: Movie, settings: Settings) -> pa.Table:
        least = settings.run.threshold if threshold is None else threshold
        return localise(movie, StreamingLocaliser(runtime, movie.camera, least, block=settings.run.block))

    return run


@dataclass(frozen=True)
class IsolatedRow:
    """Lonely emitters of so many photons a frame, fully lit in so many frames."""

    photons: float
    lit: int
    """Frames in which each shines."""
    figures: Precision
    coverage: Coverage
    bias_x: float
    """Mean of found minus true [nm]."""
    bias_y: float


def isolated_emitters(
    localise_movie: Localise, settings: Settings, context: tuple[int, int]
) -> Iterator[tuple[IsolatedRow, Columns]]:
    """A row, and the verdict's emitters, for each of the settings' numbers of photons in a frame and of frames.

    Each is judged in ``isolated_emitters`` frames and more: with several frames of an emitter, so many fewer emitters
    are drawn. Where the PSF depends on the height, they stand at all heights of ``isolated_depth``.
    """
    wanted = settings.evaluation
    depth = None if settings.optics.psf == "gaussian" else (wanted.isolated_depth[0], wanted.isolated_depth[1])
    for frames in wanted.isolated_frames:
        for number, light in enumerate(wanted.isolated_photons):
            count = math.ceil(wanted.isolated_emitters / frames)
            plan = isolated(count, light, frames, context, 1000 * frames + number, depth)
            found = _emitters_of(PlannedMovie(plan, settings), localise_movie, context)
            error = axes_of(chosen(found, found["found"].astype(bool)), "error")
            bias = error.mean(0).tolist() if len(error) else [math.nan, math.nan]
            yield IsolatedRow(light, frames, precision(found), coverage(found), *bias), found


def _emitters_of(movie: PlannedMovie, localise_movie: Localise, context: tuple[int, int]) -> Columns:
    return judge(localise_movie(movie, movie.settings), trial_of(movie, movie.settings, context), floor=0.0).emitters


@dataclass(frozen=True)
class PairRow:
    """Pairs of emitters so far apart."""

    distance: float
    """[nm]"""
    lit: int
    """Frames in which each shines."""
    pairs: int
    """Pair and frame in which both shine."""
    resolved: float
    """Share of them in which each has a localisation of its own, nearer than half the distance."""
    merged: float
    """Share in which just one localisation stands between them or on one of them."""


def resolving_power(
    localise_movie: Localise,
    settings: Settings,
    context: tuple[int, int],
    distances: Sequence[float],
    lit: Sequence[int],
    pairs: int,
) -> Iterator[PairRow]:
    """A row for each distance [nm]; seen in several frames, the second comes on LAG frames after the first."""
    pixel = settings.camera.pixel_size
    assert pixel is not None
    for frames in lit:
        lag = LAG if frames > 1 else 0
        for number, distance in enumerate(distances):
            count = math.ceil(pairs / (frames - lag))
            plan = point_pairs(
                count, settings.dataset.photons, distance / pixel, frames, lag, context, 5000 * frames + number
            )
            movie = PlannedMovie(plan, settings)
            yield pair_row(localise_movie(movie, movie.settings), movie.emitters(), distance, frames)


def pair_row(table: pa.Table, truth: pa.Table, distance: float, lit: int) -> PairRow:
    """Judge a table on a truth of pairs whose members have the numbers 2k and 2k + 1."""
    radius = min(RADIUS, distance / 2)
    number, frame = truth["emitter"].to_numpy(), truth["frame"].to_numpy()
    close, near = np.zeros(len(number), np.int64), np.zeros(len(number), np.int64)
    close[match(table, truth, radius).true] = 1
    near[match(table, truth, RADIUS).true] = 1
    meeting = np.unique(np.stack([number // 2, frame]), axis=1, return_inverse=True)[1].ravel()
    both = np.bincount(meeting) == 2
    resolved = np.bincount(meeting, close)[both] == 2
    merged = np.bincount(meeting, near)[both] == 1
    return PairRow(distance, lit, int(both.sum()), float(resolved.mean()), float(merged.mean()))


@dataclass(frozen=True)
class SweepRow:
    """A condition's figures with another threshold."""

    condition: str
    threshold: float
    jaccard: float
    rmse: float
    """[nm]"""
    efficiency: float
    precision: float
    recall: float


def even(settings: Settings, background: float, photons: float) -> Settings:
    """The settings with an even background [photons / pixel] and so many photons in a frame, all alike."""
    dataset = replace(settings.dataset, background=background, photons=photons, photons_sd=0.0)
    return replace(settings, dataset=dataset)
