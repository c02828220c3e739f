"""What this machine has and what really runs on it. Each finding is tried, not guessed."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from acquisition.micromanager_core import is_listening
from config.schema import SourceSettings
from engine.runtimes.runtime import usable_cores


class Finding(NamedTuple):
    """One line of the doctor's table."""

    name: str
    value: str
    good: bool = True
    """False for what a user may want to put right."""


def examine() -> Iterator[Finding]:
    """Python, processor, disk, torch, ONNX Runtime and GPU."""
    yield Finding("Python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("liveloc", version("liveloc"))
    yield Finding("processor", f"{os.cpu_count()} cores, {usable_cores()} for this process")
    yield Finding("disk", f"{shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB free in {Path.cwd()}")
    yield gpu()
    yield torch_build()
    yield from onnx_runtime()
    yield micromanager()


def micromanager() -> Finding:
    """What is needed to drive a camera, and whether a Micro-Manager is running."""
    if importlib.util.find_spec("pycromanager") is None:
        return Finding("Micro-Manager", "not installed: pip install 'liveloc[micromanager]'", good=False)
    installed = f"pycromanager {version('pycromanager')}"
    port = SourceSettings().port
    if is_listening(port):
        return Finding("Micro-Manager", f"{installed}; a server answers on port {port}")
    return Finding("Micro-Manager", f"{installed}; not running, or its server is off (nothing on port {port})")


def gpu() -> Finding:
    """The NVIDIA GPU and its driver."""
    if shutil.which("nvidia-smi") is None:
        return Finding("GPU", "none found (no nvidia-smi); networks run on the processor")
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.split("\n")
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("GPU", f"nvidia-smi is there but fails: {error}. Reinstall the NVIDIA driver", good=False)
    return Finding("GPU", "; ".join(line for line in lines if line))


def torch_build() -> Finding:
    """Whether torch computes on the GPU, and if not, why."""
    try:
        import torch
    except ImportError as error:
        return Finding("torch", f"cannot be loaded: {error}. Run bootstrap.py setup again", good=False)
    if torch.version.cuda is None:
        return _processor_torch(torch.__version__)
    if not torch.cuda.is_available():
        words = f"{torch.__version__}, built for CUDA {torch.version.cuda}, finds no usable GPU and takes the processor"
        return Finding("torch", words, good=shutil.which("nvidia-smi") is None)
    return Finding("torch", f"{torch.__version__}, CUDA {torch.version.cuda} on {torch.cuda.get_device_name(0)}")


def _processor_torch(name: str) -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding("torch", f"{name}, for the processor")
    words = f"{name} is built without CUDA, though there is an NVIDIA GPU. Delete .venv and run bootstrap.py setup"
    return Finding("torch", words, good=False)


def onnx_runtime() -> Iterator[Finding]:
    """Which providers of ONNX Runtime really load: each opens a model of one addition."""
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]
    if not installed:
        yield Finding("ONNX Runtime", "not installed. Install liveloc[cpu] or liveloc[gpu]", good=False)
        return
    if len(installed) == 2:
        words = "onnxruntime and onnxruntime-gpu hide one another. Uninstall both, then install one anew"
        yield Finding("ONNX Runtime", words, good=False)
    yield Finding("ONNX Runtime", ", ".join(f"{name} {_version(name)}" for name in installed))
    yield from _providers()


def _providers() -> Iterator[Finding]:
    import onnxruntime

    for name in onnxruntime.get_available_providers():
        if name in ("CUDAExecutionProvider", "CPUExecutionProvider"):
            loads = provider_loads(name)
            words = "runs" if loads else "is built in but does not load: CUDA 13 and cuDNN 9 are needed"
            yield Finding(f"  {name.removesuffix('ExecutionProvider')}", words, good=loads)


def provider_loads(name: str) -> bool:
    """Whether a session on this provider opens and computes. ONNX Runtime falls back to the processor silently, so
    the session is asked what it took.
    """
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(_tiny_model(), options, providers=[name])
    two = np.full(1, 2, np.float32)
    return name in session.get_providers() and bool(np.asarray(session.run(None, {"x": two})[0])[0] == 4)


def _tiny_model() -> bytes:
    """An ONNX model, y = x + x."""
    from onnx import TensorProto, checker, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "tiny", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
