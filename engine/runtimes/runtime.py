"""What a runtime is: it holds one model file's graph ready on one device."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.runtimes.model_file import ModelDescription


class Runtime(Protocol):
    """Runs the graph of a model file. One thread at a time; the state is the runtime's own kind of array."""

    @property
    def description(self) -> ModelDescription:
        """What the model file says of itself."""
        ...

    @property
    def name(self) -> str:
        """What really runs, for people: ``onnxruntime CPUExecutionProvider``."""
        ...

    def blank_state(self, height: int, width: int) -> Any:
        """The state before the first frame of (height, width) pixels: past + future frames that do not exist."""
        ...

    def step(
        self, photons: NDArray[np.float32], state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        """Rows (N, 9) in the model's columns for frames (T, H, W) after ``state``, and the next state.

        ``valid`` (S + T,) tells which frames of state and block exist. Raises RuntimeUnavailable for a lost device.
        """
        ...


def usable_cores() -> int:
    """Processor cores that the system lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
