"""What any thread may hand to the one that owns the sockets: bounded, never waited for, and it wakes that thread."""

from __future__ import annotations

import socket
import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Outbox(Generic[Item]):
    """A queue whose reader waits in a poll of sockets: ``fileno`` becomes readable when something is there.

    A full one takes nothing more: whoever hands in is never held up.
    """

    def __init__(self, items: int, size: int) -> None:
        """Hold at most ``items``, and more than one only up to ``size`` bytes."""
        self._items: deque[tuple[Item, int]] = deque()
        self._most, self._room, self._held = items, size, 0
        self._lock = threading.Lock()
        self._bell, self._ear = socket.socketpair()
        for end in (self._bell, self._ear):
            end.setblocking(False)
        self.refused = 0
        """Items that found it full."""

    def fileno(self) -> int:
        """For a poll."""
        return self._ear.fileno()

    def put(self, item: Item, size: int = 0) -> bool:
        """Hand in an item of ``size`` bytes; False where there is no room. Any thread."""
        with self._lock:
            if len(self._items) >= self._most or (self._items and self._held + size > self._room):
                self.refused += 1
                return False
            self._items.append((item, size))
            self._held += size
            if len(self._items) == 1:
                self._ring()
            return True

    def ring(self) -> None:
        """Wake the reader without an item."""
        with self._lock:
            self._ring()

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._items)

    def take(self) -> list[Item]:
        """Everything that is there. The reader's thread."""
        with self._lock:
            self._silence()
            items = [item for item, _ in self._items]
            self._items.clear()
            self._held = 0
        return items

    def close(self) -> None:
        """Nothing is taken from now on. May be called twice."""
        with self._lock:
            self._most = 0
            self._bell.close()
            self._ear.close()

    def _ring(self) -> None:
        try:
            self._bell.send(b"\0")
        except OSError:  # full, so it rings already; or closed, so that nobody listens
            return

    def _silence(self) -> None:
        try:
            while self._ear.recv(4096):
                pass
        except OSError:  # empty, or closed
            return
