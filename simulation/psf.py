"""Point-spread functions: how one emitter's photons spread over pixels. The contract, and the Gaussian ones.

GaussianPsf      the same everywhere (2-D)
AstigmaticPsf    its two widths depend on z, each with a focus of its own (3-D)
SplinePsf        measured on beads (simulation/spline_psf.py)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

REACH = 4.5
"""Half-width of the patch that is drawn, in standard deviations: 7e-6 of the light falls outside."""
NARROWEST = 0.1
"""Least square of a defocused width over that in focus: a calibration's polynomial may fall below zero far outside."""


@dataclass(frozen=True)
class Spots:
    """Emitters as a PSF sees them: one row an emitter and frame."""

    frame: Tensor
    """(N,) int64, which of the frames that are drawn."""
    x: Tensor
    """(N,) pixels from the corner of pixel (0, 0); may lie outside."""
    y: Tensor
    """(N,) pixels, likewise."""
    z: Tensor
    """(N,) height over the focal plane [nm]."""
    photons: Tensor
    """(N,) photons in this frame."""
    width: Tensor
    """(N,) width of this emitter's PSF over the usual one, 1 for most."""


class Psf(Protocol):
    """What draws emitters. It has no state: the same spots give the same frames, from any thread."""

    @property
    def sigma(self) -> float:
        """Standard deviation of the Gaussian that is about as wide as the PSF in focus [pixels]."""
        ...

    def frames(self, spots: Spots, shape: tuple[int, int, int]) -> Tensor:
        """Expected photons (F, H, W)."""
        ...


@dataclass(frozen=True)
class GaussianPsf:
    """A Gaussian that does not depend on z."""

    sigma: float
    """Standard deviation [pixels]."""

    def frames(self, spots: Spots, shape: tuple[int, int, int]) -> Tensor:
        """See Psf."""
        return gaussian_frames(spots.frame, spots.x, spots.y, spots.photons, self.sigma * spots.width, shape)


@dataclass(frozen=True)
class FocusCurve:
    """The width along one axis by height (Huang et al. 2008, Science 319:810): with u = (z − focus) / depth,
    sigma(z) = sigma · √(1 + u² + third · u³ + fourth · u⁴).
    """

    sigma: float
    """In focus [pixels]."""
    focus: float = 0.0
    """Height at which this axis is in focus [nm]."""
    depth: float = 400.0
    """How far from there the width has grown by √2 [nm]; half of the confocal parameter."""
    third: float = 0.0
    fourth: float = 0.0

    def __call__(self, z: Tensor) -> Tensor:
        """Standard deviation [pixels] at ``z`` [nm]."""
        u = (z - self.focus) / self.depth
        return self.sigma * torch.sqrt((1 + u**2 * (1 + u * (self.third + u * self.fourth))).clamp(min=NARROWEST))


@dataclass(frozen=True)
class AstigmaticPsf:
    """A Gaussian whose two widths tell the height."""

    x: FocusCurve
    y: FocusCurve
    blur: float = 0.0
    """Standard deviation of motion within a frame, which widens both [pixels]."""

    @property
    def sigma(self) -> float:
        """See Psf."""
        return math.sqrt(self.x.sigma * self.y.sigma)

    def frames(self, spots: Spots, shape: tuple[int, int, int]) -> Tensor:
        """See Psf."""
        blur = spots.z.new_tensor(self.blur)
        wide, high = (torch.hypot(curve(spots.z) * spots.width, blur) for curve in (self.x, self.y))
        return gaussian_frames(spots.frame, spots.x, spots.y, spots.photons, wide, shape, high)


def gaussian_frames(
    frame: Tensor,
    x: Tensor,
    y: Tensor,
    photons: Tensor,
    sigma: Tensor,
    shape: tuple[int, int, int],
    sigma_y: Tensor | None = None,
) -> Tensor:
    """Expected photons (F, H, W) of emitters with a Gaussian PSF integrated over each pixel (Smith et al. 2010, eq. 4).

    ``frame`` (N,) int64 indices into F; ``x``, ``y`` (N,) pixels from the corner of pixel (0, 0), may lie outside;
    ``photons`` (N,); ``sigma`` (N,) pixels, along x alone where ``sigma_y`` is given.
    """
    frames, height, width = shape
    image = photons.new_zeros(frames * height * width)
    if len(frame) == 0:
        return image.view(shape)
    columns, light_x = _axis(x, sigma, width)
    rows, light_y = _axis(y, sigma if sigma_y is None else sigma_y, height)
    light_y = light_y * photons[:, None]
    index = (frame[:, None] * height + rows)[:, :, None] * width + columns[:, None, :]
    image.index_add_(0, index.flatten(), (light_y[:, :, None] * light_x[:, None, :]).flatten())
    return image.view(shape)


def _axis(centre: Tensor, sigma: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Pixel indices (N, K) along one axis and the share of light in each; pixels off the frame get none."""
    reach = math.ceil(REACH * float(sigma.max()))
    pixel = centre.floor().long()[:, None] + torch.arange(-reach, reach + 1, device=centre.device)
    scale = (sigma * math.sqrt(2))[:, None]
    left = (pixel - centre[:, None]) / scale
    share = 0.5 * (torch.erf(left + 1 / scale) - torch.erf(left))
    inside = (pixel >= 0) & (pixel < size)
    return pixel.clamp(0, size - 1), share * inside
