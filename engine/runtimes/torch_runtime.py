"""The reference runtime: any torch module that keeps the streaming graph's signature."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from config.errors import RuntimeUnavailable
from engine.runtimes.model_file import ModelDescription, blank_shape


class TorchRuntime:
    """Runs a module (photons, state, valid, threshold) → (rows, next state). Raises RuntimeUnavailable."""

    def __init__(
        self, module: torch.nn.Module, description: ModelDescription, device: str = "auto", threads: int | None = None
    ) -> None:
        self._device = torch.device(_choose(device))
        if threads:
            torch.set_num_threads(threads)
        self._module = module.eval().to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._description = description

    @property
    def description(self) -> ModelDescription:
        """What the model file says of itself."""
        return self._description

    @property
    def name(self) -> str:
        """Torch's version and the device."""
        return f"torch {torch.__version__} {self._device}"

    def blank_state(self, height: int, width: int) -> torch.Tensor:
        """Zeros (S, C, h, w) on the device."""
        return torch.zeros(blank_shape(self._description, height, width), device=self._device)

    def step(
        self, photons: NDArray[np.float32], state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        """See Runtime.step."""
        with torch.inference_mode():
            rows, state = self._module(
                torch.from_numpy(photons).to(self._device),
                state,
                torch.from_numpy(valid).to(self._device),
                torch.tensor(threshold, device=self._device),
            )
        return rows.cpu().numpy(), state


def _choose(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeUnavailable(
            "run.device=cuda was asked for, but torch finds no CUDA device. Run `liveloc doctor`; install torch's CUDA "
            "build and the NVIDIA driver, or set run.device=cpu."
        )
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
