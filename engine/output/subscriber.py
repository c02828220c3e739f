"""A client of the wire that loses nothing: it may come late, be slow, be cut off, and still has the whole table.

It listens to what is published and, whenever something is missing, asks for it again: all that came before it, a batch
lost on the way, what went by while the connection was broken. An engine that starts anew is told by its session.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import pyarrow as pa
import zmq
from zmq.utils.monitor import parse_monitor_message

from config.errors import WireError
from engine.output import wire
from engine.output.keys import client_keys, secure_client
from engine.output.wire import Message, Preview, Request

HEARTBEAT, HEARTBEAT_TIMEOUT = 2000, 6000
"""How often the engine's computer is asked for a sign of life, and how long it may take [ms]."""
RECONNECT, RECONNECT_MOST = 200, 2000
"""First and longest pause between attempts to connect [ms]."""
ASK_AGAIN = 2.0
"""Seconds without an answer until a request is sent again."""
SILENCE = 2.0
"""Seconds without any message until the engine is asked how it is, in case the last one was lost."""
HELD_BATCHES = 2000
"""Newer batches kept while older ones are fetched; more are fetched once more."""
WAITING_MESSAGES = 100
"""Messages that wait for poll; a client that does not call it loses what follows, and fetches it then."""
CONNECT_ANEW = 5.0
"""Seconds after a refusal, upon which libzmq gives up, until another attempt."""
PORTION = 200
"""Messages taken from a socket before poll returns."""
UP = zmq.EVENT_HANDSHAKE_SUCCEEDED
DOWN = zmq.EVENT_DISCONNECTED
REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH
NO_GREETING = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
NO_ENGINE = zmq.EVENT_CONNECT_RETRIED
REFUSED_WORDS = (
    "{endpoint} does not know this viewer's key and does not let it in. `liveloc keys FOLDER NAME` on the engine's "
    "computer makes one that it knows."
)
NO_GREETING_WORDS = "what is at {endpoint} hangs up: it is no liveloc engine, or one that lets nobody in without a key"


@dataclass(frozen=True)
class Linked:
    """The engine answers, or it cannot be reached any more and is tried again."""

    up: bool
    words: str
    """For people: where it is, why it cannot be reached."""


@dataclass(frozen=True)
class Began:
    """A run that was not known before: what was there so far goes, its batches come from the first on."""

    run: str
    description: Mapping[str, Any]
    """What the engine says of it: status, source, model, endpoint, batches, commands …"""


@dataclass(frozen=True, eq=False)
class Batch:
    """The next batch. Each comes once, in order, none is left out."""

    sequence: int
    rows: pa.RecordBatch
    """LOCALISATION_SCHEMA, with the log's metadata in its schema."""
    total: int
    """Batches that the engine has, as far as is known here: how far there is to go."""


@dataclass(frozen=True)
class StatusCame:
    """The engine's account of itself."""

    status: Mapping[str, Any]


@dataclass(frozen=True)
class QualityCame:
    """A row of figures; None where one is unknown."""

    figures: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class PreviewCame:
    """A camera frame with what was found in it."""

    preview: Preview


@dataclass(frozen=True)
class Answered:
    """What became of a command."""

    id: int
    """What ``Subscriber.command`` gave."""
    command: str
    reason: str | None
    """Why it was refused; None: it was carried out."""


@dataclass(frozen=True)
class Malformed:
    """Messages that could not be read; told at most once a second."""

    count: int
    """So far."""
    words: str
    """What was wrong with the last one."""


Event: TypeAlias = Linked | Began | Batch | StatusCame | QualityCame | PreviewCame | Answered | Malformed


@dataclass
class _Fetch:
    """The replay that is under way."""

    id: int
    first: int
    """Batch that it began with."""
    asked: float
    """When it was asked for, or last brought something [s]."""


@dataclass
class _Table:
    """The batches of one session, put in order."""

    session: str = ""
    next: int = 0
    """Number of the batch to hand out next."""
    total: int = 0
    """Batches that the engine is known to have."""
    held: dict[int, pa.RecordBatch] = field(default_factory=dict)
    """Batches that came before their turn."""

    def take(self, sequence: int, rows: pa.RecordBatch) -> None:
        """Keep a batch until its turn, if it is new and there is room."""
        self.total = max(self.total, sequence + 1)
        if sequence == self.next or (sequence > self.next and len(self.held) < HELD_BATCHES):
            self.held[sequence] = rows

    def in_order(self) -> Iterator[Batch]:
        """Batches whose turn has come."""
        while (rows := self.held.pop(self.next, None)) is not None:
            self.next += 1
            yield Batch(self.next - 1, rows, self.total)


class Subscriber:
    """Follows an engine. One thread calls: ``poll`` again and again, ``command`` in between, ``close`` at the end.

        with Subscriber("tcp://127.0.0.1:5601") as subscriber:
            while True:
                for event in subscriber.poll(0.1):
                    ...

    The engine need not be there yet, may go, and may come back.
    """

    def __init__(self, endpoint: str, keys: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``endpoint`` as in run.json, or host:port; ``keys``: the folder that `liveloc keys` made for this client.

        Raises WireError for an endpoint or keys that cannot be.
        """
        host, port = wire.split_endpoint(endpoint)
        self.endpoint = wire.endpoint(host, port)
        self._keys = keys
        self._sockets = _Sockets(self.endpoint, keys)
        self._connected = False
        self._clock = clock
        self._events: list[Event] = []
        self._table = _Table()
        self._known = False
        self._link: Linked | None = None
        self._fetch: _Fetch | None = None
        self._fetch_after = self._describe_after = 0.0
        self._connect_after = math.inf
        self._heard = 0.0
        self._behind_since: float | None = None
        self._id = 0
        self._commands: dict[int, str] = {}
        self._malformed, self._malformed_told, self._words = 0, 0, ""
        self._tell_after = 0.0
        self.gaps = 0
        """Times that something was missing and was asked for again."""

    @property
    def malformed(self) -> int:
        """Messages that could not be read."""
        return self._malformed

    @property
    def received(self) -> int:
        """Batches handed out of the present run."""
        return self._table.next

    @property
    def catching_up(self) -> bool:
        """Whether older batches are on their way."""
        return self._fetch is not None

    def poll(self, timeout: float) -> list[Event]:
        """What has happened, in order; waits up to ``timeout`` seconds for something. A bounded portion at a time."""
        deadline = self._clock() + timeout
        while True:
            self._ask()
            left = deadline - self._clock()
            self._sockets.wait(max(0.0, min(left, 0.1)))
            self._read()
            self._tell_malformed()
            if self._events or self._clock() >= deadline:
                events, self._events = self._events, []
                return events

    def command(self, command: str, **arguments: Any) -> int:
        """Ask the engine to start, pause, stop (``text``: why), mark (``text``) or change the feedback's target
        (``value`` [1/µm²], ``enabled``).

        Gives the id that Answered will carry. Raises WireError where there is no connection.
        """
        number = self._next_id()
        request = Request(wire.COMMAND, number, {**arguments, "command": command, "session": self._table.session})
        if not self._known or not self._sockets.ask(request):
            raise WireError(f"{self.endpoint} is not connected: {command} was not sent. Try again once it is.")
        self._commands[number] = command
        return number

    def close(self) -> None:
        """Close the connection. May be called twice."""
        self._sockets.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    # Asking.

    def _ask(self) -> None:
        """Send whatever request is due."""
        now = self._clock()
        if now >= self._connect_after:
            self._connect_after = math.inf
            self._sockets.close()
            self._sockets = _Sockets(self.endpoint, self._keys)
        silent = now - self._heard > SILENCE
        if self._connected and (silent or not self._known) and now >= self._describe_after:
            self._describe_after = now + ASK_AGAIN
            self._sockets.ask(Request(wire.DESCRIBE, self._next_id()))
        if self._fetch is not None and now - self._fetch.asked > ASK_AGAIN:
            self._fetch = None
        if self._known and self._fetch is None and now >= self._fetch_after and self._is_behind(now):
            self._begin_fetch(now)

    def _is_behind(self, now: float) -> bool:
        """Whether a batch is missing. One that only a status has told of may still be under way for a moment."""
        if self._table.held:
            return True
        if self._table.next >= self._table.total:
            self._behind_since = None
            return False
        self._behind_since = now if self._behind_since is None else self._behind_since
        return now - self._behind_since > 0.5 or self._table.next == 0

    def _begin_fetch(self, now: float) -> None:
        self.gaps += self._table.next > 0
        request = Request(wire.REPLAY, self._next_id(), {"from": self._table.next})
        if self._sockets.ask(request):
            self._fetch = _Fetch(self._id, self._table.next, now)
        self._fetch_after = now + ASK_AGAIN / 2

    def _next_id(self) -> int:
        self._id += 1
        return self._id

    # Reading.

    def _read(self) -> None:
        for event in self._sockets.changes():
            self._note_change(event)
        for parts in self._sockets.answers(PORTION):
            self._take(parts, wire.decode_answer, self._take_answer)
        for parts in self._sockets.published(PORTION):
            self._take(parts, wire.decode, self._take_published)

    def _take(
        self, parts: Sequence[bytes], decode: Callable[[Sequence[bytes]], Message], take: Callable[[Message], None]
    ) -> None:
        self._heard = self._clock()
        try:
            take(decode(parts))
        except WireError as error:
            self._malformed, self._words = self._malformed + 1, str(error)

    def _tell_malformed(self) -> None:
        if self._malformed > self._malformed_told and self._clock() >= self._tell_after:
            self._malformed_told, self._tell_after = self._malformed, self._clock() + 1
            self._events.append(Malformed(self._malformed, self._words))

    def _take_published(self, message: Message) -> None:
        if message.session != self._table.session:
            self._known = False  # somebody else publishes there now: ask who
            return
        match message.kind:
            case wire.LOCALISATIONS:
                self._take_batch(message)
            case wire.STATUS:
                self._take_status(message)
            case wire.QUALITY:
                self._events.append(QualityCame(wire.figures(message)))
            case _:
                self._events.append(PreviewCame(wire.preview(message)))

    def _take_status(self, message: Message) -> None:
        batches = message.header.get("batches")
        if isinstance(batches, int):
            self._table.total = max(self._table.total, batches)
        self._events.append(StatusCame(wire.figures(message)))

    def _take_answer(self, answer: Message) -> None:
        if answer.kind == wire.DESCRIPTION:
            self._take_description(answer)
        elif answer.session == self._table.session:
            self._take_other(answer, answer.header.get("id"))

    def _take_other(self, answer: Message, number: Any) -> None:
        fetch = self._fetch if self._fetch is not None and number == self._fetch.id else None
        if answer.kind == wire.LOCALISATIONS:
            self._take_batch(answer)
            if fetch is not None:
                fetch.asked = self._clock()
        elif fetch is not None:  # its end, or a refusal
            self._fetch = None
            self._fetch_after = self._clock() + (0.0 if self._table.next > fetch.first else 1.0)
        elif isinstance(number, int) and (command := self._commands.pop(number, None)) is not None:
            reason = None if answer.kind == wire.DONE else str(answer.header.get("reason", "refused"))
            self._events.append(Answered(number, command, reason))

    def _take_batch(self, message: Message) -> None:
        if message.sequence >= self._table.next:
            self._table.take(message.sequence, wire.localisations(message))
            self._events.extend(self._table.in_order())

    def _take_description(self, answer: Message) -> None:
        facts = {name: value for name, value in answer.header.items() if name != "id"}
        self._known = True
        self._tell_link(Linked(True, f"connected to {self.endpoint}"))
        if answer.session != self._table.session:
            self._table, self._fetch, self._behind_since = _Table(answer.session), None, None
            self._events.append(Began(answer.run, facts))
        batches, status = facts.get("batches"), facts.get("status")
        if isinstance(batches, int):
            self._table.total = max(self._table.total, batches)
        if isinstance(status, dict):
            self._events.append(StatusCame(status))
        self._fetch_after = 0.0

    # The connection.

    def _note_change(self, event: int) -> None:
        self._connected = bool(event & UP)
        if event & UP:
            self._describe_after = 0.0
        elif event & (REFUSED | NO_GREETING):
            self._link_down(REFUSED_WORDS if event & REFUSED else NO_GREETING_WORDS)
            self._connect_after = self._clock() + CONNECT_ANEW
        elif event & DOWN and self._link is None:
            self._link_down(NO_GREETING_WORDS)
        elif event & DOWN and self._link is not None and self._link.up:
            self._link_down("the connection to {endpoint} is lost; it is tried again")
        elif event & NO_ENGINE and self._link is None:
            self._link_down("no engine answers at {endpoint} yet; it is tried again")

    def _link_down(self, words: str) -> None:
        self._known, self._fetch = False, None
        self._tell_link(Linked(False, words.format(endpoint=self.endpoint)))
        for number, command in self._commands.items():
            self._events.append(Answered(number, command, "the connection was lost before an answer came"))
        self._commands.clear()

    def _tell_link(self, link: Linked) -> None:
        """Tell of a change only."""
        if link != self._link:
            self._link = link
            self._events.append(link)


class _Sockets:
    """SUB, DEALER, and what the latter's connection tells of itself."""

    def __init__(self, endpoint: str, keys: Path | None) -> None:
        pairs = None if keys is None else client_keys(keys)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._listener, self._dealer = self._context.socket(zmq.SUB), self._context.socket(zmq.DEALER)
        for socket in (self._listener, self._dealer):
            socket.linger, socket.rcvhwm = 0, WAITING_MESSAGES
            socket.maxmsgsize = wire.LARGEST_PART
            socket.heartbeat_ivl, socket.heartbeat_timeout = HEARTBEAT, HEARTBEAT_TIMEOUT
            socket.reconnect_ivl, socket.reconnect_ivl_max = RECONNECT, RECONNECT_MOST
            socket.ipv6 = "[" in endpoint
            secure_client(socket, pairs)
        # Not ZMQ_IMMEDIATE, nor disconnect(): with either, libzmq 4.3 aborts the process when a connection goes in the
        # middle of a message that is being read ("Assertion failed: !_more").
        for topic in wire.PUBLISHED:
            self._listener.subscribe(topic)
        self._monitor = self._dealer.get_monitor_socket(UP | DOWN | REFUSED | NO_ENGINE)
        self._poller = zmq.Poller()
        for socket in (self._listener, self._dealer, self._monitor):
            self._poller.register(socket, zmq.POLLIN)
        self._listener.connect(endpoint)
        self._dealer.connect(wire.request_endpoint(endpoint))

    def wait(self, timeout: float) -> None:
        """Until something can be read, or ``timeout`` seconds."""
        self._poller.poll(int(timeout * 1000))

    def ask(self, request: Request) -> bool:
        """Send a request; False where there is no connection, or it takes no more."""
        try:
            self._dealer.send_multipart(wire.encode_request(request), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def answers(self, most: int) -> Iterator[list[bytes]]:
        """Answers that are there."""
        return _messages(self._dealer, most)

    def published(self, most: int) -> Iterator[list[bytes]]:
        """Published messages that are there."""
        return _messages(self._listener, most)

    def changes(self) -> Iterator[int]:
        """What befell the connection, as numbers of libzmq's events."""
        for parts in _messages(self._monitor, PORTION):
            yield parse_monitor_message(parts)["event"]

    def close(self) -> None:
        """Close everything. May be called twice."""
        if not self._context.closed:
            self._dealer.disable_monitor()
            self._monitor.close(0)
            self._context.destroy(linger=0)


def _messages(socket: zmq.Socket[bytes], most: int) -> Iterator[list[bytes]]:
    """At most ``most`` messages that can be had without waiting."""
    for _ in range(most):
        try:
            yield socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
