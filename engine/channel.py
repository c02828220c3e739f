"""What joins two stages of the pipeline: a bounded queue that either end can leave without the other waiting for ever.

What may take its place between acquisition and inference: engine/waiting.py, engine/spool.py.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ConsumerGone(Exception):
    """A signal between two threads: the one that reads has ended, and there is no use in producing more."""


class Channel(Generic[Item]):
    """A queue from one thread to one other, holding at most ``size`` items; a full one holds the producer up.

    The producer calls ``put`` and at last ``finish``; the consumer iterates and at last ``leave``s. Each must do so
    on every way out, errors included: then neither can hang, as each of these wakes the other one at once, with no
    timeout to wait for.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[Item] = deque()
        self._finished = False
        self._left = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> None:
        """Append an item, waiting for room. Raises ConsumerGone once the other end has left."""
        with self._changed:
            self._changed.wait_for(lambda: self._left or len(self._items) < self._size)
            if self._left:
                raise ConsumerGone
            self._items.append(item)
            self._changed.notify_all()

    def finish(self) -> None:
        """No more items will come. Those that wait are still delivered."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def leave(self) -> None:
        """No more items will be taken; what waits is dropped."""
        with self._changed:
            self._left = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Items in order, waiting for each, until the producer has finished and none is left."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._finished or bool(self._items))
                if not self._items:
                    return
                item = self._pop()
                self._changed.notify_all()
            yield item

    def _pop(self) -> Item:
        """The oldest item; called under the lock while there is one."""
        return self._items.popleft()

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._items)
