"""Windows of equal time of data."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.localisations import empty_batch
from engine.monitor.windows import Seen, Window, Windows, seconds
from tests.engine.monitor.samples import even_rows, frames, seen

FUTURE = 2


def windows_of(numbers: NDArray[np.int64], sizes: list[int], every: float = 1.0, interval: float = 0.1) -> list[Window]:
    """What a localiser with two frames of future gives for these frames in blocks of these sizes, two rows a frame."""
    windows, found, pushed = Windows(every, FUTURE), list[Window](), 0
    told = 0
    for size in sizes:
        block = numbers[pushed : pushed + size]
        pushed += size
        newest = numbers[min(pushed, len(numbers)) - 1]
        decided = numbers[told : max(told, int(np.searchsorted(numbers, newest - FUTURE, "right")))]
        told += len(decided)
        found += windows.add(seen(block, interval, even_rows(decided, 2)))
    found += windows.add(Seen(numbers[:0], np.empty(0), even_rows(numbers[told:], 2)))
    return found + list(windows.finish())


@pytest.mark.parametrize("size", [1, 3, 7, 10, 64])
def test_every_frame_and_row_is_in_its_window_whatever_the_blocks(size: int) -> None:
    numbers = np.arange(64)
    found = windows_of(numbers, [size] * (64 // size + 1))
    assert [window.numbers.tolist() for window in found] == [list(range(n, min(n + 10, 64))) for n in range(0, 64, 10)]
    assert [window.end for window in found] == pytest.approx([1, 2, 3, 4, 5, 6, 7])
    for window in found:
        assert sorted(window.rows["frame"]) == sorted([*window.numbers, *window.numbers])


def test_a_gap_leaves_windows_out_and_joins_none() -> None:
    numbers = np.concatenate([np.arange(15), np.arange(43, 60)])
    found = windows_of(numbers, [8] * 4)
    assert [(window.end, len(window.numbers), len(window.rows["x"])) for window in found] == [
        (1, 10, 20), (2, 5, 10), (5, 7, 14), (6, 10, 20),
    ]  # fmt: skip


def test_a_window_is_given_as_soon_as_its_last_frame_is_decided() -> None:
    windows, given = Windows(1.0, FUTURE), []
    for number in range(14):
        block = np.array([number])
        decided = block - FUTURE if number >= FUTURE else block[:0]
        given += [number for _ in windows.add(seen(block, 0.1, even_rows(decided, 1)))]
    assert given == [11]


def test_frames_longer_than_a_window_have_one_each() -> None:
    found = windows_of(np.arange(5), [1] * 5, every=1.0, interval=2.5)
    assert [window.numbers.tolist() for window in found] == [[0], [1], [2], [3], [4]]


def test_frames_without_rows_make_windows_too() -> None:
    windows = Windows(1.0, 0)
    found = list(windows.add(seen(np.arange(25), 0.1, empty_batch()))) + list(windows.finish())
    assert [len(window.numbers) for window in found] == [10, 10, 5]
    assert [len(window.rows["x"]) for window in found] == [0, 0, 0]


def test_pictures_go_with_their_window() -> None:
    windows, picture = Windows(1.0, 0), np.zeros((2, 2), np.uint16)
    everything = seen(np.arange(25), 0.1, empty_batch(), {4: picture, 12: picture, 24: picture})
    found = list(windows.add(everything)) + list(windows.finish())
    assert [list(window.pictures) for window in found] == [[4], [12], [24]]


def test_nothing_at_all_gives_nothing() -> None:
    windows = Windows(1.0, 4)
    assert not list(windows.add(Seen(np.empty(0, np.int64), np.empty(0), empty_batch())))
    assert not list(windows.finish())


def test_times_are_the_cameras_own_else_from_the_interval_else_from_the_clock() -> None:
    assert seconds(frames(5, 2, times=0.5), 0.1, 9.0).tolist() == [3.0, 3.5]
    assert seconds(frames(5, 2), 0.1, 9.0).tolist() == [0.5, 0.6000000000000001]
    assert seconds(frames(5, 2), None, 9.0).tolist() == [9.0, 9.0]
