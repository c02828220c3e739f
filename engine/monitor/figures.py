"""The figures of quality, and how they are measured on a window of data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from acquisition.camera import Camera
from acquisition.source import SourceDescription
from config.schema import MonitorSettings
from engine.domain_check import psf_width
from engine.monitor.drift import DriftEstimator
from engine.monitor.frc import RingCorrelation
from engine.monitor.windows import Columns, Window
from engine.runtimes.model_file import ModelDescription, domain_warnings, photon_warnings

Floats: TypeAlias = NDArray[np.float64]

CELL = 1.0
"""Least width of a cell of the density map [µm]."""
CELLS = 16
"""Most cells of a side."""
PLACES = ("x", "y", "sigma_x", "sigma_y")
"""Columns that drift is found by."""
SEGMENT = 200
"""Fewest localisations of a segment that drift is looked for in; a sparser one takes more time of data."""
MOST = 200_000
"""About the most; of more, every n-th is taken."""

_UNITS = {
    "time": (pa.float64(), "s"),
    "first_frame": (pa.int64(), "1"),
    "frame": (pa.int64(), "1"),
    "frames": (pa.int64(), "1"),
    "localisations": (pa.int64(), "1"),
    "area": (pa.float64(), "µm²"),
    "localisations_per_frame": (pa.float64(), "1"),
    "density": (pa.float64(), "1/µm²"),
    "target": (pa.float64(), "1/µm²"),
    "photons": (pa.float64(), "photon"),
    "background": (pa.float64(), "photon/pixel"),
    "precision": (pa.float64(), "nm"),
    "psf_sigma": (pa.float64(), "nm"),
    "drift_x": (pa.float64(), "nm"),
    "drift_y": (pa.float64(), "nm"),
    "frc": (pa.float64(), "nm"),
    "density_map": (pa.list_(pa.list_(pa.float32())), "1/µm²"),
    "warnings": (pa.list_(pa.string()), "1"),
}
QUALITY_SCHEMA = pa.schema([pa.field(name, kind, True, {"unit": unit}) for name, (kind, unit) in _UNITS.items()])
"""Columns of quality.parquet: the fields of Quality, with their units."""


@dataclass(frozen=True)
class Quality:
    """One row of figures. None is what is not known."""

    time: float
    """Where the window ends: time of data since the acquisition began [s]."""
    first_frame: int
    """Number of the window's first frame."""
    frame: int
    """Number of its last."""
    frames: int
    """Frames in it; fewer than the numbers span where some are missing."""
    localisations: int
    area: float
    """Of the field [µm²]."""
    localisations_per_frame: float
    density: float
    """Localisations per frame and area [1/µm²]."""
    target: float | None
    """Density that feedback is to hold [1/µm²]."""
    photons: float | None
    """Median [photons]."""
    background: float | None
    """Median [photons/pixel]."""
    precision: float | None
    """Median of the mean of sigma_x and sigma_y [nm]."""
    psf_sigma: float | None
    """Width of the PSF on some of the frames, standard deviation [nm]."""
    drift_x: float | None
    """Of the newest segment against the first [nm]."""
    drift_y: float | None
    frc: float | None
    """Newest FRC resolution of all data so far [nm], drift not taken out."""
    density_map: list[list[float]]
    """Density by place [1/µm²]: rows along y of cells along x, over the whole field."""
    warnings: list[str]
    """In what the data lies outside what the model was trained for, in words."""

    def figures(self) -> dict[str, Any]:
        """The row as a dictionary of plain values, for messages to other programs."""
        return asdict(self)


@dataclass(frozen=True)
class Field:
    """What the camera sees."""

    width: int
    """Columns [pixels]."""
    height: int
    """Rows [pixels]."""
    origin: tuple[int, int]
    """(x, y) of its corner [pixels]."""
    pixel_size: float
    """nm"""

    @property
    def size(self) -> tuple[float, float]:
        """Its (width, height) [nm]."""
        return self.width * self.pixel_size, self.height * self.pixel_size

    @property
    def area(self) -> float:
        """Its area [µm²]."""
        return math.prod(self.size) / 1e6

    @property
    def corner(self) -> tuple[float, float]:
        """Its corner (x, y) [nm]."""
        return self.origin[0] * self.pixel_size, self.origin[1] * self.pixel_size


class QualityMeter:
    """Measures windows, one after the other. One thread at a time."""

    def __init__(
        self, settings: MonitorSettings, camera: Camera, description: SourceDescription, model: ModelDescription
    ) -> None:
        """For a source as it describes itself once it is open."""
        self._settings, self._camera, self._model = settings, camera, model
        self.field = Field(description.width, description.height, description.origin, camera.pixel_size)
        self._correlation = RingCorrelation(*self.field.size, self.field.corner, settings.frc_block)
        self._drift = DriftEstimator(*self.field.size)
        self._segment: list[Columns] = []
        self._due = settings.frc_every
        self._place: tuple[float | None, float | None] = (None, None)
        self.resolution: float | None = None
        """Newest FRC resolution [nm]."""
        self.estimates = 0
        """How often drift and resolution have been estimated."""

    def measure(self, window: Window, target: float | None = None, last: bool = False) -> Quality:
        """The figures of the next window; ``target`` density [1/µm²] where there is one; ``last`` of the run."""
        self._collect(window)
        if last or window.end >= self._due:
            self._due = window.end + self._settings.frc_every
            self._estimate()
        rows, frames = window.rows, len(window.numbers)
        count = len(rows["frame"])
        photons, background = _median(rows["photons"]), _median(rows["background"])
        psf, density = self._psf_sigma(window), count / frames / self.field.area
        return Quality(
            time=window.end,
            first_frame=int(window.numbers[0]),
            frame=int(window.numbers[-1]),
            frames=frames,
            localisations=count,
            area=self.field.area,
            localisations_per_frame=count / frames,
            density=density,
            target=target,
            photons=photons,
            background=background,
            precision=_median((rows["sigma_x"] + rows["sigma_y"]) / 2),
            psf_sigma=psf,
            drift_x=self._place[0],
            drift_y=self._place[1],
            frc=self.resolution,
            density_map=density_map(rows["x"], rows["y"], frames, self.field),
            warnings=self._warnings(psf, photons, background, density),
        )

    def _collect(self, window: Window) -> None:
        """Add to the halves and to the segment."""
        rows = window.rows
        self._correlation.add(rows["frame"], rows["x"].astype(np.float64), rows["y"].astype(np.float64))
        most = max(SEGMENT, int(MOST * self._settings.every / self._settings.frc_every))
        step = -(-len(rows["frame"]) // most) or 1
        self._segment.append({name: rows[name][::step].astype(np.float64) for name in PLACES})

    def _estimate(self) -> None:
        """Drift and resolution from what has come so far."""
        self.resolution, self.estimates = self._correlation.resolution(), self.estimates + 1
        if sum(len(part["x"]) for part in self._segment) >= SEGMENT:
            columns = (np.concatenate([part[name] for part in self._segment]) for name in PLACES)
            self._place = self._drift.add(*columns) or (None, None)
            self._segment = []

    def _psf_sigma(self, window: Window) -> float | None:
        """Width of the PSF on the pictures [nm]; None without enough isolated spots."""
        if not window.pictures:
            return None
        numbers = np.array(sorted(window.pictures))
        mine = np.isin(window.rows["frame"], numbers)
        rows = {name: values[mine] for name, values in window.rows.items()}
        photons = self._camera.to_photons(np.stack([window.pictures[number] for number in numbers.tolist()]))
        x, y = (
            rows[axis].astype(np.float64) / self.field.pixel_size - corner
            for axis, corner in zip("xy", self.field.origin, strict=True)
        )
        width = psf_width(photons, np.searchsorted(numbers, rows["frame"]), x, y, rows["photons"].astype(np.float64))
        return None if width is None else width * self.field.pixel_size

    def _warnings(
        self, psf: float | None, photons: float | None, background: float | None, density: float
    ) -> list[str]:
        model, pixel = self._model, self.field.pixel_size
        words = domain_warnings(model, pixel_size=pixel, psf_sigma=psf, em_gain=self._camera.em_gain)
        if photons is not None and background is not None:
            words += photon_warnings(model, photons, background)
        densest = model.density[1] / (pixel / 1000) ** 2
        if density > densest:
            words.append(
                f"The density is {density:.3g} /µm²; the model {model.name} was trained for up to {densest:.3g}. "
                "Emitters are missed: lower the activation light or wait for more to bleach."
            )
        return words


def density_map(x: NDArray[Any], y: NDArray[Any], frames: int, field: Field) -> list[list[float]]:
    """Localisations [nm] (N,) of ``frames`` frames, per frame and area by place [1/µm²], rows along y."""
    columns, rows = (min(CELLS, max(1, int(size / 1000 / CELL))) for size in field.size)
    (left, top), (width, height) = field.corner, field.size
    counts = np.histogram2d(y, x, (rows, columns), ((top, top + height), (left, left + width)))[0]
    scaled: list[list[float]] = np.round(counts / (frames * field.area / (rows * columns)), 4).tolist()
    return scaled


def _median(values: NDArray[Any]) -> float | None:
    """Of those that are known; None without any."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None
