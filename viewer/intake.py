"""From a feed into the session and the canvas, a few milliseconds at a time, so that the window never stops."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from PyQt5.QtCore import QObject, QTimer, pyqtSignal

from config.errors import TableError
from viewer.canvas import Canvas
from viewer.feed import Began, Feed, Link, LinkChanged, News, Progress, Rows
from viewer.render import recorded_field
from viewer.state import Session

INTERVAL = 30
"""Between two looks at the feed [ms]."""
SHORT = 0.3
"""How long opening something waits for what was open before to end [s]."""
LEAST, MOST = 0.012, 0.06
"""Time for taking in what waits, each time [s]: as long as all else takes, within these. Where showing the window is
slow, as it is without a graphics card, reading a file still gets half of the time."""


class Intake(QObject):
    """Takes in what one feed after the other brings."""

    began = pyqtSignal()
    """Another run or file is shown from now on."""
    told = pyqtSignal()
    """The session knows something new, besides localisations."""

    def __init__(self, canvas: Canvas) -> None:
        super().__init__(canvas)
        self.session = Session()
        self.feed: Feed | None = None
        self._ending: list[Feed] = []
        """Feeds that were left, as long as their threads run."""
        self._canvas = canvas
        self._looked = 0.0
        """When news were last taken in [s]."""
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._look)

    @property
    def takes_commands(self) -> bool:
        """Whether there is an engine to be told something."""
        return self.feed is not None and self.feed.takes_commands

    @property
    def complete(self) -> bool:
        """Whether everything that there is has been taken in: a whole file or run, or all that a live one has."""
        whole = self.session.link in (Link.LIVE, Link.ENDED, Link.DONE, Link.FAILED, Link.LOST, Link.STALE)
        return whole and (self.feed is None or self.feed.drained)

    def open(self, feed: Feed) -> None:
        """Show what ``feed`` brings, instead of whatever was shown before."""
        if self.feed is not None:
            # One that is in the midst of a large file ends by itself later; nobody should wait for that.
            self.feed.stop(SHORT)
            self._ending = [old for old in (*self._ending, self.feed) if old.alive]
        self.session = Session()
        self._clear()
        self.feed = feed
        feed.start()
        self._timer.start(INTERVAL)
        self.began.emit()

    def close(self) -> None:
        """End every feed. May be called twice."""
        self._timer.stop()
        for feed in (*self._ending, *([self.feed] if self.feed is not None else [])):
            feed.stop()
        self.feed, self._ending = None, []

    def command(self, command: str, arguments: Mapping[str, Any]) -> None:
        """Ask the engine for something."""
        if self.feed is not None:
            self.feed.command(command, arguments)

    def _look(self) -> None:
        began, told = time.monotonic(), False
        deadline = began + min(MOST, max(LEAST, began - self._looked))
        while self.feed is not None and (news := self.feed.take()) is not None:
            told = self._take(news) or told
            if time.monotonic() >= deadline:
                break
        self._looked = time.monotonic()
        if told:
            self.told.emit()

    def _take(self, news: News) -> bool:
        """True where it is more than localisations."""
        self.session.take(news)
        if isinstance(news, Rows):
            self._append(news)
            return False
        if isinstance(news, Began):
            self._clear()
            self.began.emit()
        return not isinstance(news, Progress)

    def _append(self, news: Rows) -> None:
        if news.metadata:
            self._canvas.set_field(recorded_field(news.metadata))
        try:
            self._canvas.append(news.batch)
        except TableError as error:
            self.session.take(LinkChanged(Link.FAILED, str(error)))
            self.close()
            self.told.emit()

    def _clear(self) -> None:
        self._canvas.store.clear()
        self._canvas.set_field(None)
        self._canvas.set_rectangle(None)
        for axis in ("x", "y"):
            self._canvas.store.set_filter(axis, float("-inf"), float("inf"))
        self._canvas.refresh()
