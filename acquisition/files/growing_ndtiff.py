"""NDTiff while it is written.

The writer puts an image into a stack file, then its entry into the index. Micro-Manager reserves space for both: 25 MB
of zeros behind the index, 4 GB for a stack file. At the end both are cut to what was written: that is the end marker.
A writer that keeps its index in memory for a while (ndstorage's, in Python: some 80 entries) is followed as late.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from ndstorage.ndtiff_index import NDTiffIndexEntry

from acquisition.files import metadata
from acquisition.files.checks import sizes_error
from acquisition.files.growing import GrowingStack, NewFrame, several_axes
from acquisition.files.ndtiff import INDEX, check_images, image_tags, index_entry, ndtiff_info
from config.errors import SourceStopped, SourceUnreadable

LOOK = 1 << 16
"""Bytes of the index read at once; an entry has about a hundred."""
PADDING = 16
"""Bytes that a finished stack file may have behind its last image."""


def open_growing_ndtiff(folder: Path) -> GrowingNDTiff | None:
    """Follow the dataset in ``folder``; None as long as it has no whole image. Raises SourceUnreadable."""
    try:
        index = (folder / INDEX).open("rb", buffering=0)
    except OSError:
        return None
    found = index_entry(index.read(LOOK), 0)
    if found is None or not _is_there(folder, found[1][1]):
        index.close()
        return None
    try:
        return GrowingNDTiff(folder, index, *found[1])
    except SourceUnreadable:
        index.close()
        raise


class GrowingNDTiff(GrowingStack):
    """An NDTiff dataset that grows. Frames are numbered by their time point; one that was left out is a gap."""

    has_end_marker = True

    def __init__(self, folder: Path, index: FileIO, axes: dict[str, Any], first: NDTiffIndexEntry) -> None:
        """By its open index and its first image with its place on the axes. Raises SourceUnreadable."""
        check_images([first], folder.name)
        super().__init__(ndtiff_info(folder, [first], np.zeros(1, np.int64)), folder / INDEX)
        self._folder, self._index, self._first = folder, index, first
        self._others = _without_time(axes)
        self._position = 0
        self._newest = first
        self._number = -1

    def more(self, limit: int) -> list[NewFrame]:
        """See GrowingStack."""
        self._index.seek(self._position)
        data, position = self._index.read(LOOK), 0
        frames: list[NewFrame] = []
        while len(frames) < limit and (found := index_entry(data, position)) is not None:
            end, (axes, image) = found
            if not _is_there(self._folder, image):
                break
            frames.append(self._taken(axes, image))
            position = end
        self._position += position
        return frames

    def ended(self) -> bool:
        """See GrowingStack: the index ends with its last entry, and the stack file with its last image."""
        longer = os.fstat(self._index.fileno()).st_size > self._position
        end = self._newest.metadata_offset + self._newest.metadata_length + PADDING
        return not longer and bool(self._stack_state().st_size <= end)

    def pulse(self) -> tuple[int, ...]:
        """See GrowingStack. Images count too that a writer has not put into the index yet."""
        state = super().pulse()
        if state[0] < self._position:
            raise self._gone("was replaced by another", "its index is shorter than before")
        return *state, self._stack_state().st_mtime_ns

    def close(self) -> None:
        """See GrowingStack."""
        self._index.close()
        super().close()

    def _taken(self, axes: dict[str, Any], image: NDTiffIndexEntry) -> NewFrame:
        number = self._number_of(axes)
        self._check(image, number)
        path = self._folder / image.filename
        seconds = metadata.micromanager_seconds(image_tags(self._file(path), image))
        self._newest, self._number = image, number
        return NewFrame(number, seconds, path, image.pix_offset)

    def _stack_state(self) -> os.stat_result:
        try:
            return (self._folder / str(self._newest.filename)).stat()
        except OSError as error:
            super().pulse()  # says so where the whole dataset is gone
            raise self._gone("lost one of its files", str(error.strerror)) from error

    def _number_of(self, axes: dict[str, Any]) -> int:
        if _without_time(axes) != self._others:
            raise several_axes(self.info.name, ", ".join(sorted(axes)))
        number = axes.get("time", 0)
        if not isinstance(number, int) or number < 0:
            raise SourceUnreadable(f"{self.info.name} has the time point {number!r}; whole numbers from 0 are needed.")
        if number <= self._number:
            raise SourceStopped(
                f"{self.info.name}: time point {number} was written after {self._number}; frames must come in order to "
                "be followed. The frames before are analysed. Analyse the whole afterwards with liveloc replay."
            )
        return number

    def _check(self, image: NDTiffIndexEntry, number: int) -> None:
        check_images([image], self.info.name)
        found, expected = (image.image_height, image.image_width), (self.info.height, self.info.width)
        if found != expected or image.get_byte_depth() != self._first.get_byte_depth():
            raise sizes_error(self.info.name, number, found, expected)


def _is_there(folder: Path, image: NDTiffIndexEntry) -> bool:
    """Whether the stack file reaches to the image's end: over a network the index may arrive first."""
    try:
        size: int = (folder / image.filename).stat().st_size
    except OSError:
        return False
    end: int = image.metadata_offset + image.metadata_length
    return size >= end


def _without_time(axes: dict[str, Any]) -> dict[str, Any]:
    return {axis: place for axis, place in axes.items() if axis != "time"}
