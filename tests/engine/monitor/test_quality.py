"""The quality monitor beside an analysis: rows, readers, reasons to stop, and what it may cost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.schema import MonitorSettings
from engine.localisations import empty_batch
from engine.monitor import quality as quality_module
from engine.monitor.figures import Quality
from engine.monitor.quality import DomainWatch, QualityMonitor
from engine.monitor.quality_log import TABLE, read_quality
from tests.engine.monitor.samples import CAMERA, MODEL, batch, even_rows, frames, on_lines, source

DEADLINE = 60.0


@contextmanager
def monitor(folder: Path, **arguments: Any) -> Iterator[QualityMonitor]:
    """Running; closed at the end, with no thread left."""
    settings = MonitorSettings(**arguments.pop("settings", {}))
    made = QualityMonitor(settings, CAMERA, arguments.pop("source", source()), MODEL, folder, **arguments)
    try:
        yield made
    finally:
        made.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "liveloc-monitor"]


def feed(observer: QualityMonitor, count: int, per_frame: int = 5, block: int = 16, first: int = 0) -> None:
    """So many frames of 10 ms, each with its rows in the same block, and the end."""
    for number in range(first, first + count, block):
        seen = frames(number, min(block, first + count - number))
        observer.observe(seen, even_rows(seen.numbers, per_frame, number))
    observer.observe(None, empty_batch())


def test_rows_reach_the_readers_and_the_disk(tmp_path: Path) -> None:
    told: list[Quality] = []
    with monitor(tmp_path, readers=[told.append], target=lambda: 0.4) as observer:
        feed(observer, 350)
    table = read_quality(tmp_path / TABLE)
    assert [quality.frames for quality in told] == [100, 100, 100, 50]
    assert [quality.localisations for quality in told] == [500, 500, 500, 250]
    assert {quality.target for quality in told} == {0.4}
    assert table["frame"].to_pylist() == [99, 199, 299, 349]
    assert told[0].figures() == {**table.slice(0, 1).to_pylist()[0], "density_map": told[0].density_map}


def test_a_run_that_fails_without_a_last_word_is_kept_too(tmp_path: Path) -> None:
    with monitor(tmp_path) as observer:
        observer.observe(frames(0, 30), even_rows(np.arange(28), 3))
    assert read_quality(tmp_path / TABLE)["localisations"].to_pylist() == [84]


def test_nothing_observed_leaves_an_empty_table(tmp_path: Path) -> None:
    with monitor(tmp_path):
        pass
    assert read_quality(tmp_path / TABLE).num_rows == 0


def test_a_reader_that_fails_is_dropped_and_the_others_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[int] = []

    def fails(quality: Quality) -> None:
        told.append(-quality.frame)
        raise OSError("the line is dead")

    with caplog.at_level(logging.WARNING), monitor(tmp_path, readers=[fails, lambda q: told.append(q.frame)]) as seen:
        feed(seen, 300)
    assert told == [-99, 99, 199, 299]
    assert caplog.text.count("the line is dead") == 1


def test_it_stops_after_enough_localisations_once(tmp_path: Path) -> None:
    reasons: list[str] = []
    with monitor(tmp_path, settings={"stop_after": 900}, stop=reasons.append) as observer:
        feed(observer, 600)
    assert reasons == ["1000 localisations; monitor.stop_after is 900"]


@pytest.mark.parametrize("asked", [True, False])
def test_it_stops_at_the_plateau_if_asked(tmp_path: Path, asked: bool) -> None:
    random, reasons = np.random.default_rng(0), list[str]()
    settings = {"stop_at_plateau": asked, "frc_every": 1.0, "frc_block": 10, "plateau": 0.05}
    with monitor(tmp_path, settings=settings, stop=reasons.append) as observer:
        for number in range(0, 6000, 20):
            x, y = on_lines(300, 4000.0, random)
            frame = np.sort(random.integers(number, number + 20, len(x)))
            rows = {"frame": frame, "x": x + random.normal(0, 20, len(x)), "y": y + random.normal(0, 20, len(x))}
            observer.observe(frames(number, 20), batch(rows))
    frc = read_quality(tmp_path / TABLE)["frc"].to_numpy()
    assert frc[-1] < frc[2]
    assert len(reasons) == asked
    assert all("plateau" in reason for reason in reasons)


def test_a_monitor_that_falls_behind_leaves_out_figures_and_never_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(quality_module, "MOST_WAITING", 20)
    reading, go_on = threading.Event(), threading.Event()

    def slow(quality: Quality) -> None:
        reading.set()
        assert go_on.wait(DEADLINE)

    with monitor(tmp_path, readers=[slow]) as observer:
        feed(observer, 160)
        assert reading.wait(DEADLINE)
        feed(observer, 1600, first=160)  # far more than may wait; this returns
        go_on.set()
    assert caplog.text.count("cannot follow") == 1
    assert read_quality(tmp_path / TABLE).num_rows > 0


def test_few_frames_are_held_on_to(tmp_path: Path) -> None:
    """A frame keeps its whole block in memory, so while the monitor is busy only a few may wait."""
    go_on = threading.Event()
    with monitor(tmp_path, readers=[lambda _: go_on.wait(DEADLINE)]) as observer:
        feed(observer, 3200)
        held = sum(len(seen.pictures) for seen in list(observer._queue.queue) if seen is not None)
        assert held <= quality_module.FEW_WAITING + 1
        go_on.set()


def test_an_error_ends_the_figures_and_not_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    targets = iter([0.1, 0.2])
    with monitor(tmp_path, target=lambda: next(targets)) as observer:
        feed(observer, 400)
        observer._thread.join(DEADLINE)
        assert not observer._thread.is_alive()
        observer.observe(frames(400, 10), empty_batch())
    assert "is measured no longer" in caplog.text
    assert read_quality(tmp_path / TABLE)["target"].to_pylist() == [0.1, 0.2]


def test_the_log_tells_when_data_leaves_what_the_model_knows(caplog: pytest.LogCaptureFixture) -> None:
    watch = DomainWatch()
    with caplog.at_level(logging.INFO):
        for warnings in [*[[]] * 5, ["too dense"], [], *[["too dense"]] * 8, ["x"], [], *[[]] * 4]:
            watch.look(warnings)
    assert [record.getMessage() for record in caplog.records] == [
        "too dense",
        "the data is within what the model was trained for again",
    ]


def test_what_the_first_windows_show_is_not_said_again(caplog: pytest.LogCaptureFixture) -> None:
    watch = DomainWatch()
    for _ in range(20):
        watch.look(["too dense"])
    assert not caplog.records


@pytest.mark.benchmark
def test_it_costs_little(tmp_path: Path) -> None:
    """100 frames/s of 64×64 with 10 localisations each, two minutes of data, as blocks of 2 frames come live."""
    blocks = []
    for number in range(0, 12_000, 2):
        seen = frames(number, 2, 64, 64)
        blocks.append((seen, even_rows(seen.numbers, 10, number)))
    with monitor(tmp_path, source=source(64, 64)) as observer:
        began, spent = time.process_time(), []
        for seen, rows in blocks:
            at = time.perf_counter()
            observer.observe(seen, rows)
            spent.append(time.perf_counter() - at)
            while observer._queue.qsize() > 100:
                time.sleep(0.001)
        observer.close()
        cpu = time.process_time() - began
    figures = read_quality(tmp_path / TABLE).num_rows, np.percentile(spent, [50, 99]) * 1e6, cpu / 120
    assert figures[0] == 120
    assert figures[1][0] < 100, figures
    assert figures[2] < 0.1, figures
    logging.getLogger("engine").warning(
        "observe %s µs (median, 99 %%); %.1f %% of a core", figures[1], 100 * figures[2]
    )
