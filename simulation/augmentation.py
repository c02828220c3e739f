"""What makes training scenes harder than a plain sample, with the truth kept right. Each is off unless asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simulation.background import cell_background, textured_background

if TYPE_CHECKING:
    from simulation.truth import Truth


def outside_box(truth: Truth, size: int, generator: torch.Generator) -> Tensor:
    """Which emitters (N,) stand outside a random rectangle of the frame: it holds nothing, beside full regions."""
    (left, top), (right, bottom) = (torch.rand(2, 2, generator=generator) * size).sort(0).values.tolist()
    inside = (truth.x >= left) & (truth.x < right) & (truth.y >= top) & (truth.y < bottom)
    outside: Tensor = ~inside
    return outside


def flickering(truth: Truth, spread: float, generator: torch.Generator) -> Truth:
    """Each emitter brighter or dimmer in every frame: log-normal, of mean 1 and standard deviation ``spread``."""
    width = torch.log1p(torch.tensor(spread**2)).sqrt()
    factor = torch.exp(width * torch.randn(len(truth.photons), generator=generator) - width**2 / 2)
    return replace(truth, photons=truth.photons * factor)


def widths(count: int, spread: float, generator: torch.Generator) -> Tensor:
    """Widths of emitters' PSFs over the usual one, (count,): normal, cut off at half and at twice the usual width."""
    return (1 + spread * torch.randn(count, generator=generator)).clamp(0.5, 2.0)


def structured(field: Tensor, generator: torch.Generator) -> Tensor:
    """A background (H, W) with a texture or with cells in it, of the same mean."""
    height, width = field.shape
    draw = textured_background if torch.rand((), generator=generator) < 0.5 else cell_background
    shape = draw(height, width, 1.0, 0.1 + 0.3 * float(torch.rand((), generator=generator)), generator)
    return field * shape * (field.mean() / (field * shape).mean())


def changing(field: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """A background (T, H, W) that grows or falls evenly, by ``largest`` of its mean at most from first to last."""
    change = largest * (2 * float(torch.rand((), generator=generator)) - 1)
    course = 1 + change * torch.linspace(-0.5, 0.5, len(field))
    return field * course[:, None, None]


def flipped(
    photons: Tensor, background: Tensor, truth: Truth, generator: torch.Generator
) -> tuple[Tensor, Tensor, Truth]:
    """A scene (T, H, W) mirrored along x or not, and along y or not, with its background and truth."""
    along_x, along_y = (torch.rand(2, generator=generator) < 0.5).tolist()
    axes = [axis for axis, wanted in ((-1, along_x), (-2, along_y)) if wanted]
    height, width = photons.shape[-2:]
    x, y = width - truth.x if along_x else truth.x, height - truth.y if along_y else truth.y
    return photons.flip(axes), background.flip(axes), replace(truth, x=x, y=y)
