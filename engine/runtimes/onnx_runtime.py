"""Model files in ONNX, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from config.errors import ModelFileInvalid, RuntimeUnavailable
from engine.runtimes.model_file import METADATA_KEY, ModelDescription, blank_shape
from engine.runtimes.runtime import usable_cores

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntime:
    """Runs an .onnx model file on one device. Raises ModelFileInvalid, RuntimeUnavailable."""

    def __init__(self, path: Path, device: str = "auto", threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        # Threads that wait by spinning take a quarter more of the processor from the camera and the window.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=_providers(device))
        except Exception as error:
            raise ModelFileInvalid(f"{path} cannot be opened as an ONNX model: {error}") from error
        self._check_device(device)
        self._description = self._read_description(path)

    @property
    def description(self) -> ModelDescription:
        """What the model file says of itself."""
        return self._description

    @property
    def name(self) -> str:
        """The provider that really runs, not the one that was hoped for."""
        return f"onnxruntime {self._session.get_providers()[0]}"

    def blank_state(self, height: int, width: int) -> NDArray[np.float32]:
        """Zeros (S, C, h, w)."""
        return np.zeros(blank_shape(self._description, height, width), np.float32)

    def step(
        self, photons: NDArray[np.float32], state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        """See Runtime.step."""
        feed = {"photons": photons, "state": state, "valid": valid, "threshold": np.array(threshold, np.float32)}
        rows, state = cast("tuple[NDArray[np.float32], Any]", self._session.run(["rows", "next_state"], feed))
        return rows, state

    def _check_device(self, device: str) -> None:
        if device == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise RuntimeUnavailable(
                "run.device=cuda was asked for, but ONNX Runtime could not load CUDA. Run `liveloc doctor`; install "
                "the gpu extra (pip install 'liveloc[gpu]', CUDA 13 and cuDNN 9) or set run.device=cpu."
            )

    def _read_description(self, path: Path) -> ModelDescription:
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise ModelFileInvalid(f"{path} is an ONNX model, but not one of liveloc's: it has no description inside.")
        return ModelDescription.from_json(text)


def _providers(device: str) -> list[str]:
    """What to ask for; on auto a GPU only where the library was built for one."""
    if device == "auto":
        built = onnxruntime.get_available_providers()
        return [provider for provider in (PROVIDERS["cuda"], PROVIDERS["cpu"]) if provider in built]
    return [PROVIDERS[device]] if device == "cpu" else [PROVIDERS[device], PROVIDERS["cpu"]]
