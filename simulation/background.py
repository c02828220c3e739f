"""Background light: its shape over the field, and how it changes in time."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from config.schema import DatasetSettings

OCTAVES = 4
"""Scales of the textured background, each half as large and half as strong as the one before."""
CELL_AREA = 4000.0
"""Pixels of the field for each cell body, at least one in all."""
GROUND = 0.25
"""Light outside cells over that inside."""
KNOTS_KEPT = 4
"""Fields of a changing background that are remembered."""


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


def textured_background(height: int, width: int, mean: float, variation: float, generator: torch.Generator) -> Tensor:
    """Background (H, W) like ``smooth_background``, with structure on several scales (gradient noise, Perlin 1985)."""
    grains = [max(2, 32 >> octave) for octave in range(OCTAVES)]
    octaves = [gradient_noise(height, width, grain, generator) / 2**number for number, grain in enumerate(grains)]
    noise = torch.stack(octaves).sum(0)
    field = torch.exp(variation * noise / noise.std().clamp(min=1e-6))
    return field * (mean / field.mean())


def gradient_noise(height: int, width: int, grain: int, generator: torch.Generator) -> Tensor:
    """Perlin's noise (H, W): a random gradient at every ``grain``-th pixel, blended by the fifth-order fade."""
    rows, columns = height // grain + 2, width // grain + 2
    angle = 2 * math.pi * torch.rand(rows, columns, generator=generator)
    y, x = (torch.arange(size) / grain for size in (height, width))
    row, column = y.floor().long(), x.floor().long()
    v, u = (y - row)[:, None], (x - column)[None]

    def corner(down: int, right: int) -> Tensor:
        there = angle[row + down][:, column + right]
        return torch.cos(there) * (u - right) + torch.sin(there) * (v - down)

    fade_u, fade_v = (t**3 * (t * (6 * t - 15) + 10) for t in (u, v))
    upper = torch.lerp(corner(0, 0), corner(0, 1), fade_u.expand(height, width))
    lower = torch.lerp(corner(1, 0), corner(1, 1), fade_u.expand(height, width))
    return torch.lerp(upper, lower, fade_v.expand(height, width))


def cell_background(height: int, width: int, mean: float, variation: float, generator: torch.Generator) -> Tensor:
    """Background (H, W): bright cell bodies with soft, uneven outlines and a texture, on a ground of a quarter."""
    cells = max(1, round(height * width / CELL_AREA))
    middle = torch.rand(cells, 2, generator=generator) * torch.tensor([height, width])
    radius = math.sqrt(CELL_AREA / math.pi) * (0.5 + 0.4 * torch.rand(cells, generator=generator))
    lobes = 0.15 * torch.randn(cells, 3, generator=generator)
    phase = 2 * math.pi * torch.rand(cells, 3, generator=generator)
    away = torch.stack(torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij"))
    down, right = (away[:, None] - middle.T[:, :, None, None]).unbind(0)
    turn = torch.atan2(down, right)
    waves = torch.arange(2, 5)[None, :, None, None] * turn[:, None] + phase[:, :, None, None]
    outline = radius[:, None, None] * (1 + (lobes[:, :, None, None] * torch.cos(waves)).sum(1))
    inside = torch.sigmoid((outline - torch.hypot(down, right)) / 1.5).amax(0)
    field = (GROUND + (1 - GROUND) * inside) * textured_background(height, width, 1.0, variation, generator)
    return field * (mean / field.mean())


KINDS: dict[str, Callable[[int, int, float, float, torch.Generator], Tensor]] = {
    "smooth": smooth_background,
    "textured": textured_background,
    "cells": cell_background,
}
"""dataset.background_kind → what draws a field of it."""


class Background:
    """The background of an acquisition: any frame of it at any time, the same whatever was asked for before.

    A share of the light, ``background_change``, goes over from one random field into the next, each reached after
    ``background_time``; all of it bleaches with ``background_bleaching``.
    """

    def __init__(self, dataset: DatasetSettings, generator: torch.Generator) -> None:
        """``generator`` draws the lasting field; those of the change follow from ``dataset.seed`` and their number."""
        self._dataset = dataset
        self._lasting = self._field(generator)
        self._knots: dict[int, Tensor] = {}

    @property
    def steady(self) -> bool:
        """Whether every frame has the same."""
        return self._dataset.background_change == 0 and self._dataset.background_bleaching is None

    def frames(self, start: int, count: int) -> Tensor:
        """Expected photons (count, H, W), or (H, W) where it is steady."""
        if self.steady:
            return self._lasting
        time = (torch.arange(start, start + count) + 0.5) * (self._dataset.exposure / 1000)
        return self._changed(time) * self._left(time)[:, None, None]

    def _changed(self, time: Tensor) -> Tensor:
        share = self._dataset.background_change
        if share == 0:
            return self._lasting.expand(len(time), -1, -1)
        place = time / self._dataset.background_time
        before = place.floor().long()
        # A raised cosine: it neither jumps nor has kinks, and the sum of both weights is 1.
        weight = (0.5 - 0.5 * torch.cos(math.pi * (place - before)))[:, None, None]
        first, second = (torch.stack([self._knot(int(number) + step) for number in before]) for step in (0, 1))
        return (1 - share) * self._lasting + share * torch.lerp(first, second, weight.expand_as(first))

    def _left(self, time: Tensor) -> Tensor:
        bleaching = self._dataset.background_bleaching
        return torch.ones_like(time) if bleaching is None else torch.exp(-time / bleaching)

    def _knot(self, number: int) -> Tensor:
        if number not in self._knots:
            while len(self._knots) >= KNOTS_KEPT:
                self._knots.pop(next(iter(self._knots)))
            seed = (self._dataset.seed + 1) * 7_919_117 + number
            self._knots[number] = self._field(torch.Generator().manual_seed(seed))
        return self._knots[number]

    def _field(self, generator: torch.Generator) -> Tensor:
        dataset = self._dataset
        draw = KINDS[dataset.background_kind]
        return draw(dataset.height, dataset.width, dataset.background, dataset.background_variation, generator)
