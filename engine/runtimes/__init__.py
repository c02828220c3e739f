"""What runs a model file: ``load_runtime`` chooses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import ModelFileInvalid, SettingsError
from engine.runtimes.choice import Candidate, Wanted, candidates, choose
from engine.runtimes.model_file import ModelDescription
from engine.runtimes.runtime import Runtime

if TYPE_CHECKING:
    import torch

SUFFIXES = {"onnx": ".onnx", "torch": ".safetensors"}
"""Which file each runtime reads."""

Build = Callable[[Path], "tuple[torch.nn.Module, ModelDescription]"]
"""Makes the torch module of a weights file: the engine knows no network."""


def load_runtime(path: Path, wanted: Wanted, build: Build) -> Runtime:
    """A model file, ready to run. See ``settle``."""
    return settle(path, wanted, build)[1]


def settle(path: Path, wanted: Wanted, build: Build) -> tuple[Candidate, Runtime]:
    """What runs a model file, chosen by a short measurement where it was left open, and that runtime.

    ``path`` may lack its suffix or have that of the other form; the form that the runtime needs must lie beside it.
    Raises SettingsError, ModelFileInvalid, RuntimeUnavailable.
    """
    from engine.runtimes.cache import fingerprint

    if wanted.runtime not in ("auto", *SUFFIXES):
        raise SettingsError(f"run.runtime={wanted.runtime}: expected auto, {' or '.join(SUFFIXES)}")
    if wanted.device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"run.device={wanted.device}: expected auto, cpu or cuda")
    wanted = _with_tiles(wanted)
    forms = _forms(path, wanted.runtime)
    found = candidates(wanted.runtime, wanted.precision, forms, _gpu(wanted.device))
    if not found:
        raise SettingsError(
            f"run.precision={wanted.precision}: not with run.runtime={wanted.runtime}"
            f"{'' if _gpu(wanted.device) else ' on a processor'}. ONNX Runtime computes in fp32, and on a GPU with "
            "TensorRT in fp16; torch in fp32 and bf16, and on a GPU in fp16."
        )

    def make(one: Candidate) -> Runtime:
        return _made(path, one, wanted, build)

    about = fingerprint(*(path.with_suffix(SUFFIXES[form]) for form in forms))
    chosen, made = choose(found, make, f"{about}|{wanted.words()}")
    return chosen, made or make(chosen)


def _with_tiles(wanted: Wanted) -> Wanted:
    """Tiles are torch's alone: an exported graph sees a whole frame. Raises SettingsError."""
    if wanted.tile in ("auto", "none"):
        return wanted
    if wanted.runtime == "onnx":
        raise SettingsError(f"run.tile={wanted.tile}: ONNX Runtime takes whole frames. Set run.runtime=torch.")
    return replace(wanted, runtime="torch")


def _forms(path: Path, runtime: str) -> list[str]:
    """Runtimes for which a file is there. Raises ModelFileInvalid where there is none that is wanted."""
    forms = [name for name, suffix in SUFFIXES.items() if path.with_suffix(suffix).exists()]
    missing = path.with_suffix(SUFFIXES["onnx" if runtime == "auto" else runtime])
    if not forms or (runtime != "auto" and runtime not in forms):
        raise ModelFileInvalid(
            f"no model file at {missing}. Give model=PATH of an .onnx or .safetensors file, or a shipped model's name."
        )
    return forms


def _made(path: Path, one: Candidate, wanted: Wanted, build: Build) -> Runtime:
    file = path.with_suffix(SUFFIXES[one.runtime])
    if one.runtime == "onnx":
        from engine.runtimes.onnx_runtime import OnnxRuntime

        return OnnxRuntime(file, wanted.device, wanted.threads, one.precision)
    from engine.runtimes.torch_runtime import TorchRuntime

    module, description = build(file)
    return TorchRuntime(module, description, wanted.device, wanted.threads, one.precision, wanted.compiled, wanted.tile)


def _gpu(device: str) -> bool:
    """Whether a GPU may compute: asked for, or on auto there, as far as can be told without loading torch."""
    if device != "auto":
        return device == "cuda"
    return shutil.which("nvidia-smi") is not None


def candidates_for(path: Path, wanted: Wanted) -> list[Candidate]:
    """What a model file may be run by here, the most exact first. Raises ModelFileInvalid."""
    return candidates(wanted.runtime, wanted.precision, _forms(path, wanted.runtime), _gpu(wanted.device))
