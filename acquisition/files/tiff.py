"""TIFF in the dialects of microscopy: plain, BigTIFF, ImageJ, Micro-Manager. OME-TIFF has a module of its own."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, TypeAlias
from zlib import error as zlib_error

import numpy as np
from tifffile import TiffFile, TiffFrame, TiffPage

from acquisition.files import metadata
from acquisition.files.checks import check_axes, check_pixels, rgb_error, sizes_error
from acquisition.files.stack import (
    Clock,
    Int64s,
    PlainStack,
    Rectangle,
    Stack,
    StackInfo,
    native,
    times_every,
)
from acquisition.source import Pixels
from config.errors import SourceUnreadable

Page: TypeAlias = TiffPage | TiffFrame

AXIS_NAMES = {"T": "time", "C": "channel", "Z": "slice", "R": "position", "P": "position"}
"""Names of axis letters; others keep their letter."""

DAMAGE = (
    ValueError,
    RuntimeError,
    OSError,
    LookupError,
    TypeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib_error,
)
"""What tifffile and its decoders raise on files that are damaged or need a codec that is not there."""


class PagedStack(Stack):
    """TIFF pages that must be decoded, or found, one by one."""

    def __init__(self, info: StackInfo, clock: Clock, page: Callable[[int], Page], tiff: TiffFile) -> None:
        super().__init__(info, clock)
        self._page, self._tiff = page, tiff

    def read(self, places: range, part: Rectangle) -> Pixels:
        """See Stack."""
        rows, columns = slice(part.y, part.y + part.height), slice(part.x, part.x + part.width)
        pixels = np.empty((len(places), part.height, part.width), self.info.dtype.newbyteorder("="))
        for target, place in zip(pixels, places, strict=True):
            target[...] = self._decode(place)[rows, columns]
        return native(pixels)

    def close(self) -> None:
        """See Stack."""
        self._tiff.close()

    def _decode(self, place: int) -> Pixels:
        if place >= self.info.readable:
            raise self.cut_short(self.info.readable)
        try:
            page = self._page(place)
            frame = page.asarray()
        except DAMAGE as error:
            raise undecodable(self.info.name, place, error) from error
        if frame.shape != (self.info.height, self.info.width):
            raise sizes_error(self.info.name, place, frame.shape, (self.info.height, self.info.width))
        return frame


def undecodable(name: str, place: int, error: Exception) -> SourceUnreadable:
    """The error for a frame that the decoder gave up on."""
    if "imagecodecs" in str(error):
        remedy = "Install the decoder with: pip install imagecodecs"
    else:
        remedy = f"Copy the file again, or analyse the frames before it with run.stop={place}."
    return SourceUnreadable(f"{name}: frame {place} cannot be decoded ({error}). {remedy}")


def open_tiff(path: Path) -> Stack:
    """Open a TIFF that is not an OME-TIFF. Raises SourceUnreadable."""
    with opened(path, path) as tiff:
        return _stack(tiff, path)


@contextmanager
def opened(path: Path, asked: Path) -> Iterator[TiffFile]:
    """The file, which stays open unless the block fails. Raises SourceUnreadable, which names ``asked``."""
    tiff = tiff_file(path)
    try:
        yield tiff
    except DAMAGE as error:
        tiff.close()
        raise not_a_tiff(asked, error) from error
    except SourceUnreadable:
        tiff.close()
        raise


def tiff_file(path: Path) -> TiffFile:
    """Open the file and look at its first page. Raises SourceUnreadable."""
    try:
        tiff = TiffFile(path)
    except DAMAGE as error:
        raise not_a_tiff(path, error) from error
    if not len(tiff.pages):
        tiff.close()
        raise SourceUnreadable(f"{path.name} is truncated: not even its first frame is complete. Copy it again.")
    return tiff


def not_a_tiff(path: Path, error: Exception) -> SourceUnreadable:
    """The error for a file that only begins like a TIFF."""
    return SourceUnreadable(
        f"{path.name} begins like a TIFF but cannot be read ({error}). It may be truncated or damaged: copy it again."
    )


def check_page(page: TiffPage, name: str) -> None:
    """Refuse what cannot be camera frames. Raises SourceUnreadable."""
    if page.samplesperpixel > 1:
        raise rgb_error(name)
    if page.dtype is None or page.ndim != 2:
        raise SourceUnreadable(f"{name} holds pages of shape {page.shape}; frames of rows and columns are needed.")
    check_pixels(page.dtype, name)


def stored_dtype(page: TiffPage) -> np.dtype[Any]:
    """Type of the pixels as they lie in the file."""
    return np.dtype(page.dtype).newbyteorder(page.parent.byteorder)


def frame_offset(page: Page, frame_bytes: int) -> int | None:
    """Where an uncompressed frame lies in one piece, or None where it does not."""
    offsets, counts = page.dataoffsets, page.databytecounts
    joined = all(
        start + count == following for start, count, following in zip(offsets, counts, offsets[1:], strict=False)
    )
    return offsets[0] if offsets and joined and sum(counts) >= frame_bytes else None


def is_plain(page: TiffPage) -> bool:
    """Whether the page's pixels lie in the file as they lie in memory."""
    return page.compression == 1 and page.is_contiguous and page.fillorder == 1


def sound_pages(tiff: TiffFile) -> tuple[int, bool]:
    """How many pages can be read, from the first on, and whether the last of them says that it is the last."""
    stored = len(tiff.pages)
    if _page_is_sound(tiff, stored - 1) and _is_last(tiff, tiff.pages[stored - 1].offset):
        return stored, True
    return next((place for place in range(stored) if not _page_is_sound(tiff, place)), stored), False


def _page_is_sound(tiff: TiffFile, place: int) -> bool:
    try:
        return tiff.pages[place].offset > 0
    except DAMAGE:
        return False


def _is_last(tiff: TiffFile, offset: int) -> bool:
    form, file = tiff.tiff, tiff.filehandle
    file.seek(offset)
    tags = struct.unpack(form.tagnoformat, file.read(form.tagnosize))[0]
    file.seek(tags * form.tagsize, 1)
    following = file.read(form.offsetsize)
    return len(following) == form.offsetsize and struct.unpack(form.offsetformat, following)[0] == 0


def _stack(tiff: TiffFile, path: Path) -> Stack:
    check_page(tiff.pages.first, path.name)
    stored, whole = sound_pages(tiff)
    promised = _promised(tiff, path.name, stored)
    # A broken chain of pages means that at least one more frame was written than can be found.
    announced = max(promised, stored if whole else stored + 1)
    if _lies_in_one_piece(tiff, stored, whole):
        return _plain(tiff, path, announced, max(promised, stored))
    return _paged(tiff, path, announced, stored)


def _plain(tiff: TiffFile, path: Path, announced: int, findable: int) -> PlainStack:
    page = tiff.pages.first
    start = page.dataoffsets[0]
    held = max(0, tiff.filehandle.size - start) // page.nbytes
    numbers = np.arange(announced, dtype=np.int64)
    info = tiff_info(tiff, path, numbers, min(held, findable))
    tiff.close()
    clock = times_every(numbers, info.exposure)
    return PlainStack(info, clock, [path], np.zeros_like(numbers), start + numbers * page.nbytes)


def _paged(tiff: TiffFile, path: Path, announced: int, stored: int) -> PagedStack:
    info = tiff_info(tiff, path, np.arange(announced, dtype=np.int64), _complete_pages(tiff, stored))
    _check_last(tiff, stored - 1, path.name)
    clock = times_every(info.numbers, info.exposure)
    if tiff.is_micromanager:
        clock = partial(metadata.micromanager_times, partial(micromanager_tags, tiff))
    return PagedStack(info, clock, tiff.pages.__getitem__, tiff)


def tiff_info(tiff: TiffFile, path: Path, numbers: Int64s, readable: int) -> StackInfo:
    """What a stack is, by its first page."""
    page = tiff.pages.first
    tags = micromanager_tags(tiff)
    camera = metadata.micromanager_camera(tags) | _imagej_camera(tiff)
    return StackInfo(
        name=path.name,
        height=int(page.shape[0]),
        width=int(page.shape[1]),
        dtype=stored_dtype(page),
        numbers=numbers,
        readable=readable,
        exposure=_imagej_interval(tiff) or metadata.micromanager_interval(tags),
        camera=camera,
    )


def _promised(tiff: TiffFile, name: str, stored: int) -> int:
    """Frames that the file should hold, by whoever wrote it; 1 where it does not tell."""
    sizes = _imagej_sizes(tiff) if tiff.is_imagej else _shaped_sizes(tiff)
    if prod(sizes.values()) >= stored:
        check_axes(sizes, name)
    return prod(sizes.values())


def _imagej_sizes(tiff: TiffFile) -> dict[str, int]:
    """Axes of an ImageJ stack; beyond 4 GB it has one page only, followed by all pixels."""
    told = tiff.imagej_metadata or {}
    sizes = {"time": told.get("frames", 1), "slice": told.get("slices", 1), "channel": told.get("channels", 1)}
    if prod(sizes.values()) == told.get("images", 1):
        return sizes
    return {"time": told.get("images", 1)}


def _shaped_sizes(tiff: TiffFile) -> dict[str, int]:
    """Axes of a stack written by tifffile, which notes the shape of the whole in the first page."""
    told = (tiff.shaped_metadata or [{}])[0]
    shape = tuple(told.get("shape", ()))[:-2]
    axes = told.get("axes", "Q" * len(shape))
    return {AXIS_NAMES.get(axis, f"{axis}{i}"): size for i, (axis, size) in enumerate(zip(axes, shape, strict=False))}


def _lies_in_one_piece(tiff: TiffFile, stored: int, whole: bool) -> bool:
    """Whether all pixels follow one another without a gap.

    ImageJ and tifffile promise it, others happen to do it. Looked at in the first, middle and last page: evenly spaced
    by exactly one frame, they leave no room for anything else between them.
    """
    first = tiff.pages.first
    if not is_plain(first):
        return False
    if stored == 1:
        return tiff.is_imagej or tiff.is_shaped or whole
    start, step = first.dataoffsets[0], first.nbytes
    return all(
        page.hash == first.hash and page.dataoffsets[0] == start + place * step
        for place in {1, stored // 2, stored - 1}
        for page in [tiff.pages[place]]
    )


def _complete_pages(tiff: TiffFile, stored: int) -> int:
    """Pages from the first whose pixels end before the file does."""
    size = tiff.filehandle.size
    for place in range(stored, 0, -1):
        page = tiff.pages[place - 1]
        if all(start + count <= size for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)):
            return place
    return 0


def _check_last(tiff: TiffFile, place: int, name: str) -> None:
    """Frames of different sizes usually show in the last page; the others are checked when they are read."""
    first, last = tiff.pages.first, tiff.pages[place]
    if last.shape != first.shape or last.dtype != first.dtype:
        raise sizes_error(name, place, last.shape, first.shape)


def micromanager_tags(tiff: TiffFile, place: int = 0) -> Mapping[str, Any]:
    """One page's tags in Micro-Manager's words, with the summary's merged in; empty where there are none."""
    page = tiff.pages[place]
    tag = page.tags.get(51123) if isinstance(page, TiffPage) else None
    own = tag.value if tag is not None and isinstance(tag.value, Mapping) else {}
    summary = (tiff.micromanager_metadata or {}).get("Summary") if tiff.is_micromanager else None
    return {**(summary if isinstance(summary, Mapping) else {}), **own}


def _imagej_camera(tiff: TiffFile) -> dict[str, float]:
    """The pixel size: ImageJ keeps pixels per unit in XResolution and the unit in its description."""
    unit = (tiff.imagej_metadata or {}).get("unit")
    resolution = tiff.pages.first.tags.get("XResolution")
    if not isinstance(unit, str) or resolution is None or not all(resolution.value):
        return {}
    pixels, units = resolution.value
    size = metadata.length_nm(units / pixels, unit)
    return {} if size is None else {"pixel_size": size}


def _imagej_interval(tiff: TiffFile) -> float | None:
    seconds = metadata.positive((tiff.imagej_metadata or {}).get("finterval"))
    return None if seconds is None else seconds * 1000.0
