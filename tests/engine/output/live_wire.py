"""A run that publishes, and clients of it, for the tests of the wire."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zmq

from config.schema import WireSettings
from engine.localisations import LOCALISATION_SCHEMA
from engine.output import wire
from engine.output.commands import CommandHandler
from engine.output.publisher import Publisher
from engine.output.recorder import Recorder, read_log
from engine.output.subscriber import Batch, Began, Event, Subscriber
from engine.output.wire import Message, Request

PATIENCE = 30.0
"""Seconds until a test gives up; the machine may be busy."""


def numbered_batch(number: int, rows: int = 20) -> pa.RecordBatch:
    """Rows that tell which batch they belong to."""
    values = {name: np.full(rows, number) for name in LOCALISATION_SCHEMA.names}
    columns = [pa.array(values[column.name], column.type) for column in LOCALISATION_SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=LOCALISATION_SCHEMA)


@dataclass
class LiveRun:
    """A recorder and a publisher, fed as the engine's output thread does it."""

    log: Path
    recorder: Recorder
    publisher: Publisher
    batches: int = 0

    def write(self, count: int = 1, rows: int = 20) -> None:
        for _ in range(count):
            batch = numbered_batch(self.batches, rows)
            self.recorder.write(batch)
            self.publisher.write(batch)
            self.batches += 1

    @property
    def endpoint(self) -> str:
        return self.publisher.endpoint


@contextmanager
def live_run(
    log: Path,
    settings: WireSettings | None = None,
    handler: CommandHandler | None = None,
    describe: Callable[[], Mapping[str, Any]] = dict,
    run: str = "run",
) -> Iterator[LiveRun]:
    recorder = Recorder(log, {"run_id": run, "pixel_size_nm": "100.0"})
    with Publisher(log, run, settings or WireSettings(port=0), describe, handler) as publisher:
        yield LiveRun(log, recorder, publisher)
        recorder.close()


@dataclass
class Reader:
    """Collects what a subscriber is told."""

    subscriber: Subscriber
    events: list[Event] = field(default_factory=list)

    @property
    def batches(self) -> list[Batch]:
        """Of the present run."""
        began = [index for index, event in enumerate(self.events) if isinstance(event, Began)]
        return [event for event in self.events[began[-1] if began else 0 :] if isinstance(event, Batch)]

    @property
    def table(self) -> pa.Table:
        return pa.Table.from_batches([batch.rows for batch in self.batches])

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def until(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Poll until the condition holds; an AssertionError where it does not come to hold."""
        deadline = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < deadline, f"nothing more came after {self.events[-3:]}"
            self.events += self.subscriber.poll(0.05)

    def until_batches(self, count: int) -> None:
        self.until(lambda: len(self.batches) >= count)
        assert [batch.sequence for batch in self.batches] == list(range(count)), "each once, in order, none left out"

    def for_a_while(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.events += self.subscriber.poll(0.05)


@contextmanager
def reading(endpoint: str, keys: Path | None = None) -> Iterator[Reader]:
    with Subscriber(endpoint, keys) as subscriber:
        yield Reader(subscriber)


def assert_complete(reader: Reader, log: Path) -> None:
    """Whatever the client has is the log, row by row."""
    assert reader.table.equals(read_log(log))


class Asker:
    """A bare client of the request socket, as somebody writes it in another language."""

    def __init__(self, endpoint: str, kind: int = zmq.DEALER, rcvhwm: int = 1000) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(kind)
        self.socket.linger, self.socket.rcvhwm = 0, rcvhwm
        self.socket.connect(wire.request_endpoint(endpoint))

    def send(self, *parts: bytes) -> None:
        self.socket.send_multipart(parts)

    def receive(self) -> Message:
        assert self.socket.poll(int(PATIENCE * 1000)), "no answer"
        return wire.decode_answer(self.socket.recv_multipart())

    def ask(self, request: str, name: str | int | None = None, **arguments: Any) -> Message:
        self.send(*wire.encode_request(Request(request, name, arguments)))
        return self.receive()

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)


def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait for what another thread brings about; an AssertionError where it does not."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def descriptors() -> int:
    """Open files and sockets of this process; 0 where that cannot be told."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0
