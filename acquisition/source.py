"""What a source of camera frames is. Every source of this package and the simulated camera keep this contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, eq=False)
class Frames:
    """Consecutive camera frames as they came, a block."""

    pixels: Pixels
    """(T, H, W) in ADU, uint8 or uint16, native byte order."""
    numbers: NDArray[np.int64]
    """(T,) frame numbers, strictly increasing, counted at the camera: a gap is a frame that was lost."""
    times: NDArray[np.float64]
    """(T,) seconds since the acquisition began, NaN where the source does not know."""

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class SourceDescription:
    """What a source knows of itself once it is open."""

    name: str
    """For people: a file name, a camera's name."""
    height: int
    """Rows of a frame after the region of interest [pixels]."""
    width: int
    """Columns of a frame after the region of interest [pixels]."""
    dtype: np.dtype[Any]
    """Type of the pixels."""
    frames: int | None = None
    """Frames to expect, or None for a source without an end."""
    exposure: float | None = None
    """Time between frames [ms], where known."""
    origin: tuple[int, int] = (0, 0)
    """Column and row of this frame's corner on the recorded frame or chip, (x, y) [pixels]; crops camera maps."""
    camera: dict[str, float] = field(default_factory=dict)
    """Fields of CameraSettings that the metadata told, by field name."""


class FrameSource(Protocol):
    """Opens, tells what it is, gives blocks of frames, stops promptly.

    The engine's acquisition thread calls ``open``, iterates ``blocks`` and calls ``close``, in this order and once;
    ``stop`` may be called from any thread at any time, more than once, and makes ``blocks`` end within one exposure
    (or 0.2 s, whichever is longer). No frame is dropped silently: a lost one shows as a gap in ``Frames.numbers``.
    """

    def open(self) -> SourceDescription:
        """Acquire what is needed. Raises SourceError."""
        ...

    def blocks(self, size: int) -> Iterator[Frames]:
        """Blocks of 1 to ``size`` frames, until the end or ``stop``. Raises SourceError."""
        ...

    def stop(self) -> None:
        """Ask ``blocks`` to end. Any thread."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
