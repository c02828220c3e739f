"""Every network of config/network: its size, its windows, that it learns, streams without seams and exports."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from acquisition.camera import Camera
from acquisition.source import Frames
from config.compose import compose
from config.errors import SettingsError, TrainingError
from config.schema import DomainSettings, NetworkSettings, Settings, TrainingSettings
from engine.localisations import LOCALISATION_SCHEMA
from engine.runtimes import load_runtime
from engine.runtimes.choice import Wanted
from engine.runtimes.torch_runtime import COMPILED, TorchRuntime
from engine.streaming import StreamingLocaliser
from models.export import agreement, build_step, check_parity, describe, export, write_onnx
from models.loss import emitter_loss
from models.network import CHANNELS_3D, EmitterMap, EmitterMap3D, Network
from models.registry import NETWORKS, build_network
from models.streaming import StreamStep, detect
from models.training import train
from models.weights_file import write_weights
from simulation.domain import Domain
from simulation.truth import SceneBatch

NAMES = sorted(path.stem for path in Path("config/network").glob("*.yaml"))
KINDS = sorted(NETWORKS)
CAMERA = Camera("test", baseline=100.0, e_per_adu=0.5, em_gain=1.0, quantum_efficiency=0.8, pixel_size=110.0)
EASY = DomainSettings(photons=[3000.0, 3000.0], background=[2.0, 2.0], density=[0.01, 0.01], psf_sigma=[1.2, 1.2])
DEEP = replace(EASY, depth=[-400.0, 400.0], psf="astigmatic")


@cache
def shipped(name: str) -> NetworkSettings:
    """The settings of a YAML file."""
    return compose([f"network={name}"]).network


def narrow(settings: NetworkSettings) -> NetworkSettings:
    """The same network with few channels and, where it may be chosen, a short context."""
    past, future = (min(2, settings.past), min(1, settings.future))
    encoder, decoder = ([8] * len(widths) for widths in (settings.encoder, settings.decoder))
    small = replace(settings, features=8, heads=2, encoder=encoder, decoder=decoder, window=4)
    return replace(small, past=past, future=future)


def of_kind(kind: str) -> NetworkSettings:
    return narrow(shipped("default" if kind == "attention_unet" else kind))


def lively(settings: NetworkSettings) -> Network:
    """A network with random weights that looks at its neighbours, reports many emitters, and has seen its norms."""
    torch.manual_seed(1)
    network = build_network(settings)
    for name, parameter in network.named_parameters():
        if "attention" in name and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
        if "maps" in name and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    lasts = [module for name, module in network.named_modules() if "maps" in name and isinstance(module, nn.Conv2d)]
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = None  # its constants are then those of all that it has seen
    hooks = [last.register_forward_hook(spread) for last in lasts]
    with torch.no_grad():
        network(movie(4, 16, 16)[None])
    for hook in hooks:
        hook.remove()
    return network.eval()


def spread(last: nn.Module, _inputs: object, raw: torch.Tensor) -> None:
    """Change a last layer so that each of its channels has a mean of 0 and a standard deviation of 1.5."""
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    scale = 1.5 / raw.std((0, 2, 3))
    assert torch.isfinite(scale).all()
    last.weight *= scale[:, None, None, None]
    last.bias.copy_(scale * (last.bias - raw.mean((0, 2, 3))))


def movie(frames: int, height: int = 19, width: int = 26) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    photons = torch.poisson(torch.full((frames, height, width), 20.0), generator=generator)
    photons[torch.rand(photons.shape, generator=generator) < 0.02] += 300
    return photons


@pytest.mark.parametrize("name", NAMES)
def test_it_is_known_by_its_file(name: str) -> None:
    settings = shipped(name)
    assert settings.name == name
    with torch.device("meta"):
        network = build_network(settings)
    assert network.context == (settings.past, settings.future)
    assert network.state_channels > 0


# Parameters [millions] and arithmetic [MFLOP per pixel and frame] of published networks, and the frames it was counted
# over: one by itself (Speiser et al. 2021), ten with their two neighbours (Fei et al. 2025: 71.08 G multiplications
# with addition at 128 × 128), a window of 50 (the seed at its default width).
PUBLISHED = [("decode", 2.2, 2.08, 1), ("liteloc", 1.33, 0.867, 10), ("seed_v2", 25.1, 12.9, 50)]


@pytest.mark.parametrize(("name", "parameters", "flops", "frames"), PUBLISHED)
def test_it_is_as_large_as_published(name: str, parameters: float, flops: float, frames: int) -> None:
    network = build_network(shipped(name)).eval()
    past, future = network.context if frames < 50 else (0, 0)
    photons = torch.rand(past + frames + future, 8, 8)
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(parameters, rel=0.01)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        state = network.encode(photons)[None]
        valid = torch.ones(len(photons), dtype=torch.bool)
        network.decode(network.attend(state, valid, past, frames), 8, 8)
    assert counter.get_total_flops() / frames / 8**2 / 1e6 == pytest.approx(flops, rel=0.03)


def test_the_default_is_cheaper_than_what_it_is_compared_with() -> None:
    def share(name: str) -> float:
        network = build_network(shipped(name)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.rand(1, 16, 8, 8))
        return float(counter.get_total_flops()) / 16 / 8**2

    assert share("default") < 0.3 * min(share("decode"), share("liteloc"), share("seed_v2"))
    assert share("unet") == pytest.approx(share("default"), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23), (3, 5)])
def test_maps_have_the_size_of_the_frame(kind: str, height: int, width: int) -> None:
    network = lively(of_kind(kind))
    maps = network(movie(3, height, width)[None])
    assert all(value.shape == (1, 3, height, width) for value in vars(maps).values())
    state = network.encode(movie(3, height, width))
    assert state.shape == (3, network.state_channels, -(-height // network.shrink), -(-width // network.shrink))


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_depends_on_its_context_and_on_nothing_else(kind: str) -> None:
    network = lively(of_kind(kind))
    past, future = network.context
    frames = movie(9)
    with torch.no_grad():
        whole = network(frames[None]).photons[0, 4]
        for changed in range(9):
            other = frames.clone()
            other[changed] += 100 * torch.rand(other[changed].shape)
            same = torch.allclose(network(other[None]).photons[0, 4], whole, rtol=1e-5, atol=0)
            assert same == (not 4 - past <= changed <= 4 + future), changed


@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_do_not_exist_change_nothing(kind: str) -> None:
    network = lively(of_kind(kind))
    past, future = network.context
    frames = movie(past + 1 + future)
    valid = torch.zeros(len(frames), dtype=torch.bool)
    valid[past] = True
    with torch.no_grad():
        alone = network(frames[past][None, None]).photons[0, 0]
        state = network.encode(frames)[None]
        maps = network.decode(network.attend(state, valid, past, 1), *frames.shape[1:])
    assert torch.allclose(maps.photons[0], alone, rtol=1e-4)


def streamed(network: Network, frames: torch.Tensor, block: int) -> list[EmitterMap]:
    """Maps of a movie in blocks, its end flushed with frames that do not exist, as the engine does it."""
    past, future = network.context
    state = torch.zeros(past + future, *network.encode(frames[:1]).shape[1:])
    exists = torch.arange(past + 2 * future + len(frames)) >= past + future
    exists[past + future + len(frames) :] = False
    padded = torch.cat([frames, torch.zeros(future, *frames.shape[1:])])
    maps = []
    for start in range(0, len(padded), block):
        sequence = torch.cat([state, network.encode(padded[start : start + block])])
        valid, count = exists[start : start + len(sequence)], len(sequence) - past - future
        maps.append(network.decode(network.attend(sequence[None], valid, past, count), *frames.shape[1:]))
        state = sequence[count:]
    return maps


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [1, 7, 40])
def test_blocks_leave_no_seam(kind: str, block: int) -> None:
    network, frames = lively(of_kind(kind)), movie(23)
    with torch.no_grad():
        whole, parts = network(frames[None]), streamed(network, frames, block)
    for name, value in vars(whole).items():
        cut = torch.cat([getattr(part, name) for part in parts])[network.context[1] :][: len(frames)]
        assert torch.allclose(cut, value[0], rtol=1e-3, atol=1e-3), name


def rows(network: Network, block: int) -> pa.Table:
    description = describe(network.settings, TrainingSettings(), 0, "lively")
    localiser = StreamingLocaliser(TorchRuntime(StreamStep(network), description, "cpu"), CAMERA, 0.4)
    pixels = (movie(23) + 100).numpy().astype(np.uint16)
    parts = [np.arange(23)[start : start + block] for start in range(0, 23, block)]
    blocks = [Frames(pixels[part], part, np.zeros(len(part))) for part in parts]
    return pa.Table.from_batches([*map(localiser.push, blocks), localiser.flush()])


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_runs_it_in_blocks_of_any_size(kind: str) -> None:
    network = lively(of_kind(kind))
    whole, cut = (
        np.stack([table[name].to_numpy() for name in ("frame", "x", "y")], 1).astype(np.float32)
        for table in (rows(network, 23), rows(network, 5))
    )
    assert set(whole[:, 0]) == set(range(23))
    whole[:, 1:] /= CAMERA.pixel_size
    cut[:, 1:] /= CAMERA.pixel_size
    # In the flat maps of random weights a rounding decides some maxima; a frame that saw others would cost a fifth.
    assert agreement(whole, cut) > 0.95


@pytest.mark.benchmark  # the exporter takes ten seconds and more a network
@pytest.mark.parametrize("kind", KINDS)
def test_both_forms_give_the_same(kind: str, tmp_path: Path) -> None:
    network = lively(of_kind(kind))
    description = describe(network.settings, TrainingSettings(), 0, kind)
    write_weights(network.state_dict(), description, tmp_path / "model.safetensors")
    write_onnx(StreamStep(network), description, tmp_path / "model.onnx")
    check_parity(tmp_path / "model")
    first, second = (found(tmp_path / "model", runtime, movie(14, 37, 18).numpy()) for runtime in ("torch", "onnx"))
    assert len(first) > 20
    assert agreement(first, second) > 0.99


def found(model: Path, kind: str, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of frames of another size and number than a graph was made with, in two halves, so that a state travels."""
    runtime = load_runtime(model, Wanted(kind, "cpu", "fp32", 1), build_step)
    half, window = len(frames) // 2, sum(runtime.description.context)
    state = runtime.blank_state(*frames.shape[1:])
    tables: list[NDArray[np.float32]] = []
    for part in (frames[:half], frames[half:]):
        valid = np.arange(window + half) >= (0 if tables else window)
        some, state = runtime.step(part, state, valid, 0.4)
        some[:, 0] += len(tables) * half
        tables.append(some)
    return np.concatenate(tables)


def recipe(folder: Path, steps: int, dimensions: int = 2) -> TrainingSettings:
    return TrainingSettings(
        steps=steps, batch_size=2, sequence=3, size=16, warmup=5, checkpoint_every=steps, validate_every=steps,
        validation_batches=1, precision="fp32", device="cpu", output=str(folder), ema=0.9, learning_rate=3e-3,
        domain=EASY if dimensions == 2 else DEEP,
    )  # fmt: skip


@cache
def scenes(dimensions: int = 2) -> SceneBatch:
    domain = EASY if dimensions == 2 else DEEP
    return Domain(domain, 3, 16).batch(4, torch.Generator().manual_seed(99))


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(narrow(shipped(name)))
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        batch = scenes(network.settings.dimensions)
        loss = emitter_loss(network.training_maps(batch), batch).total
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 25.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    idle = [name for name, value in network.named_parameters() if value.requires_grad and value.grad is None]
    assert not idle


# The export of the diffusion head takes a minute, as its steps are unrolled.
SLOW = {"diffusion": pytest.mark.benchmark}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in NAMES])
def test_it_trains_exports_and_evaluates_by_the_commands(name: str, tmp_path: Path) -> None:
    network = narrow(shipped(name))
    settings = Settings(network=network, training=recipe(tmp_path / "training", 50, network.dimensions))
    optics = "challenge" if network.dimensions == 2 else "astigmatic"
    size = (f"dataset.{name}={value}" for name, value in (("frames", 20), ("height", 32), ("width", 32)))
    scene = compose(["camera=challenge_emccd", f"optics={optics}", "dataset=density_1", "run.threshold=0.05", *size])
    description = export(train(settings), tmp_path / "model", [scene])
    assert description.made_by["steps"] == "50"
    assert description.context == (network.past, network.future)
    assert 0 <= description.benchmark["density_1"]["jaccard"] < 1


@pytest.mark.benchmark
@pytest.mark.parametrize("name", NAMES)
def test_at_its_full_size_it_trains_and_exports_by_the_commands(name: str, tmp_path: Path) -> None:
    training = recipe(tmp_path / "training", 50, shipped(name).dimensions)
    settings = Settings(network=shipped(name), training=training)
    export(train(settings), tmp_path / "model")


def test_diffusion_learns_alike_from_the_same_batch_and_samples_alike() -> None:
    network = lively(of_kind("diffusion"))
    first, second = (network.training_maps(scenes()).logit for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(network(scenes().photons).logit, network(scenes().photons).logit)


def test_more_steps_of_sampling_change_the_answer() -> None:
    network = lively(of_kind("diffusion"))
    few = network(scenes().photons).photons
    network.settings = replace(network.settings, sampling_steps=6)
    assert not torch.allclose(network(scenes().photons).photons, few, rtol=1e-3)


VARIANTS = [
    ("vit", "past=0", "future=0", "blocks=[2,0]"),
    ("vit", "blocks=[0,0]"),
    ("vit", "blocks=[0,2]"),
    ("vit", "blocks=[0,0]", "positions=false"),
    ("vit", "passes=2"),
    ("vit", "patch=2"),
    ("diffusion", "decoder=[8,16,24]"),
    ("diffusion", "decoder=[8,16]", "gates=true"),
    ("diffusion", "decoder=[8,16]", "gates=true", "middle=5"),
    ("default", "fold=1", "attention_at=1"),
    ("default", "fold=1", "attention_at=4"),
    ("default", "attention_at=4"),
]


@pytest.mark.parametrize("variant", VARIANTS, ids=" ".join)
def test_what_the_seed_had_as_files_are_settings(variant: tuple[str, ...]) -> None:
    name, *overrides = variant
    chosen = compose([f"network={name}", *(f"network.{override}" for override in overrides)]).network
    decoder = chosen.decoder if name == "diffusion" else [8, 8]
    network = lively(replace(narrow(chosen), decoder=decoder, past=chosen.past, future=chosen.future))
    loss = emitter_loss(network.training_maps(scenes()), scenes()).total
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert network.encode(movie(2)).shape[1] == network.state_channels


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("decode", {"past": 4}),
        ("liteloc", {"future": 0}),
        ("unet", {"past": 1}),
        ("attention_unet", {"fold": 2, "attention_at": 1}),
        ("attention_unet", {"heads": 3}),
        ("attention_unet", {"dimensions": 4}),
        ("vit", {"blocks": [2]}),
        ("vit", {"passes": 0}),
        ("diffusion", {"sampling_steps": 0}),
    ],
)
def test_settings_at_odds_are_refused_in_words(kind: str, change: dict[str, int | list[int]]) -> None:
    with pytest.raises(SettingsError, match=rf"network\.({'|'.join([*change, 'kind'])})="):
        build_network(replace(of_kind(kind), **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_three_dimensions_says_z(kind: str) -> None:
    network = lively(replace(of_kind(kind), dimensions=3))
    assert network.channels == CHANNELS_3D
    maps = network(movie(3)[None])
    assert isinstance(maps, EmitterMap3D)
    flat = maps.each(lambda value: value.flatten(0, 1))
    found = detect(flat, torch.ones(3, 1, 1, dtype=torch.bool), torch.tensor(0.3))
    assert found.shape[1] == 11
    assert (found[:, 10] > 0).all()


def test_a_row_sums_up_z_as_it_does_x() -> None:
    base = {name: torch.ones(1, 9, 9) for name in CHANNELS_3D}
    logit = torch.full((1, 9, 9), -12.0)
    logit[0, 4, 4], logit[0, 4, 5] = torch.logit(torch.tensor(0.6)), torch.logit(torch.tensor(0.2))
    dx = torch.zeros(1, 9, 9)
    dx[0, 4, 4], dx[0, 4, 5] = 0.5, -0.5
    z = torch.zeros(1, 9, 9)
    z[0, 4, 4], z[0, 4, 5] = 100.0, 140.0
    maps = EmitterMap3D(**{**base, "logit": logit, "dx": dx, "z": z, "sigma_z": torch.full((1, 9, 9), 30.0)})
    (row,) = detect(maps, torch.ones(1, 1, 1, dtype=torch.bool), torch.tensor(0.5))
    assert row[9].item() == pytest.approx(110.0, abs=1e-2)
    assert row[10].item() == pytest.approx((30**2 + 0.75 * 10**2 + 0.25 * 30**2) ** 0.5, abs=1e-2)


def test_a_table_of_three_dimensions_has_z_in_nanometres() -> None:
    flat, deep = of_kind("attention_unet"), replace(of_kind("attention_unet"), dimensions=3)
    with_z, without = rows(lively(deep), 7), rows(lively(flat), 7)
    assert with_z.schema == without.schema == LOCALISATION_SCHEMA
    assert with_z["z"].null_count == with_z["sigma_z"].null_count == 0
    assert without["z"].null_count == without.num_rows > 0


def test_z_is_learned_from_scenes_that_have_it() -> None:
    batch = Domain(DEEP, 3, 16).batch(2, torch.Generator().manual_seed(5))
    shape = batch.photons.shape
    maps = {name: torch.zeros(shape) for name in CHANNELS_3D}
    maps["logit"] -= 6
    for name, value in (("sigma_x", 0.3), ("sigma_y", 0.3), ("sigma_photons", 300.0), ("sigma_z", 60.0)):
        maps[name] += value
    truth = batch.truth
    maps["z"][truth.scene, truth.frame, truth.y.long(), truth.x.long()] = truth.z
    right = emitter_loss(EmitterMap3D(**maps), batch).total
    wrong = emitter_loss(EmitterMap3D(**{**maps, "z": -maps["z"]}), batch).total
    assert wrong > right + 1


def test_a_network_cannot_learn_z_in_one_plane(tmp_path: Path) -> None:
    flat = Settings(network=replace(of_kind("unet"), dimensions=3), training=recipe(tmp_path, 1))
    with pytest.raises(TrainingError, match=r"training\.domain\.depth"):
        train(flat)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_compiled_stages_give_the_same_rows_and_answers_that_may_be_kept() -> None:
    network = lively(of_kind("attention_unet"))
    plain, compiled = StreamStep(network).eval(), StreamStep(network).eval()
    compiled.compile_stages(**COMPILED["cpu"])
    window = sum(network.context)
    given = movie(6, 16, 16), torch.ones(window + 6, dtype=torch.bool), torch.tensor(0.4)
    blank = torch.zeros(window, network.state_channels, 16 // network.shrink, 16 // network.shrink)
    with torch.inference_mode():
        answers = [step(given[0], blank, *given[1:]) for step in (plain, compiled)]
        kept = answers[1][1].clone()
        compiled(given[0].flip(0), answers[1][1], *given[1:])  # a second call leaves the first one's state alone
    (expected, state), (found, made) = answers
    assert len(expected) > 5
    assert agreement(expected.numpy(), found.numpy()) == 1
    assert torch.allclose(state, made, atol=1e-4)
    assert torch.equal(made, kept)
