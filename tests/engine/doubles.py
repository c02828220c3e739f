"""Doubles of the parts around a pipeline. Pixels tell the frame's number, so that a lost or swapped frame shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from acquisition.source import Frames, SourceDescription
from config.errors import RecorderFailed
from engine.localisations import LOCALISATION_SCHEMA, empty_batch
from engine.runtimes.model_file import ModelDescription


@dataclass
class FakeSource:
    """Gives frames whose every pixel is the frame's number, and does what a test asks of it at a given number."""

    numbers: Iterable[int]
    events: dict[int, Callable[[], object]] = field(default_factory=dict)
    """Called before the frame of that number is given."""
    expected: int | None = None
    ignores_stop: bool = False
    opened: int = 0
    closed: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def open(self) -> SourceDescription:
        self.opened += 1
        return SourceDescription("fake", 4, 6, np.dtype(np.uint16), self.expected)

    def blocks(self, size: int) -> Iterator[Frames]:
        block: list[int] = []
        for number in self.numbers:
            if number in self.events:
                self.events[number]()
            if self.stopped.is_set() and not self.ignores_stop:
                break
            block.append(number)
            if len(block) == size:
                yield frames_of(block)
                block = []
        if block:
            yield frames_of(block)

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frames_of(numbers: list[int]) -> Frames:
    pixels = np.broadcast_to(np.array(numbers, np.uint16)[:, None, None], (len(numbers), 4, 6))
    return Frames(pixels, np.array(numbers, np.int64), np.full(len(numbers), np.nan))


@dataclass
class FakeLocaliser:
    """One row a frame: its number, and in ``photons`` what its pixels say. Holds ``future`` frames back."""

    future: int = 2
    fails_at: int | None = None
    delay: float = 0.0
    held: list[tuple[int, float]] = field(default_factory=list)

    @property
    def context(self) -> tuple[int, int]:
        return 0, self.future

    def push(self, frames: Frames) -> pa.RecordBatch:
        time.sleep(self.delay)
        decided = []
        for number, pixel in zip(frames.numbers.tolist(), frames.pixels[:, 0, 0].tolist(), strict=True):
            if number == self.fails_at:
                raise ValueError("the network fell over")
            keep = self.future if self.held and number == self.held[-1][0] + 1 else 0
            self.held.append((number, pixel))
            cut = len(self.held) - 1 if keep == 0 else max(0, len(self.held) - keep)
            decided += self.held[:cut]
            self.held = self.held[cut:]
        return rows(decided)

    def flush(self) -> pa.RecordBatch:
        decided, self.held = self.held, []
        return rows(decided)

    def describe(self) -> ModelDescription:
        raise NotImplementedError


def rows(decided: list[tuple[int, float]]) -> pa.RecordBatch:
    blank = dict.fromkeys(LOCALISATION_SCHEMA.names, 0.0) | {"z": None, "sigma_z": None}
    content = [blank | {"frame": number, "photons": pixel} for number, pixel in decided]
    return pa.RecordBatch.from_pylist(content, LOCALISATION_SCHEMA)


@dataclass
class FakeSink:
    """Keeps frame numbers and pixel values; fails at a given frame."""

    fails_at: int | None = None
    error: Exception = field(default_factory=lambda: RecorderFailed("no space left"))
    delay: float = 0.0
    frames: list[int] = field(default_factory=list)
    pixels: list[float] = field(default_factory=list)
    closed: int = 0

    def write(self, batch: pa.RecordBatch) -> None:
        time.sleep(self.delay)
        frames: list[int] = batch.column("frame").to_numpy().tolist()
        if self.fails_at in frames:
            raise self.error
        self.frames += frames
        self.pixels += batch.column("photons").to_numpy().tolist()

    def close(self) -> None:
        self.closed += 1


def assert_all_closed(source: FakeSource, *sinks: FakeSink) -> None:
    assert [source.closed, *(sink.closed for sink in sinks)] == [1] * (1 + len(sinks))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("liveloc-")]


@dataclass
class EncodingCamera:
    """A camera at full speed whose pixels hold the frame's number; a whole block is made at once."""

    numbers: NDArray[np.int64]
    size: int = 64
    """Height and width [pixels]."""
    largest: int = 1000
    """Most frames a block, however many may be asked for."""
    own_time: float = 0.0
    """Time of the acquisition thread's processor that went into making frames [s]."""
    thread_time: float = 0.0
    """All of that thread's time from the first block to the last [s]."""
    gave_all: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)

    def open(self) -> SourceDescription:
        return SourceDescription("encoding", self.size, self.size, np.dtype(np.uint16))

    def blocks(self, size: int) -> Iterator[Frames]:
        begun = time.thread_time()
        for first in range(0, len(self.numbers), min(size, self.largest)):
            if self.stopped.is_set():
                return
            before = time.thread_time()
            frames = self._frames(self.numbers[first : first + min(size, self.largest)])
            self.own_time += time.thread_time() - before
            yield frames
        self.thread_time = time.thread_time() - begun
        self.gave_all.set()

    def _frames(self, numbers: NDArray[np.int64]) -> Frames:
        pixels = np.empty((len(numbers), self.size, self.size), np.uint16)
        pixels[:] = (numbers & 0xFFFF).astype(np.uint16)[:, None, None]
        pixels[:, 0, 0] = numbers >> 16
        return Frames(pixels, numbers, np.full(len(numbers), np.nan))

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


@dataclass
class DecodingLocaliser:
    """One row a frame, with what its pixels say in ``photons``. Waits for ``gate`` before each block."""

    gate: threading.Event | None = None
    largest: int = 0
    """Frames of the largest block that it was given."""

    @property
    def context(self) -> tuple[int, int]:
        return 0, 0

    def push(self, frames: Frames) -> pa.RecordBatch:
        if self.gate is not None:
            self.gate.wait(100)
        self.largest = max(self.largest, len(frames))
        said = frames.pixels[:, -1, -1].astype(np.int64) + (frames.pixels[:, 0, 0].astype(np.int64) << 16)
        blank = np.zeros(len(frames), np.float32)
        values: dict[str, NDArray[Any]] = {"frame": frames.numbers, "photons": said.astype(np.float32)}
        columns = [pa.array(values.get(item.name, blank), item.type) for item in LOCALISATION_SCHEMA]
        return pa.RecordBatch.from_arrays(columns, schema=LOCALISATION_SCHEMA)

    def flush(self) -> pa.RecordBatch:
        return empty_batch()

    def describe(self) -> ModelDescription:
        raise NotImplementedError
