"""The streaming localiser: no seams, gaps as edges, both runtimes alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from acquisition.camera import Camera
from acquisition.source import Frames
from config.schema import NetworkSettings, TrainingSettings
from engine.localisations import LOCALISATION_SCHEMA
from engine.runtimes import load_runtime
from engine.runtimes.choice import Wanted
from engine.runtimes.model_file import domain_warnings, photon_warnings
from engine.runtimes.torch_runtime import CameraOn, TorchRuntime
from engine.streaming import StreamingLocaliser
from models.attention_unet import AttentionUNet
from models.export import build_step, describe, write_onnx
from models.streaming import StreamStep
from models.weights_file import write_weights

CAMERA = Camera("test", baseline=100.0, e_per_adu=0.5, em_gain=1.0, quantum_efficiency=0.8, pixel_size=110.0)
NETWORK = NetworkSettings(name="random", past=3, future=2, encoder=[8, 12], features=8, heads=2, decoder=[12, 12])
THRESHOLD = 0.3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights that attends strongly and reports many emitters."""
    torch.manual_seed(3)
    network = AttentionUNet(NETWORK).eval()
    for parameter in network.attention.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(network.maps.weight, std=0.4)
    assert network.maps.bias is not None
    with torch.no_grad():
        network.maps.bias[:4] = -1.0
    module = StreamStep(network)
    description = describe(NETWORK, TrainingSettings(), 0, "random")
    path = tmp_path_factory.mktemp("model") / "random"
    write_weights(network.state_dict(), description, path.with_suffix(".safetensors"))
    write_onnx(module, description, path.with_suffix(".onnx"))
    return path


def localiser(model: Path, runtime: str = "torch", origin: tuple[int, int] = (0, 0)) -> StreamingLocaliser:
    return StreamingLocaliser(
        load_runtime(model, Wanted(runtime, "cpu", "fp32", 1), build_step), CAMERA, THRESHOLD, origin
    )


def movie(frames: int = 60, first: int = 0) -> Frames:
    rng = np.random.default_rng(first)
    pixels = rng.poisson(40, (frames, 19, 26)).astype(np.uint16) + 100
    pixels[rng.random(pixels.shape) < 0.02] += 500
    return Frames(pixels, np.arange(first, first + frames), np.full(frames, np.nan))


def cut(frames: Frames, size: int) -> list[Frames]:
    steps = range(0, len(frames), size)
    return [
        Frames(frames.pixels[i : i + size], frames.numbers[i : i + size], frames.times[i : i + size]) for i in steps
    ]


def localised(who: StreamingLocaliser, blocks: list[Frames]) -> pa.Table:
    return pa.Table.from_batches([*(who.push(block) for block in blocks), who.flush()])


def assert_same(first: pa.Table, second: pa.Table, tolerance: float) -> None:
    assert first["frame"].equals(second["frame"])
    for name in ("x", "y", "sigma_x", "photons"):
        assert np.allclose(first[name].to_numpy(), second[name].to_numpy(), atol=tolerance, rtol=1e-5), name


@pytest.mark.parametrize("size", [1, 7, 50])
def test_blocks_leave_no_seam(model: Path, size: int) -> None:
    whole = localised(localiser(model), [movie()])
    assert whole.num_rows > 500
    assert len(whole["frame"].unique()) > 55
    assert_same(whole, localised(localiser(model), cut(movie(), size)), 1e-3)


def test_onnx_agrees_with_torch(model: Path) -> None:
    reference, other = (localised(localiser(model, runtime), [movie()]) for runtime in ("torch", "onnx"))
    assert_same(reference, other, 0.1)


def test_every_frame_is_answered_in_order_as_soon_as_its_future_is_there(model: Path) -> None:
    who = localiser(model)
    answered = [who.push(block)["frame"].unique().to_pylist() for block in cut(movie(8), 1)]
    assert answered == [[], [], [0], [1], [2], [3], [4], [5]]
    assert who.flush()["frame"].unique().to_pylist() == [6, 7]


@pytest.mark.parametrize("size", [1, 4, 60])
def test_a_gap_is_the_edge_of_a_movie(model: Path, size: int) -> None:
    before, after = movie(9), movie(11, first=20)
    together = Frames(*(np.concatenate(pair) for pair in zip(vars(before).values(), vars(after).values(), strict=True)))
    apart = [localised(localiser(model), [part]) for part in (before, after)]
    assert_same(pa.concat_tables(apart), localised(localiser(model), cut(together, size)), 1e-3)


@pytest.mark.parametrize(("past", "future"), [(0, 0), (2, 0), (0, 2)])
def test_one_sided_and_empty_contexts(past: int, future: int) -> None:
    torch.manual_seed(3)
    network = AttentionUNet(replace(NETWORK, past=past, future=future))
    torch.nn.init.normal_(network.maps.weight, std=0.4)
    described = describe(network.settings, TrainingSettings(), 0, "random")

    def localiser() -> StreamingLocaliser:
        return StreamingLocaliser(TorchRuntime(StreamStep(network), described, "cpu"), CAMERA, 0.01)

    whole, cut_up = localised(localiser(), [movie(12)]), localised(localiser(), cut(movie(12), 5))
    assert set(whole["frame"].to_pylist()) == set(range(12))
    assert_same(whole, cut_up, 1e-3)


def test_a_movie_shorter_than_the_context(model: Path) -> None:
    table = localised(localiser(model), [movie(1)])
    assert set(table["frame"].to_pylist()) == {0}


def test_a_flushed_localiser_begins_anew(model: Path) -> None:
    who = localiser(model)
    first = localised(who, [movie(12)])
    assert_same(first, localised(who, [movie(12)]), 1e-3)
    assert who.flush().num_rows == 0


def test_units_and_origin(model: Path) -> None:
    plain, shifted = (localised(localiser(model, origin=origin), [movie(10)]) for origin in ((0, 0), (30, 7)))
    assert plain.schema.equals(LOCALISATION_SCHEMA)
    assert np.allclose(shifted["x"].to_numpy() - plain["x"].to_numpy(), 30 * 110, atol=1e-2)
    assert np.allclose(shifted["y"].to_numpy() - plain["y"].to_numpy(), 7 * 110, atol=1e-2)
    assert plain["x"].to_numpy().max() < 28 * 110
    assert plain["y"].to_numpy().max() < 21 * 110
    assert plain["z"].null_count == plain.num_rows


def test_a_large_field_goes_in_smaller_calls_with_the_same_result(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = localised(localiser(model), [movie()])
    monkeypatch.setattr("engine.streaming.PIXELS_A_CALL", 3 * 19 * 26)
    assert_same(whole, localised(localiser(model), [movie()]), 1e-3)


def test_a_changed_frame_size_is_refused(model: Path) -> None:
    who = localiser(model)
    who.push(movie(3))
    with pytest.raises(ValueError, match="after frames of"):
        who.push(Frames(np.zeros((1, 4, 4), np.uint16), np.array([3]), np.array([np.nan])))


def test_data_outside_the_domain_is_said_in_words(model: Path) -> None:
    description = localiser(model).describe()
    assert domain_warnings(description, pixel_size=100, psf_sigma=135, em_gain=300) == []
    (wide,) = domain_warnings(description, pixel_size=100, psf_sigma=300, em_gain=1)
    assert "3.00 pixels wide" in wide
    assert photon_warnings(description, photons=1000, background=20) == []
    assert "background" in photon_warnings(description, photons=1000, background=900)[0]


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_device_makes_the_photons_that_the_host_makes(kind: type[np.unsignedinteger], maps: bool) -> None:
    rng = np.random.default_rng(0)
    gain = rng.uniform(0.4, 0.6, (19, 26)).astype(np.float32)
    camera = (
        replace(CAMERA, baseline=rng.uniform(90, 110, gain.shape).astype(np.float32), e_per_adu=gain)
        if maps
        else CAMERA
    )
    device = CameraOn(torch.device("cpu"), camera)
    for count in (7, 3, 9):  # a smaller block after a larger one leaves some of the staging memory unused
        pixels = rng.integers(0, np.iinfo(kind).max, (count, 19, 26)).astype(kind)
        assert device.over_there(pixels).numpy() == pytest.approx(camera.to_photons(pixels), rel=1e-6)
        photons = camera.to_photons(pixels)
        assert (device.over_there(photons).numpy() == photons).all()


def test_a_runtime_serves_several_cameras(model: Path) -> None:
    runtime = load_runtime(model, Wanted("torch", "cpu", "fp32", 1), build_step)
    other = replace(CAMERA, baseline=0.0, e_per_adu=1.0, quantum_efficiency=1.0)
    frames = movie(20)
    alone = StreamingLocaliser(runtime, CAMERA, THRESHOLD).push(frames)
    first, second = (StreamingLocaliser(runtime, camera, THRESHOLD) for camera in (CAMERA, other))
    assert second.push(frames).num_rows != alone.num_rows
    assert first.push(frames).equals(alone)
