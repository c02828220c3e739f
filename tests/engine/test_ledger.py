from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import RunError
from engine.ledger import FrameLedger, Ranges, count, numbers_of, union, without


def booked(*blocks: list[int]) -> FrameLedger:
    ledger = FrameLedger()
    for block in blocks:
        ledger.add(np.array(block, np.int64))
    return ledger


def test_a_recording_without_gaps_misses_nothing() -> None:
    ledger = booked([5, 6, 7], [8], [9, 10])
    assert (ledger.count, ledger.missing(), ledger.streak) == (6, (), 6)


def test_gaps_within_and_between_blocks_are_missing() -> None:
    ledger = booked([0, 1, 4], [5, 9], [11])
    assert ledger.missing() == (range(2, 4), range(6, 9), range(10, 11))
    assert ledger.streak == 1


def test_an_empty_ledger_misses_nothing() -> None:
    ledger = booked([])
    assert (ledger.count, ledger.missing(), ledger.after(0), ledger.streak) == (0, (), (), 0)


@pytest.mark.parametrize("blocks", [([3, 4], [4]), ([3, 4], [2]), ([3, 3],), ([1, 5, 4],), ([0], [])])
def test_numbers_that_repeat_or_go_back_are_refused_and_not_booked(blocks: tuple[list[int], ...]) -> None:
    *good, bad = blocks
    ledger = booked(*good)
    before = ledger.count
    if bad:
        with pytest.raises(RunError, match="must increase"):
            ledger.add(np.array(bad))
    else:
        ledger.add(np.array(bad, np.int64))
    assert ledger.count == before


def test_the_message_names_both_frames() -> None:
    with pytest.raises(RunError, match="frame 6 came after frame 7"):
        booked([5, 7, 6])


@pytest.mark.parametrize(("numbers", "good"), [([4, 5, 5, 6], 2), ([3], 0), ([5, 9], 2), ([], 0)])
def test_how_many_are_in_order(numbers: list[int], good: int) -> None:
    assert booked([1, 2, 3]).in_order(np.array(numbers, np.int64)) == good


@given(numbers=st.sets(st.integers(0, 300), min_size=1), cuts=st.lists(st.integers(0, 300)), done=st.integers(0, 400))
def test_every_number_is_in_exactly_one_account(numbers: set[int], cuts: list[int], done: int) -> None:
    came = sorted(numbers)
    ledger = FrameLedger()
    for block in np.split(np.array(came, np.int64), sorted(cuts)):
        ledger.add(block)
    assert ledger.count == len(came)
    assert numbers_of(ledger.missing()) == [number for number in range(came[0], came[-1]) if number not in numbers]
    assert numbers_of(ledger.after(done)) == came[done:]


def test_a_million_lost_frames_cost_one_range() -> None:
    assert booked([0], [1_000_000]).missing() == (range(1, 1_000_000),)


def ranges_of(numbers: set[int]) -> Ranges:
    return booked(sorted(numbers)).came()


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_ranges_are_sets_of_numbers(first: set[int], second: set[int]) -> None:
    assert numbers_of(union(ranges_of(first), ranges_of(second))) == sorted(first | second)
    assert numbers_of(without(ranges_of(first), ranges_of(second))) == sorted(first - second)
    assert union(ranges_of(first), ranges_of(second)) == ranges_of(first | second), "as few ranges as can be"
    assert count(ranges_of(first)) == len(first)


def test_the_newest_number() -> None:
    assert booked([]).newest is None
    assert booked([3, 4], [9]).newest == 9
