"""Corrections of sigmas and probabilities: in the maps, in both forms of a model file, and fitted when it is made."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from config.compose import compose
from config.errors import ModelFileInvalid
from config.schema import DomainSettings, NetworkSettings, TrainingSettings
from engine.runtimes import load_runtime
from engine.runtimes.choice import Wanted
from engine.runtimes.model_file import METADATA_KEY, ModelDescription, row_columns
from engine.runtimes.runtime import Runtime
from models.correction import Corrections, Odds, Width
from models.evaluation.card import _calibration
from models.evaluation.recalibration import SEED, recalibrate
from models.export import build_step, describe, example_inputs, store_halves, write_onnx
from models.registry import build_network
from models.streaming import StreamStep
from models.validation import SEED as VALIDATION_SEED
from models.weights import model_path
from models.weights_file import read_weights, rounded, write_weights

NETWORK = NetworkSettings(
    encoder=[4, 8], features=4, heads=2, decoder=[8, 8], past=1, future=1, dimensions=3
)  # the smallest with all the columns
MADE_UP = Corrections(
    odds=Odds(knot=-0.5, level=0.4, below=0.8, above=1.7),
    place=Width(scale=1.1, doubt=0.6),
    photons=Width(scale=1.2),
    depth=Width(scale=1.3, doubt=0.2),
)
SIZE = (24, 30)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models of the same random network: as it is, and with made-up corrections."""
    torch.manual_seed(3)
    network = build_network(NETWORK).eval()
    frames = example_inputs(describe(NETWORK, TrainingSettings(), 0, "x"), frames=10, size=SIZE)[0]
    with torch.no_grad():  # so that it says different things of different pixels
        logit = network(frames[None]).logit
        for name, weight in network.named_parameters():
            if "maps" in name and weight.ndim > 1:
                weight.mul_(2.0 / logit.std())
    weights = rounded(network.state_dict())
    network.load_state_dict(weights)
    paths, folder = dict[str, Path](), tmp_path_factory.mktemp("models")
    for name, corrections in (("plain", None), ("corrected", MADE_UP)):
        paths[name] = folder / name
        calibration = {} if corrections is None else {"corrections": asdict(corrections)}
        description = replace(describe(NETWORK, TrainingSettings(), 0, name), calibration=calibration)
        write_weights(weights, description, paths[name].with_suffix(".safetensors"))
        write_onnx(StreamStep(network, corrections).eval(), description, paths[name].with_suffix(".onnx"))
    return paths


def opened(path: Path, kind: str) -> Runtime:
    return load_runtime(path, Wanted(kind, "cpu", "fp32", 1), build_step)


def rows_of(runtime: Runtime, threshold: float) -> dict[str, NDArray[np.float64]]:
    photons = example_inputs(runtime.description, frames=10, size=SIZE)[0].numpy()
    window = sum(runtime.description.context)
    valid = np.arange(window + len(photons)) >= window
    rows, _ = runtime.step(photons, runtime.blank_state(*SIZE), valid, threshold)
    return dict(zip(runtime.description.columns, rows.T.astype(np.float64), strict=True))


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_rows_are_changed_just_so(files: dict[str, Path], kind: str) -> None:
    plain, made = (rows_of(opened(files[name], kind), 0.0) for name in ("plain", "corrected"))
    assert len(plain["frame"]) > 50
    assert np.ptp(plain["probability"]) > 0.1
    doubt = 1 - plain["probability"]
    odds = np.log(plain["probability"] / (1 - plain["probability"])) + 0.5
    expected = plain | {
        "sigma_x": 1.1 * plain["sigma_x"] * np.exp(0.6 * doubt),
        "sigma_y": MADE_UP.sigma(plain["sigma_y"], plain["probability"]),
        "sigma_photons": 1.2 * plain["sigma_photons"],
        "sigma_z": 1.3 * plain["sigma_z"] * np.exp(0.2 * doubt),
        "probability": 1 / (1 + np.exp(-0.4 - np.where(odds < 0, 0.8, 1.7) * odds)),
    }
    assert set(made) == set(row_columns(3))
    for name, values in expected.items():
        assert made[name] == pytest.approx(values, rel=2e-3, abs=1e-4), name


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_the_threshold_is_one_of_corrected_probabilities(files: dict[str, Path], kind: str) -> None:
    runtime = opened(files["corrected"], kind)
    everything = rows_of(runtime, 0.0)["probability"]
    threshold = float(np.quantile(everything, 0.6)) + 1e-4
    some = rows_of(runtime, threshold)["probability"]
    assert 0 < len(some) < len(everything)
    assert len(some) == int((everything > threshold).sum())
    assert some.min() > threshold
    assert len(rows_of(runtime, 1.0)["probability"]) == 0


def test_nothing_to_correct_changes_nothing() -> None:
    values = torch.linspace(0.001, 0.999, 200, dtype=torch.float64)
    assert torch.allclose(Odds().of(values), values)
    assert torch.equal(Width().of(values, values), values)
    description = describe(NETWORK, TrainingSettings(), 0, "plain")
    assert description.calibration == {}


@pytest.mark.parametrize("odds", [Odds(), MADE_UP.odds, Odds(0.0, 2.0, 1.6, 0.7)])
def test_maps_of_probabilities_rise_and_can_be_undone(odds: Odds) -> None:
    values = torch.linspace(0.0002, 0.9998, 2000, dtype=torch.float64)
    new = odds.of(values)
    assert (new.diff() > 0).all()
    assert torch.allclose(odds.before(new), values)
    assert odds.before(torch.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]
    assert torch.isfinite(odds.of(torch.tensor([0.0, 1.0]))).all()


def test_corrections_travel_in_the_file(files: dict[str, Path]) -> None:
    module, description = build_step(files["corrected"].with_suffix(".safetensors"))
    assert module.corrections == MADE_UP
    assert opened(files["corrected"], "onnx").description == description
    assert Corrections.from_dict(json.loads(json.dumps(asdict(MADE_UP)))) == MADE_UP


def test_files_from_before_there_were_corrections_open(files: dict[str, Path], tmp_path: Path) -> None:
    weights, description = read_weights(files["plain"].with_suffix(".safetensors"))
    old = json.loads(description.to_json())
    del old["calibration"]
    old["format"] = 1
    module, opened_one = build_step(_with_text(weights, json.dumps(old), tmp_path / "old.safetensors"))
    assert module.corrections is None
    assert opened_one.calibration == {}


def test_corrections_that_cannot_be_read_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    weights, description = read_weights(files["plain"].with_suffix(".safetensors"))
    broken = replace(description, calibration={"corrections": {"odds": {"knot": 1.0}}})
    write_weights(weights, broken, tmp_path / "broken.safetensors")
    with pytest.raises(ModelFileInvalid, match="Export it again"):
        build_step(tmp_path / "broken.safetensors")


def _with_text(weights: dict[str, torch.Tensor], text: str, path: Path) -> Path:
    from safetensors.torch import save_file

    save_file(weights, path, {METADATA_KEY: text})
    return path


# Calibration of a model.


@pytest.fixture(scope="module")
def recipe() -> TrainingSettings:
    """A narrow domain of bright emitters, so that few scenes tell something."""
    domain = DomainSettings(photons=[800.0, 1200.0], background=[5.0, 10.0], density=[0.002, 0.01])
    return replace(compose([]).training, domain=domain, size=32)


def test_a_boastful_model_is_put_right(recipe: TrainingSettings) -> None:
    runtime = opened(model_path("default"), "onnx")
    honest, boasting = (recalibrate(one, recipe, 48) for one in (runtime, Boasting(runtime)))
    assert honest.localisations > 500
    assert honest.corrections.place.scale < 1.2
    assert 1.5 < boasting.corrections.place.scale < 2.4  # its sigmas are half as large
    assert boasting.error_after < 0.06 < boasting.error_before
    # The scenes are the same every time.
    assert recalibrate(runtime, recipe, 4) == recalibrate(runtime, recipe, 4)


class Boasting:
    """Another model's rows with sigmas half as large and probabilities that are all too high."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.description = runtime.description
        self.name = runtime.name
        self.blank_state = runtime.blank_state

    def step(
        self, photons: NDArray[np.float32], state: object, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], object]:
        """See Runtime.step."""
        rows, state = self._runtime.step(photons, state, valid, threshold)
        names = self.description.columns
        rows[:, [names.index("sigma_x"), names.index("sigma_y")]] *= 0.5
        rows[:, names.index("probability")] **= 0.3
        return rows, state


def test_a_model_that_finds_nothing_is_left_as_it_is(files: dict[str, Path], recipe: TrainingSettings) -> None:
    silent = recalibrate(Silent(opened(files["plain"], "torch")), recipe, 4)
    assert silent.corrections == Corrections()
    assert silent.localisations == 0
    assert silent.to_dict()["error_after"] is None


class Silent(Boasting):
    """Finds nothing."""

    def step(
        self, photons: NDArray[np.float32], state: object, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], object]:
        """See Runtime.step."""
        rows, state = self._runtime.step(photons, state, valid, threshold)
        return rows[:0], state


def test_its_scenes_are_its_own() -> None:
    assert VALIDATION_SEED + (1 << 40) < SEED < (1 << 63)
    assert torch.Generator().manual_seed(SEED).initial_seed() == SEED


def test_the_card_says_how() -> None:
    assert "network's own" in _calibration({})
    made = {"localisations": 12_345, "scenes": 512, "error_before": 0.08, "error_after": 0.006}
    words = _calibration(made)
    assert "12,345 localisations in 512 simulated scenes" in words
    assert "0.080 before, 0.006 after" in words


# ONNX files with weights in half precision.


def test_onnx_weights_take_half_the_room_and_run_the_same(files: dict[str, Path], tmp_path: Path) -> None:
    path = files["plain"].with_suffix(".onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    halves = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    assert halves
    singles = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and np.prod(t.dims) >= 256]
    assert not singles
    wide = _widened(model)
    onnx.save(wide, tmp_path / "wide.onnx")
    assert (tmp_path / "wide.onnx").stat().st_size - path.stat().st_size > 2 * 256
    first, second = rows_of(opened(files["plain"], "onnx"), 0.0), rows_of(opened(tmp_path / "wide", "onnx"), 0.0)
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name


def _widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with weights in single precision, as the exporter wrote it."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    casts = {node.input[0]: node for node in wide.graph.node if node.op_type == "Cast"}
    for tensor in wide.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            node = casts[tensor.name]
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, node.output[0]))
            wide.graph.node.remove(node)
    return wide


def test_a_runtime_widens_the_weights_when_it_opens_the_file(files: dict[str, Path], tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(files["plain"].with_suffix(".onnx")), options, providers=["CPUExecutionProvider"])
    opened_model = onnx.load(tmp_path / "opened.onnx")
    assert not [t for t in opened_model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]


def test_only_weights_that_half_precision_holds_are_halved() -> None:
    grid = np.linspace(0, 1, 513, dtype=np.float32)
    weights: dict[str, NDArray[np.float32]] = {
        "exact": grid, "not": grid / np.float32(3), "large": np.float32(1e6) * grid, "few": grid[:100]
    }  # fmt: skip
    made = [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()]
    nodes = [onnx.helper.make_node("Neg", [name], [f"{name}_out"]) for name in weights]
    graph = onnx.helper.make_graph(nodes, "graph", [], [], made)
    store_halves(graph)
    assert [node.op_type for node in graph.node] == ["Cast", *["Neg"] * 4]
    assert (graph.node[0].input[0], graph.node[0].output[0]) == ("exact.half", "exact")
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert {name: values.dtype.itemsize for name, values in stored.items()} == {
        "exact.half": 2, "not": 4, "large": 4, "few": 4
    }  # fmt: skip
    assert np.array_equal(stored["exact.half"].astype(np.float32), grid)


def test_a_description_of_a_newer_format_is_refused() -> None:
    description = describe(NETWORK, TrainingSettings(), 0, "x")
    text = description.to_json().replace(f'"format": {description.format}', f'"format": {description.format + 1}')
    with pytest.raises(ModelFileInvalid, match="Update liveloc"):
        ModelDescription.from_json(text)
