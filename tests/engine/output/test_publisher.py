"""The engine's side of the wire: what it publishes, what it answers, and that nobody can harm it."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from config.errors import RunError, SettingsError
from config.schema import WireSettings
from engine.localisations import empty_batch
from engine.observer import ObservedLocaliser
from engine.output import wire
from engine.output.keys import make_keys
from engine.output.preview import PreviewObserver
from engine.output.publisher import Publisher
from engine.output.recorder import Recorder, read_log
from engine.output.subscriber import Answered, Began, Linked, PreviewCame, QualityCame, StatusCame
from engine.pipeline import Pipeline
from tests.engine.doubles import FakeLocaliser, FakeSource
from tests.engine.output.live_wire import (
    PATIENCE,
    Asker,
    LiveRun,
    assert_complete,
    descriptors,
    live_run,
    numbered_batch,
    reading,
    until,
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "localisations.arrows"


class Handler:
    """Notes commands, and refuses to stop."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def handle(self, command: str, arguments: Mapping[str, Any]) -> None:
        assert self.gate.wait(PATIENCE)
        self.commands.append((command, dict(arguments)))
        if command == "stop":
            raise RunError("not now")
        if command == "target":
            raise ZeroDivisionError("a bug")


def test_everything_that_is_published_arrives(log: Path) -> None:
    with live_run(log) as run, reading(run.endpoint) as reader:
        reader.until(lambda: reader.of(Began))
        run.write(3)
        run.publisher.send_status({"state": "running", "lag": 2})
        run.publisher.send_quality({"density": 1.5, "frc": float("nan")})
        run.publisher.send_preview(7, np.full((4, 6), 9, np.uint16), numbered_batch(7, 2), (10, 20))
        reader.until(lambda: reader.of(PreviewCame) and len(reader.batches) == 3)
        assert reader.of(StatusCame)[-1].status == {"state": "running", "lag": 2}
        assert reader.of(QualityCame)[-1].figures == {"density": 1.5, "frc": None}
        preview = reader.of(PreviewCame)[-1].preview
        assert (preview.frame, preview.origin, preview.rows.num_rows) == (7, (10, 20), 2)
        assert np.array_equal(preview.pixels, np.full((4, 6), 9))
        assert_complete(reader, log)
        assert reader.batches[0].rows.schema.metadata == read_log(log).schema.metadata


def test_empty_batches_are_neither_counted_nor_published(log: Path) -> None:
    with live_run(log) as run, reading(run.endpoint) as reader:
        run.publisher.write(empty_batch())
        run.write(2)
        reader.until_batches(2)


def test_a_description_says_what_there_is(log: Path) -> None:
    facts = {"status": {"state": "running"}, "source": "camera", "model": "default", "endpoint": "not this one"}
    with live_run(log, describe=lambda: facts) as run, Asker(run.endpoint) as asker:
        run.write(4)
        answer = asker.ask(wire.DESCRIBE, "me")
        assert answer.kind == wire.DESCRIPTION
        own = {"endpoint": run.endpoint, "batches": 4, "commands": False, "id": "me"}
        assert answer.header == facts | own


def test_a_description_that_fails_is_refused_and_nothing_else_suffers(log: Path) -> None:
    with live_run(log, describe=lambda: {"x": 1 // 0}) as run, Asker(run.endpoint) as asker:
        assert "division" in asker.ask(wire.DESCRIBE).header["reason"]
        assert asker.ask(wire.REPLAY, **{"from": 0}).kind == wire.END


def test_a_req_socket_is_answered_behind_its_delimiter(log: Path) -> None:
    with live_run(log) as run, Asker(run.endpoint, zmq.REQ) as asker:
        for number in range(3):
            assert asker.ask(wire.DESCRIBE, number).header["id"] == number


@pytest.mark.parametrize(
    ("first", "stop", "numbers"),
    [(0, None, range(5)), (3, None, range(3, 5)), (1, 3, range(1, 3)), (5, None, range(0))],
)
def test_a_replay_gives_the_batches_asked_for(log: Path, first: int, stop: int | None, numbers: range) -> None:
    with live_run(log) as run, Asker(run.endpoint) as asker:
        run.write(5)
        message = asker.ask(wire.REPLAY, 1, **{"from": first, "to": stop})
        for number in numbers:
            assert (message.kind, message.sequence, message.header["id"]) == (wire.LOCALISATIONS, number, 1)
            assert wire.localisations(message).equals(numbered_batch(number))
            message = asker.receive()
        assert (message.kind, message.header["next"]) == (wire.END, numbers.stop if numbers else first)


@pytest.mark.parametrize(
    "arguments", [{"from": -1}, {"from": "0"}, {"from": True}, {"from": 0, "to": 1.5}, {"from": 6}, {"from": 1 << 70}]
)
def test_a_replay_of_what_cannot_be_is_refused(log: Path, arguments: dict[str, Any]) -> None:
    with live_run(log) as run, Asker(run.endpoint) as asker:
        run.write(5)
        assert asker.ask(wire.REPLAY, **arguments).kind == wire.REFUSED


def test_a_replay_before_the_first_batch_ends_at_once(log: Path) -> None:
    with live_run(log) as run, Asker(run.endpoint) as asker:
        assert asker.ask(wire.REPLAY, **{"from": 0}).header["next"] == 0


def test_a_log_that_was_cut_is_said_to_those_who_ask(log: Path) -> None:
    with live_run(log) as run, Asker(run.endpoint) as asker:
        run.write(5)
        with log.open("r+b") as file:
            file.truncate(file.seek(0, os.SEEK_END) // 2)
        answers = [asker.ask(wire.REPLAY, **{"from": 0})]
        while answers[-1].kind == wire.LOCALISATIONS:
            answers.append(asker.receive())
        assert "was cut" in answers[-1].header["reason"]
        run.publisher.send_status({"state": "running"})
        assert asker.ask(wire.DESCRIBE).kind == wire.DESCRIPTION


def test_commands_are_carried_out_or_refused_with_the_reason(log: Path) -> None:
    handler = Handler()
    with live_run(log, handler=handler) as run, reading(run.endpoint) as reader:
        reader.until(lambda: reader.of(Linked))
        ids = [
            reader.subscriber.command("mark", text="laser on"),
            reader.subscriber.command("stop"),
            reader.subscriber.command("target", value=2.5, enabled=True),
            reader.subscriber.command("fly"),
        ]
        reader.until(lambda: len(reader.of(Answered)) == 4)
        answers = {answer.id: answer.reason for answer in reader.of(Answered)}
        assert handler.commands == [
            ("mark", {"text": "laser on"}),
            ("stop", {}),
            ("target", {"value": 2.5, "enabled": True}),
        ]
        assert answers[ids[0]] is None
        assert answers[ids[1]] == "not now"
        assert "a bug" in (answers[ids[2]] or "")
        assert "no such command" in (answers[ids[3]] or "")


def test_a_command_for_an_earlier_engine_is_refused(log: Path) -> None:
    handler = Handler()
    with live_run(log, handler=handler) as run, Asker(run.endpoint) as asker:
        session = asker.ask(wire.DESCRIBE).session
        assert asker.ask(wire.COMMAND, 1, command="pause", session="earlier").kind == wire.REFUSED
        assert asker.ask(wire.COMMAND, 2, command="start", session=session).kind == wire.DONE
        assert handler.commands == [("start", {})]


@pytest.mark.parametrize(
    ("settings", "handler", "words"),
    [
        (WireSettings(port=0, commands=False), Handler(), "wire.commands=false"),
        (WireSettings(port=0), None, "takes no"),
    ],
)
def test_commands_can_be_switched_off(log: Path, settings: WireSettings, handler: Handler | None, words: str) -> None:
    with live_run(log, settings, handler) as run, Asker(run.endpoint) as asker:
        answer = asker.ask(wire.COMMAND, 1, command="stop")
        assert answer.kind == wire.REFUSED
        assert words in answer.header["reason"]
        assert handler is None or handler.commands == []


def test_a_command_that_hangs_holds_nobody_up_and_too_many_are_refused(log: Path) -> None:
    handler = Handler()
    handler.gate.clear()
    with live_run(log, handler=handler) as run, reading(run.endpoint) as reader, Asker(run.endpoint) as asker:
        for number in range(30):
            asker.send(*wire.encode_request(wire.Request(wire.COMMAND, number, {"command": "mark", "text": "x"})))
        assert "too many" in asker.receive().header["reason"]
        run.write(3)
        reader.until_batches(3)
        handler.gate.set()
        answered = [asker.receive().kind for _ in range(29)]
        assert wire.DONE in answered


def test_a_run_is_watched_and_ended_from_outside(log: Path) -> None:
    """Everything together: source, localiser, recorder, publisher, previews, and a client with commands."""
    recorder = Recorder(log, {"run_id": "run"})
    source, localiser = FakeSource(itertools.count()), FakeLocaliser(future=4, delay=0.002)
    with ExitStack() as stack:

        class Late:
            """The publisher is made before the pipeline that it passes commands to."""

            def handle(self, command: str, arguments: Mapping[str, Any]) -> None:
                pipeline.handle(command, arguments)

        publisher = stack.enter_context(Publisher(log, "run", WireSettings(port=0), dict, Late()))
        observed = ObservedLocaliser(localiser, [PreviewObserver(publisher.send_preview, 20, 4)])
        pipeline = Pipeline(source, observed, recorder, [publisher], block=4)
        running = threading.Thread(
            target=pipeline.run, args=(lambda status: publisher.send_status(status.figures()),), daemon=True
        )
        running.start()
        reader = stack.enter_context(reading(publisher.endpoint))
        reader.until(lambda: reader.batches and reader.of(PreviewCame))
        reader.subscriber.command("mark", text="here")
        reader.subscriber.command("stop", text="seen enough")
        reader.until(lambda: len(reader.of(Answered)) == 2)
        running.join(PATIENCE)
        publisher.send_status(pipeline.status().figures())
        reader.until(lambda: reader.of(StatusCame) and reader.of(StatusCame)[-1].status["state"] == "stopped")
        assert reader.of(StatusCame)[-1].status["end_reason"] == "stopped: seen enough"
        assert pipeline.status().marks[0].text == "here"
        recorded = read_log(log)
        reader.until(lambda: reader.table.num_rows == recorded.num_rows)
        assert_complete(reader, log)
        for came in reader.of(PreviewCame):
            assert came.preview.rows["frame"].to_pylist() == [came.preview.frame]
            assert np.all(came.preview.pixels == came.preview.frame % 65536)


MALFORMED = [
    [b""],
    [b"garbage"],
    [b"\x00" * 1000],
    [b"{}"],
    [b'{"liveloc":2,"request":"describe","id":"old"}'],
    [b'{"liveloc":1,"request":"describe","id":{"a":1}}'],
    [b'{"liveloc":1}', b"and", b"more"],
    [b"x", b"", b""],
    [b"["] * 50,
    [b"[" * 60_000],
]


def test_malformed_requests_are_refused_counted_and_harm_nobody(log: Path) -> None:
    with live_run(log) as run, reading(run.endpoint) as reader, Asker(run.endpoint) as asker:
        for parts in MALFORMED:
            asker.send(*parts)
            assert asker.receive().kind == wire.REFUSED
        assert run.publisher.malformed == len(MALFORMED)
        asker.send(b'{"liveloc":9,"id":"mine"}')
        assert asker.receive().header["id"] == "mine"
        run.write(3)
        reader.until_batches(3)


def test_a_request_that_is_too_large_costs_its_sender_the_connection(log: Path) -> None:
    with live_run(log) as run, reading(run.endpoint) as reader, Asker(run.endpoint) as asker:
        asker.send(b" " * (wire.LARGEST_REQUEST + 1))
        run.write(3)
        reader.until_batches(3)
        assert asker.ask(wire.DESCRIBE).kind == wire.DESCRIPTION, "it may come back, behaving"
        assert run.publisher.malformed == 0


GREETING = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL".ljust(64, b"\0")
"""Of ZMTP 3.0 (rfc.zeromq.org/spec/23): signature, version, mechanism."""
READY = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"


def hostile_bytes(random_: random.Random) -> bytes:
    """Garbage, truncated and oversized ZMTP."""
    huge = b"\x02" + (1 << 62).to_bytes(8, "big")
    return random_.choice(
        [
            random_.randbytes(random_.randrange(1, 400)),
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            GREETING[: random_.randrange(1, 64)],
            GREETING + READY[: random_.randrange(len(READY))],
            GREETING + READY + random_.randbytes(random_.randrange(1, 300)),
            GREETING + READY + huge + b"x" * 1000,
            GREETING + READY + b"\x00\x05hello" + b"\x01\xff" + b"y" * 20,
            GREETING + b"\x06" + (1 << 40).to_bytes(8, "big") + b"z" * 100,
        ]
    )


def test_raw_garbage_at_both_ports_leaves_others_undisturbed(log: Path) -> None:
    random_ = random.Random(5)
    with live_run(log) as run, reading(run.endpoint) as reader:
        reader.until(lambda: reader.of(Linked))
        host, port = wire.split_endpoint(run.endpoint)
        open_ends = []
        for number in range(120):
            raw = socket.create_connection((host, port + number % 2), PATIENCE)
            raw.sendall(hostile_bytes(random_))
            if number % 3:
                raw.close()
            else:
                open_ends.append(raw)
            run.write()
        reader.until_batches(120)
        assert [link.up for link in reader.of(Linked)] == [True], "the good client never lost its connection"
        for raw in open_ends:
            raw.close()
        assert_complete(reader, log)


def test_the_tables_of_many_clients_come_from_the_log_while_the_run_goes_on(log: Path) -> None:
    with live_run(log) as run:
        run.write(150, rows=200)
        with reading(run.endpoint) as first, reading(run.endpoint) as second:
            for _ in range(50):
                run.write(rows=200)
                first.events += first.subscriber.poll(0.002)
            second.until_batches(200)
            first.until_batches(200)
            assert_complete(first, log)
            assert_complete(second, log)


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.output.server.ANSWERS_BEHIND", 4)


def lazy_replay(run: LiveRun) -> Asker:
    """A client that has asked for far more than any buffer holds, and has read one message of it."""
    run.write(60, rows=8000)
    lazy = Asker(run.endpoint, rcvhwm=1)
    lazy.send(*wire.encode_request(wire.Request(wire.REPLAY, 1, {"from": 0})))
    assert lazy.receive().sequence == 0
    return lazy


@pytest.mark.usefixtures("small_buffers")
def test_a_replay_to_a_client_that_reads_nothing_holds_nobody_up(log: Path) -> None:
    with live_run(log) as run, lazy_replay(run), reading(run.endpoint) as reader:
        reader.until_batches(60)
        run.write(5)
        reader.until_batches(65)
        assert len(run.publisher._server._replays) == 1, "the other one still waits"


@pytest.mark.usefixtures("small_buffers")
def test_the_replay_of_a_client_that_went_is_dropped(log: Path) -> None:
    with live_run(log) as run:
        with lazy_replay(run):
            assert len(run.publisher._server._replays) == 1
        until(lambda: len(run.publisher._server._replays) == 0)


@pytest.mark.usefixtures("small_buffers")
def test_the_replay_of_a_client_that_takes_nothing_for_long_is_dropped(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.output.replay.PATIENCE", 0.2)
    with live_run(log) as run, lazy_replay(run):
        until(lambda: len(run.publisher._server._replays) == 0)


@pytest.mark.usefixtures("small_buffers")
def test_more_replays_than_can_be_served_are_refused_and_tried_again(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.output.replay.MOST_REPLAYS", 1)
    with live_run(log) as run, lazy_replay(run) as lazy, reading(run.endpoint) as reader:
        reader.for_a_while(0.3)
        assert not reader.batches
        while lazy.receive().kind != wire.END:
            pass
        reader.until_batches(60)


CLIENT = """
import sys, time
from engine.output.subscriber import Batch, Subscriber
from engine.output.wire import LOCALISATIONS
with Subscriber(sys.argv[1]) as subscriber:
    while True:
        events = subscriber.poll(0.1)
        if any(isinstance(event, Batch) for event in events):
            print(subscriber.received, flush=True)
        if subscriber.received and sys.argv[2] == "asleep":
            time.sleep(1000)
"""


def client_process(run: LiveRun, mode: str, root: Path) -> subprocess.Popen[str]:
    child = [sys.executable, "-c", CLIENT, run.endpoint, mode]
    return subprocess.Popen(child, cwd=root, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="SIGSTOP is POSIX's")
def test_ten_subscribers_stopped_killed_late_and_asleep_change_nothing(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    alone = tmp_path / "alone.arrows"
    recorder = Recorder(alone, {"run_id": "run", "pixel_size_nm": "100.0"})
    for number in range(600):
        recorder.write(numbered_batch(number, 100))
    recorder.close()

    watched = tmp_path / "watched.arrows"
    with live_run(watched) as run:
        run.write(1, rows=100)
        modes = ["awake"] * 6 + ["asleep"] * 4
        clients = [client_process(run, mode, pytestconfig.rootpath) for mode in modes]
        try:
            for client in clients:
                assert client.stdout is not None
                assert client.stdout.readline(), "it received something"
            clients[0].send_signal(signal.SIGSTOP)
            clients[1].kill()
            clients[2].terminate()
            run.write(599, rows=100)
            clients[3].kill()
            with reading(run.endpoint) as late:
                late.until_batches(600)
                assert_complete(late, watched)
            clients[0].send_signal(signal.SIGCONT)
            for client in (clients[0], clients[4]):
                assert client.stdout is not None
                assert any(line.strip() == "600" for line in client.stdout), "it caught up"
        finally:
            for client in clients:
                client.kill()
                client.communicate()
    assert watched.read_bytes() == alone.read_bytes()


def test_a_write_never_waits_for_a_subscriber_that_does_not_read(log: Path) -> None:
    with live_run(log) as run, reading(run.endpoint) as reader:
        reader.until(lambda: reader.of(Linked))
        began = time.perf_counter()
        run.write(300, rows=500)  # nobody polls meanwhile
        taken = time.perf_counter() - began
        reader.until_batches(300)
        assert taken < 20, "fsync of 300 batches, and nothing else"
        assert_complete(reader, log)


def test_messages_beyond_the_outbox_are_left_out_and_fetched(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with live_run(log) as run, reading(run.endpoint) as reader:
        run.write()
        reader.until_batches(1)
        monkeypatch.setattr(run.publisher._server.outbox, "_most", 0)
        run.write(5)
        assert run.publisher.left_out == 5
        monkeypatch.setattr(run.publisher._server.outbox, "_most", 100)
        run.write()
        reader.until_batches(7)
        assert reader.subscriber.gaps == 1


def test_the_last_status_arrives_before_the_end(log: Path) -> None:
    with live_run(log) as run, reading(run.endpoint) as reader:
        reader.until(lambda: reader.of(Linked))
        run.write(3)
        run.publisher.close()
        run.publisher.send_status({"state": "finished", "end_reason": "finished"})
        run.publisher.stop()
        reader.until(lambda: not reader.of(Linked)[-1].up)
        assert reader.of(StatusCame)[-1].status["end_reason"] == "finished"
        reader.until_batches(3)


def test_who_is_behind_at_the_end_still_gets_everything(log: Path) -> None:
    with live_run(log) as run, reading(run.endpoint) as reader:
        run.write(200, rows=500)
        reader.until(lambda: reader.batches)
        ending = threading.Thread(target=run.publisher.stop)
        ending.start()
        reader.until_batches(200)
        ending.join(PATIENCE)
        assert not ending.is_alive()


def test_nothing_is_left_behind(log: Path) -> None:
    def threads() -> set[str]:
        return {thread.name for thread in threading.enumerate()}

    before = threads()
    with live_run(log, handler=Handler()) as run, reading(run.endpoint) as reader:
        run.write(2)
        reader.until_batches(2)
        assert {"liveloc-publish", "liveloc-commands"} <= threads()
        open_during = descriptors()
        run.publisher.stop()
        run.publisher.stop()
        with pytest.raises(RunError, match="closed"):
            run.publisher.write(numbered_batch(0))
    assert threads() == before
    assert descriptors() < open_during or not open_during


def test_a_publisher_that_has_ended_says_so_to_the_engine(log: Path) -> None:
    with live_run(log) as run:
        run.publisher._server.stop()
        with pytest.raises(RunError, match="publishing has ended"):
            run.publisher.write(numbered_batch(0))
        run.publisher.send_status({})


def test_a_port_that_is_taken_is_replaced_by_a_free_pair(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    with live_run(log) as first:
        port = wire.split_endpoint(first.endpoint)[1]
        for taken in (port, port - 1):  # the publisher's own, and the one above it
            caplog.clear()
            with live_run(log.with_name(f"{taken}"), WireSettings(port=taken)) as second:
                assert f"port {taken}" in caplog.text
                assert second.endpoint != first.endpoint
                second.write(2)
                with reading(second.endpoint) as reader:
                    reader.until_batches(2)


def test_localhost_is_loopback(log: Path) -> None:
    with live_run(log, WireSettings(port=0, address="localhost")) as run:
        assert run.endpoint.startswith("tcp://127.0.0.1:")


def test_ipv6_works_where_there_is_some(log: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this computer has no IPv6")
    with live_run(log, WireSettings(port=0, address="::1")) as run, reading(run.endpoint) as reader:
        run.write(2)
        reader.until_batches(2)


@pytest.mark.parametrize("address", ["0.0.0.0", "*", "192.168.1.5", "::", "example.org"])
def test_an_address_that_others_reach_needs_keys(log: Path, address: str) -> None:
    with pytest.raises(SettingsError, match="liveloc keys"):
        Publisher(log, "run", WireSettings(port=0, address=address), dict)


def test_an_address_that_is_not_ours_is_a_clear_error(log: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", ["viewer"])
    settings = WireSettings(port=0, address="192.0.2.1", keys=str(tmp_path / "keys"))
    with pytest.raises(SettingsError, match="no address of this computer"):
        Publisher(log, "run", settings, dict)
