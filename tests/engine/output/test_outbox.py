from __future__ import annotations

import select
import threading
from collections.abc import Iterator

import pytest

from engine.output.outbox import Outbox


@pytest.fixture
def outbox() -> Iterator[Outbox[int]]:
    box: Outbox[int] = Outbox(3, 100)
    yield box
    box.close()


def rings(box: Outbox[int]) -> bool:
    return bool(select.select([box], [], [], 0)[0])


def test_items_come_out_in_order_and_the_bell_rings_until_they_are_taken(outbox: Outbox[int]) -> None:
    assert not rings(outbox)
    assert outbox.put(1)
    assert outbox.put(2)
    assert rings(outbox)
    assert outbox.take() == [1, 2]
    assert not rings(outbox)
    assert outbox.take() == []


def test_a_full_one_takes_nothing_and_counts_it(outbox: Outbox[int]) -> None:
    assert [outbox.put(number) for number in range(5)] == [True, True, True, False, False]
    assert (outbox.refused, len(outbox)) == (2, 3)
    assert outbox.take() == [0, 1, 2]
    assert outbox.put(5)


def test_bytes_are_bounded_but_one_item_always_fits(outbox: Outbox[int]) -> None:
    assert outbox.put(1, 1000)
    assert not outbox.put(2, 1)
    outbox.take()
    assert [outbox.put(3, 60), outbox.put(4, 60)] == [True, False]


def test_a_waiting_reader_is_woken_from_another_thread(outbox: Outbox[int]) -> None:
    thread = threading.Timer(0.05, outbox.put, [7])
    thread.start()
    assert select.select([outbox], [], [], 30)[0]
    assert outbox.take() == [7]
    thread.join()


def test_a_reader_is_woken_without_an_item(outbox: Outbox[int]) -> None:
    for _ in range(100_000):  # more than the bell's buffer holds
        outbox.ring()
    assert rings(outbox)
    assert outbox.take() == []
    assert not rings(outbox)


def test_a_closed_one_takes_nothing_and_raises_nothing(outbox: Outbox[int]) -> None:
    outbox.close()
    outbox.close()
    assert not outbox.put(1)
    outbox.ring()
    assert outbox.take() == []


def test_nothing_is_lost_between_many_threads() -> None:
    box: Outbox[int] = Outbox(1_000_000, 1 << 30)
    threads = [threading.Thread(target=lambda: [box.put(number) for number in range(2000)]) for _ in range(4)]
    taken: list[int] = []
    for thread in threads:
        thread.start()
    while len(taken) < 8000:
        assert select.select([box], [], [], 30)[0]
        taken += box.take()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(list(range(2000)) * 4)
    box.close()
