"""All localisations that have come, in columns that grow: what the canvas draws and the panels count. No Qt, no OpenGL.

Rows lie in chunks of a fixed size, so growing copies nothing. A column that a chunk's rows do not know takes no memory,
and frames take two bytes where a chunk spans fewer than 65,536 of them: 36 to 42 bytes a point, with the 20 of the
graphics memory (viewer/buffers.py) fewer than 64 altogether.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from config.errors import TableError
from engine.localisations import LOCALISATION_SCHEMA
from engine.output.table import table_from_columns
from viewer.codes import SCALES
from viewer.tally import FrameTally, Histogram, Tally

Floats: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

CHUNK_ROWS = 131_072
"""Rows in a chunk."""
KEPT = tuple(name for name in LOCALISATION_SCHEMA.names if name != "frame")
"""Columns kept as float32, exactly as they came."""
MEASURES = ("precision", "probability", "photons", "frame", "z", "background")
"""Columns with a histogram. precision [nm] is the root mean square of sigma_x and sigma_y."""
FILTERABLE = (*MEASURES, "x", "y")
OPEN = (-math.inf, math.inf)
"""A filter that shows everything, unknown values too."""


@dataclass(frozen=True)
class Rectangle:
    """A rectangle along the axes [nm]; x runs to the right, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """[nm]."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """[nm]."""
        return self.bottom - self.top

    @property
    def area(self) -> float:
        """[µm²]."""
        return self.width * self.height / 1e6


@dataclass(frozen=True)
class Measurement:
    """Of the localisations that are shown and lie in a rectangle."""

    count: int
    precision: float
    """Mean precision [nm]; NaN where none is known."""
    photons: float
    """Median photons; NaN where none are known."""


class Chunk:
    """Up to CHUNK_ROWS rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.first_frame = 0
        """What ``frame_offsets`` count from."""
        self.frame_span = 0
        """The last frame − ``first_frame``."""
        self.frame_offsets: NDArray[Any] = np.empty(0, np.uint16)
        """(CHUNK_ROWS,) frame − first_frame; uint16, or uint32 where that does not reach."""
        self._columns: dict[str, Floats] = {}

    @property
    def nbytes(self) -> int:
        """Memory of the rows that are filled [bytes]."""
        width = self.frame_offsets.itemsize + sum(column.itemsize for column in self._columns.values())
        return self.rows * width

    def column(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """(stop − start,) values of a kept column, of ``frame`` (int64) or of ``precision``; NaN where unknown."""
        rows = slice(start, self.rows if stop is None else stop)
        if name == "frame":
            frames: NDArray[np.int64] = self.frame_offsets[rows].astype(np.int64) + self.first_frame
            return frames
        if name == "precision":
            sigma_x, sigma_y = (self.column(sigma, rows.start, rows.stop) for sigma in ("sigma_x", "sigma_y"))
            precision: Floats = np.sqrt((sigma_x**2 + sigma_y**2) / 2)
            return precision
        found = self._columns.get(name)
        return np.full(rows.stop - rows.start, np.nan, np.float32) if found is None else found[rows]

    def put(self, columns: Mapping[str, Floats], frames: NDArray[np.int64]) -> None:
        """Append rows; there must be room for them."""
        stop = self.rows + len(frames)
        for name, values in columns.items():
            self._put(name, values, stop)
        self._put_frames(frames, stop)
        self.rows = stop

    def _put(self, name: str, values: Floats, stop: int) -> None:
        held = self._columns.get(name)
        if held is None:
            if np.isnan(values).all():
                return
            held = self._columns[name] = np.empty(CHUNK_ROWS, np.float32)
            held[: self.rows] = np.nan
        held[self.rows : stop] = values

    def _put_frames(self, frames: NDArray[np.int64], stop: int) -> None:
        low, high = int(frames.min()), int(frames.max())
        if self.rows == 0:
            self.first_frame = low
        if not self.frame_offsets.size or low < self.first_frame or high - self.first_frame > self._longest:
            self._rebase(low, high)
        self.frame_offsets[self.rows : stop] = frames - self.first_frame
        self.frame_span = max(self.frame_span, high - self.first_frame)

    @property
    def _longest(self) -> int:
        return int(np.iinfo(self.frame_offsets.dtype).max)

    def _rebase(self, low: int, high: int) -> None:
        """Count frames from an earlier one, or in wider numbers."""
        held = self.column("frame")
        low, high = int(held.min(initial=low)), int(held.max(initial=high))
        if high - low > np.iinfo(np.uint32).max:
            raise TableError(f"frames from {low} to {high} cannot be numbers of one recording. Check the file.")
        kind = np.uint16 if high - low <= np.iinfo(np.uint16).max else np.uint32
        self.frame_offsets = np.empty(CHUNK_ROWS, kind)
        self.first_frame, self.frame_span = low, high - low
        self.frame_offsets[: self.rows] = held - low


@dataclass
class _Counted:
    """How many rows of a chunk the filters show, as far as it has been counted."""

    version: int = -1
    rows: int = 0
    shown: int = 0


class PointStore:
    """Localisations of one run or file. One thread."""

    def __init__(self) -> None:
        self.version = 0
        """Of the points: another number says that everything before is void, not that more have come."""
        self.filter_version = 0
        """Of the filters."""
        self.filters: dict[str, tuple[float, float]] = {}
        """Those that are not open: column → (low, high), both included."""
        self._void()

    def _void(self) -> None:
        self.chunks: list[Chunk] = []
        self.count = 0
        self.unplaced = 0
        """Rows whose x or y is no finite number, which are not kept."""
        self._tallies = {name: Tally(scale) for name, scale in SCALES.items()}
        self._frames = FrameTally()
        self._counted: list[_Counted] = []

    @property
    def nbytes(self) -> int:
        """Memory of the points [bytes], without what does not grow with them."""
        return sum(chunk.nbytes for chunk in self.chunks)

    def clear(self) -> None:
        """Forget all points; the filters stay."""
        self.version += 1
        self._void()

    def append(self, batch: pa.RecordBatch) -> None:
        """Take localisations (LOCALISATION_SCHEMA). Raises TableError for frame numbers that cannot be."""
        columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in KEPT}
        frames = np.asarray(batch.column("frame").to_numpy(), np.int64)
        placed = np.isfinite(columns["x"]) & np.isfinite(columns["y"])
        if not placed.all():
            columns, frames = {name: values[placed] for name, values in columns.items()}, frames[placed]
            self.unplaced += int(np.count_nonzero(~placed))
        self._append(columns, frames)

    def set_filter(self, column: str, low: float, high: float) -> None:
        """Show only what lies from ``low`` to ``high``; infinite where open. Unknown values need both open."""
        if column not in FILTERABLE:
            raise TableError(f"there is no filter for {column!r}. Choose one of {', '.join(FILTERABLE)}.")
        if self.filters.get(column, OPEN) == (low, high):
            return
        if (low, high) == OPEN:
            del self.filters[column]
        else:
            self.filters[column] = low, high
        self.filter_version += 1

    def extent(self, column: str) -> tuple[float, float]:
        """What all known values but a few outliers lie between, frames exactly; NaN where none is known."""
        return self._frames.extent() if column == "frame" else self._tallies[column].extent()

    def histogram(self, column: str, bins: int = 128, limits: tuple[float, float] | None = None) -> Histogram:
        """Of all points, filtered or not, within ``limits`` or else the extent; constant cost."""
        low, high = limits or self.extent(column)
        if limits is None and column == "frame":
            high += 1  # the last frame has a width
        tally = self._frames if column == "frame" else self._tallies[column]
        return tally.histogram(bins, low, high)

    @property
    def field(self) -> Rectangle | None:
        """What the points lie in, without outliers; None where there are none."""
        if not self.count:
            return None
        (left, right), (top, bottom) = self.extent("x"), self.extent("y")
        return Rectangle(left, top, right, bottom)

    @property
    def shown(self) -> int:
        """How many points the filters show. A new filter costs a pass over all points, new points themselves."""
        if not self.filters:
            return self.count
        return sum(self._count_chunk(index) for index in range(len(self.chunks)))

    def measure(self, rectangle: Rectangle) -> Measurement:
        """Count and mean figures of the shown points in ``rectangle``."""
        inside = [(chunk, self._mask(chunk) & _in(chunk, rectangle)) for chunk in self.chunks]
        precision, photons = (
            np.concatenate([chunk.column(name)[mask] for chunk, mask in inside] or [np.empty(0, np.float32)])
            for name in ("precision", "photons")
        )
        return Measurement(len(precision), _known(precision, np.mean), _known(photons, np.median))

    def table(self, metadata: Mapping[str, str], filtered: bool = True) -> pa.Table:
        """The shown points, or all, as they came (LOCALISATION_SCHEMA, in the order in which they came)."""
        masks = [self._mask(chunk) if filtered else np.ones(chunk.rows, np.bool_) for chunk in self.chunks]
        columns = {
            name: np.concatenate(
                [chunk.column(name)[mask] for chunk, mask in zip(self.chunks, masks, strict=True)] or [np.empty(0)]
            )
            for name in ("frame", *KEPT)
        }
        table = table_from_columns(columns, metadata)
        for name in ("z", "sigma_z"):
            place = table.schema.get_field_index(name)
            unknown = pa.array(columns[name], pa.float32(), mask=np.isnan(columns[name]))
            table = table.set_column(place, table.schema.field(place), unknown)
        return table

    def _append(self, columns: Mapping[str, Floats], frames: NDArray[np.int64]) -> None:
        for part in self._portions(len(frames)):
            portion = {name: values[part] for name, values in columns.items()}
            chunk = self.chunks[-1]
            chunk.put(portion, frames[part])
            self._tally(chunk, part.stop - part.start)
            self.count += part.stop - part.start

    def _portions(self, rows: int) -> Iterator[slice]:
        """Slices of ``rows`` new rows, each of which fits into the chunk that is the last one by then."""
        start = 0
        while start < rows:
            if not self.chunks or self.chunks[-1].rows == CHUNK_ROWS:
                self.chunks.append(Chunk())
                self._counted.append(_Counted())
            stop = min(rows, start + CHUNK_ROWS - self.chunks[-1].rows)
            yield slice(start, stop)
            start = stop

    def _tally(self, chunk: Chunk, rows: int) -> None:
        for name, tally in self._tallies.items():
            tally.add(chunk.column(name, chunk.rows - rows))
        self._frames.add(chunk.column("frame", chunk.rows - rows))

    def _mask(self, chunk: Chunk, start: int = 0) -> Mask:
        """(rows − start,) which rows the filters show."""
        mask = np.ones(chunk.rows - start, np.bool_)
        for name, (low, high) in self.filters.items():
            values = chunk.column(name, start)
            mask &= (values >= low) & (values <= high)
        return mask

    def _count_chunk(self, index: int) -> int:
        chunk, counted = self.chunks[index], self._counted[index]
        if counted.version != self.filter_version:
            counted.version, counted.rows, counted.shown = self.filter_version, 0, 0
        if counted.rows < chunk.rows:
            counted.shown += int(np.count_nonzero(self._mask(chunk, counted.rows)))
            counted.rows = chunk.rows
        return counted.shown


def _in(chunk: Chunk, rectangle: Rectangle) -> Mask:
    x, y = chunk.column("x"), chunk.column("y")
    inside: Mask = (x >= rectangle.left) & (x <= rectangle.right) & (y >= rectangle.top) & (y <= rectangle.bottom)
    return inside


def _known(values: Floats, figure: Any) -> float:
    """``figure`` of the values that are known; NaN where there is none."""
    known = values[~np.isnan(values)]
    return float(figure(known)) if known.size else math.nan
