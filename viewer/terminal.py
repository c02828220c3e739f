"""What a run shows in a terminal: a live line, warnings in words, a summary. Without a terminal: plain lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from engine.ledger import count
from engine.scale.outcome import Outcome
from engine.status import Status

PLAIN_EVERY = 5.0
"""Time between two plain lines [s]."""
RANGES_SHOWN = 8
"""Ranges of missing frames that a summary lists; run.json has all."""


class RunProgress:
    """Shows a run while it goes. A context; ``show`` is the pipeline's watcher."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self._console, self._clock = console, clock
        self._live = _progress(console) if console.is_terminal else None
        self._task: TaskID | None = None
        self._next_line = clock() + PLAIN_EVERY

    def show(self, status: Status, lead: str = "") -> None:
        """Show where the run stands, after ``lead``. Called a few times a second."""
        words = f"{lead} · {one_line(status)}" if lead else one_line(status)
        if self._live is not None:
            self._show_live(self._live, status, words)
        elif self._clock() >= self._next_line:
            self._next_line = self._clock() + PLAIN_EVERY
            self._console.print(words, highlight=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _show_live(self, live: Progress, status: Status, words: str) -> None:
        if self._task is None:
            self._task = live.add_task("", total=status.expected, words="")
        live.update(self._task, completed=status.analysed, total=status.expected, words=words)


def _progress(console: Console) -> Progress:
    columns = (BarColumn(10), TextColumn("{task.fields[words]}"), TimeElapsedColumn())
    return Progress(*columns, console=console, refresh_per_second=5)


def one_line(status: Status) -> str:
    """Where a run stands: ``812/1,000 frames · 120 frames/s · 30,114 localisations · lag 4, 0.12 s``.

    Behind it, where there are any: frames on disk, missing and skipped frames, and whether it is paused.
    """
    expected = f"/{status.expected:,}" if status.expected is not None else ""
    delay = f", {status.delay.median:.2f} s" if status.delay else ""
    parts = [
        f"{status.analysed:,}{expected} frames",
        f"{status.rate_out:.0f} frames/s",
        f"{status.localisations:,} localisations",
        f"lag {status.lag:,}{delay}",
    ]
    if status.spooled_frames:
        parts.append(f"{status.spooled_frames:,} on disk ({size_in_words(status.spooled_bytes)})")
    lost, skipped = count(status.missing), count(status.skipped)
    parts += [f"{lost:,} missing"] if lost else []
    parts += [f"{skipped:,} skipped"] if skipped else []
    return " · ".join([*parts, "paused"] if status.paused else parts)


def ranges_in_words(ranges: Sequence[range]) -> str:
    """``3 (17, 40–41)``; ``none``."""
    if not ranges:
        return "none"
    shown = [f"{r.start}" if len(r) == 1 else f"{r.start}–{r.stop - 1}" for r in ranges[:RANGES_SHOWN]]
    more = ", …; run.json lists all" if len(ranges) > RANGES_SHOWN else ""
    return f"{count(ranges):,} ({', '.join(shown)}{more})"


def print_table(console: Console, rows: Iterable[tuple[str, str]], title: str = "") -> None:
    """Two columns, a name and a value."""
    table = Table(title=title or None, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    console.print(table)


def print_outcomes(console: Console, outcomes: Sequence[Outcome]) -> None:
    """A line for each of many stacks, and one for all."""
    table = Table(box=None, pad_edge=False)
    for name in ("stack", "frames", "localisations", "run folder", ""):
        table.add_column(name, justify="right" if name in ("frames", "localisations") else "left", overflow="fold")
    for outcome in outcomes:
        figures = ("", "")
        if outcome.status is not None:
            figures = (f"{outcome.status.analysed:,}", f"{outcome.status.localisations:,}")
        folder = str(outcome.place.folder) if outcome.place.folder and (outcome.status or outcome.done_before) else ""
        table.add_row(escape(str(outcome.place.stack)), *figures, escape(folder), escape(outcome.words))
    console.print(table)
    console.print(f"{sum(outcome.done for outcome in outcomes):,} of {len(outcomes):,} stacks done", highlight=False)


def file_sizes(folder: Path) -> list[tuple[str, str]]:
    """Each file of a folder with its size, for a summary."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [(f"  {path.name}", size_in_words(path.stat().st_size)) for path in files]


def size_in_words(size: float) -> str:
    """Bytes for people: 312 B, 4.2 kB, 1.1 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


class WarningPrinter(logging.Handler):
    """Prints each warning once, above whatever is live on the console."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging, from any thread, under the handler's lock."""
        text = record.getMessage()
        if text not in self._said:
            self._said.add(text)
            self._console.print(
                f"[yellow]{record.levelname.lower()}:[/] {escape(text)}", highlight=False, soft_wrap=True
            )
