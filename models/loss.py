"""The loss: how probable the true emitters are under the network's maps (Speiser et al. 2021, Nat. Methods 18:1082)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.network import EmitterMap, EmitterMap3D
from simulation.truth import SceneBatch, Truth

WINDOW = 2
"""Pixels this far from an emitter's own are asked whether they report it; an offset reaches less than one pixel."""


@dataclass(frozen=True)
class Loss:
    """The terms, each a mean over frames."""

    count: Tensor
    """−log probability of the number of emitters."""
    place: Tensor
    """−log likelihood of positions, photons and, for a 3-D network, z under the mixture."""
    background: Tensor
    """Squared relative error of the background, summed over a frame."""

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.count + self.place + self.background


def emitter_loss(maps: EmitterMap, batch: SceneBatch) -> Loss:
    """The loss of a batch; maps are (B, T, H, W)."""
    probability = torch.sigmoid(maps.logit)
    frames = probability.shape[0] * probability.shape[1]
    return Loss(
        count=_count_term(probability, batch.truth).sum() / frames,
        place=-_mixture_term(maps, probability, batch.truth).sum() / frames,
        background=_background_term(maps.background, batch.background).sum() / frames,
    )


def _count_term(probability: Tensor, truth: Truth) -> Tensor:
    """−log of a normal approximation to the Poisson-binomial of all pixels' Bernoullis (B, T); eq. 4 of the source."""
    scenes, frames = probability.shape[:2]
    number = torch.zeros(scenes * frames, device=probability.device)
    number.index_add_(0, truth.scene * frames + truth.frame, torch.ones_like(truth.x))
    mean = probability.sum((-1, -2)).flatten()
    variance = (probability * (1 - probability)).sum((-1, -2)).flatten() + 0.05
    return 0.5 * ((number - mean) ** 2 / variance + torch.log(2 * math.pi * variance))


def _mixture_term(maps: EmitterMap, probability: Tensor, truth: Truth) -> Tensor:
    """Log likelihood (N,) of each emitter under the mixture of the pixels around it; eq. 5 of the source.

    The source sums over the whole frame; pixels beyond WINDOW hold nothing of an emitter's likelihood.
    """
    frames, height, width = probability.shape[1:]
    step = torch.arange(-WINDOW, WINDOW + 1, device=probability.device)
    row = truth.y.floor().long()[:, None, None] + step[:, None]
    column = truth.x.floor().long()[:, None, None] + step[None, :]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    frame = truth.scene * frames + truth.frame
    index = (frame[:, None, None] * height + row.clamp(0, height - 1)) * width + column.clamp(0, width - 1)

    def at(values: Tensor) -> Tensor:  # (B, T, H, W) → (N, 5, 5)
        return values.flatten()[index]

    logit = functional.logsigmoid(at(maps.logit)).masked_fill(~inside, -1e4)
    weight = logit - torch.log(probability.sum((-1, -2)).flatten()[frame] + 1e-6)[:, None, None]
    likelihood = (
        _log_normal(truth.x[:, None, None] - (column + 0.5 + at(maps.dx)), at(maps.sigma_x))
        + _log_normal(truth.y[:, None, None] - (row + 0.5 + at(maps.dy)), at(maps.sigma_y))
        # In units of 1000 photons, so that the term's size is that of the others.
        + _log_normal((truth.photons[:, None, None] - at(maps.photons)) / 1000, at(maps.sigma_photons) / 1000)
    )
    if isinstance(maps, EmitterMap3D):
        # In units of 100 nm, about a pixel, as x and y are.
        error = (truth.z[:, None, None] - at(maps.z)) / 100
        likelihood = likelihood + _log_normal(error, at(maps.sigma_z) / 100)
    return torch.logsumexp((weight + likelihood).flatten(1), 1)


def _log_normal(error: Tensor, sigma: Tensor) -> Tensor:
    return -0.5 * (error / sigma) ** 2 - torch.log(sigma) - 0.5 * math.log(2 * math.pi)


def _background_term(said: Tensor, true: Tensor) -> Tensor:
    """Squared error in units of the shot noise of twenty pixels, gently, so that it guides and does not lead."""
    return 1e-3 * (said - true) ** 2 / (true + 1.0)
