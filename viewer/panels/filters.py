"""Filters: for each column a histogram of what there is, and a slider beneath it that says what is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyqtgraph as pg  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PyQt5.QtCore import Qt, pyqtSignal
from PyQt5.QtGui import QColor, QDoubleValidator
from PyQt5.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QPushButton, QSizePolicy, QToolButton, QVBoxLayout, QWidget
from superqt import QDoubleRangeSlider

from viewer import style
from viewer.panels.parts import Plot, caption, column
from viewer.tally import Histogram

Range = tuple[float, float]
"""Lowest and highest value that is shown; infinite where that side is open."""
EVERYTHING: Range = (-math.inf, math.inf)
TAIL = 0.005
"""Share of the values at each end that may lie behind the slider's end."""
STEPS = 1000
"""Positions of a slider."""


@dataclass(frozen=True)
class Filterable:
    """A column that can be filtered by."""

    name: str
    """In the point store."""
    title: str
    unit: str
    decimals: int
    """Written behind the point."""


FILTERABLE = (
    Filterable("precision", "Precision", "nm", 1),
    Filterable("probability", "Probability", "", 3),
    Filterable("photons", "Photons", "", 0),
    Filterable("frame", "Frame", "", 0),
    Filterable("z", "z", "nm", 0),
    Filterable("background", "Background", "ph/px", 1),
)


def bulk(histogram: Histogram) -> Range:
    """What all but a few per mille of the values at either end lie between; (NaN, NaN) where none is known.

    One value in a thousand may be a hundred times as large as the others, which would then share a few pixels.
    """
    total = histogram.counts.sum()
    if not total > 0:
        return histogram.low, histogram.high
    cumulative = np.cumsum(histogram.counts) / total
    edges = np.linspace(histogram.low, histogram.high, histogram.counts.size + 1)
    first, last = np.searchsorted(cumulative, (TAIL, 1 - TAIL))
    return float(edges[first]), float(edges[min(last + 1, histogram.counts.size)])


def tidy(low: float, high: float) -> Range:
    """Round limits around ``low`` to ``high``, so that an axis seldom moves while data come; (NaN, NaN) unknown."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return math.nan, math.nan
    width = high - low or max(abs(high), 1.0)
    step = 10.0 ** math.floor(math.log10(width)) / 2
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    return bottom, top if top > bottom else bottom + step


class FilterRow(QWidget):
    """One column: its histogram, its slider, its limits as numbers."""

    changed = pyqtSignal(float, float)
    """(low, high); infinite where open."""

    def __init__(self, about: Filterable) -> None:
        super().__init__()
        self._about, self._range = about, EVERYTHING
        self._extent: Range = (0.0, 1.0)
        self._counts: NDArray[np.float64] = np.zeros(0)
        self.low, self.high, self.slider = QLineEdit(), QLineEdit(), _slider()
        self._reset, self._plot = QToolButton(), Plot(32)
        self._outside, self._inside = (_bars(self._plot, colour) for colour in (style.LINE, style.ACCENT))
        self._build()
        self._connect()
        self.set_range(EVERYTHING)

    @property
    def range(self) -> Range:
        """What is shown."""
        return self._range

    def set_range(self, limits: Range) -> None:
        """Show ``limits``, without a signal."""
        self._range = limits
        for edit, limit in zip((self.low, self.high), limits, strict=True):
            edit.setText("" if math.isinf(limit) else self._text(limit))
        self._reset.setEnabled(limits != EVERYTHING)
        self._place_handles()
        self._colour()

    def show_histogram(self, low: float, high: float, counts: NDArray[np.float64]) -> None:
        """``counts`` of equal bins from ``low`` to ``high``. What lies outside is behind the slider's ends."""
        if not (math.isfinite(low) and math.isfinite(high) and high > low):
            counts = np.zeros(0)
        else:
            self._extent = (low, high)
        self._counts = counts
        for widget in (self.slider, self.low, self.high):
            widget.setEnabled(counts.size > 0)
        self.slider.setProperty("barColor", QColor(style.ACCENT if counts.size else style.LINE))
        self._plot.show_limits(self._extent, (0, max(1.0, float(counts.max(initial=0))) * 1.05))
        self._place_handles()
        self._colour()

    def _build(self) -> None:
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addLayout(self._head())
        whole.addWidget(self._plot)
        whole.addWidget(self.slider)
        self._plot.hideAxis("left")
        self._plot.hideAxis("bottom")
        # The slider's handles stand in by half their width; the histogram has to as well.
        item: Any = self._plot.getPlotItem()
        item.setContentsMargins(4, 0, 4, 0)
        self.slider.setFixedHeight(16)

    def _head(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(4)
        title = QLabel(self._about.title)
        unit = caption(self._about.unit)
        unit.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row.addWidget(title)
        row.addWidget(unit, 1)
        for edit, hint in ((self.low, "min"), (self.high, "max")):
            edit.setPlaceholderText(hint)
            edit.setFixedWidth(58)
            edit.setAlignment(Qt.AlignmentFlag.AlignRight)
            edit.setValidator(_validator(edit))
            edit.setToolTip(f"{self._about.title}: {hint}imum that is shown; empty for no limit")
            row.addWidget(edit)
        self._reset.setText("↺")
        self._reset.setToolTip(f"Show every {self._about.title.lower()}")
        self._reset.setAutoRaise(True)
        row.addWidget(self._reset)
        return row

    def _connect(self) -> None:
        self.slider.valueChanged.connect(self._slid)
        self.low.editingFinished.connect(self._typed)
        self.high.editingFinished.connect(self._typed)
        self._reset.clicked.connect(lambda: self._choose(EVERYTHING))

    def _slid(self, handles: tuple[float, float]) -> None:
        """A handle at its end stands for no limit, so that what has yet to come is not cut off."""
        step = (self._extent[1] - self._extent[0]) / STEPS
        low = -math.inf if handles[0] <= self._extent[0] + step / 2 else round(handles[0], self._about.decimals)
        high = math.inf if handles[1] >= self._extent[1] - step / 2 else round(handles[1], self._about.decimals)
        # A handle that was not touched keeps a limit that lies beyond the slider, or between two of its steps.
        held = self._held()
        self._choose(
            (
                self._range[0] if abs(handles[0] - held[0]) < step / 2 else low,
                self._range[1] if abs(handles[1] - held[1]) < step / 2 else high,
            )
        )

    def _typed(self) -> None:
        low, high = (_parsed(edit) for edit in (self.low, self.high))
        limits = -math.inf if low is None else low, math.inf if high is None else high
        self._choose((min(limits), max(limits)))

    def _choose(self, limits: Range) -> None:
        if limits != self._range:
            self.set_range(limits)
            self.changed.emit(*limits)

    def _held(self) -> Range:
        """Where the handles stand for the range that is chosen."""
        low, high = (min(max(limit, self._extent[0]), self._extent[1]) for limit in self._range)
        return low, high

    def _place_handles(self) -> None:
        self.slider.blockSignals(True)
        low, high = self._extent
        self.slider.setRange(low, high)
        self.slider.setSingleStep((high - low) / STEPS)
        self.slider.setValue(self._held())
        self.slider.blockSignals(False)

    def _colour(self) -> None:
        """What is shown in the accent's colour, the rest dark."""
        edges = np.linspace(*self._extent, self._counts.size + 1)
        centres = (edges[1:] + edges[:-1]) / 2
        shown = (centres >= self._range[0]) & (centres <= self._range[1])
        for bars, mask in ((self._outside, ~shown), (self._inside, shown)):
            bars.setData(edges, np.where(mask, self._counts, 0.0))

    def _text(self, value: float) -> str:
        return f"{value:.{self._about.decimals}f}"


def _slider() -> QDoubleRangeSlider:
    return QDoubleRangeSlider(Qt.Orientation.Horizontal)  # type: ignore[no-untyped-call]


def _bars(plot: Plot, colour: str) -> pg.PlotDataItem:
    bars = pg.PlotDataItem([0, 1], [0], stepMode="center", fillLevel=0, brush=colour, pen=None)
    plot.addItem(bars)
    return bars


def _validator(parent: QLineEdit) -> QDoubleValidator:
    validator = QDoubleValidator(parent)
    validator.setLocale(parent.locale().c())
    return validator


def _parsed(edit: QLineEdit) -> float | None:
    """The number; None where the field is empty or holds no finite number."""
    try:
        value = float(edit.text())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


class FilterPanel(QWidget):
    """All filters, and how many localisations they let through."""

    changed = pyqtSignal(str, float, float)
    """(column, low, high); infinite where open."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = {about.name: FilterRow(about) for about in FILTERABLE}
        self._shown, self.reset = QLabel(), QPushButton("Show all")
        layout = column(self, 5)
        for name, row in self.rows.items():
            layout.addWidget(row)
            row.changed.connect(lambda low, high, name=name: self.changed.emit(name, low, high))
        layout.addLayout(self._foot())
        layout.addStretch(1)
        self.reset.clicked.connect(self.open_all)
        self.reset.setToolTip("Take every filter off")
        self.show_counts(0, 0)

    @property
    def ranges(self) -> dict[str, Range]:
        """The filters that are on."""
        return {name: row.range for name, row in self.rows.items() if row.range != EVERYTHING}

    def set_ranges(self, ranges: Mapping[str, Range]) -> None:
        """Show these filters and no others, without a signal."""
        for name, row in self.rows.items():
            row.set_range(ranges.get(name, EVERYTHING))

    def open_all(self) -> None:
        """Take every filter off, with a signal for each that was on."""
        for name in self.ranges:
            self.rows[name].set_range(EVERYTHING)
            self.changed.emit(name, *EVERYTHING)

    def show_counts(self, shown: int, all_: int) -> None:
        """How many of all localisations are shown."""
        share = f" · {shown / all_:.1%}" if all_ and shown < all_ else ""
        self._shown.setText(f"{shown:,} of {all_:,}{share}" if all_ else "nothing to filter yet")
        self.reset.setEnabled(bool(self.ranges))

    def _foot(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self._shown.setObjectName("caption")
        row.addWidget(self._shown, 1)
        row.addWidget(self.reset)
        return row
