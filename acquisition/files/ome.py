"""OME-TIFF, also split over several files: any of them opens the whole recording."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree as ET

import numpy as np
from tifffile import TiffFile, TiffPage, TiffPageSeries

from acquisition.files import metadata
from acquisition.files.checks import check_axes
from acquisition.files.stack import Clock, Int64s, PlainStack, Seconds, Stack, StackInfo, times_every
from acquisition.files.tiff import (
    AXIS_NAMES,
    Page,
    PagedStack,
    check_page,
    frame_offset,
    is_plain,
    micromanager_tags,
    opened,
    sound_pages,
    stored_dtype,
    tiff_file,
)
from config.errors import SourceUnreadable

log = logging.getLogger(__name__)

SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "min": 60.0, "h": 3600.0}


def is_ome_tiff(path: Path) -> bool:
    """Whether the TIFF carries OME-XML. Raises SourceUnreadable."""
    with tiff_file(path) as tiff:
        return bool(tiff.is_ome)


def open_ome_tiff(path: Path) -> Stack | None:
    """Open the recording, or None where its OME-XML is no use and the file is better read as a plain TIFF.

    Planes that the XML announces and no file holds become gaps in the frame numbers. Raises SourceUnreadable.
    """
    with opened(_main_file(path), path) as tiff:
        series = [one for one in tiff.series if one.kind == "ome"]
        if not series:
            tiff.close()
            return None
        return _stack(tiff, _only(series, path.name), path)


def _main_file(path: Path) -> Path:
    """The member that describes all of them: the others of a split recording may only name it."""
    with tiff_file(path) as tiff:
        root = _xml(tiff)
    pointer = None if root is None else root.find("{*}BinaryOnly")
    if pointer is None:
        return path
    main = path.parent / pointer.attrib.get("MetadataFile", "")
    if not main.is_file():
        raise SourceUnreadable(
            f"{path.name} is one part of a split OME-TIFF whose description is in {main.name}, which is not beside it. "
            "Copy all files of the recording into one folder."
        )
    return main if main.suffix.lower() in (".tif", ".tiff") else path


def _only(series: list[TiffPageSeries], name: str) -> TiffPageSeries:
    if len(series) > 1:
        raise SourceUnreadable(
            f"{name} holds {len(series)} images (positions?); one recording is needed. "
            "Save the one to analyse as a stack of its own."
        )
    return series[0]


def _stack(tiff: TiffFile, series: TiffPageSeries, path: Path) -> Stack:
    keyframe = series.keyframe
    check_page(keyframe, path.name)
    axes = dict(zip(series.get_axes(squeeze=False), series.get_shape(squeeze=False), strict=True))
    check_axes({AXIS_NAMES.get(axis, axis): size for axis, size in axes.items() if axis not in "YXS"}, path.name)
    pages = list(series.pages)
    numbers = np.flatnonzero([page is not None for page in pages]).astype(np.int64)
    present = [page for page in pages if page is not None]
    _report_missing(len(pages), numbers, path.name)
    info, clock = _info(tiff, keyframe, path, (len(pages), numbers), present)
    return _plain(info, clock, tiff, present) or PagedStack(info, clock, present.__getitem__, tiff)


def _plain(info: StackInfo, clock: Clock, tiff: TiffFile, pages: list[Page]) -> PlainStack | None:
    if not all(is_plain(cast(TiffPage, page.keyframe)) for page in pages):
        return None
    offsets = [frame_offset(page, info.frame_bytes) for page in pages]
    if None in offsets[: info.readable]:
        return None
    paths = list(dict.fromkeys(_path(page) for page in pages))
    files = np.array([paths.index(_path(page)) for page in pages], dtype=np.int64)
    tiff.close()
    return PlainStack(info, clock, paths, files, np.array([offset or 0 for offset in offsets], dtype=np.int64))


def _info(
    tiff: TiffFile, keyframe: TiffPage, path: Path, plan: tuple[int, Int64s], pages: list[Page]
) -> tuple[StackInfo, Clock]:
    told = pixels_element(tiff)
    tags = micromanager_tags(tiff)
    interval = pixels_interval(told)
    exposure = metadata.micromanager_interval(tags) if interval is None else interval
    readable = _complete(pages)
    planned, numbers = plan
    whole = readable < len(pages) or all(_is_whole(member) for member in {_path(page) for page in pages})
    info = StackInfo(
        name=path.name,
        height=int(keyframe.shape[0]),
        width=int(keyframe.shape[1]),
        dtype=stored_dtype(keyframe),
        # A broken chain of pages means that planes were written that cannot be found; else they never were.
        numbers=numbers if whole else np.append(numbers, _after(numbers, planned)),
        readable=readable,
        exposure=exposure,
        camera=metadata.micromanager_camera(tags) | pixels_camera(told),
    )
    return info, _plane_clock(told, info.numbers) or times_every(info.numbers, exposure)


def _after(numbers: Int64s, planned: int) -> Int64s:
    """The planned frame numbers beyond the last that was found; at least one."""
    following = int(numbers[-1]) + 1
    return np.arange(following, max(planned, following + 1), dtype=np.int64)


def _complete(pages: list[Page]) -> int:
    """Pages from the first whose pixels end before their file does."""
    sizes = {_path(page): 0 for page in pages}
    sizes = {path: path.stat().st_size for path in sizes}
    for place, page in enumerate(pages):
        ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=0) > sizes[_path(page)]:
            return place
    return len(pages)


def _is_whole(path: Path) -> bool:
    with tiff_file(path) as tiff:
        return sound_pages(tiff)[1]


def _path(page: Page) -> Path:
    return Path(page.parent.filehandle.path)


def _report_missing(planned: int, numbers: Int64s, name: str) -> None:
    if len(numbers) < planned:
        log.warning(
            "%s announces %d frames, of which %d are not in its files: they count as missing",
            name,
            planned,
            planned - len(numbers),
        )


def _xml(tiff: TiffFile) -> ET.Element | None:
    try:
        return ET.fromstring(tiff.ome_metadata or "")
    except ET.ParseError:
        return None


def pixels_element(tiff: TiffFile) -> ET.Element:
    """The XML's description of the (only) image; without attributes where there is none."""
    root = _xml(tiff)
    found = None if root is None else root.find(".//{*}Pixels")
    return ET.Element("Pixels") if found is None else found


def pixels_camera(told: ET.Element) -> dict[str, float]:
    """Fields of CameraSettings that the XML tells."""
    size = metadata.length_nm(told.attrib.get("PhysicalSizeX"), told.attrib.get("PhysicalSizeXUnit", "µm"))
    bits = metadata.positive(told.attrib.get("SignificantBits"))
    fields = {"pixel_size": size, "saturation": None if bits is None else 2.0**bits - 1.0}
    return {name: value for name, value in fields.items() if value is not None}


def pixels_interval(told: ET.Element) -> float | None:
    """Time between frames [ms] that the XML tells."""
    seconds = _seconds(told, "TimeIncrement")
    return None if seconds is None else seconds * 1000.0


def _seconds(told: ET.Element, name: str) -> float | None:
    value = metadata.number(told.attrib.get(name))
    factor = SECONDS_PER_UNIT.get(told.attrib.get(f"{name}Unit", "s"))
    return None if value is None or factor is None else value * factor


def _plane_clock(told: ET.Element, numbers: Int64s) -> Clock | None:
    """Times out of the planes' DeltaT, where there are any."""
    order = told.attrib.get("DimensionOrder", "XYCZT")[2:]
    steps: dict[str, int] = {}
    for axis in order:
        steps[axis] = int(np.prod([int(told.attrib.get(f"Size{inner}", 1)) for inner in steps], initial=1))
    planes: list[Any] = told.findall("{*}Plane")
    seconds = {_place(plane, steps): _seconds(plane, "DeltaT") for plane in planes}
    if not any(time is not None for time in seconds.values()):
        return None

    def clock(places: range) -> Seconds:
        times = [seconds.get(int(number)) for number in numbers[places.start : places.stop]]
        return np.array([np.nan if time is None else time for time in times])

    return clock


def _place(plane: ET.Element, steps: dict[str, int]) -> int:
    return sum(int(plane.attrib.get(f"The{axis}", 0)) * step for axis, step in steps.items())
