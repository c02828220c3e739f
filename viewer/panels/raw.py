"""Raw: the camera's newest frame with what was detected in it, so that one sees at once whether detection is sane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PyQt5.QtWidgets import QLabel, QSizePolicy, QWidget

from viewer import style
from viewer.feed import PreviewCame
from viewer.panels.parts import column

CALM = 0.2
"""Share of a new frame in the contrast, so that the picture does not flicker with every blink."""
RING = 6
"""Width of the ring around a detection [camera pixels]."""


class RawPanel(QWidget):
    """Shows one frame."""

    def __init__(self) -> None:
        super().__init__()
        self._levels: NDArray[np.floating] | None = None
        self._text = QLabel("no frame yet")
        self._text.setObjectName("caption")
        self._text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._view = pg.GraphicsLayoutWidget()
        self._view.setBackground(style.PANEL)
        self._view.setMinimumHeight(180)
        self._view.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        grid: Any = self._view.ci
        grid.layout.setContentsMargins(0, 0, 0, 0)
        self._box = self._view.addViewBox(lockAspect=True, invertY=True, enableMenu=False)
        self._box.setMouseEnabled(False, False)
        self.image = pg.ImageItem(axisOrder="row-major")
        self.rings = pg.ScatterPlotItem(
            pxMode=False, size=RING, symbol="o", brush=None, pen=pg.mkPen(style.ACCENT, width=1.2)
        )
        self._box.addItem(self.image)
        self._box.addItem(self.rings)
        layout = column(self, 4)
        layout.addWidget(self._view, 1)
        layout.addWidget(self._text)

    def show_preview(self, preview: PreviewCame | None) -> None:
        """Draw a frame and its detections; None empties the panel."""
        if preview is None:
            self._empty()
            return
        levels = np.percentile(preview.pixels.astype(np.float32), (0.5, 99.8))
        calm = levels if self._levels is None else (1 - CALM) * self._levels + CALM * levels
        self._levels, (low, high) = calm, calm
        self.image.setImage(preview.pixels, levels=(low, max(high, low + 1)))
        # The view's own coordinates are camera pixels from the outer corner, as the detections' are.
        self.rings.setData(preview.x, preview.y)
        height, width = preview.pixels.shape
        self._box.setRange(xRange=(0, width), yRange=(0, height), padding=0)
        count = len(preview.x)
        self._text.setText(f"frame {preview.frame:,} · {count:,} found · {low:,.0f}–{high:,.0f} ADU")

    def _empty(self) -> None:
        self._levels = None
        self.image.clear()
        self.rings.clear()
        self._text.setText("no frame yet")
