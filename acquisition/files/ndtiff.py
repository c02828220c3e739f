"""NDTiff, the folder that pycro-manager and Micro-Manager write: an index file and TIFF files of up to 4 GB."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Mapping
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from ndstorage.ndtiff_index import NDTiffIndexEntry

from acquisition.files import metadata
from acquisition.files.checks import check_axes, rgb_error, sizes_error
from acquisition.files.stack import Int64s, PlainStack, StackInfo
from config.errors import SourceUnreadable

log = logging.getLogger(__name__)

INDEX = "NDTiff.index"
SUMMARY_LENGTH_AT = 24
"""Byte of each file where the length of the summary metadata stands."""
GREY_KINDS = range(7)
"""Pixel types of NDTiff; all but one are grey."""
LONGEST_SUMMARY = 2**26
"""A longer summary is none [bytes]."""
Entry = tuple[dict[str, Any], NDTiffIndexEntry]
"""Where an image stands on the axes, and where it lies on disk."""


def dataset_folder(path: Path) -> Path | None:
    """The folder of the NDTiff dataset that ``path`` is, or is a stack file of; None where it is none."""
    if path.is_file():
        inside = "NDTiffStack" in path.name or path.name == INDEX
        return path.parent if inside and (path.parent / INDEX).is_file() else None
    # Multi-resolution datasets keep the recorded frames in a folder of their own.
    candidates = (path, path / "Full resolution")
    return next((folder for folder in candidates if (folder / INDEX).is_file()), None)


def open_ndtiff(folder: Path) -> NDTiffStack:
    """Open the dataset in ``folder``. Images are ordered by time, then by the one other axis there may be; a point of
    this grid without an image is a gap in the frame numbers. Raises SourceUnreadable.
    """
    entries = _entries(folder)
    if not entries:
        raise SourceUnreadable(f"{folder.name} is an NDTiff dataset without images: its index is empty.")
    numbers = _numbers([axes for axes, _ in entries], folder.name)
    order = np.argsort(numbers, kind="stable")
    images = [entries[place][1] for place in order]
    check_images(images, folder.name)
    return NDTiffStack(folder, images, numbers[order])


class NDTiffStack(PlainStack):
    """The images of an NDTiff dataset; each has metadata of its own."""

    def __init__(self, folder: Path, images: list[NDTiffIndexEntry], numbers: Int64s) -> None:
        names = sorted({image.filename for image in images})
        files = np.array([names.index(image.filename) for image in images], dtype=np.int64)
        offsets = np.array([image.pix_offset for image in images], dtype=np.int64)
        clock = partial(metadata.micromanager_times, self.tags)
        super().__init__(ndtiff_info(folder, images, numbers), clock, [folder / name for name in names], files, offsets)
        self._images = images

    def tags(self, place: int) -> Mapping[str, Any]:
        """Micro-Manager's tags of one image; empty where they cannot be read."""
        return image_tags(self._file(int(self._files[place])), self._images[place])


def ndtiff_info(folder: Path, images: list[NDTiffIndexEntry], numbers: Int64s) -> StackInfo:
    """What a dataset is, by its images and the metadata of the first. Raises SourceUnreadable for a missing file."""
    first = images[0]
    readable = _complete(folder, images)
    with (folder / first.filename).open("rb", buffering=0) as file:
        tags = {**_summary(file), **image_tags(file, first)}
    return StackInfo(
        name=folder.name,
        height=first.image_height,
        width=first.image_width,
        dtype=np.dtype("<u2" if first.get_byte_depth() == 2 else "u1"),
        numbers=numbers,
        readable=readable,
        exposure=metadata.micromanager_interval(tags),
        camera={"saturation": 2.0 ** first.get_bit_depth() - 1.0} | metadata.micromanager_camera(tags),
    )


def image_tags(file: FileIO, image: NDTiffIndexEntry) -> Mapping[str, Any]:
    """Micro-Manager's tags of one image, out of the open stack file that holds it; empty where they cannot be read."""
    file.seek(image.metadata_offset)
    return _json_object(file.read(image.metadata_length))


def _summary(file: FileIO) -> Mapping[str, Any]:
    """The summary metadata, which lies behind its length in the header of each file."""
    file.seek(SUMMARY_LENGTH_AT)
    length = int.from_bytes(file.read(4), "little")
    return _json_object(file.read(length)) if length < LONGEST_SUMMARY else {}


def _json_object(text: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def index_entry(data: bytes, position: int) -> tuple[int, Entry] | None:
    """The entry of the index at a byte position and where it ends; None where no whole entry stands.

    While it is written, the index may end within an entry, or with the zeros of space that is reserved for more.
    """
    if not any(data[position : position + 4]):
        return None
    try:
        found = NDTiffIndexEntry.unpack_single_index_entry(data, position)
    except (struct.error, ValueError):
        return None
    if found is None:
        return None
    end, axes, image = found
    whole = image.filename and image.pix_offset and image.image_width and image.image_height and image.metadata_offset
    return (end, (axes, image)) if whole else None


def _entries(folder: Path) -> list[Entry]:
    """All whole entries of the index."""
    data = (folder / INDEX).read_bytes()
    entries: list[Entry] = []
    position = 0
    while (found := index_entry(data, position)) is not None:
        position, entry = found
        entries.append(entry)
    if any(data[position : position + 4]):
        log.warning("%s: the index ends within an entry, after %d images", folder.name, len(entries))
    return entries


def _numbers(places: list[dict[str, Any]], name: str) -> Int64s:
    """Frame numbers: the place of each image on the grid of the axes, time outermost."""
    levels = {
        axis: _levels(axis, places) for axis in sorted({axis for place in places for axis in place}, key=_time_first)
    }
    check_axes({axis: len(values) for axis, values in levels.items()}, name)
    numbers = np.zeros(len(places), dtype=np.int64)
    for axis, values in levels.items():
        index = np.array([values[place.get(axis, next(iter(values)))] for place in places], dtype=np.int64)
        numbers = numbers * len(values) + index
    return numbers


def _time_first(axis: str) -> tuple[bool, str]:
    return axis != "time", axis


def _levels(axis: str, places: list[dict[str, Any]]) -> dict[Any, int]:
    """Index of each value on an axis. Time points are numbers already, and one without an image counts too."""
    values = list(dict.fromkeys(place[axis] for place in places if axis in place))
    if all(isinstance(value, int) for value in values):
        first = min(0, *values)
        steps = range(first, max(values) + 1) if axis == "time" else sorted(values)
        return {value: index for index, value in enumerate(steps)}
    return {value: index for index, value in enumerate(values)}


def check_images(images: list[NDTiffIndexEntry], name: str) -> None:
    """Refuse images that are no camera frames, or not all alike. Raises SourceUnreadable."""
    kinds = {image.pixel_type for image in images}
    if NDTiffIndexEntry.EIGHT_BIT_RGB in kinds:
        raise rgb_error(name)
    if not kinds <= set(GREY_KINDS):
        raise SourceUnreadable(f"{name}: its index names pixel types that NDTiff does not have. Copy it again.")
    shape = (images[0].image_height, images[0].image_width)
    for place, image in enumerate(images):
        if (image.image_height, image.image_width) != shape or image.pixel_type != images[0].pixel_type:
            raise sizes_error(name, place, (image.image_height, image.image_width), shape)


def _complete(folder: Path, images: list[NDTiffIndexEntry]) -> int:
    """Images from the first whose pixels end before their file does. Raises SourceUnreadable for a missing file."""
    sizes = {name: _size(folder, name) for name in {image.filename for image in images}}
    for place, image in enumerate(images):
        end = image.pix_offset + image.image_width * image.image_height * image.get_byte_depth()
        if end > sizes[image.filename]:
            return place
    return len(images)


def _size(folder: Path, name: str) -> int:
    try:
        return (folder / name).stat().st_size
    except OSError as error:
        raise SourceUnreadable(
            f"{folder.name}: {name}, which the index names, is not there. Copy all files of the dataset."
        ) from error
