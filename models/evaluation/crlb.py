"""How precise a localisation can be at best: the Cramér–Rao lower bound from the numeric Fisher information.

An emitter stands alone; its place, photons and the background are all unknown. A pixel with the expected signal
μ [e⁻] has, to second moments, the variance F²·μ + r²: shot noise, behind an EM register with the excess noise factor
F² = 2 (Robbins & Hadwen 2003), and the read noise r over the EM gain. The information is Σ ∂μ ∂μᵀ / variance over
the pixels (Smith et al. 2010, Nat. Methods 7:373, for F = 1 and r = 0; Huang et al. 2013, Nat. Methods 10:653, with
the sCMOS camera's r). An EM register's output is not quite normal, so at a few electrons a pixel the true bound lies a
little lower: that nobody reaches less than this figure is sure only where there is some background.

One molecule that shines in several frames has one place there, while photons and background are free in each: what the
frames tell of the place adds up (``summed_bound``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import erf

from acquisition.camera import Camera

Floats: TypeAlias = NDArray[np.float64]

REACH = 4.0
"""Half-width of the patch that is looked at, in standard deviations of the PSF, as a fit's would be."""
CHUNK = 4000
"""Emitters that are worked out at once, which bounds memory."""


@dataclass(frozen=True)
class Detector:
    """What of a camera matters to precision."""

    quantum_efficiency: float
    excess: float
    """F², the factor on the shot noise's variance."""
    read_variance: float
    """Of the read noise, referred to before the register [e⁻²]."""
    spurious_charge: float
    """[e⁻ / pixel / frame]"""
    pixel_size: float
    """[nm]"""

    @classmethod
    def of(cls, camera: Camera) -> Detector:
        """Of a calibrated camera; maps of the read noise count with their mean variance."""
        return cls(
            camera.quantum_efficiency,
            camera.excess_noise_factor**2,
            float(np.mean(np.square(camera.read_noise))) / camera.em_gain**2,
            camera.spurious_charge,
            camera.pixel_size,
        )


@dataclass(frozen=True, eq=False)
class Spots:
    """Emitters in one frame each: (N,) all. Lengths in pixels, from the corner of pixel (0, 0)."""

    x: Floats
    y: Floats
    photons: Floats
    background: Floats
    """[photons / pixel]"""
    sigma_x: Floats
    """Width of the PSF, standard deviation."""
    sigma_y: Floats
    slope_x: Floats | None = None
    """Change of sigma_x with z [pixels / nm]; None for a PSF that does not tell z."""
    slope_y: Floats | None = None

    def __len__(self) -> int:
        return len(self.x)

    def part(self, rows: slice) -> Spots:
        """Some of them."""
        kept: dict[str, Any] = {name: None if value is None else value[rows] for name, value in vars(self).items()}
        return Spots(**kept)


def place_information(spots: Spots, detector: Detector, shape: tuple[int, int] | None = None) -> Floats:
    """What one frame tells of each place: (N, D, D) [1/nm²], photons and background being unknown too.

    D is 2 (x, y), or 3 with z where the spots have slopes. ``shape`` (H, W): pixels beyond it are not seen.
    """
    parts = [_reduced(_information(part, detector, shape)) for part in _parts(spots)]
    depth = spots.slope_x is not None
    information = np.concatenate(parts) if parts else np.empty((0, 2 + depth, 2 + depth))
    scale = np.array([1 / detector.pixel_size] * 2 + [1.0] * depth)
    return np.asarray(information * scale[:, None] * scale, np.float64)


def bound(information: Floats) -> Floats:
    """Smallest standard deviations (N, D) [nm] that information (N, D, D) [1/nm²] allows; inf: it tells nothing."""
    known = np.linalg.matrix_rank(information, hermitian=True) == information.shape[-1]
    deviations = np.full(information.shape[:2], np.inf)
    deviations[known] = np.sqrt(np.diagonal(np.linalg.inv(information[known]), axis1=1, axis2=2))
    return deviations


def single_frame_bound(spots: Spots, detector: Detector, shape: tuple[int, int] | None = None) -> Floats:
    """Smallest standard deviations (N, D) of x, y (and z) [nm] from the emitter's light in its one frame."""
    return bound(place_information(spots, detector, shape))


def summed_information(
    information: Floats, frame: NDArray[np.int64], emitter: NDArray[np.int64], context: tuple[int, int] | None
) -> Floats:
    """For each row, what all frames of its emitter tell together: (N, D, D) as ``information``, (N,) numbers.

    ``context``: only frames from ``past`` before to ``future`` after the row's own count; None: all.
    """
    order = np.lexsort((frame, emitter))
    lines = frame[order], emitter[order]
    total = np.concatenate([np.zeros((1, *information.shape[1:])), np.cumsum(information[order], 0)])
    first, last = _spans(*lines, context)
    summed = np.empty_like(information)
    summed[order] = total[last] - total[first]
    return summed


def mortensen(photons: float, background: float, sigma: float, pixel: float, excess: float = 1.0) -> float:
    """The bound for one coordinate [nm] in closed form (Mortensen et al. 2010, Nat. Methods 7:377, eq. 5 and 6).

    ``photons`` and ``background`` [1/pixel] as counted, ``sigma`` of the PSF and ``pixel`` in nm, ``excess`` F².
    """
    wide = sigma**2 + pixel**2 / 12
    dark = 2 * math.pi * wide * background / (photons * pixel**2)
    integral = quad(lambda t: math.log(t) / (1 + t / dark), 0, 1)[0] if dark else 0.0
    return math.sqrt(excess * wide / photons / (1 + integral))


def signal_to_noise(spots: Spots, detector: Detector) -> Floats:
    """An emitter's light over the noise in the 4πσₓσᵧ pixels that hold it (N,): a Gaussian's equivalent area."""
    light = detector.quantum_efficiency * spots.photons
    dark = detector.quantum_efficiency * spots.background + detector.spurious_charge
    area = 4 * np.pi * spots.sigma_x * spots.sigma_y
    noise = detector.excess * (light + area * dark) + area * detector.read_variance
    return np.asarray(light / np.sqrt(noise), np.float64)


def emitter_numbers(truth: pa.Table) -> NDArray[np.int64]:
    """Which emitter each row of a truth is (N,); every row its own where the truth does not tell."""
    if "emitter" not in truth.column_names:
        return np.arange(truth.num_rows)
    numbers: NDArray[np.int64] = truth["emitter"].to_numpy()
    return numbers


def _parts(spots: Spots) -> Iterator[Spots]:
    for start in range(0, len(spots), CHUNK):
        yield spots.part(slice(start, start + CHUNK))


def _information(spots: Spots, detector: Detector, shape: tuple[int, int] | None) -> Floats:
    """Fisher information (N, P, P) of x, y, (z), photons, background; lengths in pixels, z in nm."""
    reach = math.ceil(REACH * float(max(spots.sigma_x.max(), spots.sigma_y.max())))
    light_x, moved_x, wider_x, seen_x = _axis(spots.x, spots.sigma_x, reach, None if shape is None else shape[1])
    light_y, moved_y, wider_y, seen_y = _axis(spots.y, spots.sigma_y, reach, None if shape is None else shape[0])
    photons = spots.photons[:, None, None]
    gradients = [photons * _outer(light_y, moved_x), photons * _outer(moved_y, light_x)]
    if spots.slope_x is not None and spots.slope_y is not None:
        slope_x, slope_y = spots.slope_x[:, None, None], spots.slope_y[:, None, None]
        gradients.append(photons * (slope_x * _outer(light_y, wider_x) + slope_y * _outer(wider_y, light_x)))
    spread = _outer(light_y, light_x)
    gradients += [spread, np.ones_like(spread)]
    signal = detector.quantum_efficiency * (photons * spread + spots.background[:, None, None])
    variance = detector.excess * (signal + detector.spurious_charge) + detector.read_variance
    weight = detector.quantum_efficiency**2 * _outer(seen_y, seen_x) / variance
    slopes = np.stack(gradients, 1).reshape(len(spots), len(gradients), -1)
    information: Floats = (slopes * weight.reshape(len(spots), 1, -1)) @ slopes.transpose(0, 2, 1)
    return information


def _axis(centre: Floats, sigma: Floats, reach: int, size: int | None) -> tuple[Floats, Floats, Floats, Floats]:
    """The share of light (N, K) in pixels along one axis, its change with the place and with sigma, and 1 where a
    pixel is on the frame.
    """
    pixel = np.floor(centre)[:, None] + np.arange(-reach, reach + 1)
    wide = sigma[:, None]
    edges = np.stack([pixel, pixel + 1]) - centre[:, None]
    height = np.exp(-0.5 * (edges / wide) ** 2) / (math.sqrt(2 * math.pi) * wide)
    below: Floats = 0.5 * erf(edges / (math.sqrt(2) * wide))
    moved, wider = height[0] - height[1], (edges * height)[0] - (edges * height)[1]
    seen = np.ones(pixel.shape) if size is None else ((pixel >= 0) & (pixel < size)).astype(np.float64)
    return below[1] - below[0], moved, wider / wide, seen


def _outer(down: Floats, across: Floats) -> Floats:
    """(N, K, K): rows along y, columns along x."""
    product: Floats = down[:, :, None] * across[:, None, :]
    return product


def _reduced(information: Floats) -> Floats:
    """What remains of the place when photons and background, the last two, must be found too: the Schur complement."""
    places, both = information[:, :-2, :-2], information[:, :-2, -2:]
    taken: Floats = both @ np.linalg.solve(information[:, -2:, -2:], both.transpose(0, 2, 1))
    return places - taken


def _spans(
    frame: NDArray[np.int64], emitter: NDArray[np.int64], context: tuple[int, int] | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """First row and the one behind the last of the same emitter inside the context, for rows sorted by both."""
    begin, inverse = np.unique(emitter, return_index=True, return_inverse=True)[1:]
    if context is None:
        ends = np.append(begin[1:], len(frame))
        return begin[inverse], ends[inverse]
    # One number line for all emitters, each further from the next than any context reaches.
    apart = int(np.ptp(frame)) + sum(context) + 1 if len(frame) else 1
    line = inverse * apart + frame
    return np.searchsorted(line, line - context[0]), np.searchsorted(line, line + context[1], "right")
