"""The reference runtime: any torch module that keeps the streaming graph's signature, on a processor or a GPU."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from acquisition.camera import Camera
from acquisition.source import Pixels
from config.errors import RuntimeUnavailable
from engine.runtimes.model_file import ModelDescription, blank_shape
from engine.runtimes.runtime import in_photons, usable_cores

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""In what networks compute, by run.precision."""
COMPILED: dict[str, dict[str, Any]] = {"cpu": {"dynamic": True}, "cuda": {"dynamic": False, "mode": "reduce-overhead"}}
"""What torch.compile is asked for: on a GPU each stage becomes a CUDA graph, one launch in the place of many. That
pays where frames are so small that the processor cannot launch operations as fast as they are done."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's numbers for free memory that it keeps, and for pieces that it never keeps, 32 MB at most (malloc.h)."""


@runtime_checkable
class InParts(Protocol):
    """A module whose calls fall into parts that threads can share (models/streaming.py)."""

    def share(self, each: Callable[..., list[Any]]) -> None:
        """Have the parts worked off by ``each``."""
        ...

    def tile(self, wanted: str) -> None:
        """Work off large frames in tiles, as run.tile says."""
        ...

    def compile_stages(self, **options: Any) -> None:
        """Have torch.compile make its stages quicker."""
        ...


class TorchRuntime:
    """Runs a module (photons, state, valid, threshold) → (rows, next state). Raises RuntimeUnavailable.

    On a processor each core works on a part of the frames by itself. Threads within an operation, torch's own way,
    meet after every one of some hundred operations a call, and wait there for the one that the system held up.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        description: ModelDescription,
        device: str = "auto",
        threads: int | None = None,
        precision: str = "fp32",
        compiled: bool = False,
        tile: str = "auto",
    ) -> None:
        """``precision``: fp32, bf16 or fp16, in which the network computes; what it answers stays in fp32.

        ``compiled``, ``tile``: as RunSettings says. Raises SettingsError where the module cannot take tiles.
        """
        self._device, self._type = torch.device(_choose(device)), TYPES[precision]
        self._precision, self._compiled, self._camera = precision, compiled, CameraOn(self._device)
        _check_numbers(precision, self._device.type == "cuda")
        if self._device.type == "cpu":
            _keep_freed_memory()
        self._module = module.eval().to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._description = description
        workers = (threads or usable_cores()) if self._device.type == "cpu" else 1
        self._pool = _Pool(workers, self._context) if workers > 1 and isinstance(module, InParts) else None
        self._workers = workers
        if isinstance(module, InParts):
            if self._pool is not None:
                module.share(self._pool.each)
            module.tile(tile)
            if compiled:
                module.compile_stages(**COMPILED[self._device.type])

    @property
    def description(self) -> ModelDescription:
        """What the model file says of itself."""
        return self._description

    @property
    def name(self) -> str:
        """Torch's version, the device and the precision."""
        return f"torch {torch.__version__} {self._device} {self._precision}{' compiled' if self._compiled else ''}"

    @property
    def precision(self) -> str:
        """fp32, bf16 or fp16."""
        return self._precision

    def calibrated(self, camera: Camera) -> TorchRuntime:
        """See TakesRaw."""
        made = copy.copy(self)
        vars(made)["_camera"] = CameraOn(self._device, camera)
        return made

    def blank_state(self, height: int, width: int) -> torch.Tensor:
        """Zeros (S, C, h, w) on the device."""
        shape = blank_shape(self._description, height, width)
        blank = torch.zeros(shape, device=self._device, dtype=self._type)
        return blank.to(memory_format=torch.channels_last)  # as what networks give, so that both join without a move

    def step(
        self, photons: NDArray[np.float32] | Pixels, state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        """See Runtime.step."""
        torch.set_num_threads(1 if self._pool is not None and len(photons) > 1 else self._workers)
        with self._context():
            rows, state = self._module(
                self._camera.photons(photons),
                state,
                torch.from_numpy(valid).to(self._device),
                torch.tensor(threshold, device=self._device),
            )
            return rows.float().cpu().numpy(), state

    def _context(self) -> AbstractContextManager[object]:
        """What holds on each thread that computes."""
        stack = ExitStack()
        stack.enter_context(torch.inference_mode())
        if self._type is not torch.float32:
            stack.enter_context(torch.autocast(self._device.type, self._type))
        return stack


class _Pool:
    """Threads that share the parts of a call. Each computes alone: an operation is not split further."""

    def __init__(self, workers: int, context: Callable[[], AbstractContextManager[object]]) -> None:
        self._threads = ThreadPoolExecutor(workers, "liveloc-torch", initializer=torch.set_num_threads, initargs=(1,))
        self._context = context

    def each(self, work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """The answers in the items' order. A single item stays with the caller, who has all threads then."""
        parts = list(items)
        if len(parts) == 1:
            return [work(parts[0])]
        return list(self._threads.map(lambda part: self._one(work, part), parts))

    def _one(self, work: Callable[[Any], Any], part: Any) -> Any:
        with self._context():
            return work(part)


class CameraOn:
    """Turns a camera's ADU into photons on a device. Frames travel there as they came, from pinned memory."""

    def __init__(self, device: torch.device, camera: Camera | None = None) -> None:
        self._device, self._known = device, camera
        self._staging = torch.empty(0, dtype=torch.uint8)
        known = (0.0, 1.0) if camera is None else (camera.baseline, camera.photons_per_adu)
        self._baseline, self._scale = (torch.as_tensor(np.asarray(one, np.float32), device=device) for one in known)

    def photons(self, frames: NDArray[np.float32] | Pixels) -> torch.Tensor:
        """(T, H, W) on the device."""
        if self._device.type == "cpu":  # where the host is the device
            return torch.from_numpy(in_photons(frames, self._known))
        return self.over_there(frames)

    def over_there(self, frames: NDArray[np.float32] | Pixels) -> torch.Tensor:
        """The same where frames travel first and become photons then."""
        there = self._staged(frames).to(self._device, non_blocking=True)
        if self._known is None or frames.dtype.kind == "f":
            return there.float()
        return (there.float() - self._baseline) * self._scale

    def _staged(self, frames: NDArray[np.float32] | Pixels) -> torch.Tensor:
        """A copy in pinned memory, which is kept for the next call: ``step`` waits for its rows, so it is free then."""
        if self._staging.numel() < frames.nbytes:
            self._staging = torch.empty(frames.nbytes, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        room = self._staging[: frames.nbytes].numpy().view(frames.dtype).reshape(frames.shape)
        np.copyto(room, frames)
        return torch.from_numpy(room)


@cache
def _keep_freed_memory() -> None:
    """Have glibc keep memory that layers are done with for the next ones.

    By default it gives most of it back, and the system clears every page of it again when it is asked for anew: of
    frames of 1024 × 1024 pixels, that was a quarter of the processor's time. Elsewhere nothing happens.
    """
    with suppress(AttributeError, OSError, TypeError):
        change = ctypes.CDLL(None).mallopt  # mallopt(3); TypeError: Windows has no library of the program's own
        change(TRIM_THRESHOLD, (1 << 31) - 1)
        change(MMAP_THRESHOLD, 1 << 25)


def _choose(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeUnavailable(
            "run.device=cuda was asked for, but torch finds no CUDA device. Run `liveloc doctor`; install torch's CUDA "
            "build and the NVIDIA driver, or set run.device=cpu."
        )
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16")
"""What torch.cpu.get_capabilities calls a processor's instructions that multiply in bfloat16, x86's and Arm's."""


def computes_in_bf16(gpu: bool) -> bool:
    """Whether the graphics card, or else the processor, has instructions for bfloat16. Where torch can do without them
    at all it takes many times as long as in fp32: fifty times for a matrix product on an AMD EPYC of 2017.
    """
    if gpu:
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in BF16_INSTRUCTIONS)


def _check_numbers(precision: str, gpu: bool) -> None:
    """Raises RuntimeUnavailable where the device does not know the numbers."""
    if precision == "bf16" and not computes_in_bf16(gpu):
        device, instead = (torch.cuda.get_device_name(), "fp16 or fp32") if gpu else ("this processor", "fp32")
        raise RuntimeUnavailable(
            f"run.precision=bf16: {device} does not compute in bfloat16. Set run.precision={instead}."
        )
