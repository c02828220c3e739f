"""The points in the graphics memory: one buffer for each chunk of the store, 20 bytes a point, written once."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from OpenGL import GL  # type: ignore[import-untyped]
from OpenGL.raw.GL.VERSION.GL_2_0 import (  # type: ignore[import-untyped]  # PyOpenGL's own asks GLX for the context
    glVertexAttribPointer,
)

from viewer.codes import SCALES
from viewer.points import CHUNK_ROWS, Chunk, PointStore

POINT = np.dtype([("place", "<f4", 2), ("codes", "<u2", 4), ("more", "<u2", 2)])
"""A point as shaders/points.vert takes it."""
OFFSETS = {name: place for name, (_, place, *_) in (POINT.fields or {}).items()}
"""Where its parts begin [bytes]."""
CODED = ("precision", "photons", "background", "probability")
"""Columns in ``codes``, in this order; z and frame are in ``more``."""
FRAME_BITS = 16


@dataclass
class Piece:
    """A chunk in the graphics memory."""

    buffer: int
    array: int
    """Vertex array that reads the buffer."""
    rows: int = 0
    """That have been written."""
    first_frame: int = 0
    shift: int = 0
    """Frames are kept as (frame − first_frame) >> shift."""


class PointBuffers:
    """Follows a PointStore. Every call needs the same current context."""

    def __init__(self, store: PointStore) -> None:
        self._store = store
        self._version = store.version
        self.pieces: list[Piece] = []

    @property
    def count(self) -> int:
        """Points that have been written."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def nbytes(self) -> int:
        """Graphics memory [bytes]."""
        return len(self.pieces) * CHUNK_ROWS * POINT.itemsize

    def sync(self, most: int) -> bool:
        """Write up to ``most`` new points, rounded up to what is left of a chunk. True where earlier ones went."""
        cleared = self._version != self._store.version
        if cleared:
            self.delete()
            self._version = self._store.version
        left = most
        for index, chunk in self._unwritten():
            left -= self._write(self._piece(index), chunk, left)
            if left <= 0:
                break
        return cleared

    def delete(self) -> None:
        """Give the memory back."""
        if self.pieces:
            GL.glDeleteBuffers(len(self.pieces), [piece.buffer for piece in self.pieces])
            GL.glDeleteVertexArrays(len(self.pieces), [piece.array for piece in self.pieces])
        self.pieces = []

    def _unwritten(self) -> Iterator[tuple[int, Chunk]]:
        """Chunks with rows that are not there yet; all before the last piece are there."""
        for index in range(max(0, len(self.pieces) - 1), len(self._store.chunks)):
            chunk = self._store.chunks[index]
            if index >= len(self.pieces) or self.pieces[index].rows < chunk.rows:
                yield index, chunk

    def _piece(self, index: int) -> Piece:
        if index == len(self.pieces):
            self.pieces.append(_new_piece())
        return self.pieces[index]

    def _write(self, piece: Piece, chunk: Chunk, most: int) -> int:
        shift = max(0, chunk.frame_span.bit_length() - FRAME_BITS)
        if (piece.first_frame, piece.shift) != (chunk.first_frame, shift):
            written, piece.rows = piece.rows, 0  # what is there counts frames from elsewhere: write it again
            piece.first_frame, piece.shift = chunk.first_frame, shift
            most += written
        stop = min(chunk.rows, piece.rows + most)
        points = _packed(chunk, piece.rows, stop, shift)
        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, piece.buffer)
        GL.glBufferSubData(GL.GL_ARRAY_BUFFER, piece.rows * POINT.itemsize, points.nbytes, points)
        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, 0)
        piece.rows = stop
        return len(points)


def frame_limits(piece: Piece, low: float, high: float) -> tuple[float, float]:
    """A filter on frames in the piece's numbers."""
    stride = 1 << piece.shift
    lowest = -math.inf if math.isinf(low) else (math.ceil(low) - piece.first_frame) // stride
    highest = math.inf if math.isinf(high) else (math.floor(high) - piece.first_frame) // stride
    return lowest, highest


def _packed(chunk: Chunk, start: int, stop: int, shift: int) -> np.ndarray:
    points = np.empty(stop - start, POINT)
    for axis, name in enumerate(("x", "y")):
        points["place"][:, axis] = chunk.column(name, start, stop)
    for place, name in enumerate(CODED):
        points["codes"][:, place] = SCALES[name].encode(chunk.column(name, start, stop))
    points["more"][:, 0] = SCALES["z"].encode(chunk.column("z", start, stop))
    points["more"][:, 1] = chunk.frame_offsets[start:stop] >> shift
    return points


def _new_piece() -> Piece:
    piece = Piece(int(GL.glGenBuffers(1)), int(GL.glGenVertexArrays(1)))
    GL.glBindVertexArray(piece.array)
    GL.glBindBuffer(GL.GL_ARRAY_BUFFER, piece.buffer)
    GL.glBufferData(GL.GL_ARRAY_BUFFER, CHUNK_ROWS * POINT.itemsize, None, GL.GL_DYNAMIC_DRAW)
    kinds = ((2, GL.GL_FLOAT, "place"), (4, GL.GL_UNSIGNED_SHORT, "codes"), (2, GL.GL_UNSIGNED_SHORT, "more"))
    for place, (numbers, kind, name) in enumerate(kinds):
        offset = ctypes.c_void_p(OFFSETS[name])
        GL.glEnableVertexAttribArray(place)
        glVertexAttribPointer(place, numbers, kind, False, POINT.itemsize, offset)
    GL.glBindVertexArray(0)
    GL.glBindBuffer(GL.GL_ARRAY_BUFFER, 0)
    return piece
