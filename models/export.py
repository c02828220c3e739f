"""From a checkpoint to model files: one in ONNX, one with the weights for torch, both with the same description inside.

The torch form is safetensors, not torch.export's archive: that one unpickles when it is read (docs/decisions.md).
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

from config.errors import ExportMismatch, ModelFileInvalid
from config.schema import DomainSettings, NetworkSettings, Settings, TrainingSettings
from engine.runtimes.model_file import METADATA_KEY, ModelDescription, blank_shape, row_columns
from engine.runtimes.onnx_runtime import OnnxRuntime
from engine.runtimes.runtime import Runtime
from engine.runtimes.torch_runtime import TorchRuntime
from models.correction import Corrections
from models.evaluation.benchmark import benchmark
from models.evaluation.recalibration import recalibrate
from models.registry import build_network
from models.streaming import StreamStep
from models.training import load_checkpoint
from models.weights_file import read_weights, rounded, write_weights

OPSET = 20
AGREEING = 0.99
"""Smallest share of rows that both forms must give alike. In a flat map, as of a network that has learned little, a
rounding decides which of two neighbours is the maximum, so that all of them would be too much to ask."""
WORTH_HALVING = 256
"""Values of a weight from which on it is stored in half precision; for fewer the node that widens them is larger."""


def export(
    checkpoint: Path, output: Path, conditions: Sequence[Settings] = (), calibration_scenes: int = 0
) -> ModelDescription:
    """Write ``output`` with suffixes .onnx and .safetensors, and check that both give the same.

    ``checkpoint``: of a training, or a .safetensors model file, which is put right and measured anew. The weights are
    rounded to what half precision holds, in both. The model is named after the file. Sigmas and probabilities are put
    right by so many scenes of the training's domain; with none they stay the network's own. ``conditions`` are
    benchmarked and the figures kept in the description. Raises TrainingError, ModelFileInvalid for a checkpoint that
    cannot be read, ExportMismatch when the forms disagree.
    """
    network, training, weights, steps = learned(checkpoint)
    weights = rounded(weights)
    description = describe(network, training, steps, output.stem)
    module = StreamStep(build_network(network)).eval()
    module.network.load_state_dict(weights)
    runtime = TorchRuntime(module, description)
    if calibration_scenes:  # as the network says it, before anything is corrected
        calibration = recalibrate(runtime, training, calibration_scenes)
        description = replace(description, calibration=calibration.to_dict())
        module.corrections = calibration.corrections
    if conditions:
        figures = {row.condition: asdict(row) for row in benchmark(runtime, conditions)}
        description = replace(description, benchmark=figures)
    module.cpu()
    output.parent.mkdir(parents=True, exist_ok=True)
    write_weights(weights, description, output.with_suffix(".safetensors"))
    write_onnx(module, description, output.with_suffix(".onnx"))
    check_parity(output)
    return description


def learned(path: Path) -> tuple[NetworkSettings, TrainingSettings, dict[str, Tensor], int]:
    """Settings, weights and steps of a checkpoint or a .safetensors file. Raises TrainingError, ModelFileInvalid."""
    if path.suffix != ".safetensors":
        return load_checkpoint(path)
    weights, description = read_weights(path)
    network, training = (dict(description.settings[name]) for name in ("network", "training"))
    training["domain"] = DomainSettings(**training["domain"])
    steps = int(description.made_by.get("steps", 0))
    return NetworkSettings(**network), TrainingSettings(**training), weights, steps


def build_step(path: Path) -> tuple[StreamStep, ModelDescription]:
    """The streaming graph of a .safetensors model file. Raises ModelFileInvalid."""
    weights, description = read_weights(path)
    try:
        network = build_network(NetworkSettings(**description.settings["network"]))
        network.load_state_dict(weights)
        module = StreamStep(network, corrections_of(description))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelFileInvalid(f"{path} holds no network that this liveloc knows: {error}. Export it again.") from error
    return module.eval(), description


def corrections_of(description: ModelDescription) -> Corrections | None:
    """What the graph does to the network's sigmas and probabilities. Raises KeyError, TypeError."""
    calibration = description.calibration
    return Corrections.from_dict(calibration["corrections"]) if calibration else None


def describe(network: NetworkSettings, training: TrainingSettings, steps: int, name: str) -> ModelDescription:
    """What a trained network says of itself."""
    with torch.device("meta"):  # for its shapes; no memory, no random numbers
        shape = build_network(network)
    domain = training.domain
    settings = {"network": asdict(network), "training": asdict(training)}
    shares = {"emccd": domain.emccd_fraction, "scmos": 1 - domain.emccd_fraction}
    return ModelDescription(
        name=name,
        version=version("liveloc"),
        context=shape.context,
        state_shape=(shape.state_channels, shape.shrink),
        psf_sigma=(domain.psf_sigma[0], domain.psf_sigma[1]),
        photons=(domain.photons[0], domain.photons[1]),
        background=(domain.background[0], domain.background[1]),
        density=(domain.density[0], domain.density[1]),
        cameras=tuple(kind for kind, share in shares.items() if share),
        columns=row_columns(network.dimensions),
        settings=settings,
        settings_hash=hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        made_by={"liveloc": version("liveloc"), "torch": torch.__version__, "steps": str(steps)},
    )


def write_onnx(module: StreamStep, description: ModelDescription, path: Path) -> None:
    """The streaming graph in ONNX, any block length, height and width, the description in its metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own deprecations
        program = torch.onnx.export(
            module,
            example_inputs(description),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["photons", "state", "valid", "threshold"],
            output_names=["rows", "next_state"],
            dynamic_shapes=_dynamic_shapes(),
            external_data=False,
        )
    assert program is not None
    model = program.model_proto
    store_halves(model.graph)
    onnx.helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    onnx.save(model, path)


def store_halves(graph: onnx.GraphProto) -> None:
    """Keep weights that half precision holds exactly in it; a runtime widens them when it opens the file."""
    for weight in [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]:
        values = onnx.numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size >= WORTH_HALVING and np.array_equal(half.astype(np.float32), values):
            stored = f"{weight.name}.half"
            graph.node.insert(0, onnx.helper.make_node("Cast", [stored], [weight.name], to=onnx.TensorProto.FLOAT))
            weight.CopyFrom(onnx.numpy_helper.from_array(half, stored))


def example_inputs(
    description: ModelDescription, frames: int = 5, size: tuple[int, int] = (22, 26)
) -> tuple[Tensor, ...]:
    """Plausible inputs of the streaming graph: noise with a few bright spots, some frames missing."""
    generator = torch.Generator().manual_seed(0)
    photons = torch.poisson(torch.full((frames, *size), 20.0), generator=generator)
    photons[:, 5::9, 5::9] += 400
    state = torch.rand(blank_shape(description, *size), generator=generator)
    valid = torch.arange(state.shape[0] + frames) >= 2
    return photons, state, valid, torch.tensor(0.5)


def check_parity(output: Path) -> None:
    """Run both files on the same frames. Raises ExportMismatch where they give other rows (see AGREEING)."""
    module, description = build_step(output.with_suffix(".safetensors"))
    photons, _, _, _ = example_inputs(description, frames=12, size=(41, 38))
    runs: list[Runtime] = [TorchRuntime(module, description, "cpu"), OnnxRuntime(output.with_suffix(".onnx"), "cpu")]
    valid = np.arange(sum(description.context) + len(photons)) >= sum(description.context)
    rows = [run.step(photons.numpy(), run.blank_state(41, 38), valid, 0.3)[0] for run in runs]
    alike = agreement(*rows)
    if alike < AGREEING:
        raise ExportMismatch(
            f"{output}: the ONNX graph gives {len(rows[1])} rows where torch gives {len(rows[0])}, and {alike:.1%} of "
            f"them stand in the same place; expected {AGREEING:.0%} or more. Do not use this file; try another onnx or "
            "torch version."
        )


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Share of rows, of the table where it is smaller, that have a row of the other within a thousandth of a pixel."""
    if not len(first) or not len(second):
        return 1.0 if len(first) == len(second) else 0.0
    apart = np.array([1e3, 1, 1])  # rows of different frames are never near
    trees = [KDTree(rows[:, :3] * apart) for rows in (first, second)]
    return min(float(np.mean(trees[i].query(trees[1 - i].data)[0] < 1e-3)) for i in (0, 1))


def _dynamic_shapes() -> tuple[dict[int, object], ...]:
    dim = torch.export.Dim.DYNAMIC
    return ({0: dim, 1: dim, 2: dim}, {2: dim, 3: dim}, {0: dim}, {})
