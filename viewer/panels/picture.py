"""Picture: how localisations are drawn and coloured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cmap import Colormap
from PyQt5.QtCore import QSize, Qt, pyqtSignal
from PyQt5.QtGui import QIcon, QImage, QPixmap
from PyQt5.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QGridLayout, QHBoxLayout, QLayout, QSlider, QWidget

from viewer.panels.parts import caption
from viewer.settings import PictureSettings

COLOUR_MAPS = ("hot", "inferno", "magma", "plasma", "viridis", "cividis", "gray", "turbo", "hsv")
"""Of the cmap library: what the field uses, and what people with a colour-vision deficiency can read."""
COLOUR_BY = {
    "density": "density",
    "frame": "frame (time)",
    "z": "z (depth)",
    "photons": "photons",
    "precision": "precision",
    "probability": "probability",
}
MODES = {"precision": "own precision", "fixed": "one width", "histogram": "histogram"}
SWATCH = QSize(72, 12)
GAMMA_STEPS = 100
"""Slider steps to a gamma of 1."""


class PicturePanel(QWidget):
    """Shows the picture's settings and emits what is chosen."""

    changed = pyqtSignal(object)
    """PictureSettings."""

    def __init__(self) -> None:
        super().__init__()
        self._settings = PictureSettings()
        self.colours, self.by, self.mode = QComboBox(), QComboBox(), QComboBox()
        self.gamma, self.automatic, self.scale_bar = QSlider(Qt.Orientation.Horizontal), QCheckBox(), QCheckBox()
        self.low, self.high, self.width_ = (QDoubleSpinBox() for _ in range(3))
        self._gamma_text = caption("")
        self._fill()
        self._build()
        self.show_settings(self._settings)
        self._connect()

    @property
    def settings(self) -> PictureSettings:
        """What is chosen."""
        return self._settings

    def show_settings(self, settings: PictureSettings) -> None:
        """Show what is chosen, without a signal."""
        self._settings = settings
        widgets = (
            self.colours, self.by, self.mode, self.gamma, self.automatic,
            self.low, self.high, self.width_, self.scale_bar,
        )  # fmt: skip
        for widget in widgets:
            widget.blockSignals(True)
        if self.colours.findData(settings.colours) < 0:
            self.colours.addItem(_swatch(settings.colours), settings.colours, settings.colours)
        self.colours.setCurrentIndex(self.colours.findData(settings.colours))
        self.by.setCurrentIndex(self.by.findData(settings.by))
        self.mode.setCurrentIndex(self.mode.findData(settings.mode))
        self.gamma.setValue(round(settings.gamma * GAMMA_STEPS))
        self.automatic.setChecked(settings.automatic)
        self.low.setValue(settings.low)
        self.high.setValue(settings.high)
        self.width_.setValue(settings.width)
        self.scale_bar.setChecked(settings.scale_bar)
        for widget in widgets:
            widget.blockSignals(False)
        self._gamma_text.setText(f"{settings.gamma:.2f}")
        for limit in (self.low, self.high):
            limit.setEnabled(not settings.automatic)
        self.width_.setEnabled(settings.mode != "precision")

    def show_range(self, low: float, high: float) -> None:
        """Show the limits that the automatic contrast has found; a press on Auto then goes on from them."""
        if self._settings.automatic and (low, high) != (self._settings.low, self._settings.high):
            self.show_settings(replace(self._settings, low=low, high=high))

    def _fill(self) -> None:
        self.colours.setIconSize(SWATCH)
        for name in COLOUR_MAPS:
            self.colours.addItem(_swatch(name), name, name)
        for combo, choices in ((self.by, COLOUR_BY), (self.mode, MODES)):
            for value, text in choices.items():
                combo.addItem(text, value)
        self.gamma.setRange(10, 200)
        for limit in (self.low, self.high):
            limit.setRange(0, 1e7)
            limit.setDecimals(1)
            limit.setGroupSeparatorShown(True)
        self.width_.setRange(0.5, 1000)
        self.width_.setDecimals(1)
        self.width_.setSuffix(" nm")
        self.automatic.setText("Auto")
        self.scale_bar.setText("Scale bar")

    def _build(self) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(10, 8, 10, 10)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(5)
        contrast, gamma, drawn = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        for widget in (self.low, self.high, self.automatic):
            contrast.addWidget(widget, 0 if widget is self.automatic else 1)
        gamma.addWidget(self.gamma, 1)
        gamma.addWidget(self._gamma_text)
        drawn.addWidget(self.mode, 1)
        drawn.addWidget(self.width_)
        self._gamma_text.setFixedWidth(32)
        self._gamma_text.setAlignment(Qt.AlignmentFlag.AlignRight)
        gamma.setSpacing(8)
        rows: dict[str, QWidget | QLayout] = {
            "Drawn as": drawn, "Colours": self.colours, "Colour by": self.by, "Contrast": contrast, "Gamma": gamma
        }  # fmt: skip
        for row, (text, content) in enumerate(rows.items()):
            grid.addWidget(caption(text), row, 0)
            if isinstance(content, QWidget):
                grid.addWidget(content, row, 1)
            else:
                grid.addLayout(content, row, 1)
        grid.addWidget(self.scale_bar, len(rows), 1)
        grid.setColumnStretch(1, 1)
        grid.setRowStretch(len(rows) + 1, 1)
        for combo in (self.colours, self.by, self.mode):
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(6)
        for spin in (self.low, self.high):
            spin.setMinimumWidth(58)

    def _connect(self) -> None:
        for combo in (self.colours, self.by, self.mode):
            combo.currentIndexChanged.connect(self._chosen)
        for spin in (self.low, self.high, self.width_):
            spin.setKeyboardTracking(False)
            spin.valueChanged.connect(self._chosen)
        self.gamma.valueChanged.connect(self._chosen)
        self.automatic.toggled.connect(self._chosen)
        self.scale_bar.toggled.connect(self._chosen)

    def _chosen(self) -> None:
        low, high = self.low.value(), self.high.value()
        self.show_settings(
            PictureSettings(
                colours=self.colours.currentData(),
                by=self.by.currentData(),
                gamma=self.gamma.value() / GAMMA_STEPS,
                automatic=self.automatic.isChecked(),
                low=min(low, high),
                high=max(low, high),
                mode=self.mode.currentData(),
                width=self.width_.value(),
                scale_bar=self.scale_bar.isChecked(),
            )
        )
        self.changed.emit(self._settings)


def _swatch(name: str) -> QIcon:
    """A colour map as a small picture."""
    line = np.linspace(0, 1, SWATCH.width())
    colours = (np.asarray(Colormap(name)(line))[None, :, :3] * 255).round().astype(np.uint8)
    pixels = np.ascontiguousarray(np.repeat(colours, SWATCH.height(), axis=0))
    image = QImage(pixels.tobytes(), SWATCH.width(), SWATCH.height(), 3 * SWATCH.width(), QImage.Format.Format_RGB888)
    return QIcon(QPixmap.fromImage(image))  # which copies the pixels
