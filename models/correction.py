"""What puts a model's own words right: monotone maps of its sigmas and probabilities.

They are fitted once, when a model is exported (models/evaluation/recalibration.py), travel in the model file, and are
the last thing that the graph does (models/streaming.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats: TypeAlias = NDArray[np.float64]

SUREST = 9.21
"""Log-odds of 0.9999. Nothing is told apart beyond, on either side: a probability that rounds to 1 says no more."""


@dataclass(frozen=True)
class Width:
    """A standard deviation s of a localisation that the network holds for real with probability p becomes
    ``scale`` · s · exp(``doubt`` · (1 − p)). As it stands, it changes nothing.

    The doubt: one that the network is not sure of more often lies between two emitters, or beside its own, than its
    sigma says.
    """

    scale: float = 1.0
    doubt: float = 0.0

    def of(self, sigma: Tensor, probability: Tensor) -> Tensor:
        """Corrected standard deviations, of any shape; ``probability`` before correction."""
        return self.scale * sigma * torch.exp(self.doubt * (1 - probability))


@dataclass(frozen=True)
class Odds:
    """Log-odds l become ``level`` + slope · (l − ``knot``), a slope of ``below`` under the knot and ``above`` over it.
    That is Platt's map, bent once. As it stands, it changes nothing.

    Slopes are positive, so the order stays, and what becomes some probability can be told in closed form.
    """

    knot: float = 0.0
    level: float = 0.0
    below: float = 1.0
    above: float = 1.0

    def of(self, probability: Tensor) -> Tensor:
        """Corrected probabilities, of any shape."""
        beyond = torch.logit(probability).clamp(-SUREST, SUREST) - self.knot
        return torch.sigmoid(self.level + self.below * beyond.clamp(max=0.0) + self.above * beyond.clamp(min=0.0))

    def before(self, probability: Tensor) -> Tensor:
        """Which probabilities become these."""
        beyond = torch.logit(probability) - self.level
        return torch.sigmoid(self.knot + beyond.clamp(max=0.0) / self.below + beyond.clamp(min=0.0) / self.above)


@dataclass(frozen=True)
class Corrections:
    """All that is corrected of a row."""

    odds: Odds = field(default_factory=Odds)
    place: Width = field(default_factory=Width)
    """Of sigma_x and sigma_y."""
    photons: Width = field(default_factory=Width)
    """Of sigma_photons."""
    depth: Width = field(default_factory=Width)
    """Of sigma_z."""

    def to_dict(self) -> dict[str, dict[str, float]]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Mapping[str, float]]) -> Corrections:
        """Of ``to_dict``'s answer. Raises KeyError, TypeError."""
        widths = {name: Width(**raw[name]) for name in ("place", "photons", "depth")}
        return cls(Odds(**raw["odds"]), **widths)

    def probability(self, probability: NDArray[Any]) -> Floats:
        """Corrected probabilities."""
        return self.odds.of(_tensor(probability)).numpy()

    def sigma(self, sigma: NDArray[Any], probability: NDArray[Any]) -> Floats:
        """Corrected sigmas of the place, in their own unit; ``probability`` before correction."""
        return self.place.of(_tensor(sigma), _tensor(probability)).numpy()


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float64))
