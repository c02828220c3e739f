"""A measured PSF from a z-stack of beads: found, cut out, put onto each other and averaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from config.errors import SettingsError, SourceUnreadable
from simulation.spline_psf import LEAST, MeasuredPsf

BRIGHT = 0.3
"""Beads are at least so bright, over the brightest one's height above the ground."""
MARGIN = 3
"""Pixels around the window that a shift may draw on."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BeadStack:
    """What was measured, and how well the beads agree."""

    psf: MeasuredPsf
    beads: int
    """How many were averaged."""
    left_out: int
    """Bright spots too near to another one or to the border."""
    disagreement: float
    """Root mean square difference between a bead and the mean of all, over the root mean square of that mean."""


def measure_psf(path: Path, z_step: float, pixel_size: float, window: int = 21) -> BeadStack:
    """The PSF of the beads in a TIFF (Z, Y, X), planes ``z_step`` nm apart, pixels of ``pixel_size`` nm.

    z = 0 is the sharpest plane, where an astigmatic PSF is round; z grows from plane to plane. Each plane is scaled to
    the same light, which makes up for bleaching. ``window``: rows and columns to keep, an odd number of pixels.
    Raises SourceUnreadable for a file that is no such stack or shows no bead, SettingsError for numbers out of range.
    """
    if not (z_step > 0 and pixel_size > 0 and window >= LEAST and window % 2 == 1):
        raise SettingsError(
            f"expected a z step and a pixel size above 0 nm and an odd window of {LEAST} pixels or more; found "
            f"{z_step:g} nm, {pixel_size:g} nm and {window} pixels."
        )
    stack = _read(path)
    places, left_out = find_beads(stack, window)
    if not len(places):
        raise SourceUnreadable(
            f"{path} shows no bead that stands {window // 2 + MARGIN} pixels from the border and {window} from its "
            "neighbours. Take a sparser sample, or a smaller --window."
        )
    cut = [_centred(_cut(stack, place, window)) for place in places]
    focus = [_sharpest(bead) for bead in cut]
    middle = float(np.median(focus))
    level = [_raised(bead, middle - at) for bead, at in zip(cut, focus, strict=True)]
    mean = np.sum(level, axis=0)  # the brighter a bead, the more it counts
    mean /= mean.sum((1, 2), keepdims=True)
    psf = MeasuredPsf(mean.astype(np.float32), z_step, middle, pixel_size)
    psf.check(str(path))
    return BeadStack(psf, len(places), left_out, _disagreement(level, mean))


def find_beads(stack: Floats, window: int) -> tuple[NDArray[np.int64], int]:
    """Rows and columns (N, 2) of bright spots that stand alone, and how many others there are."""
    smooth = ndimage.gaussian_filter(stack, (0, 1, 1)).max(0)
    ground = float(np.median(smooth))
    bright = smooth > ground + BRIGHT * (float(smooth.max()) - ground)
    peaks = np.argwhere(bright & (smooth == ndimage.maximum_filter(smooth, 5)))
    if smooth.max() <= ground:
        return peaks[:0], 0
    room = window // 2 + MARGIN
    inside = ((peaks >= room) & (peaks < np.array(smooth.shape) - room)).all(1)
    apart = np.abs(peaks[:, None] - peaks[None]).max(2) + np.eye(len(peaks), dtype=int) * 10 * window
    alone = inside & (apart.min(1, initial=10 * window) >= window)
    return peaks[alone], int(len(peaks) - alone.sum())


def _read(path: Path) -> Floats:
    try:
        stack: NDArray[Any] = np.squeeze(tifffile.imread(path))
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise SourceUnreadable(
            f"{path} cannot be read as a TIFF of planes (Z, Y, X): {error}. Check the file."
        ) from error
    if stack.ndim != 3 or min(stack.shape) < LEAST:
        raise SourceUnreadable(
            f"{path} holds an array of shape {stack.shape}: expected a z-stack (Z, Y, X) of {LEAST} or more planes."
        )
    return stack.astype(np.float64)


def _cut(stack: Floats, place: NDArray[np.int64], window: int) -> Floats:
    """A bead with some room around it, less the light around it in each plane."""
    room = window // 2 + MARGIN
    (row, column) = place
    bead = stack[:, row - room : row + room + 1, column - room : column + room + 1]
    border = np.concatenate([bead[:, [0, -1]].reshape(len(bead), -1), bead[:, :, [0, -1]].reshape(len(bead), -1)], 1)
    ground: Floats = bead - np.median(border, axis=1)[:, None, None]
    return ground


def _centred(bead: Floats) -> Floats:
    """The bead moved by part of a pixel, so that its middle is that of the central pixel; without the room."""
    image = bead.clip(min=0).sum(0)
    offsets = np.arange(image.shape[0]) - image.shape[0] // 2
    middle = np.zeros(2)
    for _ in range(20):
        weight = image * np.exp(-0.5 * ((offsets[:, None] - middle[0]) ** 2 + (offsets[None] - middle[1]) ** 2) / 9)
        found = np.array([(weight * offsets[:, None]).sum(), (weight * offsets[None]).sum()]) / weight.sum()
        middle += 1.5 * (found - middle)  # the window pulls towards where it stands
    moved: Floats = ndimage.shift(bead, (0, *(-middle)), order=3, mode="nearest")
    return moved[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def _sharpest(bead: Floats) -> float:
    """The plane of focus, between planes by a parabola."""
    smooth = ndimage.gaussian_filter(bead, (1, 0.7, 0.7))
    sharpness = (smooth**2).sum((1, 2)) / smooth.sum((1, 2)).clip(min=1e-9) ** 2
    best = int(sharpness.argmax())
    if not 0 < best < len(sharpness) - 1:
        return float(best)
    left, here, right = sharpness[best - 1 : best + 2]
    return best + 0.5 * float((left - right) / (left - 2 * here + right))


def _raised(bead: Floats, planes: float) -> Floats:
    moved: Floats = ndimage.shift(bead, (planes, 0, 0), order=3, mode="nearest")
    return moved


def _disagreement(beads: list[Floats], mean: Floats) -> float:
    each = [bead / bead.sum((1, 2), keepdims=True) - mean for bead in beads]
    return float(np.sqrt(np.mean(np.square(each)) / np.mean(mean**2)))
