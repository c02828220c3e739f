"""TIFF while it is written, page by page: Micro-Manager's OME-TIFF, split files too, and what other programs append to.

A page is given once it is surely whole. In a file of Micro-Manager, which reserves its space first so that the size
says nothing, that is when the metadata stands behind the pixels. In others it is when the next page has begun, or when
the pixels lie inside the file and nothing has changed for a moment.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile, TiffPage

from acquisition.files import metadata
from acquisition.files.checks import sizes_error
from acquisition.files.growing import GrowingStack, NewFrame, several_axes
from acquisition.files.ome import pixels_camera, pixels_element, pixels_interval
from acquisition.files.stack import StackInfo
from acquisition.files.tiff import (
    AXIS_NAMES,
    DAMAGE,
    check_page,
    frame_offset,
    is_plain,
    stored_dtype,
    tiff_info,
    undecodable,
)
from acquisition.source import Pixels
from config.errors import SourceStopped, SourceUnreadable

SETTLED = 0.15
"""Seconds without a change after which the newest page counts as whole."""
MICROMANAGER_AT, MICROMANAGER = 8, 54773648
"""Where and how the header of a Micro-Manager stack tells what it is."""
TAGS = 51123
"""The TIFF tag that holds Micro-Manager's tags of an image."""
SUFFIX = ".ome.tif"


def open_growing_tiff(path: Path, clock: Callable[[], float] = time.monotonic) -> GrowingTiff | None:
    """Follow a stack; None as long as its first page is not whole. Raises SourceUnreadable."""
    chain = _open_chain(path)
    if chain is None:
        return None
    try:
        if chain.reaches(chain.first) and (chain.tags(chain.first) or not chain.micromanager):
            with _looking():
                return GrowingTiff(chain, clock)
    except (SourceUnreadable, *DAMAGE) as error:
        chain.close()
        if isinstance(error, SourceUnreadable):
            raise
        return None
    chain.close()
    return None


_LOOKING = ContextVar("looking", default=False)
# tifffile logs errors over pages that are not whole yet; while we look at one that is no error.
logging.getLogger("tifffile").addFilter(lambda _: not _LOOKING.get())


@contextmanager
def _looking() -> Iterator[None]:
    token = _LOOKING.set(True)
    try:
        yield
    finally:
        _LOOKING.reset(token)


class _Chain:
    """The pages of one file, looked at anew each time."""

    def __init__(self, path: Path) -> None:
        """Raises what tifffile raises where the first page is not there."""
        self.path, self.size = path, -1
        # Unbuffered: a buffer would keep showing the zeros that stood where pages are now.
        self._file = path.open("rb", buffering=0)
        try:
            self.refresh()
            self.first = self.tiff.pages.first
            self._file.seek(MICROMANAGER_AT)
            mark = self._file.read(4)
        except DAMAGE:
            self._file.close()
            raise
        order = self.tiff.byteorder
        self.micromanager = len(mark) == 4 and struct.unpack(f"{order}I", mark)[0] == MICROMANAGER

    def refresh(self) -> None:
        """Let tifffile, which takes a file for as long as it was at first, see all of it."""
        size = self.state()[0]
        if size != self.size:
            self._file.seek(0)
            with _looking():
                self.tiff = TiffFile(self._file)
            self.size = size

    def state(self) -> tuple[int, int]:
        """Changes whenever the file does."""
        state = os.fstat(self._file.fileno())
        return state.st_size, state.st_mtime_ns

    def page(self, offset: int) -> TiffPage | None:
        """The page at an offset, or None where none has begun."""
        if not self.has_begun(offset):
            return None
        self.tiff.filehandle.seek(offset)
        try:
            with _looking():
                page = TiffPage(self.tiff, 0)
        except DAMAGE:
            return None
        return page if page.dataoffsets and all(page.dataoffsets) and any(page.databytecounts) else None

    def has_begun(self, offset: int) -> bool:
        """Whether a page has begun at this offset."""
        self._file.seek(offset)
        return offset > 0 and any(self._file.read(self.tiff.tiff.tagnosize))

    def following(self, page: TiffPage) -> int:
        """Where the page behind this one begins, or will begin; 0 where there is none."""
        form, file = self.tiff.tiff, self._file
        file.seek(page.offset)
        count = file.read(form.tagnosize)
        if len(count) < form.tagnosize:
            return 0
        file.seek(struct.unpack(form.tagnoformat, count)[0] * form.tagsize, os.SEEK_CUR)
        found = file.read(form.offsetsize)
        return int(struct.unpack(form.offsetformat, found)[0]) if len(found) == form.offsetsize else 0

    def reaches(self, page: TiffPage) -> bool:
        """Whether the file is long enough for the page's pixels."""
        return all(at + count <= self.size for at, count in zip(page.dataoffsets, page.databytecounts, strict=True))

    def tags(self, page: TiffPage) -> Mapping[str, Any]:
        """Micro-Manager's tags of the page; empty where there are none, or not yet."""
        tag = page.tags.get(TAGS)
        return tag.value if tag is not None and isinstance(tag.value, Mapping) else {}

    def close(self) -> None:
        self.tiff.close()
        self._file.close()


class GrowingTiff(GrowingStack):
    """A TIFF stack that grows. Frames are numbered by Micro-Manager's frame index, else by their place in the file."""

    has_end_marker = False

    def __init__(self, chain: _Chain, clock: Callable[[], float] = time.monotonic) -> None:
        """``chain`` has a first page. Raises SourceUnreadable."""
        super().__init__(_described(chain), chain.path)
        self._chain, self._clock = chain, clock
        self._main, self._members = chain.path, 1
        self._first_tags = chain.tags(chain.first)
        self._last: TiffPage | None = None
        self._number = -1
        self._waiting: tuple[Any, float] = (None, 0.0)
        """State of the file around the newest page, and since when it is like that."""

    def more(self, limit: int) -> list[NewFrame]:
        """See GrowingStack."""
        frames: list[NewFrame] = []
        self._refresh()
        while len(frames) < limit and (page := self._next_page()) is not None and self._is_whole(page):
            frames.append(self._taken(page))
            self._last = page
        if not frames and self._turn_over():
            return self.more(limit)
        return frames

    def ended(self) -> bool:
        """See GrowingStack. Only Micro-Manager tells: at its end it writes the OME-XML into its first page."""
        if not self._chain.micromanager or self._last is None or self._next_page() is not None:
            return False
        first = self._chain.page(self._chain.first.offset)
        described = first is not None and first.tags.get("ImageDescription")
        return bool(described and described.count) and not self._chain.following(self._last)

    def pulse(self) -> tuple[int, ...]:
        """See GrowingStack."""
        state = super().pulse()
        self._refresh()
        if self._last is not None and not self._chain.reaches(self._last):
            raise self._gone("was cut short", "it is smaller than before")
        return state

    def close(self) -> None:
        """See GrowingStack."""
        self._chain.close()
        super().close()

    def _frame(self, frame: NewFrame) -> Pixels:
        if frame.page is None:
            return super()._frame(frame)
        page = self._chain.page(frame.page)
        if page is None:
            raise self._gone("was cut short", f"frame {frame.number} is no longer whole")
        try:
            pixels: Pixels = page.asarray()
        except DAMAGE as error:
            raise undecodable(self.info.name, frame.number, error) from error
        return pixels

    def _refresh(self) -> None:
        try:
            self._chain.refresh()
        except DAMAGE as error:
            raise self._gone("was damaged", str(error)) from error

    def _next_page(self) -> TiffPage | None:
        at = self._chain.first.offset if self._last is None else self._chain.following(self._last)
        return self._chain.page(at)

    def _is_whole(self, page: TiffPage) -> bool:
        if not self._chain.reaches(page):
            return False
        if self._chain.micromanager:
            return bool(self._chain.tags(page))
        return self._chain.has_begun(self._chain.following(page)) or self._has_settled(page)

    def _has_settled(self, page: TiffPage) -> bool:
        now, state = self._clock(), (page.offset, self._chain.path, self._chain.state())
        if state != self._waiting[0]:
            self._waiting = state, now
        return now - self._waiting[1] >= SETTLED

    def _turn_over(self) -> bool:
        """Go on in the next file of a recording that Micro-Manager splits at 4 GB, once there is one."""
        if self._last is None or not self._chain.micromanager:
            return False
        stem = self._main.name.removesuffix(SUFFIX)
        following = _open_chain(self._main.with_name(f"{stem}_{self._members}{SUFFIX}"))
        if following is None:
            return False
        self._chain.close()
        self._chain, self._last, self._members = following, None, self._members + 1
        self._watch(following.path)
        return True

    def _taken(self, page: TiffPage) -> NewFrame:
        number = self._number_of(self._chain.tags(page))
        check_page(page, self.info.name)
        if page.shape != (self.info.height, self.info.width) or stored_dtype(page) != self.info.dtype:
            raise sizes_error(self.info.name, number, page.shape, (self.info.height, self.info.width))
        self._number = number
        seconds = metadata.micromanager_seconds(self._chain.tags(page))
        offset = frame_offset(page, self.info.frame_bytes) if is_plain(page) else None
        if offset is None:
            return NewFrame(number, seconds, self._chain.path, 0, page.offset)
        return NewFrame(number, seconds, self._chain.path, offset)

    def _number_of(self, tags: Mapping[str, Any]) -> int:
        others = [name for name in ("ChannelIndex", "SliceIndex") if tags.get(name) != self._first_tags.get(name)]
        if others:
            raise several_axes(self.info.name, f"time, {', '.join(name.removesuffix('Index') for name in others)}")
        told = tags.get("FrameIndex")
        number = told if isinstance(told, int) else self._number + 1
        if number <= self._number:
            raise SourceStopped(
                f"{self.info.name}: frame {number} was written after frame {self._number}; frames must come in order "
                "to be followed. The frames before are analysed. Analyse the whole afterwards with liveloc replay."
            )
        return number


def _open_chain(path: Path) -> _Chain | None:
    """None where the file or its first page is not there (yet)."""
    try:
        return _Chain(path)
    except DAMAGE:
        return None


def _described(chain: _Chain) -> StackInfo:
    """What the stack is. Raises SourceUnreadable."""
    tiff, name = chain.tiff, chain.path.name
    check_page(chain.first, name)
    if tiff.is_imagej and not chain.micromanager:
        raise SourceUnreadable(
            f"{name} is an ImageJ stack, which ImageJ writes in one go: there is nothing to follow. Use liveloc replay."
        )
    told = pixels_element(tiff)
    axes = {axis: int(told.attrib.get(f"Size{axis}", 1)) for axis in "TCZ"}
    if axes["C"] > 1 or axes["Z"] > 1:
        raise several_axes(name, " × ".join(f"{size} {AXIS_NAMES[axis]}" for axis, size in axes.items()))
    info = tiff_info(tiff, chain.path, np.zeros(1, np.int64), 1)
    return replace(info, exposure=pixels_interval(told) or info.exposure, camera=info.camera | pixels_camera(told))
