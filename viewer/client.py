"""Follows an engine over the wire for the window: its localisations without a gap, and how the connection stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeAlias

import pyarrow as pa

from config.errors import WireError
from engine.output import subscriber as wire
from engine.output.subscriber import Subscriber
from engine.output.table import PIXEL_SIZE
from engine.output.wire import endpoint as endpoint_of
from engine.output.wire import split_endpoint
from viewer.feed import (
    Answered,
    Began,
    Counted,
    Feed,
    Link,
    LinkChanged,
    News,
    PreviewCame,
    Progress,
    QualityCame,
    Rows,
    StatusCame,
)

POLL = 0.05
"""Longest wait for a message before commands are looked at [s]."""
STALE_AFTER = 5.0
"""Seconds without a message from a connected engine until that is shown. Its status comes several times a second."""


Commands: TypeAlias = SimpleQueue[tuple[str, dict[str, Any]]]
"""Commands and their arguments, from the window's thread to the feed's."""


class Follower:
    """Turns what a Subscriber tells into news for a feed, on the feed's thread."""

    def __init__(
        self,
        put: Callable[[News], None],
        commands: Commands,
        endpoint: str,
        keys: Path | None = None,
        run: str | None = None,
        first: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``run``: the only run that is of interest; ``first``: the first of its batches that is. Raises WireError."""
        self._put, self._commands, self._clock = put, commands, clock
        self._subscriber = Subscriber(endpoint, keys)
        self.endpoint = self._subscriber.endpoint
        self._run, self.next = run, first
        self._told: LinkChanged | None = None
        self._counted = Counted(0, 0)
        self._heard = clock()
        self.up: bool = False
        """Whether the engine answers."""
        self.other = False
        """Whether somebody else answers there: not the run that is of interest."""
        self._down_words = f"looking for an engine at {self.endpoint}"
        self._known = self._heard_once = False
        self._behind = True
        self._end_reason = ""

    @property
    def ended(self) -> bool:
        """Whether the run has ended and all of it is here."""
        return bool(self._end_reason) and not self._behind

    @property
    def silence(self) -> float:
        """Seconds since the engine was last heard of."""
        return self._clock() - self._heard

    def step(self) -> None:
        """Take in what has come, waiting a moment for it; carry out commands."""
        self._send_commands()
        events = self._subscriber.poll(POLL)
        if events and self.up:
            self._heard = self._clock()
        batches: list[wire.Batch] = []
        for event in events:
            if isinstance(event, wire.Batch):
                batches.append(event)
                continue
            self._hand_over(batches)
            self._take(event)
        self._hand_over(batches)
        self._count()
        self._tell_link()

    def close(self) -> None:
        """Close the connection. May be called twice."""
        self._subscriber.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, event: wire.Event) -> None:
        match event:
            case wire.Linked():
                self.up, self._down_words = event.up, event.words
                self._heard_once = self._heard_once or event.up
                self._heard = self._clock() if event.up else self._heard
            case wire.Began():
                self._begin(event)
            case wire.StatusCame():
                self._end_reason = _end_reason(event.status)
                self._put(StatusCame(event.status))
            case wire.QualityCame():
                self._put(QualityCame(event.figures))
            case wire.PreviewCame():
                self._put(_preview(event))
            case wire.Answered():
                self._put(Answered(event.command, event.reason))
            case _:
                pass  # malformed messages are counted below

    def _begin(self, event: wire.Began) -> None:
        if self._run is not None and event.run != self._run:
            self.other = True
        if self._run is None:
            self.next = 0
            self._put(Began(event.run))
        self._end_reason = ""
        self._behind = bool(event.description.get("batches"))
        self._known = True

    def _hand_over(self, batches: list[wire.Batch]) -> None:
        """Several batches at once where several have come, as each costs the window the same."""
        if not batches:
            return
        last, new = batches[-1], [batch.rows for batch in batches if batch.sequence >= self.next]
        batches.clear()
        self._behind = last.sequence + 1 < last.total
        if not new or self.other:
            return
        self.next = last.sequence + 1
        self._put(Rows(_joined(new), _metadata(new[0].schema)))
        if self._behind:
            self._put(Progress(last.sequence + 1, last.total))

    def _count(self) -> None:
        counted = Counted(self._subscriber.malformed, self._subscriber.gaps)
        if counted != self._counted:
            self._counted = counted
            self._put(counted)

    def _tell_link(self) -> None:
        """A change only. Who looks for one run says itself that its engine is not there."""
        link = self._link()
        if link != self._told and (self._run is None or self._heard_once):
            self._told = link
            self._put(link)

    def _link(self) -> LinkChanged:
        if self.ended:
            return LinkChanged(Link.ENDED, f"the run ended: {self._end_reason}")
        if not self.up:
            return LinkChanged(Link.LOST if self._known else Link.WAITING, self._down_words)
        if self._behind:
            return LinkChanged(Link.LOADING, f"catching up with {self.endpoint}")
        if self.silence > STALE_AFTER:
            return LinkChanged(Link.STALE, f"connected to {self.endpoint}, but it has fallen silent")
        return LinkChanged(Link.LIVE, self._down_words)

    def _send_commands(self) -> None:
        try:
            while True:
                self._send(*self._commands.get_nowait())
        except Empty:
            return

    def _send(self, command: str, arguments: dict[str, Any]) -> None:
        try:
            self._subscriber.command(command, **arguments)
        except WireError as error:
            self._put(Answered(command, str(error)))


def _joined(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches).combine_chunks()
    return table.to_batches()[0]


def _metadata(schema: pa.Schema) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}


def _end_reason(status: Mapping[str, Any]) -> str:
    reason = status.get("end_reason")
    return "" if reason in (None, "running") else str(reason)


def _preview(event: wire.PreviewCame) -> PreviewCame:
    """The detections in pixels of the frame, as far as the table's metadata tell the pixel size."""
    preview = event.preview
    pixel = _pixel_size(preview.rows.schema)
    x, y = (preview.rows.column(axis).to_numpy() / pixel - preview.origin[place] for place, axis in enumerate("xy"))
    return PreviewCame(preview.frame, preview.pixels, x, y)


def _pixel_size(schema: pa.Schema) -> float:
    """[nm]; NaN where the metadata do not tell it: then no detection is drawn."""
    try:
        return float(_metadata(schema).get(PIXEL_SIZE, "nan"))
    except ValueError:
        return float("nan")


class WireFeed(Feed):
    """Whatever engine is at an address, now and later."""

    def __init__(self, endpoint: str, keys: Path | None = None) -> None:
        """``keys``: the folder that `liveloc keys` made for this viewer. Raises WireError for an impossible address."""
        super().__init__(endpoint_of(*split_endpoint(endpoint)))
        self._keys = keys
        self._commands: Commands = SimpleQueue()

    @property
    def takes_commands(self) -> bool:
        """There may be an engine."""
        return True

    def command(self, command: str, arguments: Mapping[str, Any]) -> None:
        """See Feed.command."""
        self._commands.put((command, dict(arguments)))

    def read(self) -> None:
        """Follow until the window closes."""
        with Follower(self.put, self._commands, self.name, self._keys) as follower:
            while not self.stopping.is_set():
                follower.step()
