"""Tiles: the same answer as the whole frame, and a reach that is no larger than it must be."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from config.compose import compose
from config.errors import SettingsError
from models.network import Network
from models.registry import build_network
from models.streaming import StreamStep
from models.tiles import BYTES_A_PIXEL, Tiles, stretches, tiles_for

NAMES = ("default", "small", "unet", "full_resolution")
CPU = torch.device("cpu")


def network(name: str) -> Network:
    """With random weights that let every pixel count: a reach that is too small shows."""
    torch.manual_seed(3)
    settings = compose([f"network={name}"]).network
    context = min(1, settings.past)
    made = build_network(replace(settings, past=context, future=context))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def frames(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).poisson(30.0, (2, height, width)).astype(np.float32))


def test_stretches_cover_an_axis_once_and_stay_within_it() -> None:
    made = stretches(100, 32, 16)
    assert [(one.start, one.stop) for one in made] == [(0, 32), (32, 64), (64, 96), (96, 100)]
    assert [(one.first, one.last) for one in made] == [(0, 48), (16, 80), (48, 100), (80, 100)]


@pytest.mark.parametrize("name", NAMES)
def test_tiles_give_what_the_whole_frame_gives(name: str) -> None:
    made, photons = network(name), frames(139, 150)
    side = 8 * made.multiple
    tiles = Tiles(made, (side, 2 * side))
    assert 2 * side < 139
    with torch.inference_mode():
        whole = made.encode(photons)
        assert torch.allclose(tiles.encode(photons), whole, rtol=1e-4, atol=1e-4)
        seen = made.attend(whole[None], torch.ones(2, dtype=torch.bool), 0, 2)
        expected, found = made.decode(seen, 139, 150), tiles.decode(seen, 139, 150)
    for channel, values in vars(expected).items():
        assert getattr(found, channel).shape == values.shape
        assert torch.allclose(getattr(found, channel), values, rtol=1e-4, atol=1e-4), channel


@pytest.mark.parametrize("name", NAMES)
def test_the_reach_is_not_larger_than_it_must_be(name: str) -> None:
    made = network(name)
    assert made.reach is not None
    photons = frames(256, 256)[:1].requires_grad_()
    features = made.encode(photons)
    (gradient,) = torch.autograd.grad(features[0, :, 64, 64].sum(), photons)
    touched = gradient[0].nonzero()
    seen = int((touched - 64 * made.shrink).abs().max())
    assert made.reach[0] >= seen - made.shrink
    assert made.reach[0] <= seen + made.multiple


@pytest.mark.parametrize("size", [(70, 93), (64, 64)])
def test_a_step_in_tiles_gives_the_same_rows(size: tuple[int, int]) -> None:
    made = network("small")
    whole, tiled = StreamStep(made), StreamStep(made)
    tiled.tile(str(made.multiple * 4))
    photons = frames(*size)
    height, width = (-(-one // made.shrink) for one in size)
    state = torch.zeros(2, made.state_channels, height, width)
    valid = torch.tensor([False, False, True, True])
    with torch.inference_mode():
        rows, left = whole(photons, state, valid, torch.tensor(0.3))
        again, left_again = tiled(photons, state, valid, torch.tensor(0.3))
    assert len(rows) > 20
    assert torch.allclose(rows, again, rtol=1e-4)
    assert torch.allclose(left, left_again, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("frame", "tile"),
    [
        ((1024, 1024), (512, 1024)),
        ((1000, 1000), (504, 1000)),
        ((300, 4000), (304, 1336)),
        ((2048, 2048), (1024, 512)),
    ],
)
def test_a_processor_works_off_large_frames_in_few_long_tiles(frame: tuple[int, int], tile: tuple[int, int]) -> None:
    chosen = tiles_for(network("default"), "auto", frame, CPU)
    assert chosen is not None
    assert sorted(chosen.shape) == sorted(tile)


def test_a_processor_works_off_smaller_frames_whole() -> None:
    made = network("small")
    assert tiles_for(made, "auto", (700, 700), CPU) is None
    assert tiles_for(made, "auto", (100, 5000), CPU) is None
    assert tiles_for(made, "none", (20000, 20000), CPU) is None


def test_a_card_takes_tiles_where_memory_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made, card = network("small"), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2 * BYTES_A_PIXEL * 2048**2, 0))
    assert tiles_for(made, "auto", (2048, 2048), card) is None
    chosen = tiles_for(made, "auto", (2049, 4096), card)
    assert chosen is not None
    assert all(side % made.multiple == 0 for side in chosen.shape)
    assert math.prod(side + 2 * max(made.reach or ()) for side in chosen.shape) <= 2048**2


def test_a_network_without_a_bound_refuses_tiles_and_never_takes_them_by_itself() -> None:
    made = build_network(compose(["network=vit"]).network)
    assert tiles_for(made, "auto", (10000, 10000), CPU) is None
    with pytest.raises(SettingsError, match="vit"):
        StreamStep(made).tile("256")
