"""Optimisers by name: torch's own, and Muon, which learns a convolution's weights as the matrix they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from config.errors import TrainingError
from config.schema import TrainingSettings
from engine.runtimes.torch_runtime import computes_in_bf16

MOMENTUM = 0.95
"""Of Muon's running mean of gradients (Jordan et al. 2024)."""
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration that drives every singular value towards one (Jordan et al. 2024)."""
ITERATIONS = 5
MIXING = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is the nearest orthogonal matrix, for weights; AdamW for biases, norms and outputs.

    A weight (outputs, …) is taken as the matrix (outputs, rest), which torch's own Muon refuses. The update is scaled
    to the size of one of AdamW's (Liu et al. 2025, arXiv:2502.16982), so one learning rate serves both.
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], others: Iterable[nn.Parameter], lr: float, weight_decay: float
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(weights), "orthogonal": True},
            {"params": list(others), "orthogonal": False},
        ]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "betas": (0.9, 0.999), "eps": 1e-8})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._orthogonal if group["orthogonal"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(group["lr"] * update(parameter, group))
        return loss

    def _orthogonal(self, parameter: Tensor, _group: dict[str, Any]) -> Tensor:
        assert parameter.grad is not None
        momentum = self._kept(parameter, "momentum")
        momentum.lerp_(parameter.grad, 1 - MOMENTUM)
        matrix = parameter.grad.lerp(momentum, MOMENTUM).flatten(1)
        update: Tensor = 0.2 * math.sqrt(max(matrix.shape)) * orthogonalised(matrix)
        return update.view_as(parameter)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        assert parameter.grad is not None
        mean, square = self._kept(parameter, "mean"), self._kept(parameter, "square")
        steps = self.state[parameter]["steps"] = self.state[parameter].get("steps", 0) + 1
        first, second = group["betas"]
        mean.lerp_(parameter.grad, 1 - first)
        square.lerp_(parameter.grad**2, 1 - second)
        size = (square / (1 - second**steps)).sqrt() + group["eps"]
        update: Tensor = mean / (1 - first**steps) / size
        return update

    def _kept(self, parameter: Tensor, name: str) -> Tensor:
        state: dict[str, Tensor] = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        return state[name]


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix (M, N) with the same singular vectors and all singular values near one (0.7 to 1.2)."""
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-12)).to(torch.bfloat16 if computes_in_bf16(matrix.is_cuda) else matrix.dtype)
    for _ in range(ITERATIONS):
        gram: Tensor = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    flat: Tensor = x.T if tall else x
    return flat.to(matrix.dtype)


def make_optimiser(network: nn.Module, recipe: TrainingSettings) -> torch.optim.Optimizer:
    """The optimiser that ``training.optimiser`` names: muon, or any of torch.optim's. Raises TrainingError."""
    options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.optimiser.lower() == "muon":
        return Muon(*_split(network), **options)
    known = {name.lower(): kind for name, kind in vars(torch.optim).items() if _is_optimiser(kind)}
    try:
        return known[recipe.optimiser.lower()](network.parameters(), **options)  # type: ignore[no-any-return]
    except KeyError:
        there = ", ".join(sorted({*known, "muon"}))
        raise TrainingError(f"training.optimiser={recipe.optimiser}: no such optimiser. There are: {there}.") from None
    except (TypeError, ValueError) as error:
        raise TrainingError(f"training.optimiser={recipe.optimiser} does not fit this network: {error}") from error


def _split(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights that mix channels, and the rest: vectors, and the last layer, whose outputs each mean something else."""
    named = [(name, value) for name, value in network.named_parameters() if value.requires_grad]
    mixing = [_mixes(network, name) for name, _ in named]
    weights = [value for (_, value), yes in zip(named, mixing, strict=True) if yes]
    others = [value for (_, value), yes in zip(named, mixing, strict=True) if not yes]
    return weights, others


def _mixes(network: nn.Module, name: str) -> bool:
    owner, _, field = name.rpartition(".")
    layer = network.get_submodule(owner)
    return field == "weight" and isinstance(layer, MIXING) and "maps" not in owner.split(".")


def _is_optimiser(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Muon
