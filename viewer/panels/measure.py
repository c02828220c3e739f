"""Measure: what lies in the rectangle that was drawn."""

from __future__ import annotations

from dataclasses import dataclass

from PyQt5.QtCore import pyqtSignal
from PyQt5.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from viewer.panels.parts import Figures, column, words

CAPTIONS = {"size": "Size", "count": "Count", "density": "Density", "precision": "Precision"}


@dataclass(frozen=True)
class Measured:
    """Of the localisations that are shown and lie in a rectangle."""

    x: tuple[float, float]
    """Left and right edge [nm]."""
    y: tuple[float, float]
    """Upper and lower edge [nm]."""
    count: int
    precision: float
    """Mean lateral precision [nm]; NaN where there is none."""

    @property
    def area(self) -> float:
        """[µm²]."""
        return (self.x[1] - self.x[0]) * (self.y[1] - self.y[0]) / 1e6

    @property
    def density(self) -> float:
        """[1/µm²]; NaN for a rectangle without an area."""
        return self.count / self.area if self.area > 0 else float("nan")


class MeasurePanel(QWidget):
    """Figures of one rectangle, and the choice to show nothing else."""

    filtered = pyqtSignal(bool)
    """Show only what lies in the rectangle, or everything again."""
    cleared = pyqtSignal()
    """The rectangle goes."""

    def __init__(self) -> None:
        super().__init__()
        self.figures, self.hint = Figures(CAPTIONS), QLabel("Press R and draw a rectangle in the picture.")
        self.only, self.clear = QPushButton("Show only these"), QPushButton("Clear")
        self.only.setCheckable(True)
        self.hint.setObjectName("caption")
        layout, row = column(self), QHBoxLayout()
        row.addWidget(self.only, 1)
        row.addWidget(self.clear)
        layout.addWidget(self.hint)
        layout.addWidget(self.figures)
        layout.addLayout(row)
        layout.addStretch(1)
        self.only.toggled.connect(self.filtered)
        self.clear.clicked.connect(self.cleared)
        self.show_measured(None)

    def show_measured(self, measured: Measured | None) -> None:
        """Write the figures; None where there is no rectangle."""
        there = measured is not None
        for widget in (self.only, self.clear):
            widget.setEnabled(there)
        self.hint.setVisible(not there)
        if measured is None:
            self.only.blockSignals(True)
            self.only.setChecked(False)
            self.only.blockSignals(False)
        for key, text in _in_words(measured).items():
            self.figures.show_value(key, text)


def _in_words(measured: Measured | None) -> dict[str, str]:
    if measured is None:
        return dict.fromkeys(CAPTIONS, words(float("nan")))
    width, height = ((side[1] - side[0]) / 1000 for side in (measured.x, measured.y))
    return {
        "size": f"{words(width)} × {words(height)} µm",
        "count": f"{measured.count:,}",
        "density": words(measured.density, "1/µm²"),
        "precision": words(measured.precision, "nm"),
    }
