"""Point-spread functions: how one emitter's photons spread over pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

REACH = 4.5
"""Half-width of the patch that is drawn, in standard deviations: 7e-6 of the light falls outside."""


def gaussian_frames(
    frame: Tensor, x: Tensor, y: Tensor, photons: Tensor, sigma: Tensor, shape: tuple[int, int, int]
) -> Tensor:
    """Expected photons (F, H, W) of emitters with a Gaussian PSF integrated over each pixel (Smith et al. 2010, eq. 4).

    ``frame`` (N,) int64 indices into F; ``x``, ``y`` (N,) pixels from the corner of pixel (0, 0), may lie outside;
    ``photons`` (N,); ``sigma`` (N,) pixels.
    """
    frames, height, width = shape
    image = photons.new_zeros(frames * height * width)
    if len(frame) == 0:
        return image.view(shape)
    reach = math.ceil(REACH * float(sigma.max()))
    steps = torch.arange(-reach, reach + 1, device=x.device)
    columns, light_x = _axis(x, sigma, steps, width)
    rows, light_y = _axis(y, sigma, steps, height)
    light_y = light_y * photons[:, None]
    index = (frame[:, None] * height + rows)[:, :, None] * width + columns[:, None, :]
    image.index_add_(0, index.flatten(), (light_y[:, :, None] * light_x[:, None, :]).flatten())
    return image.view(shape)


def _axis(centre: Tensor, sigma: Tensor, steps: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Pixel indices (N, K) along one axis and the share of light in each; pixels off the frame get none."""
    pixel = centre.floor().long()[:, None] + steps
    scale = (sigma * math.sqrt(2))[:, None]
    left = (pixel - centre[:, None]) / scale
    share = 0.5 * (torch.erf(left + 1 / scale) - torch.erf(left))
    inside = (pixel >= 0) & (pixel < size)
    return pixel.clamp(0, size - 1), share * inside
