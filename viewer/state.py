"""What the window knows, without Qt: the connection, the engine's figures, their history, the newest camera frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import singledispatchmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viewer.feed import (
    Answered,
    Began,
    Counted,
    Link,
    LinkChanged,
    News,
    PreviewCame,
    Progress,
    QualityCame,
    Rows,
    StatusCame,
)

TIME = "time"
"""The figure that the others run along [s]."""
LARGEST = 1e300
"""Of a figure; JSON has numbers of any length."""
MOST_FIGURES = 20_000
"""Rows of figures that are kept; beyond that every second one goes. At one a second, five hours."""


class History:
    """Figures of quality over time: columns that grow."""

    def __init__(self) -> None:
        self._rows: list[Mapping[str, float]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, figures: Mapping[str, Any]) -> None:
        """Take one row; what is no number (maps, words) is left out.

        A row that is no newer than the last is known already: a run's file and the wire both tell it.
        """
        row = {name: number(value) for name, value in figures.items() if math.isfinite(number(value))}
        if self._rows and row.get(TIME, math.inf) <= self._rows[-1].get(TIME, -math.inf):
            return
        self._rows.append(row)
        if len(self._rows) > MOST_FIGURES:
            self._rows = self._rows[::2]

    def column(self, name: str) -> NDArray[np.float64]:
        """(rows,); NaN where the figure is unknown."""
        return np.array([row.get(name, math.nan) for row in self._rows], np.float64)

    def newest(self, name: str) -> float:
        """The last known value, NaN where there is none."""
        return next((row[name] for row in reversed(self._rows) if name in row), math.nan)


def number(value: Any) -> float:
    """A figure from the wire; NaN for what is none. True and False are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > LARGEST:
        return math.nan
    return float(value)


class Session:
    """Everything that one connection or file has told so far, except the localisations, which go to the point store."""

    def __init__(self) -> None:
        self.link = Link.EMPTY
        self.words = ""
        """What the link says of itself, for people."""
        self.malformed = 0
        """Messages that could not be read."""
        self.gaps = 0
        """Messages that were lost and asked for again."""
        self.answer: Answered | None = None
        """What became of the last command."""
        self.forget("")

    def forget(self, name: str) -> None:
        """Another run or file, called ``name``, is shown from now on. The link and its counts stay."""
        self.name = name
        self.status: Mapping[str, Any] = {}
        self.quality = History()
        self.preview: PreviewCame | None = None
        self.metadata: Mapping[str, str] = {}
        """What the table says of the recording (engine/output/table.py)."""
        self.localisations = 0
        """That have come."""
        self.frame = -1
        """The newest frame with a localisation, −1 before the first."""
        self.progress: Progress | None = None
        """How far a long file is read; None when nothing is being read."""

    @singledispatchmethod
    def take(self, news: News) -> None:
        """Take in one piece of news."""
        raise NotImplementedError(type(news).__name__)

    @take.register
    def _(self, news: Rows) -> None:
        self.localisations += news.batch.num_rows
        if news.metadata:
            self.metadata = news.metadata
        if news.batch.num_rows:
            self.frame = max(self.frame, int(np.max(news.batch.column("frame").to_numpy())))

    @take.register
    def _(self, news: Began) -> None:
        self.forget(news.name)

    @take.register
    def _(self, news: LinkChanged) -> None:
        self.link, self.words = news.link, news.words
        if news.link is not Link.LOADING:
            self.progress = None

    @take.register
    def _(self, news: StatusCame) -> None:
        self.status = news.status

    @take.register
    def _(self, news: QualityCame) -> None:
        self.quality.append(news.figures)

    @take.register
    def _(self, news: PreviewCame) -> None:
        self.preview = news

    @take.register
    def _(self, news: Progress) -> None:
        self.progress = news

    @take.register
    def _(self, news: Counted) -> None:
        self.malformed, self.gaps = news.malformed, news.gaps

    @take.register
    def _(self, news: Answered) -> None:
        self.answer = news
