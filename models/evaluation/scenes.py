"""Planned scenes: emitters exactly where and when a question needs them, through the simulated microscope."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from acquisition.camera import Camera
from config.schema import DatasetSettings, Settings
from simulation.optics import make_psf
from simulation.simulator import Microscope, truth_table

CLEAR = 7.0
"""Emitters of neighbouring cells stand at least so far apart [pixels]: more than five times a usual PSF's sigma."""
CLEAR_DEEP = 12.0
"""The same where they are out of focus, and wider [pixels]."""
ROOM = 5.0
"""Width of the part of a cell in which its emitter stands, whole pixels, so that all parts of a pixel are alike."""
BORDER = 3
"""Between the cells and the edge of the field [pixels]."""
CELLS = 8
"""Cells of a side."""
STILL: dict[str, Any] = {
    "background_kind": "smooth",
    "background_variation": 0.0,
    "background_change": 0.0,
    "background_bleaching": None,
    "structure": "random",
    "vibration": 0.0,
}
"""What is left out of a data set's settings, so that the bounds are exact."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Emitters by frame, (N,) each, sorted by frame."""

    frame: NDArray[np.int64]
    emitter: NDArray[np.int64]
    x: NDArray[np.float64]
    """[pixels]"""
    y: NDArray[np.float64]
    """[pixels]"""
    z: NDArray[np.float64]
    """Over the focal plane [nm]."""
    photons: NDArray[np.float64]
    frames: int
    size: int
    """Height and width of the field [pixels]."""


class PlannedMovie:
    """A plan seen through the microscope that the settings describe, with an even background that stays as it is."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self.plan = plan
        self.dataset: DatasetSettings = replace(
            settings.dataset,
            frames=plan.frames,
            height=plan.size,
            width=plan.size,
            **STILL,
        )
        self.settings = replace(settings, dataset=self.dataset)
        self.camera = Camera.from_settings(settings.camera, {}, (plan.size, plan.size), (0, 0))
        psf = make_psf(settings.optics, self.camera.pixel_size)
        self._microscope = Microscope(self.dataset, self.camera, psf, torch.Generator().manual_seed(self.dataset.seed))

    def frames(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Camera frames (T, H, W) [ADU]."""
        plan = self.plan
        rows = slice(*np.searchsorted(plan.frame, [start, stop]).tolist())
        columns = (plan.x, plan.y, plan.photons, plan.z)
        x, y, photons, z = (torch.from_numpy(values[rows]).float() for values in columns)
        light = self._microscope.light(torch.from_numpy(plan.frame[rows] - start), x, y, photons, stop - start, z)
        return self._microscope.expose(start, light)

    def emitters(self) -> pa.Table:
        """The truth (EMITTER_SCHEMA)."""
        plan = self.plan
        x, y, photons, z = (values.astype(np.float32) for values in (plan.x, plan.y, plan.photons, plan.z))
        columns = (plan.frame, plan.emitter, x, y, photons, z)
        return truth_table(columns, (plan.size, plan.size), self.camera.pixel_size)


def isolated(
    emitters: int,
    photons: float,
    lit: int,
    context: tuple[int, int],
    seed: int,
    depth: tuple[float, float] | None = None,
) -> Plan:
    """At least ``emitters`` lonely ones of ``photons`` in each of ``lit`` consecutive frames, fully lit.

    They stand in cells, anywhere in a pixel, with nobody nearer than CLEAR pixels in any frame that the model's
    ``context`` reaches. ``depth``: evenly between these heights [nm], and CLEAR_DEEP apart; None: all in focus.
    """
    room = CLEAR if depth is None else CLEAR_DEEP
    plan = _in_cells(emitters, photons, lit, context, seed, clear=room, distance=0.0, members=1, lag=0)
    if depth is None:
        return plan
    heights = np.random.default_rng((seed, 1)).uniform(*depth, int(plan.emitter.max()) + 1)
    return replace(plan, z=heights[plan.emitter])


def point_pairs(
    pairs: int, photons: float, distance: float, lit: int, lag: int, context: tuple[int, int], seed: int
) -> Plan:
    """Pairs of emitters ``distance`` [pixels] apart in any direction; each shines for ``lit`` frames.

    The second (an odd number, its partner's plus one) comes on ``lag`` frames after the first.
    """
    return _in_cells(pairs, photons, lit, context, seed, clear=CLEAR, distance=distance, members=2, lag=lag)


def _in_cells(
    groups: int,
    photons: float,
    lit: int,
    context: tuple[int, int],
    seed: int,
    *,
    clear: float,
    distance: float,
    members: int,
    lag: int,
) -> Plan:
    """Groups of one or two, one after the other in each cell, each cell at another time."""
    rng = np.random.default_rng(seed)
    cell = math.ceil(clear + ROOM + distance)
    period = lit + lag + sum(context) + 1
    turns = math.ceil(groups / CELLS**2)
    turn, down, across = (axis.ravel() for axis in np.indices((turns, CELLS, CELLS)))
    begin = turn * period + (down * CELLS + across) % period + context[0]
    middle = BORDER + (np.stack([across, down]) + 0.5) * cell + rng.uniform(-ROOM / 2, ROOM / 2, (2, len(turn)))
    angle = rng.uniform(0, 2 * np.pi, len(turn))
    apart = np.stack([np.cos(angle), np.sin(angle)]) * distance / 2
    sign = np.arange(members) * 2 - (members - 1)  # 0, or −1 and 1
    place = middle[:, :, None] + apart[:, :, None] * sign
    shape = (len(turn), members, lit)
    frame = np.broadcast_to(begin[:, None, None] + lag * np.arange(members)[:, None] + np.arange(lit), shape)
    number = np.broadcast_to(np.arange(len(turn) * members).reshape(-1, members, 1), shape)
    x, y = (np.broadcast_to(axis[:, :, None], shape).ravel() for axis in place)
    order = np.argsort(frame.ravel(), kind="stable")
    return Plan(
        frame.ravel()[order],
        number.ravel()[order],
        x[order],
        y[order],
        np.zeros(len(order)),
        np.full(len(order), photons),
        frames=(turns + 1) * period + sum(context),
        size=CELLS * cell + 2 * BORDER,
    )
