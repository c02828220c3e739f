"""Images of any size from the graphics card: in tiles, as its textures have a largest size. Needs a current context."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from config.errors import TableError
from viewer.accumulation import Accumulation, Frame
from viewer.buffers import PointBuffers
from viewer.points import Rectangle
from viewer.rendered import MAX_PIXELS, Floats, Rendered
from viewer.renderer import Box, Drawing, Renderer, everything

TILE = 2048
"""Side of a tile without its margin [pixels]."""
ALL = 2**62
"""More points than there are."""


def draw_image(
    renderer: Renderer,
    buffers: PointBuffers,
    drawing: Drawing,
    filters: Mapping[str, tuple[float, float]],
    rectangle: Rectangle,
    pixel: float,
) -> Rendered:
    """The points in ``rectangle`` at ``pixel`` nm. Raises TableError for an image of more than MAX_PIXELS.

    A point outside the rectangle that reaches into it is drawn, as far as half the widest square of the card.
    """
    buffers.sync(ALL)
    height, width = image_shape(rectangle, pixel)
    density = np.empty((height, width), np.float32)
    values = np.empty((height, width), np.float32) if drawing.coloured else None
    for box in _tiles(width, height, min(TILE, renderer.largest // 2)):
        sums = _tile(renderer, buffers, drawing, filters, rectangle, pixel, box)
        part = slice(box[1], box[3]), slice(box[0], box[2])
        density[part] = sums[..., 0]
        if values is not None:
            values[part] = _mean(sums)
    return Rendered(density, values, pixel)


def image_shape(rectangle: Rectangle, pixel: float) -> tuple[int, int]:
    """(H, W) of an image, at least one pixel. Raises TableError where it would be too large."""
    shape = max(1, math.ceil(rectangle.height / pixel - 1e-6)), max(1, math.ceil(rectangle.width / pixel - 1e-6))
    if not pixel > 0 or shape[0] * shape[1] > MAX_PIXELS:
        raise TableError(
            f"an image of {rectangle.width / 1000:.4g} by {rectangle.height / 1000:.4g} µm at {pixel:g} nm has "
            f"{shape[1]} by {shape[0]} pixels; at most {MAX_PIXELS} are made. Choose more nm per pixel."
        )
    return shape


def _tiles(width: int, height: int, side: int) -> Iterator[Box]:
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield left, top, min(width, left + side), min(height, top + side)


def _tile(
    renderer: Renderer,
    buffers: PointBuffers,
    drawing: Drawing,
    filters: Mapping[str, tuple[float, float]],
    rectangle: Rectangle,
    pixel: float,
    box: Box,
) -> Floats:
    """(h, w, channels) sums of one tile."""
    margin = math.ceil(min(renderer.widest / 2, TILE / 4))
    left, top = rectangle.left + (box[0] - margin) * pixel, rectangle.top + (box[1] - margin) * pixel
    width, height = box[2] - box[0], box[3] - box[1]
    sums = Accumulation(Frame(left, top, pixel, width + 2 * margin, height + 2 * margin), drawing.coloured)
    try:
        renderer.draw(sums, buffers, everything(buffers), drawing, filters)
        return sums.read(margin, margin, width, height)
    finally:
        sums.delete()


def _mean(sums: Floats) -> Floats:
    """Values of the sums; NaN where no localisation knows its value."""
    known = sums[..., 2] > 0
    mean: Floats = np.divide(sums[..., 1], sums[..., 2], out=np.full(known.shape, np.nan, np.float32), where=known)
    return mean
