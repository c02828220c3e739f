"""Model files in ONNX, run by ONNX Runtime: on the processor, by CUDA or by TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from config.errors import ModelFileInvalid, RuntimeUnavailable, SettingsError
from engine.runtimes.cache import cache_folder
from engine.runtimes.model_file import METADATA_KEY, ModelDescription, blank_shape
from engine.runtimes.runtime import usable_cores

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
PIXELS_A_CALL = 1 << 20
"""The graph keeps whole layers of all frames of a call at once: more pixels than this go in several calls."""

Provider = str | tuple[str, dict[str, str]]


class OnnxRuntime:
    """Runs an .onnx model file on one device. Raises ModelFileInvalid, RuntimeUnavailable, SettingsError.

    The state never leaves the device; frames go in and rows come out by IO binding.
    """

    def __init__(self, path: Path, device: str = "auto", threads: int | None = None, precision: str = "fp32") -> None:
        """``precision``: fp32, or fp16 where TensorRT is there."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        # Threads that wait by spinning take a quarter more of the processor from the camera and the window.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        providers = _providers(device, precision)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            raise ModelFileInvalid(f"{path} cannot be opened as an ONNX model: {error}") from error
        self._check_device(device, precision)
        self._precision = precision
        self._place = "cuda" if self._session.get_providers()[0] != PROVIDERS["cpu"] else "cpu"
        self._description = self._read_description(path)

    @property
    def description(self) -> ModelDescription:
        """What the model file says of itself."""
        return self._description

    @property
    def name(self) -> str:
        """The provider that really runs, not the one that was hoped for."""
        return f"onnxruntime {self._session.get_providers()[0]} {self._precision}"

    @property
    def precision(self) -> str:
        """fp32 or fp16."""
        return self._precision

    def blank_state(self, height: int, width: int) -> Any:
        """Zeros (S, C, h, w) on the device."""
        return self._there(np.zeros(blank_shape(self._description, height, width), np.float32))

    def step(
        self, photons: NDArray[np.float32], state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        """See Runtime.step."""
        window = sum(self._description.context)
        size = max(1, PIXELS_A_CALL // photons[0].size) if len(photons) else 1
        parts = []
        for first in range(0, len(photons), size):
            part = photons[first : first + size]
            rows, state = self._call(part, state, valid[first : first + window + len(part)], threshold)
            rows[:, 0] += first
            parts.append(rows)
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)), state

    def _call(
        self, photons: NDArray[np.float32], state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        binding = self._session.io_binding()
        binding.bind_cpu_input("photons", np.ascontiguousarray(photons))
        binding.bind_cpu_input("valid", np.ascontiguousarray(valid))
        binding.bind_cpu_input("threshold", np.array(threshold, np.float32))
        binding.bind_ortvalue_input("state", state)
        binding.bind_output("rows", "cpu")
        binding.bind_output("next_state", self._place)
        self._session.run_with_iobinding(binding)
        rows, state = binding.get_outputs()
        return np.array(rows.numpy()), state

    def _there(self, array: NDArray[np.float32]) -> Any:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array, self._place, 0)

    def _check_device(self, device: str, precision: str) -> None:
        runs = self._session.get_providers()
        if precision == "fp16" and PROVIDERS["tensorrt"] not in runs:
            raise RuntimeUnavailable(
                "run.precision=fp16 with run.runtime=onnx needs TensorRT, which could not be loaded here. Install it, "
                "or set run.runtime=torch or run.precision=fp32."
            )
        if device == "cuda" and PROVIDERS["cuda"] not in runs:
            raise RuntimeUnavailable(
                "run.device=cuda was asked for, but ONNX Runtime could not load CUDA. Run `liveloc doctor`; install "
                "the gpu extra (pip install 'liveloc[gpu]', CUDA 13 and cuDNN 9) or set run.device=cpu."
            )

    def _read_description(self, path: Path) -> ModelDescription:
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise ModelFileInvalid(f"{path} is an ONNX model, but not one of liveloc's: it has no description inside.")
        return ModelDescription.from_json(text)


def _providers(device: str, precision: str) -> list[Provider]:
    """What to ask for, the first choice first; on auto a GPU only where the library was built for one."""
    built = onnxruntime.get_available_providers()
    if precision not in ("fp32", "fp16"):
        raise SettingsError(
            f"run.precision={precision}: ONNX Runtime computes in fp32, and with TensorRT in fp16. Set "
            "run.runtime=torch."
        )
    if precision == "fp16":
        if device == "cpu" or PROVIDERS["tensorrt"] not in built:
            raise RuntimeUnavailable(
                "run.precision=fp16 with run.runtime=onnx needs an NVIDIA GPU and an ONNX Runtime built for TensorRT. "
                "Set run.runtime=torch or run.precision=fp32."
            )
        return [_tensorrt(), PROVIDERS["cuda"], PROVIDERS["cpu"]]
    if device == "auto":
        return [provider for provider in (PROVIDERS["cuda"], PROVIDERS["cpu"]) if provider in built]
    return [PROVIDERS[device]] if device == "cpu" else [PROVIDERS[device], PROVIDERS["cpu"]]


def _tensorrt() -> Provider:
    """TensorRT in half precision; the engines that it builds, which takes minutes, are kept."""
    folder = str(cache_folder() / "tensorrt")
    kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": folder, "trt_timing_cache_enable": "1"}
    return PROVIDERS["tensorrt"], {"trt_fp16_enable": "1", **kept}
