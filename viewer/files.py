"""What lies on a disk: tables of localisations in every format, and run folders, finished, crashed or still growing."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from config.errors import TableError
from engine.localisations import LOCALISATION_SCHEMA
from engine.output.formats import FORMATS, format_of, read_table
from engine.output.recorder import LogTail
from engine.output.table import (
    describe_field,
    metadata_of,
    numpy_column,
    require_columns,
    table_from_columns,
    with_metadata,
)
from viewer.client import Commands, Follower, WireFeed
from viewer.feed import Began, Feed, FeedStopped, Link, LinkChanged, Progress, QualityCame, Rows, StatusCame

logger = logging.getLogger(__name__)

LOG = "localisations.arrows"
"""The log in a run folder."""
REPORT = "run.json"
"""A run's account of itself; its ``end_reason`` is "running" until the run has ended."""
QUALITY, QUALITY_STREAM = "quality.parquet", "quality.arrows"
"""A run's figures of quality over time: the table made at its end, and the stream that is there until then."""
PORTION = 20_000
"""Rows of a file that the window gets at once: few enough that it stays awake, enough that it is soon done."""
ADDRESS = re.compile(r"(tcp://)?([^:/\\\s]+|\[[0-9a-fA-F:.%]+\]):\d{1,5}|tcp://.*")
"""An engine's address, as against the name of a folder; ``C:\\data`` is none."""
LOOK_EVERY = 0.2
"""Time between two looks at a growing log [s]."""
PATIENCE = 2.0
"""How long a run's engine may be unheard of before its log is read instead [s]."""
TRY_EVERY = 5.0
"""Between two attempts to find a run's engine [s]."""
SILENT_AFTER = 10.0
"""Seconds without growth after which a followed log is shown as stale."""


class FileFeed(Feed):
    """A table in a file."""

    def __init__(self, path: Path, pixel_size: float | None = None) -> None:
        """``pixel_size`` [nm] where the file does not tell it."""
        super().__init__(path.name)
        self._path, self._pixel_size = path, pixel_size

    def table(self) -> pa.Table:
        """The whole table. Raises TableError."""
        return read_any(self._path, self._pixel_size)

    def read(self) -> None:
        """Read the file and hand it over in portions."""
        self.put(Began(self.name))
        self.put(LinkChanged(Link.LOADING, f"reading {self.name}"))
        self.put(Progress(0, None))
        table = self.table()
        hand_over(self, table)
        self.put(LinkChanged(Link.DONE, str(self._path)))


def hand_over(feed: Feed, table: pa.Table) -> None:
    """Give a table to the window in portions."""
    metadata, total = metadata_of(table), table.num_rows
    feed.put(Rows(pa.RecordBatch.from_pylist([], LOCALISATION_SCHEMA), metadata))
    for start in range(0, total, PORTION):
        part = table.slice(start, PORTION).combine_chunks()
        feed.put(Rows(part.to_batches()[0], metadata))
        feed.put(Progress(min(total, start + PORTION), total))


def read_any(path: Path, pixel_size: float | None = None) -> pa.Table:
    """A table of any format. A Parquet file needs no more than x and y [nm]: what else is missing is not known.

    Raises TableError.
    """
    try:
        return read_table(path, pixel_size)
    except TableError:
        if path.suffix.lower() != ".parquet" or not path.is_file():
            raise
        return _sparse_parquet(path, pixel_size)


def _sparse_parquet(path: Path, pixel_size: float | None) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{path} cannot be read as Parquet: {error}.") from error
    require_columns(table.column_names, ("x", "y"), str(path))
    there = [name for name in LOCALISATION_SCHEMA.names if name in table.column_names]
    try:
        columns = {name: numpy_column(table, name).astype(np.float64) for name in there}
    except (TypeError, ValueError) as error:
        raise TableError(f"{path}: a column holds no numbers: {error}. x and y are expected in nm.") from error
    columns.setdefault("frame", np.zeros(table.num_rows))
    logger.warning("%s lacks %s", path, ", ".join(name for name in LOCALISATION_SCHEMA.names if name not in there))
    return with_metadata(table_from_columns(columns, metadata_of(table)), describe_field(pixel_size=pixel_size))


class RunFeed(Feed):
    """A run folder: finished, crashed or still going. While its engine answers, the wire adds what no log tells."""

    def __init__(self, folder: Path, keys: Path | None = None) -> None:
        """``folder`` need not exist yet: what is recorded into it is shown when it comes. ``keys`` as for WireFeed."""
        super().__init__(folder.resolve().name)
        self.folder, self._keys = folder, keys
        self._tail = LogTail(folder / LOG)
        self._read = 0
        """Batches read from the log."""
        self._given = 0
        """Batches handed over; the wire may have brought more than were read."""
        self._account: Mapping[str, Any] = {}
        self._commands: Commands = SimpleQueue()
        self._answers, self._answered = False, False
        """Whether the engine answers over the wire, and whether it ever did."""
        self._grown = 0.0
        """When the log last grew [s]."""
        self._try_after = 0.0
        """When the wire may be tried [s]."""
        self._told: LinkChanged | None = None

    @property
    def takes_commands(self) -> bool:
        """While its engine answers."""
        return self._answers

    def command(self, command: str, arguments: Mapping[str, Any]) -> None:
        """See Feed.command."""
        if self._answers:
            self._commands.put((command, dict(arguments)))
        else:
            super().command(command, arguments)

    def read(self) -> None:
        """Read what there is; then follow the run until it has ended."""
        self.put(Began(self.name))
        self._tell(Link.WAITING, f"waiting for the first localisations in {self.folder}")
        self._tell_quality()
        while not self._look():
            self._follow_wire()
            self.stopping.wait(LOOK_EVERY)
        self._tell_quality()
        self._tell(Link.ENDED, f"the run ended: {self._account['end_reason']}")

    def _look(self) -> bool:
        """Take in what is new; True once the run has ended and everything is here."""
        if self.stopping.is_set():
            raise FeedStopped
        # The account is read before the log: a run that has ended by then has recorded everything.
        account = read_account(self.folder)
        self._read_log()
        if account != self._account:
            self._account = account
            self.put(StatusCame(status_of(account)))
        return has_ended(account)

    def _read_log(self) -> None:
        if not (self.folder / LOG).exists():
            return
        batches = self._tail.read_new()
        new = batches[max(0, self._given - self._read) :]
        self._read += len(batches)
        self._given = max(self._given, self._read)
        if new and self._tail.schema is not None:
            self._grown = time.monotonic()
            if sum(batch.num_rows for batch in new) > PORTION:
                self._tell(Link.LOADING, f"reading {self.folder / LOG}")
            hand_over(self, pa.Table.from_batches(new, self._tail.schema))
        if self._given:
            self._tell_growth()

    def _tell_growth(self) -> None:
        """How a log stands that is followed by itself."""
        silence = time.monotonic() - self._grown
        if has_ended(self._account):
            return
        if silence < SILENT_AFTER:
            self._tell(Link.LIVE, f"following {self.folder / LOG}")
        elif self._try_after:
            self._tell(Link.LOST, "the engine does not answer; everything that it has recorded is here")
        else:
            self._tell(Link.STALE, f"nothing has been recorded for {SILENT_AFTER:.0f} s; what there is, is here")

    def _follow_wire(self) -> None:
        """As long as the run's engine answers."""
        endpoint = self._account.get("endpoint")
        if not isinstance(endpoint, str) or has_ended(self._account) or time.monotonic() < self._try_after:
            return
        with Follower(self.put, self._commands, endpoint, self._keys, self.name, self._given) as follower:
            try:
                while self._is_with(follower):
                    follower.step()
            finally:
                self._answers, self._given = False, follower.next
                self._told, self._grown = None, 0.0
                self._try_after = math.inf if follower.other else time.monotonic() + TRY_EVERY

    def _is_with(self, follower: Follower) -> bool:
        """Whether the wire still is the way to follow; the run's account says so where nobody answers."""
        self._answers = follower.up and not follower.other
        self._answered = self._answered or self._answers
        gone = not follower.up and follower.silence > PATIENCE
        return not (gone or follower.other or follower.ended or self.stopping.is_set())

    def _tell_quality(self) -> None:
        for figures in read_quality(self.folder):
            self.put(QualityCame(figures))

    def _tell(self, link: Link, words: str) -> None:
        """A change only."""
        told = LinkChanged(link, words)
        if told != self._told:
            self._told = told
            self.put(told)


def read_account(folder: Path) -> Mapping[str, Any]:
    """run.json; empty while it is missing or unreadable."""
    try:
        account = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return account if isinstance(account, dict) else {}


def has_ended(account: Mapping[str, Any]) -> bool:
    """Whether a run's account tells its end."""
    return account.get("end_reason") not in (None, "", "running")


def status_of(account: Mapping[str, Any]) -> Mapping[str, Any]:
    """run.json in the words of the wire's status (docs/wire.md)."""
    source, model = (account.get(name) or {} for name in ("source", "model"))
    missing = sum(last - first + 1 for first, last in account.get("missing_ranges") or [])
    return {
        "state": "running" if not has_ended(account) else str(account["end_reason"]),
        "end_reason": account.get("end_reason"),
        "source": source.get("name"),
        "model": model.get("name"),
        "expected": source.get("frames") or source.get("expected"),
        "warnings": account.get("warnings") or [],
    } | (
        {}
        if not has_ended(account)
        else {
            "acquired": account.get("frames_seen"),
            "analysed": account.get("frames_analysed"),
            "localisations": account.get("localisations"),
            "missing": missing,
            "rate_out": account.get("frames_per_second"),
            "elapsed": account.get("seconds"),
            "lag": 0,
        }
    )


def read_quality(folder: Path) -> list[Mapping[str, Any]]:
    """The figures of a run, row by row; none where there are none or they are unreadable, which is said in the log."""
    for name, read in ((QUALITY, pq.read_table), (QUALITY_STREAM, _whole_batches)):
        if not (folder / name).is_file():
            continue
        try:
            return list(read(folder / name).to_pylist())
        except (pa.ArrowInvalid, OSError) as error:
            logger.warning("%s cannot be read: %s", folder / name, error)
    return []


def _whole_batches(path: Path) -> pa.Table:
    """A stream as far as it is whole: it may be torn at its end, or still grow."""
    stream, batches = pa.ipc.open_stream(path.read_bytes()), []
    try:
        while True:
            batches.append(stream.read_next_batch())
    except (StopIteration, pa.ArrowInvalid, OSError):
        return pa.Table.from_batches(batches, stream.schema)


def open_feed(target: str, keys: Path | None = None, pixel_size: float | None = None) -> Feed:
    """A feed of whatever ``target`` names: a file, a run folder (also one to come), or an engine's address.

    ``pixel_size`` [nm] where a file does not tell it. Raises WireError for what can be none of these, TableError for
    a file of no known kind.
    """
    path = Path(target)
    if path.is_file() and path.name in (REPORT, LOG) and (path.parent / REPORT).is_file():
        return RunFeed(path.parent, keys)
    if path.is_file():
        format_of(path)
        return FileFeed(path, pixel_size)
    if path.suffix.lower() in FORMATS and not path.exists():
        raise TableError(f"there is no file {path}. Check the name.")
    if path.is_dir() or (not ADDRESS.fullmatch(target) and path.parent.is_dir()):
        return RunFeed(path, keys)
    return WireFeed(target, keys)
