"""What runs a model file: ``load_runtime`` chooses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import ModelFileInvalid, SettingsError
from engine.runtimes.model_file import ModelDescription
from engine.runtimes.runtime import Runtime

if TYPE_CHECKING:
    import torch

SUFFIXES = {"onnx": ".onnx", "torch": ".safetensors"}
"""Which file each runtime reads."""


def load_runtime(
    path: Path,
    runtime: str,
    device: str,
    threads: int | None,
    build: Callable[[Path], tuple[torch.nn.Module, ModelDescription]],
) -> Runtime:
    """A model file, ready to run.

    ``path`` may lack its suffix or have that of the other form; the form that the runtime needs must lie beside it.
    ``runtime``: auto (the form that ``path`` has; onnx where it has none), onnx or torch. ``build`` makes the torch
    module of a weights file: the engine knows no network. Raises SettingsError, ModelFileInvalid, RuntimeUnavailable.
    """
    if runtime == "auto":
        runtime = next((name for name, suffix in SUFFIXES.items() if path.suffix == suffix), "onnx")
    if runtime not in SUFFIXES:
        raise SettingsError(f"run.runtime={runtime}: expected auto, {' or '.join(SUFFIXES)}")
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"run.device={device}: expected auto, cpu or cuda")
    file = path.with_suffix(SUFFIXES[runtime])
    if not file.exists():
        raise ModelFileInvalid(
            f"no model file at {file}. Give model=PATH of an .onnx or .safetensors file, or a shipped model's name."
        )
    if runtime == "onnx":
        from engine.runtimes.onnx_runtime import OnnxRuntime

        return OnnxRuntime(file, device, threads)
    from engine.runtimes.torch_runtime import TorchRuntime

    module, description = build(file)
    return TorchRuntime(module, description, device, threads)
