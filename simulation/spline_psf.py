"""A measured PSF: cubic splines through a bead's z-stack (Babcock & Zhuang 2017, Sci. Rep. 7:552).

The file is HDF5, open to any language: ``values`` (Z, Y, X), the share of an emitter's light in each pixel, with
the attributes ``z_step_nm``, ``pixel_size_nm`` and ``z_focus`` (the plane that is z = 0, may lie between two).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import spline_filter
from torch import Tensor

from config.errors import SettingsError
from engine.output.disk import replacing
from simulation.psf import Spots

LEAST = 5
"""Planes, rows and columns that a cubic spline needs at least."""
ROWS_AT_ONCE = 4096
"""Emitters drawn at once: bounds the memory that their patches take."""


@dataclass(frozen=True, eq=False)
class MeasuredPsf:
    """Samples of a PSF, as the file holds them."""

    values: NDArray[np.float32]
    """(Z, Y, X) share of the light in each pixel of an emitter whose place is the middle of the central pixel."""
    z_step: float
    """Between two planes [nm]."""
    z_focus: float
    """Index of the plane that is z = 0."""
    pixel_size: float
    """[nm]"""

    def save(self, path: Path) -> None:
        """Write the file; an older one is replaced once the new one is whole. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            values = file.create_dataset("values", data=self.values, compression="gzip")
            values.attrs.update(z_step_nm=self.z_step, z_focus=self.z_focus, pixel_size_nm=self.pixel_size)

    @classmethod
    def load(cls, path: Path) -> MeasuredPsf:
        """Read a file. Raises SettingsError where it is missing or is not such a file."""
        if not path.is_file():
            raise SettingsError(f"psf_file={path}: there is no such file. Check the path; `liveloc psf` makes one.")
        try:
            with h5py.File(path, "r") as file:
                stored = file["values"]
                facts = {name: float(stored.attrs[name]) for name in ("z_step_nm", "z_focus", "pixel_size_nm")}
                values = np.asarray(stored, np.float32)
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise SettingsError(
                f"psf_file={path} is not a measured PSF ({error}). Expected HDF5 with a dataset `values` and the "
                "attributes z_step_nm, z_focus and pixel_size_nm, as `liveloc psf` writes it."
            ) from error
        measured = cls(values, facts["z_step_nm"], facts["z_focus"], facts["pixel_size_nm"])
        measured.check(str(path))
        return measured

    def check(self, what: str) -> None:
        """Raise SettingsError where the samples cannot carry a spline."""
        shape = self.values.shape
        sound = len(shape) == 3 and min(shape) >= LEAST and shape[1] == shape[2] and shape[1] % 2 == 1
        if not (sound and np.isfinite(self.values).all() and self.z_step > 0 and self.pixel_size > 0):
            raise SettingsError(
                f"{what}: expected finite values of shape (Z, Y, X) with {LEAST} or more planes and as many rows as "
                f"columns, an odd number, and steps above 0 nm; found {shape}, z_step {self.z_step:g} nm and pixels of "
                f"{self.pixel_size:g} nm."
            )


@dataclass(frozen=True, eq=False)
class SplinePsf:
    """Draws emitters from a measured PSF. Heights beyond its first and last plane are drawn as these."""

    measured: MeasuredPsf
    coefficients: Tensor = field(init=False)
    """(Z, Y + 4, X + 4) of the B-splines, with a margin of zeros."""
    sigma: float = field(init=False)
    """See Psf: from the second moment of the plane in focus, within a radius that noise does not rule [pixels]."""

    def __post_init__(self) -> None:
        self.measured.check("the measured PSF")
        padded = np.pad(self.measured.values.astype(np.float64), ((0, 0), (3, 3), (3, 3)))
        filtered = spline_filter(padded, order=3, mode="mirror").astype(np.float32)
        object.__setattr__(self, "coefficients", torch.from_numpy(filtered))
        object.__setattr__(self, "sigma", _width(self.measured))

    def frames(self, spots: Spots, shape: tuple[int, int, int]) -> Tensor:
        """See Psf; ``spots.width`` is not used: the width is the measured one."""
        image = spots.photons.new_zeros(shape).flatten()
        for start in range(0, len(spots.frame), ROWS_AT_ONCE):
            self._add(image, Spots(*(column[start : start + ROWS_AT_ONCE] for column in vars(spots).values())), shape)
        return image.view(shape)

    def patches(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Share of light (N, K, K) in the pixels around emitters ``x``, ``y`` off the middle of the central one."""
        coefficients = self.coefficients.to(x)
        plane = (z / self.measured.z_step + self.measured.z_focus).clamp(0, len(coefficients) - 1)
        base = plane.floor().clamp(max=len(coefficients) - 2)
        around = (base.long()[:, None] + torch.arange(-1, 3, device=z.device)).abs()
        # Beyond the last plane the spline is mirrored, as its filter assumed.
        last = len(coefficients) - 1
        around = torch.where(around > last, 2 * last - around, around)
        planes = (coefficients[around] * _basis(plane - base)[:, :, None, None]).sum(1)
        return _shifted(_shifted(planes, y, 1), x, 2)

    def _add(self, image: Tensor, spots: Spots, shape: tuple[int, int, int]) -> None:
        _, height, width = shape
        column, row = spots.x.floor(), spots.y.floor()
        # Below zero, where noise of the beads or the spline's swing may lead, there is no light.
        patches = self.patches(spots.x - column - 0.5, spots.y - row - 0.5, spots.z) * spots.photons[:, None, None]
        reach = patches.shape[-1] // 2
        steps = torch.arange(-reach, reach + 1, device=image.device)
        columns, rows = column.long()[:, None] + steps, row.long()[:, None] + steps
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        index = (spots.frame[:, None] * height + rows.clamp(0, height - 1))[:, :, None] * width
        index = index + columns.clamp(0, width - 1)[:, None, :]
        image.index_add_(0, index.flatten(), (patches.clamp(min=0) * inside).flatten().to(image))


def _basis(fraction: Tensor) -> Tensor:
    """The four cubic B-splines (N, 4) that reach a place ``fraction`` (N,) behind its knot."""
    t, rest = fraction, 1 - fraction
    return torch.stack([rest**3, 3 * t**3 - 6 * t**2 + 4, 3 * rest**3 - 6 * rest**2 + 4, t**3], 1) / 6


def _shifted(planes: Tensor, offset: Tensor, axis: int) -> Tensor:
    """Splines (N, …) along ``axis`` at every knot less ``offset`` (−0.5 to 0.5); two knots fewer on each side."""
    # A spot moved by +offset shows at a pixel what the spline holds offset before it.
    behind = offset > 0
    weights = _basis(torch.where(behind, 1 - offset, -offset))
    size = planes.shape[axis] - 4
    window = torch.arange(4, device=planes.device)[None] + torch.where(behind, 0, 1)[:, None]
    moved = torch.zeros_like(planes.narrow(axis, 2, size))
    for tap in range(5):
        weight = torch.where(window == tap, weights, 0).sum(1)
        moved += planes.narrow(axis, tap, size) * weight[:, None, None]
    return moved


def _width(measured: MeasuredPsf) -> float:
    plane = measured.values[int(np.clip(round(measured.z_focus), 0, len(measured.values) - 1))].astype(np.float64)
    offsets = np.arange(plane.shape[0]) - plane.shape[0] // 2
    square: NDArray[Any] = offsets[:, None] ** 2 + offsets[None] ** 2
    # A Gaussian window of the same width as the spot, as in adaptive moments: repeated until it settles.
    variance = 1.5
    for _ in range(50):
        weighted = plane.clip(min=0) * np.exp(-0.5 * square / variance)
        variance = max(0.2, float((weighted * square).sum() / weighted.sum()))
    return float(np.sqrt(variance))
