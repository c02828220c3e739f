"""The spool gives back what went in, in order, in constant memory, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from acquisition.source import Frames
from config.errors import RunError
from engine.channel import ConsumerGone
from engine.spool import FrameSpool
from engine.waiting import Taken

pytestmark = pytest.mark.timeout(60)

FRAME = 4 * 6 * 2
"""Bytes of a frame of these tests."""
NOTHING = 1e-9
"""Memory that holds no frame [MB]."""


def block(first: int, count: int, dtype: type[np.unsignedinteger[Any]] = np.uint16) -> Taken:
    numbers = np.arange(first, first + count)
    pixels = (np.arange(count * 24).reshape(count, 4, 6) + first).astype(dtype)
    return Taken(Frames(pixels, numbers, numbers.astype(np.float64) / 4), numbers.astype(np.float64) + 0.5)


def assert_same(given: list[Taken], got: list[Taken]) -> None:
    for attribute in ("pixels", "numbers", "times"):
        whole, other = (np.concatenate([getattr(t.frames, attribute) for t in many]) for many in (given, got))
        assert whole.dtype == other.dtype
        assert np.array_equal(whole, other), attribute
    whole, other = (np.concatenate([t.came for t in many]) for many in (given, got))
    assert np.array_equal(whole, other)


@contextmanager
def spool_in(folder: Path, memory: float = NOTHING, size: int = 8, **sizes: int) -> Iterator[FrameSpool]:
    spool = FrameSpool(folder, memory, size, **({"reserve": 0} | sizes))
    try:
        yield spool
    finally:
        spool.leave()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("memory", [NOTHING, 10 * FRAME / 1e6, 1.0])
def test_what_goes_in_comes_out(tmp_path: Path, memory: float, dtype: type[np.unsignedinteger[Any]]) -> None:
    given = [block(first, 5, dtype) for first in range(0, 100, 5)]
    with spool_in(tmp_path, memory, segment=400) as spool:
        for item in given:
            spool.put(item)
        assert len(spool) == 20
        spool.finish()
        assert_same(given, list(spool))
        assert (len(spool), spool.spooled) == (0, (0, 0))


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    takes=st.lists(st.booleans(), max_size=80),
    memory=st.sampled_from([0, 3 * FRAME, 20 * FRAME]),
    segment=st.sampled_from([1, 500, 10**6]),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_any_order_of_puts_and_takes_keeps_the_frames(
    tmp_path: Path, counts: list[int], takes: list[bool], memory: int, segment: int
) -> None:
    given = [block(sum(counts[:i]), count) for i, count in enumerate(counts)]
    got: list[Taken] = []
    with spool_in(tmp_path, memory / 1e6 + NOTHING, 9, segment=segment) as spool:
        waiting, reader = iter(given), iter(spool)
        for take in takes:
            if take and len(spool):
                got.append(next(reader))
            elif not take and (item := next(waiting, None)) is not None:
                spool.put(item)
        for item in waiting:
            spool.put(item)
        spool.finish()
        got += list(reader)
    assert_same(given, got)
    assert all(len(item) <= 9 for item in got)
    assert list(tmp_path.iterdir()) == []


def test_two_threads_at_full_speed(tmp_path: Path) -> None:
    given = [block(first, 1 + first % 7) for first in np.cumsum([1 + n % 7 for n in range(3000)]).tolist()]

    def produce() -> None:
        for item in given:
            spool.put(item)
        spool.finish()

    with spool_in(tmp_path, 50 * FRAME / 1e6, segment=5000) as spool:
        producer = threading.Thread(target=produce)
        producer.start()
        got = list(spool)
        producer.join()
    assert_same(given, got)


def test_files_go_as_soon_as_they_are_read(tmp_path: Path) -> None:
    with spool_in(tmp_path, segment=10 * FRAME, size=1) as spool:
        for number in range(200):
            spool.put(block(number, 1))
        reader = iter(spool)
        sizes = []
        for _ in range(200):
            next(reader)
            sizes.append(sum(path.stat().st_size for path in tmp_path.rglob("*.frames")))
        assert sizes[0] >= 199 * FRAME
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] == 0
        spool.put(block(200, 1))
        spool.finish()
        assert next(reader).frames.numbers.tolist() == [200], "it begins anew after it was empty"


def test_small_blocks_that_wait_are_handed_on_together(tmp_path: Path) -> None:
    with spool_in(tmp_path, 10 * FRAME / 1e6, size=8) as spool:
        for number in range(26):
            spool.put(block(number, 1))
        spool.finish()
        assert [len(item) for item in spool] == [8, 2, 8, 8]


def test_nothing_is_made_while_memory_is_enough(tmp_path: Path) -> None:
    with spool_in(tmp_path / "not there", 1.0) as spool:
        spool.put(block(0, 5))
        assert spool.spooled == (0, 0)
    assert not (tmp_path / "not there").exists()


def test_what_waits_on_disk_is_told(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        spool.put(block(0, 5))
        spool.put(block(5, 3))
        frames, size = spool.spooled
        assert frames == 8
        assert 8 * FRAME < size < 8 * FRAME + 500


@pytest.mark.parametrize("folder", ["full", "file"])
def test_a_disk_that_takes_no_more_is_said_and_nothing_is_lost(tmp_path: Path, folder: str) -> None:
    given = [block(first, 5) for first in (0, 5)]
    place = tmp_path
    if folder == "file":
        place = tmp_path / "file"
        place.write_text("not a folder")
    with spool_in(place, 5 * FRAME / 1e6, size=5, reserve=10**18) as spool:
        spool.put(given[0])
        with pytest.raises(RunError, match=r"run\.spool"):
            spool.put(given[1])
        spool.finish()
        assert_same(given, list(spool))


def test_a_disk_that_fills_up_in_the_middle(tmp_path: Path) -> None:
    with spool_in(tmp_path, segment=1) as spool:
        given = [block(first, 5) for first in range(0, 50, 5)]
        for item in given[:6]:
            spool.put(item)
        spool._reserve = 10**18
        with pytest.raises(RunError, match="kept for the recording"):
            spool.put(given[6])
        spool.finish()
        assert_same(given[:7], list(spool))


def test_a_spool_that_somebody_shortens_is_said(tmp_path: Path) -> None:
    with spool_in(tmp_path, size=5) as spool:
        spool.put(block(0, 5))
        (path,) = tmp_path.rglob("*.frames")
        with path.open("r+b") as file:
            file.truncate(100)
        with pytest.raises(RunError, match="became shorter"):
            next(iter(spool))


def test_the_producer_learns_that_the_consumer_left_and_the_files_are_gone(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        spool.put(block(0, 5))
        assert list(tmp_path.iterdir())
        spool.leave()
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(ConsumerGone):
            spool.put(block(5, 5))


def test_a_waiting_consumer_learns_of_a_block_on_disk_and_of_the_end(tmp_path: Path) -> None:
    got: list[Taken] = []
    with spool_in(tmp_path, size=5) as spool:
        consumer = threading.Thread(target=lambda: got.extend(spool))
        consumer.start()
        spool.put(block(0, 5))
        spool.finish()
        consumer.join(30)
    assert_same([block(0, 5)], got)


KILLED = """
import os, sys
from pathlib import Path
from engine.spool import FrameSpool
from tests.engine.test_spool import NOTHING, block
spool = FrameSpool(Path(sys.argv[1]), NOTHING, 8, reserve=0)
spool.put(block(0, 5))
print("spooled", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_run_left_is_removed_and_what_runs_is_not(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    child = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(child, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"spooled"
        (other,) = tmp_path.iterdir()
        os.utime(other, (0, 0))  # as if it had been made long ago
        with spool_in(tmp_path) as spool:
            spool.put(block(0, 5))
        assert list(tmp_path.iterdir()) == [other]
        process.kill()
        process.wait(30)
    assert any(other.iterdir())
    with spool_in(tmp_path) as spool:
        spool.put(block(0, 5))
        assert not other.exists()
    assert list(tmp_path.iterdir()) == []
