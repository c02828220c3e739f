"""A camera inside a real Micro-Manager core whose pixels tell the frame's number, as EncodingCamera's do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pymmcore_plus.experimental.unicore import CameraDevice

from simulation.micromanager_camera import PycromanagerCore, core_with


class EncodingDevice(CameraDevice):
    """Frames by deadlines: the number's lower 16 bits in every pixel, the higher ones in the first."""

    def __init__(self, size: int, exposure: float) -> None:
        """``size``: height and width [pixels]; ``exposure`` [ms]."""
        super().__init__()
        self._size, self._exposure = size, exposure

    def get_exposure(self) -> float:
        """Exposure [ms]."""
        return self._exposure

    def set_exposure(self, exposure: float) -> None:
        """Exposure [ms]."""
        self._exposure = exposure

    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self._size, self._size

    def dtype(self) -> DTypeLike:
        """Of the pixels."""
        return np.uint16

    def start_sequence(
        self, n: int | None, get_buffer: Callable[[Sequence[int], DTypeLike], NDArray[Any]]
    ) -> Iterator[Mapping[str, Any]]:
        """``n`` frames."""
        begin, number = time.perf_counter(), 0
        while n is None or number < n:
            time.sleep(max(0.0, begin + (number + 1) * self._exposure / 1000 - time.perf_counter()))
            pixels = get_buffer(self.shape(), np.uint16)
            pixels[:] = number & 0xFFFF
            pixels[0, 0] = number >> 16
            number += 1
            yield {}


def encoding_core(size: int, exposure: float) -> PycromanagerCore:
    """A core with this camera. One a process."""
    return core_with({"Encoding": EncodingDevice(size, exposure)})
