"""A super-resolution image of a table: every localisation a Gaussian of its own precision, without Qt or OpenGL."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from cmap import Colormap
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from config.errors import TableError
from engine.output.disk import replacing
from engine.output.table import HEIGHT, PIXEL_SIZE, WIDTH, known, numpy_column

logger = logging.getLogger(__name__)

Floats: TypeAlias = NDArray[np.float32]

MAX_PIXELS = 100_000_000
"""Largest image that is made [pixels]: 400 MB while it is rendered."""
REACH = 4.0
"""A Gaussian is drawn to at least this many standard deviations; 6e-5 of it lies beyond."""
TILE = 32
"""Side of the squares that localisations are worked through in [pixels]."""
CHUNK = 4_000_000
"""Shares of Gaussians in pixels, on one axis, that are worked out at once, which bounds memory."""
BAR_SHARE = 0.2
"""Length of the scale bar over the image's width, before it is rounded."""


def field_size(table: pa.Table) -> tuple[float, float]:
    """(width, height) of the recorded field [nm]: from the metadata, else as far as the localisations reach."""
    pixel = known(table, PIXEL_SIZE)
    facts = known(table, WIDTH), known(table, HEIGHT)
    if pixel is not None and facts[0] is not None and facts[1] is not None:
        return facts[0] * pixel, facts[1] * pixel
    if table.num_rows == 0:
        return 0.0, 0.0
    x, y = (numpy_column(table, axis).max() for axis in "xy")
    return math.floor(x) + 1.0, math.floor(y) + 1.0


def fitting_pixel(table: pa.Table, pixel: float, max_pixels: int = MAX_PIXELS) -> float:
    """``pixel`` [nm], or the next whole number of nm at which the field's image has at most ``max_pixels``."""
    width, height = field_size(table)
    if math.ceil(width / pixel) * math.ceil(height / pixel) <= max_pixels:
        return pixel
    coarser = float(math.ceil(math.sqrt(width * height / max_pixels)))
    while math.ceil(width / coarser) * math.ceil(height / coarser) > max_pixels:
        coarser += 1.0
    logger.warning("at %g nm the image would exceed %d megapixels; it has %g nm", pixel, max_pixels // 10**6, coarser)
    return coarser


def render(table: pa.Table, pixel: float = 10.0, max_pixels: int = MAX_PIXELS) -> Floats:
    """The field as an image (H, W) [localisations / pixel], ``pixel`` nm wide; row 0 is y = 0, nothing is mirrored.

    Each localisation is a Gaussian with its sigma_x and sigma_y, half an image pixel at least and where they are not
    known, integrated over the pixels. What would fall outside the field or beyond the Gaussian's drawn part is shared
    out within, so that the sum is the number of localisations in the field. Those outside it are not drawn.
    Raises TableError where the image would have more than ``max_pixels``.
    """
    shape = _shape(table, pixel, max_pixels)
    image = np.zeros(shape, np.float32)
    x, y, sigma_x, sigma_y = _inside(table, pixel, shape)
    reach = REACH * np.maximum(sigma_x, sigma_y)
    # Powers of two: few groups, and no localisation is drawn much farther than it reaches.
    margins = 2 ** np.ceil(np.log2(np.maximum(reach, 2.0))).astype(int)
    for margin in np.unique(margins):
        here = margins == margin
        _add_group(image, int(margin), x[here], y[here], sigma_x[here], sigma_y[here])
    return image


def _shape(table: pa.Table, pixel: float, max_pixels: int) -> tuple[int, int]:
    """(H, W) of the image, at least one pixel."""
    width, height = field_size(table)
    shape = max(1, math.ceil(height / pixel)), max(1, math.ceil(width / pixel))
    if shape[0] * shape[1] > max_pixels:
        raise TableError(
            f"an image of {width / 1000:.4g} by {height / 1000:.4g} µm at {pixel:g} nm has {shape[1]} by {shape[0]} "
            f"pixels; at most {max_pixels} are made. Use run.image_pixel={fitting_pixel(table, pixel, max_pixels):g}."
        )
    return shape


def _inside(table: pa.Table, pixel: float, shape: tuple[int, int]) -> tuple[NDArray[np.float64], ...]:
    """x, y, sigma_x, sigma_y of the localisations in the field [image pixels]."""
    x, y, sigma_x, sigma_y = (
        numpy_column(table, name).astype(np.float64) / pixel for name in ("x", "y", "sigma_x", "sigma_y")
    )
    inside = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
    floored = (np.fmin(np.fmax(sigma, 0.5), max(shape)) for sigma in (sigma_x, sigma_y))  # fmax: NaN gives way
    return tuple(column[inside] for column in (x, y, *floored))


def _add_group(image: Floats, margin: int, x: Any, y: Any, sigma_x: Any, sigma_y: Any) -> None:
    """Add localisations that reach at most ``margin`` pixels, tile by tile.

    The Gaussians are separable, so that a tile with n of them is one matrix product: (H, n) by (n, W).
    """
    side = max(TILE, 2 * margin)
    columns, rows = (x // side).astype(int), (y // side).astype(int)
    tiles = rows * (image.shape[1] // side + 1) + columns
    order = np.argsort(tiles, kind="stable")
    for part in _runs(tiles[order], max(1, CHUNK // (side + 2 * margin))):
        chosen = order[part]
        top, down = _span(rows[chosen[0]], side, margin, image.shape[0])
        left, right = _span(columns[chosen[0]], side, margin, image.shape[1])
        vertical = _weights(y[chosen], sigma_y[chosen], top, down)
        image[top:down, left:right] += vertical.T @ _weights(x[chosen], sigma_x[chosen], left, right)


def _runs(tiles: NDArray[np.int64], longest: int) -> Iterator[slice]:
    """Slices of equal neighbours in sorted ``tiles``, at most ``longest`` long."""
    starts = np.flatnonzero(np.diff(tiles, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(tiles)], strict=True):
        for first in range(start, stop, longest):
            yield slice(first, min(first + longest, stop))


def _span(tile: int, side: int, margin: int, size: int) -> tuple[int, int]:
    """First pixel and the one behind the last that localisations of a tile can reach, on one axis."""
    return max(0, tile * side - margin), min(size, (tile + 1) * side + margin)


def _weights(centre: NDArray[np.float64], sigma: NDArray[np.float64], start: int, stop: int) -> Floats:
    """(n, stop − start) shares of each Gaussian in the pixels from ``start`` to ``stop`` on one axis; rows sum to 1."""
    from scipy.special import erf  # which takes half a second to load; the viewer needs the rest of this file at once

    edges = np.arange(start, stop + 1)
    scaled = ((edges - centre[:, None]) / (math.sqrt(2) * sigma[:, None])).astype(np.float32)
    shares = np.diff(erf(scaled), axis=1)
    normalised: Floats = shares / shares.sum(axis=1, keepdims=True)
    return normalised


def write_png(
    path: Path, image: Floats, pixel: float, colours: str = "hot", percentile: float = 99.0, gamma: float = 0.5
) -> None:
    """Write an image (H, W) of ``pixel`` nm as PNG, with a colour map of cmap and a scale bar of a round length.

    White is the ``percentile`` of the lit pixels (see ``white_level``), and ``gamma`` lifts what is dim, so that single
    molecules are seen. An image with nothing in it is dark. Raises TableError where the disk refuses.
    """
    picture = Image.fromarray(_coloured(_stretched(image, percentile, gamma), colours))
    draw_scale_bar(picture, pixel)
    try:
        with replacing(path) as temporary:
            picture.save(temporary, "PNG")
    except OSError as error:
        raise TableError(f"{path} cannot be written: {error.strerror or error}. Choose another place.") from error


def _stretched(image: Floats, percentile: float, gamma: float) -> NDArray[np.uint8]:
    """Brightness 0 to 255 of every pixel."""
    white = white_level(image, percentile)
    if white == 0:
        return np.zeros(image.shape, np.uint8)
    bright: NDArray[np.uint8] = (np.clip(image / np.float32(white), 0, 1) ** np.float32(gamma) * 255).astype(np.uint8)
    return bright


def white_level(image: Floats, percentile: float = 99.0) -> float:
    """The value that is shown white: the ``percentile`` of the lit pixels; 0 for an image with nothing in it.

    Lit is what exceeds a tenth of the ninetieth percentile of all pixels above 0: the far tails of the Gaussians, most
    of those pixels, do not count, and a bead or two among the molecules does not raise that bar.
    """
    above = image[image > 0]
    if not above.size:
        return 0.0
    return float(np.percentile(above[above > np.percentile(above, 90) / 10], percentile))


def _coloured(bright: NDArray[np.uint8], colours: str) -> NDArray[np.uint8]:
    """(H, W, 3)."""
    table = (Colormap(colours).lut(256)[:, :3] * 255).round().astype(np.uint8)
    rgb: NDArray[np.uint8] = table[bright]
    return rgb


def bar_length(width: float) -> float:
    """A round length [nm], 1, 2 or 5 times a power of ten, at most a fifth of ``width`` [nm]."""
    target = width * BAR_SHARE
    power = 10.0 ** math.floor(math.log10(target))
    return max(step * power for step in (1, 2, 5) if step * power <= target)


def length_text(length: float) -> str:
    """A length [nm] for people: 500 nm, 2 µm."""
    return f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"


def _font(size: int) -> tuple[Any, str]:
    """A font, and what stands for micro in it: Pillow's own, the last resort, has no µ."""
    for name in ("arial.ttf", "DejaVuSans.ttf", "Helvetica.ttc"):
        try:
            return ImageFont.truetype(name, size), "µ"
        except OSError:  # not on this machine
            continue
    return ImageFont.load_default(size), "u"


def draw_scale_bar(picture: Image.Image, pixel: float) -> None:
    """A white bar on a dark ground at the lower right, with its length above, if the picture has room for it."""
    unit = max(1, min(picture.size) // 160)
    length = bar_length(picture.width * pixel)
    bar = round(length / pixel)
    if min(picture.size) < 60:
        logger.info("an image of %d by %d pixels has no room for a scale bar", *picture.size)
        return
    draw = ImageDraw.Draw(picture)
    right, bottom = picture.width - 5 * unit, picture.height - 5 * unit
    font, micro = _font(max(10, 6 * unit))
    label = length_text(length).replace("µ", micro)
    middle = right - bar / 2, bottom - 3 * unit
    draw.rectangle((right - bar, bottom - 2 * unit, right - 1, bottom - 1), fill="white", outline=None)
    draw.text(middle, label, "white", font, anchor="md", stroke_width=unit // 2, stroke_fill="black")
