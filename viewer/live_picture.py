"""The growing picture of a run that is being recorded: read from its log, added up, shaded. No window in here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from cmap import Colormap
from numpy.typing import NDArray

from engine.output.image import fitting_pixel, render, white_level
from engine.output.recorder import LogTail

Floats: TypeAlias = NDArray[np.float32]
Colours: TypeAlias = NDArray[np.uint8]

LOG = "localisations.arrows"
"""The log in a run folder."""
REPORT = "run.json"
"""A run's account of itself; its ``end_reason`` is "running" until the run has ended."""
MAX_PIXELS = 6_000_000
"""Largest picture [pixels]: shading one this size takes a tenth of a second."""
LEVELS = 1024
"""Steps of brightness."""
GAMMA = 0.7
"""Exponent of brightness: lifts single molecules out of the dark beside what blinks often."""


class LivePicture:
    """Follows a run folder. ``update`` draws what is new, and only that."""

    def __init__(self, folder: Path, pixel: float = 10.0, colours: str = "hot") -> None:
        """``folder`` need not exist yet. ``pixel`` [nm] becomes coarser where the field is too large for it."""
        self.folder = folder
        self.pixel = pixel
        self.image: Floats = np.zeros((1, 1), np.float32)
        """(H, W) [localisations / pixel]."""
        self.localisations = 0
        self.frame = -1
        """Newest frame with a localisation; −1 before the first."""
        self.ended: str | None = None
        """Why the run ended, once it has."""
        self._tail: LogTail | None = None
        self._lut = _lookup(colours)

    def update(self) -> bool:
        """Take in what has come since the last call; True where there is something new to show. Raises TableError."""
        ended, batches = _end_reason(self.folder / REPORT), self._read()
        for batch in batches:
            self._add(batch)
        changed = bool(batches) or ended != self.ended
        self.ended = ended
        return changed

    def shaded(self) -> Colours:
        """(H, W, 3) for the screen, contrast by the picture's own content; black while there is nothing."""
        white = white_level(self.image[:: self._stride, :: self._stride])
        scale = np.float32((LEVELS - 1) / white if white else 0)
        colours: Colours = self._lut[np.minimum(self.image * scale, LEVELS - 1).astype(np.uint16)]
        return colours

    @property
    def _stride(self) -> int:
        """Contrast of a large picture is measured on some of its pixels."""
        return 1 + self.image.size // 1_000_000

    def _read(self) -> list[pa.RecordBatch]:
        if self._tail is None and (self.folder / LOG).exists():
            self._tail = LogTail(self.folder / LOG)
        return self._tail.read_new() if self._tail else []

    def _add(self, batch: pa.RecordBatch) -> None:
        assert self._tail is not None
        table = pa.Table.from_batches([batch], self._tail.schema)
        if not self.localisations:
            self.pixel = fitting_pixel(table, self.pixel, MAX_PIXELS)
        self.image = _sum(self.image, render(table, self.pixel))
        self.localisations += batch.num_rows
        self.frame = max(self.frame, int(np.max(batch.column("frame").to_numpy(), initial=-1)))


def _lookup(colours: str) -> Colours:
    """(LEVELS, 3): brightness, before gamma, to colour."""
    levels = np.linspace(0, 1, LEVELS) ** GAMMA
    table: Colours = (np.asarray(Colormap(colours)(levels))[:, :3] * 255).round().astype(np.uint8)
    return table


def _sum(one: Floats, other: Floats) -> Floats:
    """Both pictures added, corner on corner; a log that does not tell its field's size makes them differ in size."""
    if other.shape[0] > one.shape[0] or other.shape[1] > one.shape[1]:
        shape = max(one.shape[0], other.shape[0]), max(one.shape[1], other.shape[1])
        one = np.pad(one, [(0, shape[0] - one.shape[0]), (0, shape[1] - one.shape[1])])
    one[: other.shape[0], : other.shape[1]] += other
    return one


def _end_reason(report: Path) -> str | None:
    """The end reason in a run's report; None while the report is missing or half written, or the run goes on."""
    try:
        reason = json.loads(report.read_text(encoding="utf-8")).get("end_reason")
    except (OSError, ValueError):
        return None
    return None if reason in (None, "running") else str(reason)
