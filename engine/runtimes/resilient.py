"""A runtime that goes on when the GPU runs out of memory or is lost, with the same rows."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.camera import Camera
from config.errors import RunError, RuntimeUnavailable
from engine.runtimes.model_file import ModelDescription
from engine.runtimes.runtime import Runtime, calibrated

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "out of memory",
    "failed to allocate memory",
    "can't allocate memory",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",
)
"""What torch, ONNX Runtime and the libraries below them write when memory is short, in lower case."""
DEVICE_LOST = ("cuda error", "cuda failure", "cudnn", "cublas", "device removed", "gpu is lost", "device-side assert")
"""What they write when the device itself fails."""


@dataclass(frozen=True, eq=False)
class _State:
    """State of the runtime that ran last, and what another one needs to come to the same state."""

    inner: Any
    runtime: Runtime
    photons: NDArray[Any]
    """(S, H, W) the frames whose features are in ``inner``, as they came; zeros before the first."""
    exist: NDArray[np.bool_]
    """(S,) which of them exist."""


class ResilientRuntime:
    """Runs another Runtime. Short of memory, it goes on with smaller blocks; without the device, with another runtime.

    A call's state is left as it was by a call that fails, so that repeating it in halves is exact. The state of a lost
    device is made again from its frames, as the features of a frame depend on that frame alone.
    """

    def __init__(self, runtime: Runtime, fallback: Callable[[], Runtime] | None = None) -> None:
        """``fallback`` makes the runtime to go on with on the processor; None where the user did not allow it."""
        self._runtime, self._fallback = runtime, fallback
        self._most: int | None = None
        """Frames a call, once memory was short."""

    @property
    def description(self) -> ModelDescription:
        """What the model file says of itself."""
        return self._runtime.description

    @property
    def name(self) -> str:
        """What runs now, for people."""
        return self._runtime.name

    def calibrated(self, camera: Camera) -> ResilientRuntime:
        """See TakesRaw. Frames are kept as they come, which takes half the memory."""
        fallback = self._fallback
        return ResilientRuntime(
            calibrated(self._runtime, camera), None if fallback is None else lambda: calibrated(fallback(), camera)
        )

    def blank_state(self, height: int, width: int) -> _State:
        """See Runtime.blank_state."""
        window = sum(self.description.context)
        return _State(
            self._runtime.blank_state(height, width),
            self._runtime,
            np.zeros((window, height, width), np.uint8),
            np.zeros(window, bool),
        )

    def step(
        self, photons: NDArray[np.float32], state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        """See Runtime.step. Raises RunError where neither a smaller block nor the fallback helps."""
        window, place, parts = len(state.exist), 0, []
        while place < len(photons):
            size = min(self._most or len(photons), len(photons) - place)
            part, flags = photons[place : place + size], valid[place : place + window + size]
            try:
                rows, state = self._one(part, state, flags, threshold)
            except Exception as error:  # noqa: BLE001 (raised again unless it is the device's)
                self._adapt(error, size)
                continue
            parts.append(_later(rows, place, self.description))
            place += size
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)), state

    def _one(
        self, photons: NDArray[np.float32], state: _State, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], _State]:
        inner = state.inner if state.runtime is self._runtime else self._made_again(state, threshold)
        rows, inner = self._runtime.step(photons, inner, valid, threshold)
        window = len(state.exist)
        known = np.concatenate([state.photons.astype(photons.dtype, copy=False), photons])[len(photons) :]
        return rows, _State(inner, self._runtime, known, valid[len(valid) - window :])

    def _made_again(self, state: _State, threshold: float) -> Any:
        """The state that the runtime of now would have."""
        blank = self._runtime.blank_state(*state.photons.shape[1:])
        window = len(state.exist)
        if not window:
            return blank
        flags = np.concatenate([np.zeros(window, bool), state.exist])
        return self._runtime.step(state.photons, blank, flags, threshold)[1]

    def _adapt(self, error: Exception, size: int) -> None:
        """Make the next try likelier to succeed. Raises the error where it is not the device's, RunError at the end."""
        lost = _is_lost(error)
        if not lost and not _is_short_of_memory(error):
            raise error
        if not lost and size > 1:
            self._most = size // 2
            _free_cached_memory()
            logger.warning(
                "%s ran out of memory with %d frames a call; the run goes on with %d. Smaller run.block from the "
                "start, or a smaller run.roi, avoids this.",
                self.name,
                size,
                self._most,
            )
            return
        self._fall_back(error, "was lost" if lost else "has too little memory for a single frame")

    def _fall_back(self, error: Exception, what: str) -> None:
        text = str(error).strip().partition("\n")[0]
        if self._fallback is None:
            raise RunError(
                f"{self.name} {what}: {text}. Every frame before is analysed and recorded. Restart, or let liveloc go "
                "on with the processor in such a case: run.cpu_fallback=true."
            ) from error
        failed = self.name
        self._runtime, self._fallback, self._most = self._fallback(), None, None
        logger.warning(
            "%s %s: %s. The run goes on with %s (run.cpu_fallback), which is slower.", failed, what, text, self.name
        )


def _later(rows: NDArray[np.float32], place: int, description: ModelDescription) -> NDArray[np.float32]:
    """Rows of a part of a block that begins at its frame ``place``, counted from the block's beginning."""
    if place and len(rows):
        rows = rows.copy()
        rows[:, description.columns.index("frame")] += place
    return rows


def _is_short_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or _says(error, OUT_OF_MEMORY)


def _is_lost(error: Exception) -> bool:
    if _is_short_of_memory(error):
        return False
    return isinstance(error, RuntimeUnavailable) or _says(error, DEVICE_LOST)


def _says(error: Exception, phrases: tuple[str, ...]) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return any(phrase in text for phrase in phrases)


def _free_cached_memory() -> None:
    """Give back what torch keeps for later, so that others of its own calls can have it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
