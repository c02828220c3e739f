"""Draws points into an Accumulation: which of them, in what shape, what their colour tells. Needs a context."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from OpenGL import GL  # type: ignore[import-untyped]

from viewer.accumulation import Accumulation
from viewer.buffers import CODED, Piece, PointBuffers, frame_limits
from viewer.codes import SCALES
from viewer.points import OPEN
from viewer.program import Program

MODES = ("precision", "fixed", "histogram")
"""Shapes of a localisation, in the order of the shader's numbers."""
DENSITY = "density"
Part: TypeAlias = tuple[int, int, int]
"""(piece, first point, number of points)."""
Box: TypeAlias = tuple[int, int, int, int]
"""(left, top, right, bottom) [pixels], the last two excluded."""


@dataclass(frozen=True)
class Drawing:
    """What a picture is made of: when it changes, everything is drawn again."""

    mode: str = "precision"
    """One of MODES."""
    width: float = 15.0
    """Standard deviation where it is fixed or a precision is not known, or the histogram's bin [nm]."""
    by: str = DENSITY
    """What the colour tells: density or a column of points.MEASURES."""

    @property
    def coloured(self) -> bool:
        """Whether a column is the colour."""
        return self.by != DENSITY


class Renderer:
    """The program that draws points."""

    def __init__(self) -> None:
        """Raises RuntimeUnavailable where the driver refuses."""
        self._program = Program("points.vert", "points.frag")
        self.widest = float(np.max(GL.glGetFloatv(GL.GL_POINT_SIZE_RANGE)))
        """Largest square of a point [pixels]. Wider Gaussians are cut off there; they still sum to 1."""
        self.largest = int(GL.glGetIntegerv(GL.GL_MAX_TEXTURE_SIZE))
        """Most pixels of an image on one axis."""

    def draw(
        self,
        into: Accumulation,
        buffers: PointBuffers,
        parts: Iterable[Part],
        drawing: Drawing,
        filters: Mapping[str, tuple[float, float]],
        boxes: Iterable[Box] | None = None,
    ) -> None:
        """Add points to the sums, in ``boxes`` of the image alone where they are given. Does not wait for the card."""
        frame = into.frame
        into.bind()
        GL.glEnable(GL.GL_PROGRAM_POINT_SIZE)
        GL.glEnable(GL.GL_BLEND)
        GL.glBlendFunc(GL.GL_ONE, GL.GL_ONE)
        self._program.use()
        self._describe(into, drawing, filters)
        chosen = list(parts)
        for box in boxes if boxes is not None else [(0, 0, frame.width, frame.height)]:
            self._limit(box)
            for index, first, count in chosen:
                self._draw_part(buffers.pieces[index], first, count, filters)
        GL.glDisable(GL.GL_SCISSOR_TEST)
        GL.glDisable(GL.GL_BLEND)
        GL.glBindVertexArray(0)

    def delete(self) -> None:
        """Give the program's memory back."""
        self._program.delete()

    def _limit(self, box: Box) -> None:
        left, top, right, bottom = box
        GL.glEnable(GL.GL_SCISSOR_TEST)
        GL.glScissor(left, top, right - left, bottom - top)
        self._program.set("inside", *box)

    def _draw_part(self, piece: Piece, first: int, count: int, filters: Mapping[str, tuple[float, float]]) -> None:
        lowest, highest = frame_limits(piece, *filters.get("frame", OPEN))
        depth = SCALES["z"].limits(*filters.get("z", OPEN))
        self._program.set("lowest_more", depth[0], lowest)
        self._program.set("highest_more", depth[1], highest)
        self._program.set("frames", piece.first_frame, 1 << piece.shift)
        GL.glBindVertexArray(piece.array)
        GL.glDrawArrays(GL.GL_POINTS, first, count)

    def _describe(self, into: Accumulation, drawing: Drawing, filters: Mapping[str, tuple[float, float]]) -> None:
        program, frame = self._program, into.frame
        corner = float(np.float32(frame.left)), float(np.float32(frame.top))
        program.set("corner", *corner)
        program.set("rest", (frame.left - corner[0]) / frame.pixel, (frame.top - corner[1]) / frame.pixel)
        program.set("size", frame.width, frame.height)
        program.set("pixels_per_nm", 1 / frame.pixel)
        program.set("widest", self.widest)
        program.set_int("mode", MODES.index(drawing.mode))
        program.set("width", drawing.width)
        program.set("precision_scale", SCALES["precision"].unit, SCALES["precision"].step)
        self._describe_filters(filters)
        self._describe_colour(drawing.by)

    def _describe_filters(self, filters: Mapping[str, tuple[float, float]]) -> None:
        limits = [SCALES[name].limits(*filters.get(name, OPEN)) for name in CODED]
        self._program.set("lowest", *(low for low, _ in limits))
        self._program.set("highest", *(high for _, high in limits))
        (left, right), (top, bottom) = (filters.get(axis, OPEN) for axis in ("x", "y"))
        self._program.set("limits_of_place", left, top, right, bottom)

    def _describe_colour(self, by: str) -> None:
        kinds = {DENSITY: 0, "z": 2, "frame": 3}
        self._program.set_int("by", kinds.get(by, 1))
        self._program.set("by_mask", *(float(name == by) for name in CODED))
        scale = SCALES.get(by, SCALES["photons"])
        self._program.set("by_scale", scale.unit, scale.step)


def everything(buffers: PointBuffers) -> list[Part]:
    """All points that have been written."""
    return [(index, 0, piece.rows) for index, piece in enumerate(buffers.pieces)]


def between(counts: Iterable[int], start: float, stop: float) -> list[Part]:
    """The same share, from ``start`` to ``stop`` of 1, of every piece that has ``counts`` points."""
    parts = []
    for index, count in enumerate(counts):
        first, last = math.floor(start * count), math.floor(stop * count)
        if last > first:
            parts.append((index, first, last - first))
    return parts


def since(counts: Iterable[int], buffers: PointBuffers) -> list[Part]:
    """The points that were written after there were ``counts`` in each piece."""
    drawn = list(counts)
    drawn += [0] * (len(buffers.pieces) - len(drawn))
    return [
        (index, before, piece.rows - before)
        for index, (before, piece) in enumerate(zip(drawn, buffers.pieces, strict=True))
        if piece.rows > before
    ]


def first_of(parts: Iterable[Part], most: int) -> list[Part]:
    """The first of ``parts``, ``most`` points together."""
    chosen = []
    for index, first, count in parts:
        taken = min(count, most)
        if taken > 0:
            chosen.append((index, first, taken))
        most -= taken
    return chosen
