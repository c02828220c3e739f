"""The network's parts: windows, sizes, loss and detection."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from config.errors import SettingsError
from config.schema import NetworkSettings
from models.attention_unet import AttentionUNet
from models.layers import TemporalAttention, UNet, flatten_noise
from models.loss import emitter_loss
from models.network import CHANNELS, EmitterMap
from models.registry import build_network
from models.streaming import PIXELS_A_PART, SMALL_PART, _parts, detect
from simulation.truth import SceneBatch, Truth

TINY = NetworkSettings(name="tiny", past=2, future=1, encoder=[8, 8], features=8, heads=2, decoder=[8, 8])


def tiny() -> AttentionUNet:
    torch.manual_seed(0)
    network = AttentionUNet(TINY).eval()
    for parameter in network.attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # attention starts at zero, which would hide what it sees
    return network


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23), (8, 31), (3, 5)])
def test_maps_have_the_size_of_the_frame(height: int, width: int) -> None:
    maps = tiny()(torch.rand(2, 3, height, width))
    assert all(value.shape == (2, 3, height, width) for value in vars(maps).values())


def test_a_unet_takes_any_size() -> None:
    assert UNet(3, [8, 8, 8])(torch.rand(1, 3, 13, 9)).shape == (1, 8, 13, 9)


@pytest.mark.parametrize(("fold", "attention_at"), [(2, 2), (1, 2), (2, 4)])
def test_a_frame_may_enter_as_a_logarithm_too(fold: int, attention_at: int) -> None:
    """In it an emitter twice as bright is the same one, higher by a constant, wherever it is."""
    network = AttentionUNet(replace(TINY, input_log=20.0, fold=fold, attention_at=attention_at)).eval()
    light = torch.full((1, 12, 12), 1e5)
    light[0, 6, 6] = 4e5
    dim, bright = (network._views(scale * light)[0, 1] for scale in (1, 2))
    assert torch.allclose(bright - dim, torch.tensor(math.log(2)), atol=1e-3)
    assert network._views(-light).isfinite().all()
    photons = torch.rand(1, 3, 17, 12) * 50
    state = network.encode(photons[0])
    assert state.shape[1] == network.state_channels
    assert network(photons).dx.shape == (1, 3, 17, 12)


def test_a_frame_depends_on_its_window_and_on_nothing_else() -> None:
    network = tiny()
    movie = torch.rand(1, 8, 12, 12) * 50
    whole = network(movie).dx[0, 4]
    for changed, same in ((1, True), (2, False), (3, False), (5, False), (6, True), (7, True)):
        other = movie.clone()
        other[0, changed] += 40
        assert torch.allclose(network(other).dx[0, 4], whole, atol=1e-6) == same, changed


def test_frames_that_do_not_exist_are_not_looked_at() -> None:
    attention = TemporalAttention(8, 2, 2, 2)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.rand(1, 5, 3, 3, 8)
    valid = torch.tensor([False, True, True, True, False])
    first = attention(x, valid, 2, 1)
    x[:, ~valid] = 99.0
    assert torch.allclose(attention(x, valid, 2, 1), first)


def test_shot_noise_is_flattened() -> None:
    generator = torch.Generator().manual_seed(0)
    spreads = [
        flatten_noise(torch.poisson(torch.full((50_000,), mean), generator=generator), 4.0, 1.0).std().item()
        for mean in (20.0, 200.0, 2000.0)
    ]
    assert max(spreads) / min(spreads) < 1.15
    assert flatten_noise(torch.tensor(-3.0), 4.0, 1.0) == -flatten_noise(torch.tensor(3.0), 4.0, 1.0)


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(SettingsError, match="attention_unet"):
        build_network(replace(TINY, kind="transformer"))


def perfect_maps(truth: Truth, shape: tuple[int, ...]) -> EmitterMap:
    """Maps that say exactly the truth."""
    maps = {name: torch.zeros(shape) for name in CHANNELS}
    maps["logit"] -= 12
    maps["background"] += 20
    for name, value in (("sigma_x", 0.1), ("sigma_y", 0.1), ("sigma_photons", 30.0)):
        maps[name] += value
    at = (truth.scene, truth.frame, truth.y.long(), truth.x.long())
    maps["logit"][at] = 8.0
    maps["dx"][at] = truth.x - truth.x.floor() - 0.5
    maps["dy"][at] = truth.y - truth.y.floor() - 0.5
    maps["photons"][at] = truth.photons
    return EmitterMap(**maps)


def a_truth() -> Truth:
    return Truth(
        scene=torch.tensor([0, 0, 1]),
        frame=torch.tensor([0, 1, 1]),
        x=torch.tensor([5.3, 0.2, 9.9]),
        y=torch.tensor([6.8, 11.7, 3.1]),
        photons=torch.tensor([900.0, 300.0, 2000.0]),
    )


SHAPE = (2, 2, 12, 12)


@pytest.mark.parametrize(
    ("what", "by"),
    [
        ("dx", 0.3),
        ("dy", -0.3),
        ("photons", 200.0),
        ("logit", -6.0),
        ("logit", 6.0),
        ("sigma_x", 0.4),
        ("background", 9.0),
    ],
)
def test_the_truth_has_the_least_loss(what: str, by: float) -> None:
    batch = SceneBatch(torch.zeros(SHAPE), torch.full(SHAPE, 20.0), a_truth())
    maps = perfect_maps(a_truth(), SHAPE)
    best = emitter_loss(maps, batch).total
    worse = emitter_loss(replace(maps, **{what: getattr(maps, what) + by}), batch).total
    assert worse > best + 0.05


def test_the_count_term_is_close_to_the_exact_probability() -> None:
    probability = torch.rand(14, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    exact = torch.zeros(15)
    for outcome in itertools.product((0, 1), repeat=14):
        chosen = torch.tensor(outcome, dtype=torch.bool)
        exact[sum(outcome)] += torch.where(chosen, probability, 1 - probability).prod()
    maps = EmitterMap(**{name: torch.ones(1, 1, 2, 7) for name in CHANNELS})
    maps = replace(maps, logit=torch.logit(probability).view(1, 1, 2, 7))
    for number in (5, 7, 9):
        zeros, some = torch.zeros(number, dtype=torch.long), torch.full((number,), 1.0)
        batch = SceneBatch(torch.zeros(1, 1, 2, 7), torch.ones(1, 1, 2, 7), Truth(zeros, zeros, some, some, some))
        said = emitter_loss(maps, batch).count
        assert abs(float(said + exact[number].log())) < 0.08


def test_a_loss_without_emitters_is_a_number_with_gradients() -> None:
    nothing = torch.zeros(0)
    truth = Truth(nothing.long(), nothing.long(), nothing, nothing, nothing)
    maps = tiny()(torch.rand(2, 2, 12, 12))
    loss = emitter_loss(maps, SceneBatch(torch.zeros(SHAPE), torch.ones(SHAPE), truth)).total
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)


def test_detection_finds_what_the_maps_say() -> None:
    truth = a_truth()
    maps = perfect_maps(truth, SHAPE)
    rows = detect(
        maps.each(lambda value: value.flatten(0, 1)), torch.ones(4, 1, 1, dtype=torch.bool), torch.tensor(0.5)
    )
    assert rows[:, 0].tolist() == [0, 1, 3]
    assert torch.allclose(rows[:, 1], truth.x, atol=1e-5)
    assert torch.allclose(rows[:, 2], truth.y, atol=1e-5)
    assert torch.allclose(rows[:, 3], truth.photons)


def test_an_emitter_between_two_pixels_is_one_row_with_all_its_probability() -> None:
    maps = EmitterMap(**{name: torch.zeros(1, 9, 9) for name in CHANNELS})
    logit = torch.full((1, 9, 9), -12.0)
    logit[0, 4, 4], logit[0, 4, 5] = torch.logit(torch.tensor(0.45)), torch.logit(torch.tensor(0.35))
    rows = detect(replace(maps, logit=logit), torch.ones(1, 1, 1, dtype=torch.bool), torch.tensor(0.5))
    assert len(rows) == 1
    assert rows[0, -1] == pytest.approx(0.8, abs=1e-3)


def shared_by_two(apart: float) -> torch.Tensor:
    """The row of an emitter that a pixel reports at x = 4.9 and its neighbour at ``apart`` more; sigmas 0.1 and 0.2."""
    logit, dx, sigma = torch.full((1, 9, 9), -12.0), torch.zeros(1, 9, 9), torch.full((1, 9, 9), 0.1)
    logit[0, 4, 4], logit[0, 4, 5] = torch.logit(torch.tensor(0.6)), torch.logit(torch.tensor(0.2))
    dx[0, 4, 4], dx[0, 4, 5], sigma[0, 4, 5] = 0.4, 4.9 + apart - 5.5, 0.2
    maps = EmitterMap(**{name: torch.ones(1, 9, 9) for name in CHANNELS})
    maps = replace(maps, logit=logit, dx=dx, sigma_x=sigma)
    rows = detect(maps, torch.ones(1, 1, 1, dtype=torch.bool), torch.tensor(0.5))
    assert len(rows) == 1
    return rows[0]


@pytest.mark.parametrize("apart", [0.0, 0.2, 0.9])
def test_a_row_sums_up_four_opinions(apart: float) -> None:
    # Weights 3 : 1; the second moves the mean by how well it agrees with the first, and always widens sigma.
    agrees = 0.25 * math.exp(-0.5 * apart**2 / (0.1**2 + 0.2**2))
    mean = apart * agrees / (0.75 + agrees)
    variance = 0.75 * (0.1**2 + mean**2) + 0.25 * (0.2**2 + (apart - mean) ** 2)
    row = shared_by_two(apart)
    assert row[1].item() == pytest.approx(4.9 + mean, abs=1e-4)
    assert row[5].item() == pytest.approx(math.sqrt(variance), abs=1e-4)


def test_a_row_at_the_edge_of_the_frame_stays_there() -> None:
    logit = torch.full((1, 5, 5), -30.0)
    logit[0, 0, 0], logit[0, 4, 4] = 9.0, 9.0
    maps = EmitterMap(**{name: torch.ones(1, 5, 5) for name in CHANNELS})
    maps = replace(maps, logit=logit, dx=torch.zeros(1, 5, 5), dy=torch.zeros(1, 5, 5))
    rows = detect(maps, torch.ones(1, 1, 1, dtype=torch.bool), torch.tensor(0.5))
    assert torch.allclose(rows[:, 1:3], torch.tensor([[0.5, 0.5], [4.5, 4.5]]))


def test_frames_that_do_not_exist_give_no_rows() -> None:
    maps = EmitterMap(**{name: torch.full((2, 9, 9), 3.0) for name in CHANNELS})
    logit = functional.one_hot(torch.tensor([40, 40]), 81).view(2, 9, 9) * 20.0 - 10
    exists = torch.tensor([False, True])[:, None, None]
    assert detect(replace(maps, logit=logit), exists, torch.tensor(0.5))[:, 0].tolist() == [1]


@pytest.mark.parametrize(
    ("frames", "side", "parts"),
    [
        (1, 64, 1),
        (4, 64, 1),
        (5, 64, 2),
        (12, 64, 4),
        (16, 64, 4),
        (64, 64, 4),
        (16, 128, 4),
        (16, 256, 16),
        (3, 512, 3),
    ],
)
def test_a_call_is_cut_for_four_cores_and_no_finer_than_pays(frames: int, side: int, parts: int) -> None:
    assert _parts(frames * side**2, PIXELS_A_PART["cpu"], frames, SMALL_PART["cpu"]) == parts
