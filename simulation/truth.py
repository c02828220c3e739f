"""What is known of simulated scenes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Truth:
    """Emitters of a batch, one row an emitter and frame."""

    scene: Tensor
    """(N,) int64"""
    frame: Tensor
    """(N,) int64 within the scene."""
    x: Tensor
    """(N,) pixels from the corner."""
    y: Tensor
    """(N,) pixels from the corner."""
    photons: Tensor
    """(N,) photons in this frame."""
    z: Tensor = field(default_factory=lambda: torch.zeros(0))
    """(N,) height over the focal plane [nm]; zeros where it is not given."""

    def __post_init__(self) -> None:
        if not len(self.z):
            object.__setattr__(self, "z", torch.zeros_like(self.photons))

    def kept(self, wanted: Tensor) -> Truth:
        """Some of the rows, (N,) bool."""
        return Truth(**{name: column[wanted] for name, column in vars(self).items()})


@dataclass(frozen=True)
class SceneBatch:
    """What a network trains on: frames as a calibrated camera gives them, and the truth."""

    photons: Tensor
    """(B, T, H, W) measured photons."""
    background: Tensor
    """(B, T, H, W) expected background [photons / pixel]."""
    truth: Truth
