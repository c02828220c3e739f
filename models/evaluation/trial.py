"""What a table is judged against: the truth of a movie, and what is known of the microscope that took it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree

from config.schema import OpticsSettings
from models.evaluation.crlb import (
    Detector,
    Spots,
    bound,
    emitter_numbers,
    place_information,
    signal_to_noise,
    summed_information,
)
from simulation.optics import make_psf
from simulation.psf import AstigmaticPsf

Floats: TypeAlias = NDArray[np.float64]

RADIUS = 250.0
"""Largest lateral distance of a pair [nm]."""
TIGHT = 100.0
"""The second radius that is reported [nm]."""
PHOTON_FLOOR = 100.0
"""Emitters with fewer photons in a frame are "don't care"."""
DEPTHS: NDArray[np.float64] = np.arange(-2000.0, 2001.0, 2.0)
"""Heights at which a calibration curve is worked out [nm]."""


@dataclass(frozen=True)
class Widths:
    """How wide the PSF is: the same at every depth, or by a calibration curve."""

    sigma: float
    """[nm], standard deviation in focus."""
    depth: NDArray[np.float64] | None = None
    """(K,) [nm], rising: where the curves below are known; None for a PSF that does not tell z."""
    sigma_x: NDArray[np.float64] | None = None
    """(K,) [nm]"""
    sigma_y: NDArray[np.float64] | None = None
    """(K,) [nm]"""

    def at(self, z: Floats) -> tuple[Floats, Floats, Floats | None, Floats | None]:
        """sigma_x, sigma_y [nm] and their slopes [nm / nm] at z [nm], (N,) each; no slopes without a curve."""
        if self.depth is None or self.sigma_x is None or self.sigma_y is None:
            return np.full(len(z), self.sigma), np.full(len(z), self.sigma), None, None
        widths = [np.interp(z, self.depth, curve) for curve in (self.sigma_x, self.sigma_y)]
        slopes = [np.interp(z, self.depth, np.gradient(curve, self.depth)) for curve in (self.sigma_x, self.sigma_y)]
        return widths[0], widths[1], slopes[0], slopes[1]


def widths_of(optics: OpticsSettings, pixel_size: float) -> Widths | None:
    """Of the PSF that simulations draw, on pixels of ``pixel_size`` nm; None where no formula gives them (a measured
    PSF) or nothing is known.
    """
    if optics.psf == "spline" or optics.psf_sigma is None:
        return None
    psf = make_psf(optics, pixel_size)
    if not isinstance(psf, AstigmaticPsf):
        return Widths(optics.psf_sigma)
    curves = [pixel_size * curve(torch.from_numpy(DEPTHS)).numpy() for curve in (psf.x, psf.y)]
    return Widths(optics.psf_sigma, DEPTHS, *curves)


@dataclass(frozen=True)
class Optics:
    """What of a microscope the bounds need."""

    detector: Detector
    widths: Widths
    background: float
    """[photons / pixel], where the truth has no column of its own."""
    shape: tuple[int, int] | None = None
    """(H, W) [pixels]; None: wherever the emitters are."""


@dataclass(frozen=True, eq=False)
class Limits:
    """How well each row of a truth can be known, (N, D) [nm] with D = 2 (x, y) or 3 (z too)."""

    single: Floats
    """From its own frame."""
    summed: Floats
    """From all frames of its emitter inside the context."""
    snr: Floats
    """(N,) light over noise."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A movie of known truth."""

    name: str
    truth: pa.Table
    """frame, x, y [nm], photons; emitter, z [nm] and background [photons / pixel] where they are known."""
    frames: int
    area: float
    """Of the field [µm²]."""
    optics: Optics | None = None
    """None: no bounds are worked out."""
    context: tuple[int, int] | None = None
    """(past, future) frames that the summed bound counts; None: all of an emitter."""

    @property
    def density(self) -> float:
        """Emitters that the truth counts, per frame [1/µm²]."""
        return self.truth.num_rows / (self.frames * self.area)

    @cached_property
    def limits(self) -> Limits | None:
        """None where nothing is known of the microscope. Worked out once, some seconds for 100,000 rows."""
        if self.optics is None or not self.truth.num_rows:
            return None
        spots = self._spots(self.optics)
        information = place_information(spots, self.optics.detector, self.optics.shape)
        numbers = emitter_numbers(self.truth)
        together = summed_information(information, self.truth["frame"].to_numpy(), numbers, self.context)
        return Limits(bound(information), bound(together), signal_to_noise(spots, self.optics.detector))

    @cached_property
    def neighbour(self) -> Floats:
        """How far each row's nearest other emitter in the same frame is (N,) [nm]; inf without one."""
        x, y, frame = (column(self.truth, name) for name in ("x", "y", "frame"))
        if len(x) < 2:
            return np.full(len(x), math.inf)
        apart = 2 * (np.ptp(x) + np.ptp(y)) + 1.0  # further than a field is wide: the nearest is of the same frame
        points = np.stack([x, y, frame * apart], 1)
        distance = np.asarray(KDTree(points).query(points, 2)[0])[:, 1]
        return np.where(distance < apart / 2, distance, math.inf)

    def _spots(self, optics: Optics) -> Spots:
        pixel = optics.detector.pixel_size
        sigma_x, sigma_y, slope_x, slope_y = optics.widths.at(self._known("z", 0.0))
        return Spots(
            x=column(self.truth, "x") / pixel,
            y=column(self.truth, "y") / pixel,
            photons=np.maximum(column(self.truth, "photons"), 1e-3),
            background=self._known("background", optics.background),
            sigma_x=sigma_x / pixel,
            sigma_y=sigma_y / pixel,
            slope_x=None if slope_x is None else slope_x / pixel,
            slope_y=None if slope_y is None else slope_y / pixel,
        )

    def _known(self, name: str, otherwise: float) -> Floats:
        """A column of the truth, with ``otherwise`` where the truth does not tell."""
        if name not in self.truth.column_names:
            return np.full(self.truth.num_rows, otherwise)
        return np.asarray(np.nan_to_num(column(self.truth, name), nan=otherwise), np.float64)


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """A column in double precision; null is NaN."""
    return table[name].to_numpy().astype(np.float64)
