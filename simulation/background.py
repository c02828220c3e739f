"""Background light: smooth over the field."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def smooth_background(
    height: int, width: int, mean: float, variation: float, generator: torch.Generator, grain: int = 16
) -> Tensor:
    """Background (H, W) [photons / pixel / frame]: log-normal, smooth on a scale of ``grain`` pixels.

    ``variation`` is about its standard deviation over its mean; the mean of the field is ``mean`` exactly.
    """
    coarse = torch.randn(1, 1, height // grain + 3, width // grain + 3, generator=generator)
    smooth = functional.interpolate(coarse, scale_factor=grain, mode="bicubic", align_corners=False)
    field = torch.exp(variation * smooth[0, 0, grain : grain + height, grain : grain + width])
    return field * (mean / field.mean())
