"""The same picture without a window: the points of a store as an array, and that array as PNG or TIFF."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from config.errors import RuntimeUnavailable, TableError
from engine.output.disk import replacing
from engine.output.image import draw_scale_bar
from engine.output.table import HEIGHT, PIXEL_SIZE, WIDTH, metadata_of
from viewer.files import LOG, read_any
from viewer.look import Look, automatic, brightness, shaded, shaded_by_value
from viewer.offscreen import offscreen
from viewer.points import PointStore, Rectangle
from viewer.rendered import Floats, Rendered

if TYPE_CHECKING:
    from viewer.renderer import Drawing

SAMPLED = 4_000_000
"""Pixels, about, that the automatic contrast of a large image looks at."""
BAND = 1024
"""Rows that are coloured at once, which bounds memory."""
OUTLIERS = (0.5, 99.5)
"""Percentiles of the values in an image that lie at the ends of the colour map, where it is automatic."""
BIG = 2**32 - 2**25
"""Bytes from which on a TIFF needs 64-bit offsets, which ImageJ's own kind has not."""


def render_store(
    store: PointStore, pixel: float, rectangle: Rectangle | None = None, drawing: Drawing | None = None
) -> Rendered:
    """The points that the store's filters show, in ``rectangle`` or all of the field, at ``pixel`` nm; needs no screen.

    Raises RuntimeUnavailable where there is no OpenGL, TableError for an empty store and for more than MAX_PIXELS.
    """
    field = rectangle or store.field
    if field is None:
        raise TableError("there are no localisations to render. Check the file.")
    if importlib.util.find_spec("OpenGL") is None:
        raise RuntimeUnavailable("rendering needs PyOpenGL. Install the viewer group: pip install liveloc[viewer].")
    with offscreen():
        return _render_here(store, pixel, field, drawing)


def render_file(
    source: Path,
    output: Path,
    pixel: float = 10.0,
    look: Look | None = None,
    drawing: Drawing | None = None,
    filters: Mapping[str, tuple[float, float]] | None = None,
    scale_bar: bool = True,
    bits: int = 32,
) -> Rendered:
    """Render a run folder, or a table of any format, to a PNG or TIFF by the suffix of ``output``; returns the image.

    Raises TableError for what cannot be read, rendered or written, RuntimeUnavailable where there is no OpenGL.
    """
    if output.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise TableError(f"{output.name}: an image is written as .png, .tif or .tiff. Choose one of these suffixes.")
    store, field = _opened(source)
    for column, limits in (filters or {}).items():
        store.set_filter(column, *limits)
    image = render_store(store, pixel, field, drawing)
    if output.suffix.lower() == ".png":
        write_png(output, image, look or Look(), scale_bar)
    else:
        write_tiff(output, image, bits, scale_bar)
    return image


def write_png(path: Path, image: Rendered, look: Look, scale_bar: bool = True) -> None:
    """Write what the window would show. Raises TableError where the disk refuses."""
    picture = Image.fromarray(colours(image, look))
    if scale_bar:
        draw_scale_bar(picture, image.pixel)
    with _writing(path) as temporary:
        picture.save(temporary, "PNG")


def write_tiff(path: Path, image: Rendered, bits: int = 32, scale_bar: bool = False) -> None:
    """Write the density with its pixel size, as ImageJ reads it: 32 bits [localisations/pixel], or 16 scaled to the
    brightest pixel, with the factor in the description. The scale bar is as bright as the brightest pixel.

    Raises TableError where the disk refuses.
    """
    density = image.density.copy() if scale_bar else image.density
    top = float(density.max(initial=0))
    if scale_bar:
        density[_bar_mask(image)] = top
    factor = 1.0 if bits == 32 else 65535 / (top or 1.0)
    pixels = density if bits == 32 else np.rint(density * np.float32(factor)).astype(np.uint16)
    text = f"liveloc: value = localisations per pixel × {factor:.9g}; a pixel is {image.pixel:g} nm"
    per_micrometre = 1000 / image.pixel
    with _writing(path) as temporary:
        tifffile.imwrite(
            temporary,
            pixels,
            photometric="minisblack",
            imagej=pixels.nbytes < BIG,
            bigtiff=pixels.nbytes >= BIG,
            resolution=(per_micrometre, per_micrometre),
            metadata={"unit": "um", "axes": "YX", "Info": text},
        )


def colours(image: Rendered, look: Look) -> NDArray[np.uint8]:
    """(H, W, 3) as the window would show it."""
    limits = look.limits or _automatic(image)
    ends = look.values or _value_ends(image.values)
    painted = np.empty((*image.density.shape, 3), np.uint8)
    for start in range(0, len(painted), BAND):
        band = slice(start, start + BAND)
        bright = brightness(image.density[band] * np.float32(image.per_area), limits, look.gamma)
        if image.values is None:
            painted[band] = shaded(bright, look)
        else:
            painted[band] = shaded_by_value(bright, image.values[band], ends, look)
    return painted


def recorded_field(metadata: Mapping[str, str]) -> Rectangle | None:
    """The camera's field, where a table's metadata tell it (engine/output/table.py)."""
    try:
        pixel, width, height = (float(metadata[key]) for key in (PIXEL_SIZE, WIDTH, HEIGHT))
    except (KeyError, ValueError):
        return None
    return Rectangle(0.0, 0.0, width * pixel, height * pixel) if min(pixel, width, height) > 0 else None


def _render_here(store: PointStore, pixel: float, field: Rectangle, drawing: Drawing | None) -> Rendered:
    """In the context that is current."""
    from viewer.buffers import PointBuffers
    from viewer.renderer import Drawing, Renderer
    from viewer.tiles import draw_image

    renderer, buffers = Renderer(), PointBuffers(store)
    try:
        return draw_image(renderer, buffers, drawing or Drawing(), store.filters, field, pixel)
    finally:
        buffers.delete()
        renderer.delete()


def _opened(source: Path) -> tuple[PointStore, Rectangle | None]:
    """The points of a run folder or a table, and the camera's field where it is known."""
    table = read_any(source / LOG if source.is_dir() else source)
    store = PointStore()
    for batch in table.to_batches():
        store.append(batch)
    return store, recorded_field(metadata_of(table))


def _automatic(image: Rendered) -> tuple[float, float]:
    """Limits of the density [1/µm²] from some pixels of a large image."""
    stride = max(1, math.isqrt(image.density.size // SAMPLED))
    low, high = automatic(image.density[::stride, ::stride])
    return low * image.per_area, high * image.per_area


def _value_ends(values: Floats | None) -> tuple[float, float]:
    if values is None:
        return 0.0, 1.0
    stride = max(1, math.isqrt(values.size // SAMPLED))
    sampled = values[::stride, ::stride]
    known = sampled[~np.isnan(sampled)]
    low, high = np.percentile(known, OUTLIERS) if known.size else (0.0, 1.0)
    return float(low), float(high)


def _bar_mask(image: Rendered) -> NDArray[np.bool_]:
    """(H, W) where the scale bar and its length stand."""
    empty = Image.new("RGB", image.density.shape[::-1])
    draw_scale_bar(empty, image.pixel)
    mask: NDArray[np.bool_] = np.asarray(empty.convert("L")) > 127
    return mask


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """A place to write to; the file is there once it is whole. Raises TableError where the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise TableError(f"{path} cannot be written: {error.strerror or error}. Choose another place.") from error
