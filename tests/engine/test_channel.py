from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from engine.channel import Channel, ConsumerGone

pytestmark = pytest.mark.timeout(20)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_items_come_in_order_and_end() -> None:
    channel: Channel[int] = Channel(2)

    def produce() -> None:
        for number in range(1000):
            channel.put(number)
        channel.finish()

    in_thread(produce)
    assert list(channel) == list(range(1000))


def test_a_full_channel_holds_the_producer_up() -> None:
    channel: Channel[int] = Channel(2)
    longest = []

    def produce() -> None:
        for number in range(50):
            channel.put(number)
            longest.append(len(channel))
        channel.finish()

    producer = in_thread(produce)
    producer.join(0.2)
    assert producer.is_alive()
    assert len(longest) == 2
    assert len(list(channel)) == 50
    assert max(longest) <= 2


def test_what_waits_is_delivered_after_the_end() -> None:
    channel: Channel[int] = Channel(5)
    channel.put(1)
    channel.put(2)
    channel.finish()
    assert list(channel) == [1, 2]


def test_a_waiting_producer_learns_that_the_consumer_left() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    seen = []

    def produce() -> None:
        try:
            channel.put(2)
        except ConsumerGone as signal:
            seen.append(signal)

    producer = in_thread(produce)
    channel.leave()
    producer.join(10)
    assert len(seen) == 1
    with pytest.raises(ConsumerGone):
        channel.put(3)
    assert len(channel) == 0


def test_a_waiting_consumer_learns_that_the_producer_finished() -> None:
    channel: Channel[int] = Channel(1)
    consumer = in_thread(lambda: list(channel))
    channel.finish()
    consumer.join(10)
    assert not consumer.is_alive()
