"""The log's batches by number, and their delivery to clients that missed some: bounded work at a time."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pyarrow as pa

from config.errors import TableError
from engine.output.wire import stream_of

Client = TypeVar("Client", bound=Hashable)

MOST_REPLAYS = 32
"""Clients that are served from the log at once."""
TURN_BATCHES = 32
"""Batches sent before everything else gets its turn."""
TURN_BYTES = 1 << 20
"""Bytes after which no other is sent in a turn."""
PATIENCE = 60.0
"""Seconds for which a client may take nothing before its replay is given up."""


class LogPieces:
    """Batches of a growing log by number, straight from its bytes.

    One thread adds the size of each batch once it is on disk, any thread reads: no scan of the log is ever needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.header = b""
        """The log's schema with its metadata, as an encapsulated message; empty before the first batch."""
        self._ends = array("q")
        """Where the header and each batch end in the file [bytes]."""
        self.schema: pa.Schema | None = None
        """The log's, with its metadata; None before the first batch."""

    def __len__(self) -> int:
        """Batches in the log."""
        return max(0, len(self._ends) - 1)

    def add(self, size: int) -> None:
        """Note that one more batch of ``size`` bytes is on disk. Raises TableError where the log cannot be read."""
        if not self._ends:
            self._read_header()
        self._ends.append(self._ends[-1] + size)

    def read(self, number: int) -> bytes:
        """Batch ``number`` as an Arrow IPC stream of its own. Raises TableError."""
        start, end = self._ends[number], self._ends[number + 1]
        data = self._read(start, end - start)
        if not data.startswith(b"\xff\xff\xff\xff"):
            raise TableError(f"the log {self._path} holds no batch at byte {start}: something else wrote to it.")
        return stream_of(self.header, data)

    def size(self, number: int) -> int:
        """Of batch ``number`` [bytes]."""
        return self._ends[number + 1] - self._ends[number]

    def _read_header(self) -> None:
        try:
            with pa.OSFile(str(self._path), "rb") as file:
                self.schema = pa.ipc.read_schema(pa.ipc.read_message(file))
                end = file.tell()
        except (OSError, EOFError, pa.ArrowException) as error:
            raise TableError(f"the log {self._path} cannot be read: {error}.") from error
        self.header = self._read(0, end)
        self._ends.append(end)

    def _read(self, start: int, size: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                data = file.read(size)
        except OSError as error:
            raise TableError(f"the log {self._path} cannot be read: {error.strerror or error}.") from error
        if len(data) < size:
            raise TableError(f"the log {self._path} ends before byte {start + size}: it was cut or replaced.")
        return data


@dataclass
class Replay(Generic[Client]):
    """What one client still wants from the log."""

    client: Client
    next: int
    """Batch to be sent next."""
    stop: int | None
    """Batch to stop before; None: as far as the log goes."""
    moved: float
    """When the client last took something [s]."""


class Replays(Generic[Client]):
    """Serves many clients from the log in turns. One thread uses it."""

    def __init__(self, log: LogPieces, clock: Callable[[], float]) -> None:
        self._log, self._clock = log, clock
        self._replays: dict[Client, Replay[Client]] = {}
        self._turn = 0

    def __len__(self) -> int:
        """Clients that are being served."""
        return len(self._replays)

    def begin(self, client: Client, first: int, stop: int | None) -> bool:
        """Serve a client from batch ``first`` on; False where too many are served. A new wish replaces an old one."""
        if client not in self._replays and len(self._replays) >= MOST_REPLAYS:
            return False
        self._replays[client] = Replay(client, first, stop, self._clock())
        return True

    def drop(self, client: Client) -> None:
        """Serve this client no longer."""
        self._replays.pop(client, None)

    def drop_all(self) -> list[Client]:
        """Serve nobody any longer; gives those who were."""
        clients = [replay.client for replay in self._replays.values()]
        self._replays.clear()
        return clients

    def impatient(self) -> None:
        """Drop those who have taken nothing for a long time."""
        for client in [c for c, replay in self._replays.items() if self._clock() - replay.moved > PATIENCE]:
            self.drop(client)

    def turn(self, send: Callable[[Client, int, bytes], bool], end: Callable[[Client, int], bool]) -> bool:
        """Send a bounded number of batches, the clients in turn; whether anybody took anything.

        ``send(client, number, stream)`` and, when everything was sent, ``end(client, next)`` give False where the
        client cannot take it now. Raises TableError where the log cannot be read.
        """
        moved, batches, size = False, 0, 0
        for replay in self._in_turn():
            while batches < TURN_BATCHES and size < TURN_BYTES and not self._complete(replay):
                if not send(replay.client, replay.next, self._log.read(replay.next)):
                    break
                size, batches = size + self._log.size(replay.next), batches + 1
                replay.next, replay.moved, moved = replay.next + 1, self._clock(), True
            if self._complete(replay) and end(replay.client, replay.next):
                self.drop(replay.client)
                moved = True
        return moved

    def _complete(self, replay: Replay[Client]) -> bool:
        return replay.next >= (len(self._log) if replay.stop is None else min(replay.stop, len(self._log)))

    def _in_turn(self) -> Iterator[Replay[Client]]:
        """Everybody, another one first each time."""
        replays = list(self._replays.values())
        self._turn += 1
        first = self._turn % len(replays) if replays else 0
        yield from replays[first:] + replays[:first]
