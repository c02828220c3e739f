"""What a runtime is: it holds one model file's graph ready on one device."""

from __future__ import annotations

import os
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from acquisition.camera import Camera
from acquisition.source import Pixels
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


@runtime_checkable
class TakesRaw(Protocol):
    """A Runtime that can turn a camera's frames into photons on its device: half the bytes to it."""

    def calibrated(self, camera: Camera) -> Runtime:
        """The same runtime, to which frames of integers are ADU of ``camera``, and frames of floats photons."""
        ...


class OnHost:
    """A Runtime that turns ADU into photons before it calls one which cannot."""

    def __init__(self, runtime: Runtime, camera: Camera) -> None:
        self._runtime, self._camera = runtime, camera

    @property
    def description(self) -> ModelDescription:
        """See Runtime.description."""
        return self._runtime.description

    @property
    def name(self) -> str:
        """See Runtime.name."""
        return self._runtime.name

    def blank_state(self, height: int, width: int) -> Any:
        """See Runtime.blank_state."""
        return self._runtime.blank_state(height, width)

    def step(
        self, photons: NDArray[np.float32] | Pixels, state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        """See Runtime.step."""
        return self._runtime.step(in_photons(photons, self._camera), state, valid, threshold)


def calibrated(runtime: Runtime, camera: Camera) -> Runtime:
    """A runtime whose ``step`` takes frames of ``camera`` in ADU: itself where it can."""
    if isinstance(runtime, TakesRaw):
        return runtime.calibrated(camera)
    return OnHost(runtime, camera)


def in_photons(frames: NDArray[np.float32] | Pixels, camera: Camera | None) -> NDArray[np.float32]:
    """Frames of integers are ADU of ``camera``, frames of floats are photons already."""
    if camera is None or frames.dtype.kind == "f":
        return frames.astype(np.float32, copy=False)
    return camera.to_photons(cast("Pixels", frames))


def usable_cores() -> int:
    """Processor cores that the system lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
