"""Frames in memory as a source: every frame once, at the engine's pace or at a camera's."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from engine.status import Status
from models.bench.feed import Hungry, MemorySource, Steady
from models.bench.speed import laid


class Engine:
    """Analyses ``each`` frames whenever it is asked how far it is; a second passes meanwhile."""

    def __init__(self, each: int, error: Exception | None = None) -> None:
        self.each, self.error, self.analysed, self.time = each, error, 0, 0.0
        self.most = 10**9
        """It answers no more than so many frames."""

    def status(self) -> Status:
        self.analysed, self.time = min(self.analysed + self.each, self.most), self.time + 1.0
        return cast("Status", SimpleNamespace(analysed=self.analysed, error=self.error, lag=3))

    def clock(self) -> float:
        return self.time


def source(frames: int, feed: Any) -> MemorySource:
    return MemorySource(np.arange(5, dtype=np.uint16)[:, None, None] * np.ones((1, 2, 3), np.uint16), frames, 0.5, feed)


def test_every_frame_once_again_and_again() -> None:
    engine = Engine(4)
    with source(13, Hungry(engine.status, 4, 0, engine.clock)) as frames:
        described = frames.open()
        blocks = list(frames.blocks(4))
    assert (described.height, described.width, described.frames, described.exposure) == (2, 3, 13, 500.0)
    assert np.concatenate([block.numbers for block in blocks]).tolist() == list(range(13))
    assert np.concatenate([block.pixels[:, 0, 0] for block in blocks]).tolist() == [n % 5 for n in range(13)]
    assert blocks[1].times[0] == 0.5 * (blocks[1].numbers[0] + 1)


def test_the_rate_leaves_out_begin_and_end() -> None:
    """Four frames a second, whatever the source's own waits, and though the last two are never answered."""
    engine = Engine(4)
    engine.most = 38
    feed = Hungry(engine.status, 4, 2, engine.clock)
    assert np.isnan(feed.rate)
    assert sum(len(block) for block in source(40, feed).blocks(4)) == 40
    assert feed.rate == pytest.approx(4.0, rel=0.1)


def test_a_network_that_looks_further_ahead_than_blocks_wait() -> None:
    """24 frames ahead in blocks of one: the source must not wait for rows that need frames it holds back."""
    given = 0

    def status() -> Status:
        return cast("Status", SimpleNamespace(analysed=max(0, given - 24), error=None))

    feed = Hungry(status, 1, 24, lambda: 0.0)
    for block in source(60, feed).blocks(1):
        given += len(block)
    assert given == 60


def test_an_engine_that_fails_is_not_waited_for() -> None:
    engine = Engine(0, RuntimeError("lost"))
    assert sum(len(block) for block in source(40, Hungry(engine.status, 4, 2, engine.clock)).blocks(4)) == 40


def test_a_stopped_source_ends() -> None:
    engine = Engine(4)
    frames = source(100, Hungry(engine.status, 4, 0, engine.clock))
    given = frames.blocks(4)
    next(given)
    frames.stop()
    assert list(given) == []


def test_a_steady_feed_keeps_its_rate_and_notes_what_waits() -> None:
    engine, interval = Engine(4), 0.01
    feed = Steady(engine.status, interval)
    began = time.monotonic()
    blocks = list(source(20, feed).blocks(4))
    assert time.monotonic() - began >= 20 * interval
    assert sum(map(len, blocks)) == 20
    assert feed.lag == 3


@pytest.mark.parametrize(("size", "count"), [(3, 4), (4, 4), (9, 4), (6000, 1)])
def test_frames_laid_side_by_side(size: int, count: int) -> None:
    small = np.arange(4 * 4 * 4, dtype=np.uint16).reshape(4, 4, 4)
    large = laid(small, size)
    assert large.shape == (count, size, size)
    assert (large[0, :3, :3] == small[0, :3, :3]).all()
    if size == 9:
        assert (large[:, 4:8, 4:8] == small).all()
