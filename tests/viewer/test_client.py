"""The wire as the window sees it: early, late, cut off, restarted, silent, and with rubbish on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zmq

from config.schema import WireSettings
from engine.output.recorder import read_log
from tests.viewer.engine import camera_frame, engine
from tests.viewer.test_files import Reader, reading, same
from viewer import client
from viewer.client import WireFeed
from viewer.feed import Answered, Began, Counted, Link, PreviewCame, QualityCame, StatusCame
from viewer.files import LOG


def free_port() -> int:
    """Two neighbouring ones, free a moment ago."""
    with zmq.Context() as context, context.socket(zmq.REP) as first, context.socket(zmq.REP) as second:
        for _ in range(50):
            port = first.bind_to_random_port("tcp://127.0.0.1")
            try:
                second.bind(f"tcp://127.0.0.1:{port + 1}")
            except zmq.ZMQError:
                first.unbind(f"tcp://127.0.0.1:{port}")
                continue
            return port
    raise AssertionError("no two neighbouring ports are free")


def test_before_the_engine_and_after_it(tmp_path: Path) -> None:
    port = free_port()
    with reading(WireFeed(f"127.0.0.1:{port}")) as reader:
        assert "no engine" in reader_words(reader)
        with engine(tmp_path / "run", WireSettings(port=port)) as run:
            reader.until_link(Link.LIVE)
            run.write(7)
            reader.until(lambda: reader.rows == run.rows)
            same(reader.table, read_log(run.folder / LOG))
        reader.until_link(Link.LOST)


def reader_words(reader: Reader) -> str:
    reader.until(lambda: any("no engine" in change.words for change in reader.links))
    assert all(change.link is Link.WAITING for change in reader.links)
    return reader.links[-1].words


def test_a_late_one_catches_up_and_goes_on(tmp_path: Path) -> None:
    with engine(tmp_path / "run") as run:
        run.write(50)
        with reading(WireFeed(run.endpoint)) as reader:
            reader.until_link(Link.LIVE)
            run.write(5)
            reader.until(lambda: reader.rows == run.rows)
            same(reader.table, read_log(run.folder / LOG))
            assert len(reader.of(Began)) == 1


def test_a_restarted_engine_begins_anew(tmp_path: Path) -> None:
    port = free_port()
    with reading(WireFeed(f"tcp://127.0.0.1:{port}")) as reader:
        for name, batches in (("first", 4), ("second", 2)):
            with engine(tmp_path / name, WireSettings(port=port)) as run:
                run.write(batches)
                reader.until_began(name)
                reader.until_rows(run.rows)
                same(reader.table, read_log(run.folder / LOG))
            reader.until(lambda: reader.links[-1].link is Link.LOST)


def test_the_end_is_told_and_outlasts_the_engine(tmp_path: Path) -> None:
    with engine(tmp_path / "run") as run, reading(WireFeed(run.endpoint)) as reader:
        run.write(3)
        reader.until(lambda: reader.rows == run.rows)
        run.end("finished")
        assert "finished" in reader.until_link(Link.ENDED).words
        run.publisher.stop()
        reader.until(lambda: not reader.feed.drained or True)
        assert reader.links[-1].link is Link.ENDED


def test_silence_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "STALE_AFTER", 0.3)
    with engine(tmp_path / "run") as run, reading(WireFeed(run.endpoint)) as reader:
        reader.until_link(Link.STALE)
        run.tell()
        reader.until(lambda: reader.links[-1].link is Link.LIVE)


def test_status_figures_and_frames(tmp_path: Path) -> None:
    with engine(tmp_path / "run") as run, reading(WireFeed(run.endpoint)) as reader:
        reader.until_link(Link.LIVE)
        run.write()
        run.tell(lag=17)
        run.tell_quality()
        run.show(frame=5, seed=3)
        reader.until(lambda: reader.of(PreviewCame) and reader.of(QualityCame) and reader.of(StatusCame))
        pixels, rows = camera_frame(3)
        preview = reader.of(PreviewCame)[0]
        np.testing.assert_array_equal(preview.pixels, pixels)
        np.testing.assert_allclose(preview.x, rows.column("x").to_numpy() / 100, rtol=1e-6)
        assert reader.of(StatusCame)[-1].status["lag"] == 17
        assert reader.of(QualityCame)[0].figures["target"] == 1.0


def test_commands_are_answered(tmp_path: Path) -> None:
    with engine(tmp_path / "run") as run, reading(WireFeed(run.endpoint)) as reader:
        reader.until_link(Link.LIVE)
        run.tell(paused=True)
        for command, arguments in (("target", {"enabled": False}), ("target", {"value": 2.0}), ("pause", {})):
            reader.feed.command(command, arguments)
        reader.until(lambda: len(reader.of(Answered)) == 3)
        assert run.commands == [("target", {"enabled": False}), ("target", {"value": 2.0})]
        assert [answer.refused for answer in reader.of(Answered)] == [None, None, "the run is paused already."]


def test_a_command_without_an_engine_is_refused() -> None:
    with reading(WireFeed(f"tcp://127.0.0.1:{free_port()}")) as reader:
        reader.feed.command("stop", {})
        reader.until(lambda: reader.of(Answered))
        assert "not connected" in str(reader.of(Answered)[0].refused)


@contextmanager
def babbler() -> Iterator[tuple[str, zmq.Socket[bytes]]]:
    """Something that speaks ZeroMQ and no liveloc."""
    port = free_port()
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher, context.socket(zmq.ROUTER) as router:
        publisher.linger = router.linger = 0
        publisher.bind(f"tcp://127.0.0.1:{port}")
        router.bind(f"tcp://127.0.0.1:{port + 1}")
        yield f"tcp://127.0.0.1:{port}", publisher


def test_rubbish_is_counted_and_harmless() -> None:
    with babbler() as (endpoint, publisher), reading(WireFeed(endpoint)) as reader:

        def told() -> int:
            publisher.send_multipart([b"status", b"{\xff"])
            publisher.send_multipart([b"localisations", b'{"liveloc":1,"kind":"localisations"}', b"\x00" * 40])
            return max((news.malformed for news in reader.of(Counted)), default=0)

        reader.until(lambda: told() >= 4)
        assert reader.rows == 0


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with engine(tmp_path / "run") as run:
        before = set(threading.enumerate())
        for _ in range(3):
            with reading(WireFeed(run.endpoint)) as reader:
                reader.until_link(Link.LIVE)
        assert set(threading.enumerate()) <= before
        run.write()
        run.tell()
