"""Quality: figures of the run over time, one small plot each, with the newest value written beside its name."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from viewer import style
from viewer.panels.parts import Plot, words
from viewer.state import TIME, History

STEPS = (10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000)
"""Between two ticks of the time axis [s]."""
MOST_TICKS = 5
"""On the time axis."""
AXIS = 38
"""Width of the numbers at the left [px]: fixed, so that the plots stay where they are."""


@dataclass(frozen=True)
class Curves:
    """One plot."""

    title: str
    unit: str
    figures: tuple[str, ...]
    """Names of its curves on the wire."""
    names: tuple[str, ...] = ("",)
    """What people call them, where there are several."""
    target: str | None = None
    """A figure that is drawn as a dashed line: what is aimed at."""
    from_zero: bool = True
    """Whether the axis begins at nought."""


PLOTS = (
    Curves("Localisations per frame", "", ("localisations_per_frame",)),
    Curves("Density", "/µm²", ("density",), target="target"),
    Curves("Precision", "nm", ("precision",)),
    Curves("Background", "ph/px", ("background",)),
    Curves("Drift", "nm", ("drift_x", "drift_y"), ("x", "y"), from_zero=False),
    Curves("Resolution (FRC)", "nm", ("frc",)),
)


class TimeAxis(pg.AxisItem):  # type: ignore[misc]
    """Seconds as minutes and seconds, with ticks at round times."""

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, float]]:  # noqa: ARG002, N802
        """Called by pyqtgraph."""
        span = maxVal - minVal
        return [(next((step for step in STEPS if span / step <= MOST_TICKS), 10 * STEPS[-1]), 0)]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: ARG002, N802
        """Called by pyqtgraph."""
        return [f"{int(value) // 60}:{int(value) % 60:02}" for value in values]


class CurvePlot(QWidget):
    """One plot with its title."""

    def __init__(self, about: Curves) -> None:
        super().__init__()
        self._about = about
        self._title, self._plot = QLabel(), Plot(74, bottom=TimeAxis("bottom"))
        self._title.setTextFormat(Qt.TextFormat.RichText)
        self._title.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._lines = [self._line(colour) for colour, _ in zip(style.CURVES, about.figures, strict=False)]
        self._target = pg.PlotDataItem(pen=pg.mkPen(style.DIM, style=Qt.PenStyle.DashLine))
        self._plot.addItem(self._target)
        self._plot.getAxis("left").setWidth(AXIS)
        self._plot.getAxis("bottom").setHeight(14)
        self._plot.getAxis("left").enableAutoSIPrefix(False)
        self._plot.showGrid(x=True, y=True, alpha=0.12)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._title)
        layout.addWidget(self._plot)
        self.show_history(History())

    def show_history(self, history: History) -> None:
        """Draw the curves."""
        time = history.column(TIME)
        columns = [history.column(name) for name in self._about.figures]
        for line, values in zip(self._lines, columns, strict=True):
            known = np.isfinite(values) & np.isfinite(time)
            line.setData(time[known], values[known])
        target = history.newest(self._about.target) if self._about.target else math.nan
        span = _span(time)
        self._target.setData(*(([*span], [target, target]) if math.isfinite(target) else ([], [])))
        self._plot.show_limits(span, _limits([*columns, np.array([target])], self._about.from_zero))
        self._write(history, target)

    def _write(self, history: History, target: float) -> None:
        values = []
        for colour, figure, name in zip(style.CURVES, self._about.figures, self._about.names, strict=False):
            text = words(history.newest(figure), self._about.unit)
            values.append(f"<span style='color:{colour}'>{name} {text}</span>")
        aim = f" <span style='color:{style.DIM}'>target {words(target)}</span>" if math.isfinite(target) else ""
        self._title.setText(f"{self._about.title} &nbsp;{' &nbsp;'.join(values)}{aim}")

    def _line(self, colour: str) -> pg.PlotDataItem:
        line = pg.PlotDataItem(pen=pg.mkPen(colour, width=1.4), symbol=None)
        self._plot.addItem(line)
        return line


def _span(time: NDArray[np.float64]) -> tuple[float, float]:
    """At least a minute, so that the first points do not race across the plot."""
    known = time[np.isfinite(time)]
    return (float(known.min()), max(float(known.max()), float(known.min()) + 60)) if known.size else (0.0, 60.0)


def _limits(columns: list[NDArray[np.float64]], from_zero: bool) -> tuple[float, float]:
    """Room for every value and some air, in round steps, so that the axis moves seldom."""
    values = np.concatenate(columns)
    values = values[np.isfinite(values)]
    if not values.size:
        return (0.0, 1.0) if from_zero else (-1.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if from_zero:
        return min(0.0, low), _round_up(high * 1.05)
    reach = _round_up(max(abs(low), abs(high), 1.0))
    return -reach, reach


def _round_up(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 5, 7.5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return power * next(step for step in (1, 1.5, 2, 3, 5, 7.5, 10) if step * power >= value * (1 - 1e-9))


class QualityPanel(QWidget):
    """All plots, in as many columns as the panel's width has room for."""

    def __init__(self, columns: int = 3) -> None:
        super().__init__()
        self.plots = [CurvePlot(about) for about in PLOTS]
        grid = QGridLayout(self)
        grid.setContentsMargins(10, 6, 10, 6)
        grid.setHorizontalSpacing(14)
        for place, plot in enumerate(self.plots):
            grid.addWidget(plot, *divmod(place, columns))
            grid.setColumnStretch(place % columns, 1)
        grid.setRowStretch(grid.rowCount(), 1)

    def show_history(self, history: History) -> None:
        """Draw all curves. Nothing is drawn while nobody can see it."""
        if self.isVisible():
            for plot in self.plots:
                plot.show_history(history)
