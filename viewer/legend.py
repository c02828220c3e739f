"""What the colours mean: the colour map with the values at its ends, in a corner of the picture."""

from __future__ import annotations

import math

import numpy as np
from PyQt5.QtCore import QEvent, QObject, QRectF, Qt
from PyQt5.QtGui import QColor, QImage, QPainter, QPaintEvent
from PyQt5.QtWidgets import QWidget

from viewer import style
from viewer.look import colour_table
from viewer.panels.parts import words

EDGE = 16
"""Space to the picture's edges [px]."""
BAR = 6
"""Height of the colour map [px]."""
UNITS = {"density": "/µm²", "precision": "nm", "z": "nm", "background": "photons/pixel"}


class Legend(QWidget):
    """A transparent sheet in the lower left corner, which leaves the mouse to the picture."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.resize(190, 44)
        self._shown: tuple[str, str, float, float] = ("", "", math.nan, math.nan)
        self._strip: QImage | None = None
        parent.installEventFilter(self)
        self.hide()

    @property
    def text(self) -> str:
        """What is written beside the colours."""
        _, by, low, high = self._shown
        return f"{by} {words(low)} – {words(high, UNITS.get(by, ''))}"

    def show_colours(self, colours: str, by: str, low: float, high: float) -> None:
        """``low`` and ``high``: what the ends of the colour map stand for; nothing is shown where they are unknown."""
        shown = (colours, by, low, high)
        self.setVisible(math.isfinite(low) and high > low)
        if shown != self._shown:
            self._shown, self._strip = shown, _strip(colours)
            self.update()

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:  # noqa: N802 (Qt's name)
        """Keep the place when the picture changes its size."""
        parent = self.parentWidget()
        if a1 is not None and a1.type() == QEvent.Type.Resize and parent is not None:
            self.move(EDGE, parent.height() - EDGE - self.height())
        return super().eventFilter(a0, a1)

    def paintEvent(self, a0: QPaintEvent | None) -> None:  # noqa: ARG002, N802 (Qt's names)
        """Called by Qt."""
        if self._strip is None:
            return
        _, by, low, high = self._shown
        painter = QPainter(self)
        bar = QRectF(0.5, self.height() - BAR - 0.5, self.width() - 1, BAR)
        painter.drawImage(bar, self._strip)
        painter.setPen(QColor(style.FAINT))
        painter.drawRect(bar)
        line = QRectF(0, bar.top() - 19, self.width(), 16)
        parts = (
            (line.translated(0, -17), Qt.AlignmentFlag.AlignLeft, by),
            (line, Qt.AlignmentFlag.AlignLeft, words(low)),
            (line, Qt.AlignmentFlag.AlignRight, words(high, UNITS.get(by, ""))),
        )
        for place, align, text in parts:
            for colour, shift in ((QColor(0, 0, 0, 200), 1.0), (QColor(style.TEXT), 0.0)):
                painter.setPen(colour)
                painter.drawText(place.translated(shift, shift), align, text)
        painter.end()


def _strip(colours: str) -> QImage:
    """The colour map as a picture one pixel high."""
    table = np.ascontiguousarray((colour_table(colours)[::8] * 255).round().astype(np.uint8))
    return QImage(table.tobytes(), len(table), 1, 3 * len(table), QImage.Format.Format_RGB888).copy()
