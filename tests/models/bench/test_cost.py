"""Counts of arithmetic and memory against sums by hand."""

from __future__ import annotations

import pytest
import torch

from config.compose import compose
from config.schema import NetworkSettings
from models.bench.cost import count, spotted_maps
from models.bench.facts import Cost, Peak, whole
from models.network import Network
from models.registry import build_network
from models.streaming import detect

FRAMES, SIZE = 6, 16
CHANNELS, CONTEXT = 8, 2
PIXELS = FRAMES * SIZE**2
FLAT = NetworkSettings(past=1, future=1, encoder=[8], features=CHANNELS, heads=2, decoder=[8])


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return build_network(FLAT).eval()


@pytest.fixture(scope="module")
def costs(network: Network) -> dict[str, Cost]:
    return count(network, FRAMES, SIZE)


def convolution(kernel: int, inputs: int, outputs: int) -> int:
    """Multiplications and additions for one place."""
    return 2 * kernel**2 * inputs * outputs


def test_arithmetic_of_convolutions(costs: dict[str, Cost]) -> None:
    """At half resolution: a place for four pixels."""
    encode = convolution(3, 4, 8) + convolution(3, 8, 8) + convolution(1, 8, 8)
    decode = convolution(3, 8 + 4, 8) + 2 * convolution(3, 8, 8) + convolution(1, 8, 4 * 8)
    assert costs["encode"].flops == encode / 4
    assert costs["decode"].flops == decode / 4


def test_arithmetic_of_attention(costs: dict[str, Cost]) -> None:
    """Keys and values of all frames of the sequence, queries and the MLP of those that are answered."""
    sequence, square = FRAMES + CONTEXT, 2 * CHANNELS**2
    dense = FRAMES * (square + square + 4 * square) + sequence * 2 * square
    products = 2 * (2 * FRAMES * sequence * CHANNELS)
    assert costs["attend"].flops == (dense + products) / FRAMES / 4


def test_least_bytes_are_input_output_and_weights(network: Network, costs: dict[str, Cost]) -> None:
    parts = [network.get_submodule(name) for name in ("encoder", "project")]
    weights = sum(each.numel() for part in parts for each in part.parameters())
    state = (CHANNELS + 4) / 4
    assert costs["encode"].least == pytest.approx(4 * (1 + state + weights / PIXELS))
    assert costs["detect"].flops == 0
    assert all(cost.least < cost.every for cost in costs.values())


def test_every_byte_of_one_operation() -> None:
    """Views cost nothing; what works in place reads and writes."""
    from models.bench.cost import _Traffic

    x, y = torch.ones(10, 10), torch.ones(10, 10)
    with _Traffic() as traffic:
        (x + y).t()[2:].unsqueeze(1)[:5]
    assert (traffic.bytes, traffic.operations) == (3 * 400, 1)
    with _Traffic() as traffic:
        x.add_(y)
    assert (traffic.bytes, traffic.operations) == (3 * 400, 1)


@pytest.mark.parametrize(("name", "flops"), [("decode", 1.158e6), ("liteloc", 0.845e6)])
def test_published_networks(name: str, flops: float) -> None:
    """LiteLoc's 0.86 MFLOP is published; DECODE's 2.08 count each frame three times, which streaming does not."""
    network = build_network(compose([f"network={name}"]).network).eval()
    assert whole(count(network, 4, 32)).flops == pytest.approx(flops, rel=0.02)


def test_counting_does_not_depend_on_the_size(network: Network, costs: dict[str, Cost]) -> None:
    larger = count(network, FRAMES, 2 * SIZE)
    assert [cost.flops for cost in larger.values()] == [cost.flops for cost in costs.values()]


def test_detection_is_counted_with_emitters(network: Network) -> None:
    with torch.inference_mode():
        features = network.encode(torch.full((4, 40, 40), 20.0))
        seen = network.attend(features[None], torch.ones(4, dtype=torch.bool), 1, 2)
        maps = spotted_maps(network.decode(seen, 40, 40))
        rows = detect(maps, torch.ones(2, 1, 1, dtype=torch.bool), torch.tensor(0.5))
    assert len(rows) == 2 * 16


def test_a_floor_is_the_longer_of_arithmetic_and_memory() -> None:
    peak = Peak(2, {"fp32": 100.0, "bf16": 400.0}, 10.0)
    cost = Cost(flops=200.0, least=16.0, every=90.0, operations=3)
    assert cost.floor(peak, "fp32") == 2.0
    assert cost.floor(peak, "bf16") == 0.8
    assert cost.spilled(peak, "bf16") == 4.5
