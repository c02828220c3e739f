"""The queue that stays live: it never holds the camera up, and knows every frame that it gave up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.source import Frames
from engine.channel import ConsumerGone
from engine.ledger import numbers_of
from engine.waiting import NewestFrames, Taken


def block(numbers: list[int]) -> Taken:
    pixels = np.broadcast_to(np.array(numbers, np.uint16)[:, None, None], (len(numbers), 4, 6))
    return Taken(Frames(pixels, np.array(numbers, np.int64), np.zeros(len(numbers))), np.array(numbers) + 0.5)


def test_up_to_two_blocks_wait_and_none_is_given_up() -> None:
    queue = NewestFrames(4)
    for number in range(8):
        queue.put(block([number]))
    assert queue.skipped == ()
    queue.finish()
    assert [item.frames.numbers.tolist() for item in queue] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_the_oldest_are_given_up_and_a_whole_block_follows(caplog: pytest.LogCaptureFixture) -> None:
    queue = NewestFrames(4)
    for number in range(100):
        queue.put(block([number]))
    assert queue.skipped == (range(92),)
    assert caplog.text.count("frames are skipped to stay live") == 1
    assert next(iter(queue)).frames.numbers.tolist() == [92, 93, 94, 95]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.booleans()), max_size=100))
def test_every_number_comes_out_or_is_listed(steps: list[tuple[int, int, bool]]) -> None:
    queue, out, came, newest = NewestFrames(4), list[int](), list[int](), 0
    reader = iter(queue)
    for count, gap, take in steps:
        numbers = list(range(newest + gap, newest + gap + count))
        newest = numbers[-1] + 1
        came += numbers
        queue.put(block(numbers))
        assert sum(map(len, queue._items)) <= 8
        if take:
            item = next(reader)
            assert item.frames.pixels[:, 0, 0].tolist() == item.frames.numbers.tolist()
            assert (item.came == item.frames.numbers + 0.5).all()
            out += item.frames.numbers.tolist()
    queue.finish()
    for item in reader:
        out += item.frames.numbers.tolist()
    assert out == sorted(out)
    assert sorted(out + numbers_of(queue.skipped)) == came


def test_the_producer_learns_that_the_consumer_left() -> None:
    queue = NewestFrames(4)
    queue.leave()
    with pytest.raises(ConsumerGone):
        queue.put(block([0]))
