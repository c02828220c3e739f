"""Each preview shows a frame together with exactly the rows of that frame, at a bounded rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from acquisition.source import Frames
from engine.output import preview
from engine.output.preview import PreviewObserver
from tests.engine.doubles import frames_of, rows


@dataclass
class Holding:
    """A localiser that finds one spot a frame, and knows it once ``future`` frames or a gap have followed."""

    future: int
    held: list[int] = field(default_factory=list)

    def push(self, frames: Frames) -> pa.RecordBatch:
        decided: list[int] = []
        for number in frames.numbers.tolist():
            if self.held and number != self.held[-1] + 1:
                decided, self.held = decided + self.held, []
            self.held.append(number)
            ready = max(0, len(self.held) - self.future)
            decided, self.held = decided + self.held[:ready], self.held[ready:]
        return rows([(number, number) for number in decided])

    def flush(self) -> pa.RecordBatch:
        return rows([(number, number) for number in self.held])


@dataclass
class Sent:
    """What the observer handed on."""

    previews: list[tuple[int, np.ndarray[Any, Any], pa.RecordBatch, tuple[int, int]]] = field(default_factory=list)

    def __call__(self, frame: int, pixels: np.ndarray[Any, Any], rows: pa.RecordBatch, origin: tuple[int, int]) -> None:
        self.previews.append((frame, pixels, rows, origin))

    @property
    def numbers(self) -> list[int]:
        return [frame for frame, *_ in self.previews]

    def assert_matching(self) -> None:
        """The double gives one row a frame, and pixels that tell its number."""
        for frame, pixels, found, _ in self.previews:
            assert np.all(pixels == frame)
            assert found["frame"].to_pylist() == [frame]


def watch(blocks: list[list[int]], future: int, seconds_a_block: float = 1.0, rate: float = 1e6) -> Sent:
    now, sent = [0.0], Sent()
    localiser = Holding(future=future)
    observer = PreviewObserver(sent, rate, future, (3, 4), lambda: now[0])
    for block in blocks:
        frames = frames_of(block)
        observer.observe(frames, localiser.push(frames))
        now[0] += seconds_a_block
    observer.observe(None, localiser.flush())
    sent.assert_matching()
    return sent


@pytest.mark.parametrize("future", [0, 2, 4, 7])
@pytest.mark.parametrize("size", [1, 3, 16])
def test_frames_come_with_their_own_rows(future: int, size: int) -> None:
    numbers = list(range(60))
    sent = watch([numbers[at : at + size] for at in range(0, 60, size)], future)
    assert len(sent.previews) >= 60 // size // (future + 2)
    assert sent.previews[0][3] == (3, 4)


def test_a_large_block_shows_its_newest_decided_frame_at_once() -> None:
    sent = watch([list(range(16)), list(range(16, 32))], future=4)
    assert sent.numbers[:2] == [11, 27]


def test_a_gap_decides_the_frame_that_waits() -> None:
    sent = watch([[0, 1, 2], [50], [51], [52]], future=4)
    assert sent.numbers[0] == 0


def test_a_gap_inside_a_block_is_counted() -> None:
    assert watch([[0, 1, 2, 3, 90, 91]], future=4).numbers == [3]


def test_the_end_decides_the_frame_that_waits() -> None:
    assert watch([[5]], future=4).numbers == [5]


def test_the_rate_is_bounded() -> None:
    numbers = list(range(1000))
    sent = watch([[number] for number in numbers], 2, seconds_a_block=0.01, rate=5)
    assert 45 <= len(sent.previews) <= 51, "ten seconds"


def test_no_rate_means_no_previews() -> None:
    assert watch([[0, 1, 2]], 0, rate=0).previews == []


def test_large_frames_are_shown_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "BYTES_A_SECOND", 24.0)  # a frame of the double has 48
    sent = watch([[number] for number in range(100)], 0, seconds_a_block=0.1)
    assert 5 <= len(sent.previews) <= 6, "one every two seconds"


def test_the_pixels_are_a_copy_while_they_wait() -> None:
    sent = Sent()
    observer, localiser = PreviewObserver(sent, 1e6, 2), Holding(future=2)
    memory = np.full((1, 4, 6), 0, np.uint16)
    for number in range(5):
        memory[:] = number
        frames = Frames(memory, np.array([number]), np.zeros(1))
        observer.observe(frames, localiser.push(Frames(memory.copy(), frames.numbers, frames.times)))
    assert sent.numbers
    sent.assert_matching()


def test_an_empty_block_does_no_harm() -> None:
    sent = Sent()
    PreviewObserver(sent, 5, 2).observe(frames_of([]), Holding(2).flush())
    assert not sent.previews
