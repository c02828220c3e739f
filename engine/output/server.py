"""The thread that owns the engine's two sockets: it publishes, answers, serves replays and checks keys, in turns."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import zmq

from config.errors import SettingsError, TableError, WireError
from config.schema import WireSettings
from engine.output import wire
from engine.output.commands import CommandHandler, CommandThread
from engine.output.keys import Gatekeeper, ServerKeys, secure_server, server_keys
from engine.output.outbox import Outbox
from engine.output.replay import LogPieces, Replays
from engine.output.wire import Message, Request

logger = logging.getLogger(__name__)

WAITING_MESSAGES, WAITING_BYTES = 4096, 128 << 20
"""What may wait for this thread before messages are left out."""
MESSAGES_BEHIND = 100
"""Messages kept for a listener that does not take them, before it loses some."""
ANSWERS_BEHIND = 64
"""Answers kept for a client that does not take them, before its replay waits."""
REQUESTS_A_TURN = 32
"""Requests read before everything else gets its turn."""
IDLE, RETRY = 1000, 10
"""Longest wait for something to do, and the wait until a client that could take no more is tried again [ms]."""
QUIET, GRACE = 0.25, 3.0
"""At the end clients are answered on until none has asked for so long, but not longer than this [s]."""
LINGER = 1000
"""Then the last messages have so long to leave [ms]."""
FREE_PAIRS = 50
"""Attempts to find two free ports in a row."""

Describe = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Stamp:
    """What every message says of where it comes from."""

    run: str
    session: str

    def message(
        self, kind: str, sequence: int, header: Mapping[str, Any], payload: tuple[wire.Part, ...] = ()
    ) -> Message:
        """A message of ours."""
        return Message(kind, self.run, sequence, header, payload, self.session)


@dataclass(frozen=True)
class Route:
    """The way back to a client."""

    identity: bytes
    delimited: bool
    """Whether an empty part stands before each message, as REQ sockets have it."""
    id: str | int | None = field(default=None, compare=False)
    """Of the request that is answered."""


@dataclass(frozen=True, eq=False)
class Outgoing:
    """A message to publish, or the answer to a client."""

    message: Message
    route: Route | None = None


class Server(threading.Thread):
    """Publishes what is put into ``outbox``, and answers. The sockets are bound when it is made."""

    def __init__(
        self, settings: WireSettings, stamp: Stamp, log: LogPieces, describe: Describe, handler: CommandHandler | None
    ) -> None:
        """See Publisher."""
        super().__init__(name="liveloc-publish", daemon=True)
        self.outbox: Outbox[Outgoing] = Outbox(WAITING_MESSAGES, WAITING_BYTES)
        self.malformed = 0
        """Requests that could not be read."""
        self._stamp, self._log, self._describe = stamp, log, describe
        self._replays: Replays[Route] = Replays(log, time.monotonic)
        self._replays_moved = False
        self._asked = self._stopping = 0.0
        keys = server_keys(settings)
        self._sockets = _Sockets(settings, keys, self.outbox.fileno())
        self.endpoint = self._sockets.endpoint
        self._handlers: dict[str, Callable[[Route, Request], None]] = {
            wire.DESCRIBE: self._describe_to,
            wire.REPLAY: self._replay_to,
            wire.COMMAND: self._command_of,
        }
        self._why_no_commands = "" if settings.commands else "commands are switched off (wire.commands=false)."
        if handler is None:
            self._why_no_commands = self._why_no_commands or "this run takes no commands."
        self._commands = None if handler is None or self._why_no_commands else CommandThread(handler)

    def run(self) -> None:
        """Called by the thread."""
        if self._commands is not None:
            self._commands.start()
        try:
            while not self._finished():
                self._turn()
        except Exception as error:  # noqa: BLE001 (whatever befalls the publisher, the recording goes on)
            logger.warning("publishing ends with an error; the recording goes on: %s", error)
        finally:
            self._close()

    def stop(self) -> None:
        """Let those who catch up finish, and the last messages leave, for a few seconds; then close everything."""
        self._stopping = self._stopping or time.monotonic()
        self.outbox.ring()
        self.join(GRACE + LINGER / 1000 + 5)

    def _turn(self) -> None:
        ready = self._sockets.wait(self._longest_wait())
        self._sockets.check_keys(ready)
        for outgoing in self.outbox.take():
            self._deliver(outgoing)
        for _ in range(REQUESTS_A_TURN):
            if not self._read_request():
                break
        self._serve_replays()

    def _longest_wait(self) -> int:
        if len(self._replays):
            return 0 if self._replays_moved else RETRY
        return RETRY if self._stopping else IDLE

    def _finished(self) -> bool:
        if not self._stopping:
            return False
        now = time.monotonic()
        catching_up = len(self._replays) > 0 or now - self._asked < QUIET
        return now - self._stopping > GRACE or not (catching_up or len(self.outbox))

    def _close(self) -> None:
        if self._commands is not None:
            self._commands.stop(1.0)
        self._sockets.close()
        self.outbox.close()

    # What goes out.

    def _deliver(self, outgoing: Outgoing) -> None:
        if outgoing.route is not None:
            self._send_back(outgoing.route, outgoing.message)
            return
        try:
            self._sockets.publish(wire.encode(outgoing.message))
        except WireError as error:
            logger.warning("a message could not be published: %s", error)

    def _send_back(self, route: Route, message: Message) -> bool:
        """Whether the client could take it."""
        answer = wire.encode_answer(replace(message, header={**message.header, "id": route.id}))
        try:
            self._sockets.answer([route.identity, *([b""] if route.delimited else []), *answer])
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            self._replays.drop(route)
            return False
        return True

    def _reply(self, route: Route, kind: str, header: Mapping[str, Any]) -> bool:
        return self._send_back(route, self._stamp.message(kind, 0, header))

    def _refuse(self, route: Route, reason: str) -> None:
        self._reply(route, wire.REFUSED, {"reason": reason})

    # What comes in.

    def _read_request(self) -> bool:
        """Answer one request; False where there is none."""
        parts = self._sockets.request()
        if not parts:
            return False
        self._asked = time.monotonic()
        delimited = len(parts) > 2 and parts[1] == b""
        route, parts = Route(parts[0], delimited), parts[2:] if delimited else parts[1:]
        try:
            request = wire.decode_request(parts)
        except WireError as error:
            self._count_malformed(error)
            self._refuse(Route(route.identity, delimited, wire.id_of(parts)), str(error))
            return True
        self._handlers[request.request](Route(route.identity, delimited, request.id), request)
        return True

    def _count_malformed(self, error: WireError) -> None:
        self.malformed += 1
        if self.malformed == 1:
            logger.warning("a request could not be read (others like it are only counted): %s", error)

    def _describe_to(self, route: Route, _: Request) -> None:
        try:
            facts = dict(self._describe())
        except Exception as error:
            logger.exception("the run could not be described")
            self._refuse(route, f"the run could not be described: {error}")
            return
        own = {"endpoint": self.endpoint, "batches": len(self._log), "commands": self._commands is not None}
        self._reply(route, wire.DESCRIPTION, {**facts, **own})

    def _replay_to(self, route: Route, request: Request) -> None:
        first, stop = request.arguments.get("from", 0), request.arguments.get("to")
        if not _is_index(first) or not (stop is None or _is_index(stop)):
            self._refuse(route, "replay needs `from`, and may have `to`: whole numbers of batches, 0 or more.")
        elif first > len(self._log):
            self._refuse(route, f"replay from {first}: this run has {len(self._log)} batches so far.")
        elif not self._replays.begin(route, first, stop):
            self._refuse(route, f"{len(self._replays)} replays are going on, no more at once. Ask again in a second.")

    def _command_of(self, route: Route, request: Request) -> None:
        command, arguments = request.arguments.get("command"), dict(request.arguments)
        arguments.pop("command", None)
        if arguments.pop("session", self._stamp.session) != self._stamp.session:
            self._refuse(route, "this command was meant for an engine that has ended.")
        elif self._commands is None:
            self._refuse(route, self._why_no_commands)
        elif not isinstance(command, str) or command not in wire.COMMANDS:
            self._refuse(route, f"there is no such command; there are {', '.join(wire.COMMANDS)}.")
        elif not self._commands.put(command, arguments, partial(self._command_done, route)):
            self._refuse(route, "too many commands wait. Ask again in a second.")

    def _command_done(self, route: Route, reason: str | None) -> None:
        """Called by the commands' thread."""
        kind, header = (wire.DONE, {}) if reason is None else (wire.REFUSED, {"reason": reason})
        self.outbox.put(Outgoing(self._stamp.message(kind, 0, header), route))

    # Replays.

    def _serve_replays(self) -> None:
        self._replays.impatient()
        try:
            self._replays_moved = self._replays.turn(self._send_batch, self._send_end)
        except TableError as error:
            logger.warning("replays end: %s", error)
            for route in self._replays.drop_all():
                self._refuse(route, str(error))

    def _send_batch(self, route: Route, number: int, stream: bytes) -> bool:
        return self._send_back(route, self._stamp.message(wire.LOCALISATIONS, number, {}, (stream,)))

    def _send_end(self, route: Route, following: int) -> bool:
        return self._reply(route, wire.END, {"next": following})


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= wire.LARGEST_NUMBER


class _Sockets:
    """PUB, ROUTER and, with keys, the one that libzmq asks whom to let in. Made on one thread, used by one other."""

    def __init__(self, settings: WireSettings, keys: ServerKeys | None, also: int) -> None:
        """``also`` is a file descriptor to wait for together with requests."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._publisher, self._router = self._context.socket(zmq.PUB), self._context.socket(zmq.ROUTER)
        self._gate = None if keys is None else Gatekeeper(keys)
        self._zap = None if keys is None else self._context.socket(zmq.REP)
        self._poller = zmq.Poller()
        try:
            if self._zap is not None:
                self._zap.bind(Gatekeeper.ADDRESS)
                self._poller.register(self._zap, zmq.POLLIN)
            self._set_up(settings, keys)
            port = _bind_pair(self._publisher, self._router, settings)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self.endpoint = wire.endpoint(_plain_address(settings.address), port)
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(also, zmq.POLLIN)

    def _set_up(self, settings: WireSettings, keys: ServerKeys | None) -> None:
        for socket in (self._publisher, self._router):
            socket.linger = LINGER
            socket.maxmsgsize = wire.LARGEST_REQUEST
            socket.tcp_keepalive = 1
            socket.ipv6 = ":" in settings.address
            secure_server(socket, keys)
        self._publisher.sndhwm = MESSAGES_BEHIND
        self._router.sndhwm = ANSWERS_BEHIND
        self._router.router_mandatory = 1  # a client that is gone or full is an error here, not a silent loss

    def wait(self, timeout: int) -> Mapping[Any, int]:
        """Wait for something to do, or for ``timeout`` [ms]."""
        return dict(self._poller.poll(timeout))

    def check_keys(self, ready: Mapping[Any, int]) -> None:
        """Answer whom to let in, if that was asked."""
        if self._zap is not None and self._gate is not None and self._zap in ready:
            self._zap.send_multipart(self._gate.answer(self._zap.recv_multipart()))

    def request(self) -> list[bytes]:
        """Identity and parts of the next request, nothing where there is none."""
        try:
            return self._router.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return []

    def publish(self, parts: Sequence[bytes]) -> None:
        """Send to all who listen; those who are too far behind lose it."""
        self._publisher.send_multipart(parts, zmq.NOBLOCK)

    def answer(self, parts: Sequence[bytes]) -> None:
        """Send to one. Raises zmq.Again where it cannot take more now, ZMQError EHOSTUNREACH where it is gone."""
        self._router.send_multipart(parts, zmq.NOBLOCK)

    def close(self) -> None:
        """Give the last messages their time to leave, and close."""
        self._context.destroy(linger=LINGER)


def _bind_pair(publisher: zmq.Socket[bytes], router: zmq.Socket[bytes], settings: WireSettings) -> int:
    """Bind to ``wire.port`` and the next one, or to any free pair; gives the publisher's. Raises SettingsError."""
    address = _plain_address(settings.address)
    if settings.port and _bind_both(publisher, router, address, settings.port):
        return settings.port
    for _ in range(FREE_PAIRS):
        if port := _bind_both(publisher, router, address, 0):
            if settings.port:
                logger.warning("port %d or the next one is taken: publishing at port %d instead", settings.port, port)
            return port
    raise SettingsError(f"no two free ports in a row were found at {address}. Set wire.port to the first of two.")


def _bind_both(publisher: zmq.Socket[bytes], router: zmq.Socket[bytes], address: str, port: int) -> int | None:
    """The publisher's port, None where one of the two is taken."""
    if (bound := _bind(publisher, address, port)) is None:
        return None
    if bound < 65535 and _bind(router, address, bound + 1) is not None:
        return bound
    publisher.unbind(_bound_to(publisher))
    return None


def _bind(socket: zmq.Socket[bytes], address: str, port: int) -> int | None:
    """The port, None where it is taken or not for everybody. Raises SettingsError for an address that is not ours."""
    try:
        socket.bind(wire.endpoint(address, port))
    except zmq.ZMQError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise SettingsError(
            f"wire.address={address} is no address of this computer ({error.strerror}). Set it to one of its own, "
            "or to 0.0.0.0 for all of them."
        ) from error
    return int(_bound_to(socket).rpartition(":")[2])


def _bound_to(socket: zmq.Socket[bytes]) -> str:
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _plain_address(address: str) -> str:
    return "127.0.0.1" if address == "localhost" else address
