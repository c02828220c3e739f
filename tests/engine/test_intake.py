from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from acquisition.source import Frames, SourceDescription
from config.errors import RunError
from engine.intake import Intake
from engine.waiting import HeldFrames

DESCRIPTION = SourceDescription("fake", 4, 6, np.dtype(np.uint16))


def frames(first: int, count: int, times: NDArray[np.float64] | None = None, width: int = 6) -> Frames:
    pixels = np.zeros((count, 4, width), np.uint16)
    return Frames(pixels, np.arange(first, first + count), np.full(count, np.nan) if times is None else times)


def intake(live: bool = False, most: int | None = None) -> tuple[Intake, HeldFrames]:
    queue = HeldFrames(100)
    return Intake(queue, lambda: 50.0, live, most), queue


TIMES = {
    "camera": (True, np.array([3.0, 3.25, 3.5]), [49.5, 49.75, 50.0]),
    "camera without times": (True, np.full(3, np.nan), [50.0, 50.0, 50.0]),
    "camera whose clock jumps back": (True, np.array([9.0, 3.25, 3.5]), [50.0, 49.75, 50.0]),
    "file": (False, np.array([3.0, 3.25, 3.5]), [50.0, 50.0, 50.0]),
}


@pytest.mark.parametrize(("live", "times", "came"), TIMES.values(), ids=TIMES.keys())
def test_a_delay_counts_from_when_each_frame_was_taken(
    live: bool, times: NDArray[np.float64], came: list[float]
) -> None:
    gate, queue = intake(live)
    gate.take(frames(0, 3, times), DESCRIPTION)
    queue.finish()
    assert [item.came.tolist() for item in queue] == [came]


def test_no_more_frames_than_wanted() -> None:
    gate, queue = intake(most=8)
    gate.take(frames(0, 5), DESCRIPTION)
    before = gate.full
    gate.take(frames(5, 5), DESCRIPTION)
    assert (before, gate.full) == (False, True)
    queue.finish()
    assert [item.frames.numbers.tolist() for item in queue] == [[0, 1, 2, 3, 4], [5, 6, 7]]
    assert (gate.came.count, gate.came.newest) == (8, 7)


def test_frames_of_a_pause_are_listed_and_not_passed_on() -> None:
    gate, queue = intake()
    gate.take(frames(0, 5), DESCRIPTION)
    gate.paused = True
    gate.take(frames(5, 5), DESCRIPTION)
    gate.paused = False
    gate.take(frames(10, 5), DESCRIPTION)
    queue.finish()
    assert [item.frames.numbers[0] for item in queue] == [0, 10]
    assert gate.paused_out.came() == (range(5, 10),)


def test_a_changed_region_of_interest_is_named_and_not_booked() -> None:
    gate, _ = intake()
    gate.take(frames(0, 5), DESCRIPTION)
    with pytest.raises(RunError, match=r"must be 6×4 pixels.*from frame 5 on they are 8×4.*region of interest"):
        gate.take(frames(5, 5, width=8), DESCRIPTION)
    assert gate.came.count == 5
