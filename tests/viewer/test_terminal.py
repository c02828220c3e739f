"""What a run shows in a terminal, and where there is none."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from engine.delay import Delay
from engine.ledger import Ranges
from engine.status import State, Status
from viewer.terminal import (
    RunProgress,
    WarningPrinter,
    file_sizes,
    one_line,
    print_table,
    ranges_in_words,
    size_in_words,
)


def status(analysed: int = 812, missing: Ranges = (), expected: int | None = 1000) -> Status:
    return Status(State.RUNNING, 820, analysed, 30114, expected, (0, 0), 0.0, 119.6, 7.0, missing, (), (), None)


def console(terminal: bool = False) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=100, color_system=None), text


def test_one_line() -> None:
    assert one_line(status()) == "812/1,000 frames · 120 frames/s · 30,114 localisations · lag 8"


def test_one_line_without_an_end_and_with_lost_frames() -> None:
    line = one_line(status(missing=(range(3, 5), range(9, 10)), expected=None))
    assert line.startswith("812 frames · ")
    assert line.endswith("3 missing")


def test_one_line_of_a_live_run() -> None:
    live = replace(
        status(), acquired=2000, delay=Delay(0.123, 0.3, 0.4), skipped_paused=(range(5),), paused=True,
        spooled_frames=900, spooled_bytes=7_400_000,
    )  # fmt: skip
    assert one_line(live).endswith("lag 1,183, 0.12 s · 900 on disk (7.4 MB) · 5 skipped · paused")


RANGES: dict[str, tuple[Ranges, str]] = {
    "none": ((), "none"),
    "one": ((range(17, 18),), "1 (17)"),
    "several": ((range(17, 18), range(40, 42)), "3 (17, 40–41)"),
}


@pytest.mark.parametrize(("ranges", "words"), RANGES.values(), ids=RANGES.keys())
def test_ranges(ranges: Ranges, words: str) -> None:
    assert ranges_in_words(ranges) == words


def test_many_ranges_are_cut_but_counted() -> None:
    words = ranges_in_words([range(2 * n, 2 * n + 1) for n in range(1000)])
    assert words.startswith("1,000 (0, 2, 4")
    assert "run.json" in words


@pytest.mark.parametrize(("size", "words"), [(312, "312 B"), (4200, "4.2 kB"), (1.1e9, "1.1 GB"), (2e12, "2 TB")])
def test_sizes(size: float, words: str) -> None:
    assert size_in_words(size) == words


def test_plain_lines_come_now_and_then() -> None:
    target, text = console()
    now = [0.0]
    with RunProgress(target, clock=lambda: now[0]) as progress:
        for second in range(12):
            now[0] = float(second)
            progress.show(status(analysed=second))
    assert [line.split("/")[0] for line in text.getvalue().splitlines()] == ["5", "10"]


def test_a_terminal_shows_the_newest_state() -> None:
    target, text = console(terminal=True)
    with RunProgress(target) as progress:
        progress.show(status(analysed=1))
        progress.show(status(analysed=999))
    assert "999/1,000 frames" in text.getvalue()


def test_a_warning_is_said_once_and_as_it_stands() -> None:
    target, text = console()
    logger = logging.getLogger("tests.terminal")
    printer = WarningPrinter(target)
    logger.addHandler(printer)
    try:
        for _ in range(3):
            logger.warning("baseline is %s", "[100]")
        logger.info("not shown")
    finally:
        logger.removeHandler(printer)
    assert text.getvalue() == "warning: baseline is [100]\n"


def test_a_table_keeps_brackets(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"x" * 1500)
    target, text = console()
    print_table(target, [("folder", "/data/[new]"), *file_sizes(tmp_path)])
    assert "/data/[new]" in text.getvalue()
    assert text.getvalue().splitlines()[1].split() == ["run.json", "1.5", "kB"]
