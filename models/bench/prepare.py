"""What is known before any speed is measured: the computer's peaks, each network's cost, and frames to work on.

Runs in a process of its own, as it loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from config.compose import compose
from config.schema import NetworkSettings, Settings
from engine.runtimes.onnx_runtime import OnnxRuntime
from engine.runtimes.torch_runtime import computes_in_bf16
from models.bench.apart import Send
from models.bench.cost import count
from models.bench.facts import COUNTED_AT, Cost
from models.bench.jobs import Model, Preparation, Prepared, Staging
from models.bench.machine import measure_machine
from models.bench.stages import measure_stages
from models.export import build_step, describe, write_onnx
from models.network import Network
from models.registry import build_network
from models.streaming import StreamStep
from models.weights_file import write_weights
from simulation.dataset import make_simulator

KEPT = 64
"""Frames that are simulated."""
SECONDS = 0.5
"""For each of the computer's peaks and each network's stages, or bench.seconds where that is less [s]."""


def prepare(given: Preparation, send: Send) -> None:
    """Send what is being done, in words, and Prepared."""
    run = given.settings.run
    send("what this computer can do")
    device = "cuda" if run.device != "cpu" and torch.cuda.is_available() else "cpu"
    machine = measure_machine(device, _seconds(given.settings), precisions(device), run.threads)
    send("frames")
    np.save(given.frames, make_simulator(_with_frames(given.settings)).frames(0, KEPT))
    costs = dict[str, Mapping[str, Cost]]()
    for model in given.models:
        send(f"what {model.name} costs")
        if model.untrained:
            write_untrained(model, given.onnx)
        costs[model.name] = count(network_of(model.path), run.block, COUNTED_AT)
    send(Prepared(machine, costs))


def precisions(device: str) -> tuple[str, ...]:
    """In what torch computes there, by instructions of the device's own."""
    short = ("bf16",) if computes_in_bf16(device == "cuda") else ()
    return ("fp32", *short, "fp16") if device == "cuda" else ("fp32", *short)


def measure_all_stages(given: Staging, send: Send) -> None:
    """Send StageTimes in each precision, on one core and on all."""
    camera = make_simulator(_with_frames(given.settings)).camera
    photons = camera.to_photons(np.load(given.frames)[: given.settings.run.block])
    path, device = given.model.path.with_suffix(".safetensors"), given.machine.device
    for precision in precisions(device):
        for peak in given.machine.peaks:
            threads = peak.cores or None
            send(measure_stages(path, given.model.name, device, precision, threads, photons, _seconds(given.settings)))


def write_untrained(model: Model, onnx: bool) -> None:
    """Model files of a network as it is before any training."""
    torch.manual_seed(0)
    settings = compose([f"network={model.name}"])
    module = StreamStep(build_network(settings.network)).eval()
    description = describe(settings.network, settings.training, 0, model.name)
    write_weights(module.network.state_dict(), description, model.path.with_suffix(".safetensors"))
    if onnx:
        write_onnx(module, description, model.path.with_suffix(".onnx"))


def network_of(path: Path) -> Network:
    """The network of a model file; without weights where there is only an ONNX graph. Raises ModelFileInvalid."""
    if path.with_suffix(".safetensors").exists():
        return build_step(path.with_suffix(".safetensors"))[0].network
    settings = OnnxRuntime(path.with_suffix(".onnx"), "cpu").description.settings
    return build_network(NetworkSettings(**settings["network"])).eval()


def _seconds(settings: Settings) -> float:
    return min(SECONDS, settings.bench.seconds)


def _with_frames(settings: Settings) -> Settings:
    dataset = replace(settings.dataset, frames=KEPT, height=COUNTED_AT, width=COUNTED_AT)
    return replace(settings, dataset=dataset)
