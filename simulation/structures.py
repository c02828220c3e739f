"""Where emitters sit. Positions are (x, y) in pixels of the camera from the outer corner of pixel (0, 0)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

RING_RADIUS = 0.3
"""Radius of the ring over the shorter side of the field."""
LINES = 6


def lines(count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Labels on wavy filaments that cross the field, as microtubules do."""
    which = torch.randint(LINES, (count,), generator=generator)
    phase, swing, slope = (torch.rand(LINES, generator=generator) for _ in range(3))
    along = torch.rand(count, generator=generator)
    middle = (torch.arange(LINES) + 0.5) / LINES
    wave = 0.06 * (0.3 + swing[which]) * torch.sin(2 * math.pi * (along + phase[which]))
    across = (middle[which] + wave + 0.2 * (slope[which] - 0.5) * (along - 0.5)).clamp(0.01, 0.99)
    return along * width, across * height


def ring(count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Labels evenly on one circle in the middle of the field."""
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    radius = RING_RADIUS * min(height, width)
    return width / 2 + radius * torch.cos(angle), height / 2 + radius * torch.sin(angle)


Structure = Callable[[int, int, int, torch.Generator], tuple[Tensor, Tensor]]

STRUCTURES: dict[str, Structure] = {"lines": lines, "ring": ring}


def scattered(count: int, height: int, width: int, margin: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positions anywhere in the field and up to ``margin`` pixels around it."""
    x = torch.rand(count, generator=generator) * (width + 2 * margin) - margin
    y = torch.rand(count, generator=generator) * (height + 2 * margin) - margin
    return x, y
