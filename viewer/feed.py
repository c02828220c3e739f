"""What reaches the window, whatever it comes from: news from a thread of its own, handed over in bounded portions.

A feed reads a live endpoint (viewer/client.py), a run folder or a file (viewer/files.py). Its thread waits while the
window is busy, so that neither memory nor the window's frame time depends on how much there is to catch up. No Qt here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from queue import Empty, Full, Queue
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from config.errors import LivelocError

logger = logging.getLogger(__name__)

WAITING_NEWS = 256
"""News that may wait for the window before the feed's thread waits in turn."""
JOIN_SECONDS = 5.0
"""How long closing waits for the feed's thread."""


class Link(Enum):
    """How things stand between the window and what it shows."""

    EMPTY = "nothing open"
    """Nothing is shown."""
    WAITING = "waiting"
    """The engine, or the run's first localisation, is not there yet."""
    LOADING = "loading"
    """A file or the past of a run is being read."""
    LIVE = "live"
    """Messages arrive."""
    STALE = "stale"
    """Connected, but nothing has come for a while."""
    LOST = "lost"
    """The engine is gone or cannot be reached; it is tried again."""
    ENDED = "ended"
    """The run has ended; everything is here."""
    DONE = "file"
    """A file is here as a whole."""
    FAILED = "failed"
    """It cannot be shown; the words say why."""


@dataclass(frozen=True)
class Rows:
    """Localisations to append."""

    batch: pa.RecordBatch
    """LOCALISATION_SCHEMA."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the table says of the recording (engine/output/table.py)."""


@dataclass(frozen=True)
class Began:
    """Another run, or a file, begins: whatever was shown before goes."""

    name: str


@dataclass(frozen=True)
class LinkChanged:
    """How the connection stands now."""

    link: Link
    words: str = ""
    """For people: whom it waits for, why it failed."""


@dataclass(frozen=True)
class StatusCame:
    """The engine's account of itself (docs/wire.md), or run.json in the same words."""

    status: Mapping[str, Any]


@dataclass(frozen=True)
class QualityCame:
    """One row of figures; None where a figure is unknown."""

    figures: Mapping[str, Any]


@dataclass(frozen=True)
class PreviewCame:
    """A camera frame with its detections."""

    frame: int
    pixels: NDArray[np.generic]
    """(H, W) [ADU]."""
    x: NDArray[np.float64]
    """(N,) columns of the detections [pixels], from the outer corner of pixel (0, 0)."""
    y: NDArray[np.float64]
    """(N,) rows."""


@dataclass(frozen=True)
class Progress:
    """How much of something long has been read."""

    done: int
    total: int | None
    """None where it is not known."""


@dataclass(frozen=True)
class Counted:
    """What went wrong on the wire, so far."""

    malformed: int
    gaps: int
    """Messages that were lost and asked for again."""


@dataclass(frozen=True)
class Answered:
    """What became of a command."""

    command: str
    refused: str | None
    """Why not; None where it was done."""


News: TypeAlias = Rows | Began | LinkChanged | StatusCame | QualityCame | PreviewCame | Progress | Counted | Answered


class FeedStopped(Exception):
    """The window is closing."""


class Feed:
    """Reads something on a thread of its own. Subclasses say what in ``read``."""

    def __init__(self, name: str) -> None:
        """``name`` is what a person would call it: an address, a file name."""
        self.name = name
        self.stopping = threading.Event()
        self._news: Queue[News] = Queue(WAITING_NEWS)
        self._thread = threading.Thread(target=self._work, name=f"feed {name}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread.is_alive()

    @property
    def takes_commands(self) -> bool:
        """Whether there is an engine behind it that can be told something."""
        return False

    def start(self) -> None:
        """Begin to read. Once."""
        self._thread.start()

    def stop(self, patience: float = JOIN_SECONDS) -> None:
        """Stop reading; wait up to ``patience`` seconds for the thread. May be called twice, and before ``start``."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(patience)

    def take(self) -> News | None:
        """The oldest news that wait; None where there are none. Called by the window; never waits."""
        try:
            return self._news.get_nowait()
        except Empty:
            return None

    @property
    def drained(self) -> bool:
        """Whether no news wait."""
        return self._news.empty()

    def command(self, command: str, arguments: Mapping[str, Any]) -> None:  # noqa: ARG002 (for those that can)
        """Ask the engine for something; an Answered follows among the news. Never waits."""
        self.offer(Answered(command, "there is no engine to tell: this is a recording"))

    def read(self) -> None:
        """Read until the end or until ``stopping``; hand over by ``put``. Runs on the feed's thread."""
        raise NotImplementedError

    def put(self, news: News) -> None:
        """Hand over; waits while the window is behind. Raises FeedStopped when the window closes."""
        while not self.stopping.is_set():
            try:
                self._news.put(news, timeout=0.1)
            except Full:
                continue
            return
        raise FeedStopped

    def offer(self, news: News) -> None:
        """Hand over what may be lost when the window is behind. Never waits."""
        try:
            self._news.put_nowait(news)
        except Full:
            logger.info("the window is behind; left out: %s", type(news).__name__)

    def _work(self) -> None:
        try:
            self.read()
        except FeedStopped:
            pass
        except (LivelocError, OSError, MemoryError) as error:
            self._fail(str(error) or type(error).__name__)
        except Exception as error:
            logger.exception("reading %s failed", self.name)
            self._fail(f"{self.name} cannot be shown because of an error in liveloc: {error!r}")

    def _fail(self, words: str) -> None:
        try:
            self.put(LinkChanged(Link.FAILED, words))
        except FeedStopped:
            logger.info("closed before this could be shown: %s", words)
