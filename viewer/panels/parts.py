"""What the panels are put together from: captions, figures, plots, and the dock that folds up."""

from __future__ import annotations

import math
from typing import Any

import pyqtgraph as pg  # type: ignore[import-untyped]
from PyQt5.QtCore import QSize, Qt, pyqtSignal
from PyQt5.QtGui import QFont, QMouseEvent
from PyQt5.QtWidgets import (
    QDockWidget,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from viewer import style

ANY = 16_777_215
"""Qt's largest size: no limit [px]."""
LOWEST = 120
"""Of a panel that grows [px]."""
SCROLL_BAR = 10
"""Width that the scroll bar takes [px]."""
UNKNOWN = "–"
"""Stands for a figure that is not known."""


def caption(text: str) -> QLabel:
    """A quiet label."""
    label = QLabel(text)
    label.setObjectName("caption")
    return label


def words(value: float, unit: str = "", digits: int = 3) -> str:
    """``1,234 nm``, ``0.0123 1/µm²``: three significant digits, whole numbers whole; a dash where it is not known."""
    if not math.isfinite(value):
        return UNKNOWN
    size = abs(value)
    decimals = 0 if size >= 10 ** (digits - 1) or value == int(value) else digits - 1 - math.floor(math.log10(size))
    return f"{value:,.{max(0, decimals)}f} {unit}".rstrip()


class Figures(QWidget):
    """A table of captions and values, two or more to a row. Values may be selected and copied."""

    def __init__(self, captions: dict[str, str], wide: dict[str, str] | None = None, columns: int = 2) -> None:
        """``captions`` maps a key to what is written before its value; ``wide`` ones have a row of their own, above."""
        super().__init__()
        self._values: dict[str, QLabel] = {}
        wide = wide or {}
        grid = QGridLayout(self)
        for row, (key, text) in enumerate(wide.items()):
            grid.addWidget(caption(text), row, 0)
            grid.addWidget(self._value(key), row, 1, 1, 2 * columns - 1)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(3)
        for place, (key, text) in enumerate(captions.items()):
            row, column = divmod(place + columns * len(wide), columns)
            grid.addWidget(caption(text), row, 2 * column)
            grid.addWidget(self._value(key), row, 2 * column + 1)
            grid.setColumnStretch(2 * column + 1, 1)

    def show_value(self, key: str, text: str, warn: bool = False) -> None:
        """Write a value; ``warn`` in the colour of warnings."""
        label = self._values[key]
        if label.text() != text:
            label.setText(text)
            label.setToolTip(text)
        name = "warning" if warn else ""
        if label.objectName() != name:
            label.setObjectName(name)
            restyle(label)

    def text(self, key: str) -> str:
        """What stands there."""
        return self._values[key].text()

    def _value(self, key: str) -> QLabel:
        label = self._values[key] = QLabel(UNKNOWN)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        # A long value is cut, so that no number ever moves its neighbours.
        label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        label.setMinimumWidth(30)
        return label


def restyle(widget: QWidget) -> None:
    """Let a changed object name take its colours from the style sheet."""
    manner = widget.style()
    if manner is not None:
        manner.unpolish(widget)
        manner.polish(widget)


class Plot(pg.PlotWidget):  # type: ignore[misc]
    """A plot that only shows: no menu, no dragging, nothing that moves when the numbers get longer."""

    def __init__(self, height: int, **axes: pg.AxisItem) -> None:
        """``axes`` by their sides, where others than pyqtgraph's own are wanted."""
        super().__init__(background=style.PANEL, axisItems=axes)
        self.setFixedHeight(height)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.setMouseEnabled(False, False)
        self.setFrameShape(self.Shape.NoFrame)
        font = QFont()
        font.setPointSizeF(7)
        for side in ("left", "bottom"):
            axis = self.getAxis(side)
            axis.setPen(style.LINE)
            axis.setTextPen(style.DIM)
            axis.setStyle(tickFont=font, tickLength=-3, tickTextOffset=2)

    def show_limits(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        """What the axes run from and to."""
        box: Any = self.getViewBox()
        box.setRange(xRange=x, yRange=y, padding=0)

    def wheelEvent(self, ev: Any) -> None:  # noqa: N802 (Qt's name)
        """Leave the wheel to the panel, which scrolls."""
        ev.ignore()

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Any width will do."""
        return QSize(60, self.height())


class _Title(QWidget):
    """The upper edge of a dock: a click folds it."""

    clicked = pyqtSignal()

    def __init__(self, text: str) -> None:
        super().__init__()
        self.setObjectName("title")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.fold, self.shut = QToolButton(), QToolButton()
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 2, 4, 2)
        row.setSpacing(4)
        row.addWidget(self.fold)
        row.addWidget(QLabel(text), 1)
        row.addWidget(self.shut)
        self.shut.setText("×")
        self.shut.setToolTip(f"Close {text} (it is in the View menu)")
        self.fold.setToolTip(f"Fold {text} up or down")
        self.fold.clicked.connect(self.clicked)

    def mouseDoubleClickEvent(self, a0: QMouseEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Fold; Qt would take the dock off the window."""
        self.clicked.emit()
        if a0 is not None:
            a0.accept()


class Dock(QDockWidget):
    """A panel at the window's edge, with a title that folds it up."""

    def __init__(self, title: str, name: str, content: QWidget, parent: QWidget, grows: bool = True) -> None:
        """``name`` is what the settings call it. One that does not grow keeps the height that its content needs."""
        super().__init__(title, parent)
        self.setObjectName(name)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
        self._title, self._panel, self._content, self._grows = _Title(title), content, _scrolled(content), grows
        self._folded = False
        self._title.clicked.connect(lambda: self.set_folded(not self.folded))
        self._title.shut.clicked.connect(lambda: self.setVisible(False))
        self.setTitleBarWidget(self._title)
        self.setWidget(self._content)
        self.set_folded(False)

    @property
    def folded(self) -> bool:
        """Whether only the title is shown."""
        return self._folded

    def set_folded(self, folded: bool) -> None:
        """Fold up, or down."""
        self._folded = folded
        self._title.fold.setText("▸" if folded else "▾")
        needed = self._panel.sizeHint().height()
        self._content.setMinimumHeight(0 if folded else min(needed, LOWEST) if self._grows else needed)
        self._content.setMaximumHeight(0 if folded else ANY if self._grows else needed)
        self.setMaximumHeight(self._title.sizeHint().height() if folded else ANY)


def _scrolled(content: QWidget) -> QScrollArea:
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    content.setObjectName("scrolled")
    area.setWidget(content)
    area.setMinimumWidth(content.minimumSizeHint().width() + SCROLL_BAR)
    return area


def column(widget: QWidget, spacing: int = 6) -> QVBoxLayout:
    """A layout from top to bottom with the panels' margins."""
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(10, 8, 10, 10)
    layout.setSpacing(spacing)
    return layout
