"""The client's side of the wire: it has the whole table, whatever befalls the connection."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import pyarrow as pa
import pytest
import zmq

from config.errors import WireError
from config.schema import WireSettings
from engine.localisations import LOCALISATION_SCHEMA
from engine.output import wire
from engine.output.recorder import read_log
from engine.output.subscriber import Answered, Began, Linked, Malformed, StatusCame, Subscriber
from engine.output.wire import Message
from tests.engine.output.live_wire import (
    LiveRun,
    Reader,
    assert_complete,
    live_run,
    numbered_batch,
    reading,
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "localisations.arrows"


@pytest.fixture
def run(log: Path) -> Iterator[LiveRun]:
    with live_run(log, describe=lambda: {"status": {"state": "running"}}) as run:
        yield run


def test_a_late_joiner_gets_the_complete_table_and_follows(run: LiveRun) -> None:
    run.write(100)
    with reading(run.endpoint) as reader:
        reader.until_batches(100)
        run.write(50)
        reader.until_batches(150)
        assert_complete(reader, run.log)
        assert reader.batches[-1].total == 150
        assert reader.of(Began)[0].run == "run"
        assert reader.of(StatusCame)[0].status == {"state": "running"}
        assert reader.subscriber.gaps == 0


def test_a_joiner_in_the_middle_of_a_fast_run_misses_nothing(run: LiveRun) -> None:
    writing = threading.Thread(target=run.write, args=(400, 100))
    writing.start()
    with reading(run.endpoint) as reader:
        reader.until_batches(400)
        writing.join()
        assert_complete(reader, run.log)


@contextmanager
def dropping(subscriber: Subscriber, lost: Callable[[Message], bool]) -> Iterator[list[Message]]:
    """Lose published messages between the socket and the client."""
    original, dropped = subscriber._take_published, list[Message]()

    def take(message: Message) -> None:
        (dropped.append if lost(message) else original)(message)

    subscriber._take_published = take  # type: ignore[method-assign]
    yield dropped
    subscriber._take_published = original  # type: ignore[method-assign]


def test_batches_lost_on_the_way_are_asked_for_again(run: LiveRun) -> None:
    random_ = random.Random(2)
    with reading(run.endpoint) as reader:
        reader.until(lambda: reader.of(Linked))
        run.write()
        reader.until_batches(1)
        with dropping(reader.subscriber, lambda _: random_.random() < 0.3) as dropped:
            for _ in range(60):
                run.write()
                reader.events += reader.subscriber.poll(0.005)
        run.write()
        reader.until_batches(62)
        assert len(dropped) > 5
        assert reader.subscriber.gaps > 0
        assert_complete(reader, run.log)


def test_a_lost_last_batch_is_found_by_the_next_status(run: LiveRun) -> None:
    with reading(run.endpoint) as reader:
        run.write()
        reader.until_batches(1)
        with dropping(reader.subscriber, lambda _: True) as dropped:
            run.write()
            reader.until(lambda: dropped)
        run.publisher.send_status({"state": "running"})
        reader.until_batches(2)


def test_a_lost_last_batch_is_found_even_when_nothing_more_comes(run: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.output.subscriber.SILENCE", 0.3)
    with reading(run.endpoint) as reader:
        run.write()
        reader.until_batches(1)
        with dropping(reader.subscriber, lambda _: True) as dropped:
            run.write()
            reader.until(lambda: dropped)
        reader.until_batches(2)


def test_more_newer_batches_than_are_held_are_fetched_once_more(run: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.output.subscriber.HELD_BATCHES", 3)
    with reading(run.endpoint) as reader:
        run.write()
        reader.until_batches(1)
        with dropping(reader.subscriber, lambda message: message.sequence == 1):
            run.write(20)
            reader.until_batches(21)
        assert_complete(reader, run.log)


def test_a_client_may_come_before_the_engine(log: Path) -> None:
    port = free_pair()
    with reading(f"127.0.0.1:{port}") as reader:
        reader.until(lambda: reader.of(Linked))
        assert "no engine answers" in reader.of(Linked)[0].words
        with live_run(log, WireSettings(port=port)) as run:
            run.write(5)
            reader.until_batches(5)
            assert [link.up for link in reader.of(Linked)] == [False, True]


def free_pair() -> int:
    """A port that was free a moment ago, as the next one was."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
            except OSError:
                continue
        return port


def has_begun(reader: Reader, runs: int) -> bool:
    return len(reader.of(Began)) == runs


def test_an_engine_that_starts_anew_is_another_run_even_by_the_same_name(tmp_path: Path) -> None:
    port = free_pair()
    with reading(f"127.0.0.1:{port}") as reader:
        for start, batches in enumerate((8, 3)):
            log = tmp_path / f"{start}.arrows"
            with live_run(log, WireSettings(port=port), run="same") as run:
                run.write(batches)
                reader.until(partial(has_begun, reader, start + 1))
                reader.until_batches(batches)
                assert_complete(reader, log)
        reader.until(lambda: not reader.of(Linked)[-1].up)
        assert [link.up for link in reader.of(Linked)][-4:] == [True, False, True, False]


def test_a_broken_connection_is_taken_up_where_it_ended(run: LiveRun) -> None:
    with proxied(run.endpoint) as proxy, reading(proxy.endpoint) as reader:
        run.write(5)
        reader.until_batches(5)
        for broken in range(3):
            proxy.cut()
            run.write(5)
            reader.until_batches(10 + 5 * broken)
        assert len(reader.of(Began)) == 1
        assert_complete(reader, run.log)
        assert [link.up for link in reader.of(Linked)][:3] == [True, False, True]


class Proxy:
    """Another endpoint that leads to the engine's two ports, and whose connections a test can break."""

    def __init__(self, endpoint: str) -> None:
        self._host, self._port = wire.split_endpoint(endpoint)
        here = free_pair()
        self.endpoint = wire.endpoint("127.0.0.1", here)
        self._servers = [socket.create_server(("127.0.0.1", here + offset)) for offset in (0, 1)]
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        for offset, server in enumerate(self._servers):
            self._start(self._serve, server, self._port + offset)

    def cut(self) -> None:
        """Break every connection."""
        for end in self._ends:
            _shut(end)

    def close(self) -> None:
        for server in self._servers:
            _shut(server)
        self.cut()
        for thread in self._threads:
            thread.join(10)
        for end in (*self._servers, *self._ends):
            end.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _serve(self, server: socket.socket, port: int) -> None:
        while True:
            try:
                near, _ = server.accept()
                far = socket.create_connection((self._host, port))
            except OSError:
                return
            self._ends += [near, far]
            self._start(self._pump, near, far)
            self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        _shut(source)
        _shut(sink)


def _shut(end: socket.socket) -> None:
    """Wakes whoever reads it; some systems do not know that of a listening one, and close it."""
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        end.close()


@contextmanager
def proxied(endpoint: str) -> Iterator[Proxy]:
    proxy = Proxy(endpoint)
    try:
        yield proxy
    finally:
        proxy.close()


class FakeEngine:
    """Binds a pair of ports and sends what a test wants."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.publisher, self.router = self.context.socket(zmq.PUB), self.context.socket(zmq.ROUTER)
        self.port = free_pair()
        self.publisher.bind(f"tcp://127.0.0.1:{self.port}")
        self.router.bind(f"tcp://127.0.0.1:{self.port + 1}")
        self.endpoint = f"tcp://127.0.0.1:{self.port}"

    def answer(self, parts: list[bytes]) -> None:
        """Answer the next request so."""
        assert self.router.poll(10_000)
        identity, _ = self.router.recv_multipart()
        self.router.send_multipart([identity, *parts])

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


def description(batches: int = 0) -> list[bytes]:
    return wire.encode_answer(Message(wire.DESCRIPTION, "r", 0, {"batches": batches}, (), "s"))


def published(number: int) -> list[bytes]:
    payload = (wire.table_bytes(LOCALISATION_SCHEMA, numbered_batch(number)),)
    return wire.encode(Message(wire.LOCALISATIONS, "r", number, {}, payload, "s"))


def damaged(header: dict[str, object]) -> list[bytes]:
    return [b"status", json.dumps(header).encode()]


BAD = [
    [b"status"],
    [b"status", b"garbage"],
    [b"localisations", b"\xff" * 100, b"x"],
    [b"preview", b"{}"],
    damaged({"liveloc": 1, "kind": "status", "run": "r", "session": "s", "sequence": 0}),
    damaged({"liveloc": 1, "kind": "status", "run": "r", "session": "s", "sequence": 0, "status": 5}),
    [*published(5)[:2], b"torn"],
    published(5)[:2],
]


def test_malformed_messages_are_counted_and_the_good_ones_go_on(fake: FakeEngine) -> None:
    with reading(fake.endpoint) as reader:
        answered(fake, reader.subscriber)
        reader.until(lambda: reader.of(Linked))
        until_subscribed(fake, reader)
        for parts in BAD:
            fake.publisher.send_multipart(parts)
        fake.publisher.send_multipart(published(0))
        reader.until(lambda: reader.batches and reader.subscriber.malformed == len(BAD))
        assert reader.of(Malformed)


def answered(fake: FakeEngine, subscriber: Subscriber) -> None:
    """The first description, which a client asks for when it polls."""
    deadline = time.monotonic() + 30
    while not fake.router.poll(50):
        assert time.monotonic() < deadline
        subscriber.poll(0)
    fake.answer(description())


def until_subscribed(fake: FakeEngine, reader: Reader) -> None:
    """PUB says nothing of its listeners: publish until one hears."""
    deadline = time.monotonic() + 30
    status = wire.encode(Message(wire.STATUS, "r", 0, {"status": {"hello": 1}}, (), "s"))
    while not any(event.status == {"hello": 1} for event in reader.of(StatusCame)):
        assert time.monotonic() < deadline
        fake.publisher.send_multipart(status)
        reader.for_a_while(0.05)


def test_an_engine_of_another_version_is_named_as_what_it_is(fake: FakeEngine) -> None:
    with reading(fake.endpoint) as reader:
        deadline = time.monotonic() + 30
        while not reader.of(Malformed):
            assert time.monotonic() < deadline
            fake.publisher.send_multipart(damaged({"liveloc": 2, "kind": "status"}))
            reader.for_a_while(0.05)
        assert "expected messages of version 1, found 2" in reader.of(Malformed)[0].words
        assert not reader.of(Began)


def test_answers_of_an_earlier_engine_are_not_mixed_in(fake: FakeEngine) -> None:
    with reading(fake.endpoint) as reader:
        answered(fake, reader.subscriber)
        reader.until(lambda: reader.of(Linked))
        payload = (wire.table_bytes(LOCALISATION_SCHEMA, numbered_batch(0)),)
        until_subscribed(fake, reader)
        fake.publisher.send_multipart(
            wire.encode(Message(wire.LOCALISATIONS, "r", 0, {}, payload, "an earlier session"))
        )
        fake.publisher.send_multipart(published(0))
        reader.until(lambda: reader.batches)
        reader.for_a_while(0.2)
        assert len(reader.batches) == 1


def test_a_replay_that_gets_no_answer_is_asked_for_again(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.output.subscriber.ASK_AGAIN", 0.2)
    with reading(fake.endpoint) as reader:
        requests: list[wire.Request] = []
        deadline = time.monotonic() + 30
        while sum(request.request == wire.REPLAY for request in requests) < 3:
            assert time.monotonic() < deadline
            reader.for_a_while(0.05)
            while fake.router.poll(0):
                identity, part = fake.router.recv_multipart()
                requests.append(wire.decode_request([part]))
                if requests[-1].request == wire.DESCRIBE:
                    fake.router.send_multipart([identity, *description(batches=5)])
        assert {tuple(r.arguments.items()) for r in requests if r.request == wire.REPLAY} == {(("from", 0),)}


def test_a_command_without_a_connection_is_an_error(log: Path) -> None:
    with reading(f"127.0.0.1:{free_pair()}") as reader, pytest.raises(WireError, match="not connected"):
        reader.subscriber.command("stop")


def test_a_command_whose_answer_is_lost_is_told(log: Path) -> None:
    gate = threading.Event()

    class Slow:
        def handle(self, command: str, arguments: object) -> None:
            gate.wait(30)

    with live_run(log, handler=Slow()) as run, proxied(run.endpoint) as proxy, reading(proxy.endpoint) as reader:
        reader.until(lambda: reader.of(Linked))
        number = reader.subscriber.command("pause")
        reader.for_a_while(0.1)
        proxy.cut()
        reader.until(lambda: reader.of(Answered))
        assert reader.of(Answered)[0].id == number
        assert "connection was lost" in (reader.of(Answered)[0].reason or "")
        gate.set()


@pytest.mark.parametrize("endpoint", ["", "http://x", "a:b:c"])
def test_what_is_no_endpoint_is_a_clear_error(endpoint: str) -> None:
    with pytest.raises(WireError, match="tcp://"):
        Subscriber(endpoint)


def test_closing_twice_is_allowed(run: LiveRun) -> None:
    subscriber = Subscriber(run.endpoint)
    subscriber.close()
    subscriber.close()


def test_poll_returns_when_the_time_is_over() -> None:
    with Subscriber(f"127.0.0.1:{free_pair()}") as subscriber:
        subscriber.poll(0.5)  # that nobody is there
        began = time.monotonic()
        assert subscriber.poll(0.2) == []
        assert 0.15 < time.monotonic() - began < 5


RUN = """
import sys
from pathlib import Path
from config.schema import WireSettings
from engine.output.publisher import Publisher
from engine.output.recorder import Recorder
from tests.engine.output.live_wire import numbered_batch
log = Path(sys.argv[1])
recorder = Recorder(log, {"run_id": "run"})
publisher = Publisher(log, "run", WireSettings(port=0), dict)
print(publisher.endpoint, flush=True)
number = 0
while True:
    batch = numbered_batch(number, 50)
    recorder.write(batch)
    publisher.write(batch)
    number += 1
"""


def kill_while_publishing(folder: Path, root: Path, seed: int) -> tuple[int, int]:
    """Kill -9 a process that records and publishes; gives rows received by a subscriber and rows in the log."""
    log = folder / f"{seed}.arrows"
    child = [sys.executable, "-c", RUN, str(log)]
    with subprocess.Popen(child, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with reading(process.stdout.readline().strip()) as reader:
            reader.until(lambda: reader.batches)
            reader.for_a_while(random.Random(seed).uniform(0, 0.4))
            process.kill()
            process.wait()
            reader.until(lambda: not reader.of(Linked)[-1].up)
            received, recorded = reader.table, read_log(log)
    assert received.num_rows <= recorded.num_rows
    assert received.equals(recorded.slice(0, received.num_rows)), "every row that was received is in the log"
    return received.num_rows, recorded.num_rows


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_subscriber_received_of_a_killed_engine_is_in_the_log(
    tmp_path: Path, seed: int, pytestconfig: pytest.Config
) -> None:
    received, _ = kill_while_publishing(tmp_path, pytestconfig.rootpath, seed)
    assert received > 0


def until_printed(output: IO[str], words: str, run: LiveRun) -> None:
    """The status is sent again and again meanwhile, as an engine does it."""
    found = threading.Event()

    def talk() -> None:
        while not found.wait(0.2):
            run.publisher.send_status({"state": "running"})

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        assert any(words in line for line in output)
    finally:
        found.set()
        talking.join()


def test_the_example_client_of_the_documentation_gets_the_complete_table(
    run: LiveRun, pytestconfig: pytest.Config
) -> None:
    run.write(30)
    example = pytestconfig.rootpath / "docs" / "examples" / "client.py"
    child = [sys.executable, str(example), run.endpoint]
    with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        until_printed(process.stdout, "600 localisations", run)
        run.write(10)
        until_printed(process.stdout, "800 localisations", run)
        process.kill()


def test_tables_are_those_of_arrow(run: LiveRun) -> None:
    run.write()
    with reading(run.endpoint) as reader:
        reader.until_batches(1)
        assert isinstance(reader.batches[0].rows, pa.RecordBatch)
        assert reader.batches[0].rows.schema.equals(LOCALISATION_SCHEMA)
