"""Starting from another network's weights: what fits is taken, and what was not taken is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from config.errors import TrainingError

NAMED = 6
"""As many weights of a kind are named in a report; of the others their number is said."""


@dataclass(frozen=True)
class Report:
    """What became of every weight of the network, and of every one of the file."""

    source: str
    """Where the weights come from, for people."""
    taken: tuple[str, ...]
    """Names of those that fitted by name and shape."""
    share: float
    """Share of the network's numbers that they hold."""
    widened: tuple[str, ...]
    """Those of ``taken`` that have more inputs here than in the file, whose weights begin at zero, or more outputs,
    which begin anew."""
    reshaped: tuple[str, ...]
    """Those of another shape in the file, with both shapes; they begin anew."""
    new: tuple[str, ...]
    """Names that the file lacks; they begin anew."""
    unused: tuple[str, ...]
    """Names that only the file has."""

    @property
    def complete(self) -> bool:
        """Everything of the network came from the file, and everything of the file was used."""
        return not (self.widened or self.reshaped or self.new or self.unused)

    def words(self) -> str:
        """The report as a sentence or a few."""
        total = len(self.taken) + len(self.reshaped) + len(self.new)
        if self.complete:
            return f"All {total} weights were taken from {self.source}."
        head = f"{len(self.taken)} of {total} weights were taken from {self.source}, {self.share:.1%} of the numbers."
        rest = (
            ("Widened by what begins anew", self.widened),
            ("Begun anew, as their shape differs", self.reshaped),
            (f"Begun anew, as {self.source} lacks them", self.new),
            (f"Left in {self.source}, as this network has none of that name", self.unused),
        )
        return " ".join([head, *(f"{what}: {_listed(names)}." for what, names in rest if names)])


def transfer(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> Report:
    """Load into ``network`` what fits of ``weights``, by name and shape. Raises TrainingError where nothing does.

    A layer that looks at the same inputs and further ones behind them fits, too: it begins by not heeding those. So
    does the last one, ``maps``, where it gives further channels, such as z.
    """
    own = network.state_dict()
    fitting = {name: _fitted(name, weights[name], own[name]) for name in own if name in weights}
    taken = {name: weight for name, weight in fitting.items() if weight is not None}
    if not taken:
        raise TrainingError(
            f"no weight of {source} fits this network by name and shape, so there is nothing to start from. Give a "
            "model of the same network.kind, or leave training.base away."
        )
    with torch.no_grad():
        network.load_state_dict(taken, strict=False)
    widened = [name for name in taken if weights[name].shape != own[name].shape]
    other = [name for name in own if name in weights and name not in taken]
    return Report(
        source=source,
        taken=tuple(taken),
        share=sum(value.numel() for value in taken.values()) / sum(value.numel() for value in own.values()),
        widened=tuple(f"{name} {_shape(weights[name])} → {_shape(own[name])}" for name in widened),
        reshaped=tuple(f"{name} {_shape(weights[name])} → {_shape(own[name])}" for name in other),
        new=tuple(name for name in own if name not in weights),
        unused=tuple(name for name in weights if name not in own),
    )


def _fitted(name: str, weight: Tensor, own: Tensor) -> Tensor | None:
    """A weight (outputs, inputs, …) as a network that begins with ``own`` can take it; None where it does not fit."""
    more = [mine - its for mine, its in zip(own.shape, weight.shape, strict=False)]
    if own.shape == weight.shape:
        return weight
    if own.ndim != weight.ndim or min(more) < 0:
        return None
    if "maps" in name.split(".") and not any(more[1:]):
        return torch.cat([weight, own[weight.shape[0] :]])
    if name.endswith(".weight") and own.ndim > 1 and not any(more[:1] + more[2:]):
        return torch.cat([weight, torch.zeros_like(own[:, weight.shape[1] :])], 1)
    return None


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
