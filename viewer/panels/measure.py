"""Measure: what lies in the rectangle that was drawn."""

from __future__ import annotations

import math

from PyQt5.QtCore import pyqtSignal
from PyQt5.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from viewer.panels.parts import UNKNOWN, Figures, column, words
from viewer.points import Measurement, Rectangle

CAPTIONS = {"count": "Count", "density": "Density", "precision": "Precision", "photons": "Photons"}
WIDE = {"size": "Size"}


class MeasurePanel(QWidget):
    """Figures of one rectangle, and the choice to show nothing else."""

    filtered = pyqtSignal(bool)
    """Show only what lies in the rectangle, or everything again."""
    cleared = pyqtSignal()
    """The rectangle goes."""

    def __init__(self) -> None:
        super().__init__()
        self.figures, self.hint = Figures(CAPTIONS, WIDE), QLabel()
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
        self.show_measured(None, None)

    def show_measured(self, rectangle: Rectangle | None, measured: Measurement | None) -> None:
        """Write the figures; None where there is no rectangle."""
        there = rectangle is not None
        for widget in (self.only, self.clear):
            widget.setEnabled(there)
        self.hint.setText(
            "Of what is shown in the rectangle:" if there else "Press R and draw a rectangle in the picture."
        )
        if rectangle is None:
            self.only.blockSignals(True)
            self.only.setChecked(False)
            self.only.blockSignals(False)
        for key, text in _in_words(rectangle, measured).items():
            self.figures.show_value(key, text)


def _in_words(rectangle: Rectangle | None, measured: Measurement | None) -> dict[str, str]:
    if rectangle is None or measured is None:
        return dict.fromkeys((*CAPTIONS, *WIDE), UNKNOWN)
    density = measured.count / rectangle.area if rectangle.area > 0 else math.nan
    return {
        "size": f"{words(rectangle.width / 1000)} × {words(rectangle.height / 1000)} µm",
        "count": f"{measured.count:,}",
        "density": words(density, "/µm²"),
        "precision": words(measured.precision, "nm"),
        "photons": words(measured.photons),
    }
