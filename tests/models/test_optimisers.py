"""Optimisers by name, and that Muon does what its source says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from config.errors import TrainingError
from config.schema import NetworkSettings, TrainingSettings
from models.optimisers import Muon, make_optimiser, orthogonalised
from models.registry import build_network


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("shape", [(8, 8), (64, 12), (12, 600)])
def test_an_update_has_singular_values_near_one(
    shape: tuple[int, int], bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.optimisers.computes_in_bf16", lambda _: bf16)
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * torch.logspace(-1, 2, shape[1])
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linalg.svdvals(orthogonalised(matrix))
    strong = torch.linalg.svdvals(matrix / matrix.norm()) > 0.02  # five iterations do not lift the weakest
    assert values[strong].min() > 0.5
    assert values.max() < 1.35
    aligned = left.T @ orthogonalised(matrix) @ right.T
    assert (aligned.diagonal()[strong] > 0.5).all()


def test_only_weights_that_mix_channels_are_orthogonalised() -> None:
    network = build_network(NetworkSettings())
    optimiser = make_optimiser(network, TrainingSettings())
    assert isinstance(optimiser, Muon)
    names = {id(value): name for name, value in network.named_parameters()}
    matrices, others = ({names[id(p)] for p in group["params"]} for group in optimiser.param_groups)
    assert "encoder.enter.first.weight" in matrices
    assert "attention.query.weight" in matrices
    assert {"maps.weight", "attention.bias", "head.bias", "attention.norm_mlp.weight"} <= others
    assert matrices | others == set(names.values())


@pytest.mark.parametrize(("name", "rate"), [("muon", 0.02), ("adamw", 0.02), ("sgd", 0.3)])
def test_every_optimiser_goes_downhill(name: str, rate: float) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
    frames, target = torch.randn(4, 3, 9, 9), torch.randn(4, 2, 7, 7)
    optimiser = make_optimiser(network, TrainingSettings(optimiser=name, learning_rate=rate))

    def loss() -> torch.Tensor:
        return functional.mse_loss(network(frames), target)

    before = float(loss().detach())
    for _ in range(40):
        optimiser.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert float(loss().detach()) < 0.9 * before


def test_vectors_are_updated_as_by_adamw() -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2))
    muon = Muon([], [ours], lr=0.1, weight_decay=0.05)
    adamw = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.05)
    for step in range(5):
        for value, optimiser in ((ours, muon), (theirs, adamw)):
            optimiser.zero_grad()
            ((value - step) ** 3).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_step_is_as_large_as_one_of_adamw() -> None:
    weight = nn.Parameter(torch.zeros(32, 16, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    Muon([weight], [], lr=1.0, weight_decay=0.0).step()
    size = math.sqrt(float((weight.detach() ** 2).mean()))
    assert 0.1 < size < 0.3  # AdamW's steps measure 0.2 to 0.4 (Liu et al. 2025)


def test_an_unknown_name_names_the_known() -> None:
    with pytest.raises(TrainingError, match="adamw"):
        make_optimiser(nn.Linear(2, 2), TrainingSettings(optimiser="adamax2"))
