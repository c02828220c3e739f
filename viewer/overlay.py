"""What stands over the picture: the scale bar, and the rectangle that is measured."""

from __future__ import annotations

from PyQt5.QtCore import QPointF, QRectF, Qt
from PyQt5.QtGui import QColor, QPainter, QPaintEvent, QPen
from PyQt5.QtWidgets import QWidget

from engine.output.image import bar_length, length_text
from viewer.style import ACCENT

EDGE = 16
"""Space between the scale bar and the window's edge [logical pixels]."""
BAR = 4
"""Thickness of the scale bar [logical pixels]."""
ROOM = 120
"""A narrower or lower window has no scale bar [logical pixels]."""


class Overlay(QWidget):
    """A transparent sheet over the canvas, which it leaves all clicks to."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.scale = 0.0
        """[nm / logical pixel]; 0 for no scale bar."""
        self.rectangle: QRectF | None = None
        """[logical pixels]."""

    def show_marks(self, scale: float, rectangle: QRectF | None) -> None:
        """Show these; paints only where something has changed."""
        if (scale, rectangle) != (self.scale, self.rectangle):
            self.scale, self.rectangle = scale, rectangle
            self.update()

    def paintEvent(self, a0: QPaintEvent | None) -> None:  # noqa: ARG002, N802 - Qt's names
        """Called by Qt."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.rectangle is not None:
            self._paint_rectangle(painter, self.rectangle)
        if self.scale > 0 and min(self.width(), self.height()) >= ROOM:
            self._paint_bar(painter)
        painter.end()

    def _paint_rectangle(self, painter: QPainter, rectangle: QRectF) -> None:
        fill = QColor(ACCENT)
        fill.setAlpha(24)
        painter.setBrush(fill)
        painter.setPen(QPen(QColor(ACCENT), 1.2))
        painter.drawRect(rectangle)

    def _paint_bar(self, painter: QPainter) -> None:
        length = bar_length(self.width() * self.scale)
        wide = length / self.scale
        bar = QRectF(self.width() - EDGE - wide, self.height() - EDGE - BAR, wide, BAR)
        label = QRectF(bar.center().x() - 100, bar.top() - 24, 200, 20)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(0, 0, 0, 150))
        painter.drawRect(bar.adjusted(-1, -1, 1, 1))
        painter.setBrush(QColor("white"))
        painter.drawRect(bar)
        for colour, shift in ((QColor(0, 0, 0, 180), 1.0), (QColor("white"), 0.0)):
            painter.setPen(colour)
            painter.drawText(label.translated(QPointF(shift, shift)), Qt.AlignmentFlag.AlignCenter, length_text(length))
