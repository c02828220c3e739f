"""What the window asks for: where an engine is, and how a picture is exported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PyQt5.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from viewer.panels.parts import words
from viewer.points import Rectangle
from viewer.rendered import MAX_PIXELS
from viewer.settings import ExportSettings

KINDS = {
    "PNG, as on the screen": (".png", 8),
    "TIFF, 32 bits, localisations per pixel": (".tif", 32),
    "TIFF, 16 bits, scaled to the brightest pixel": (".tif", 16),
}
"""What can be exported: words → (suffix, bits)."""


class ConnectDialog(QDialog):
    """Asks for an engine's address."""

    def __init__(self, recent: Sequence[str], default: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Connect to a running engine")
        self.address = QComboBox()
        self.address.setEditable(True)
        self.address.addItems([*recent, *(() if default in recent else (default,))])
        self.address.setMinimumWidth(280)
        layout = QVBoxLayout(self)
        hint = QLabel("Its address, as `liveloc live` prints it and run.json holds it. It need not be there yet.")
        hint.setObjectName("caption")
        layout.addWidget(hint)
        layout.addWidget(self.address)
        layout.addWidget(_buttons(self, "Connect"))


class ExportDialog(QDialog):
    """Asks how a picture is exported, and tells its size."""

    def __init__(
        self, settings: ExportSettings, field: Rectangle, view: Rectangle, parent: QWidget | None = None
    ) -> None:
        """``field``: all of the sample; ``view``: what is on the screen."""
        super().__init__(parent)
        self.setWindowTitle("Export the picture")
        self._parts = {True: field, False: view}
        self.whole, self.part = QRadioButton("whole field"), QRadioButton("what is on the screen")
        self.pixel, self.kind, self.bar = QDoubleSpinBox(), QComboBox(), QCheckBox("scale bar in the picture")
        self._size = QLabel()
        self._build(settings)
        for signal in (self.pixel.valueChanged, self.whole.toggled):
            signal.connect(self._tell_size)
        self._tell_size()

    @property
    def settings(self) -> ExportSettings:
        """What is chosen."""
        return ExportSettings(self.whole.isChecked(), self.pixel.value(), self.bar.isChecked(), self.kind.currentText())

    def _build(self, settings: ExportSettings) -> None:
        form, part, group = QFormLayout(), QHBoxLayout(), QButtonGroup(self)
        for choice in (self.whole, self.part):
            part.addWidget(choice)
            group.addButton(choice)
        (self.whole if settings.whole else self.part).setChecked(True)
        self.pixel.setRange(0.1, 10_000)
        self.pixel.setDecimals(1)
        self.pixel.setSuffix(" nm")
        self.pixel.setValue(settings.pixel)
        self.kind.addItems(list(KINDS))
        self.kind.setCurrentText(settings.kind)
        self.bar.setChecked(settings.scale_bar)
        form.addRow("Part", part)
        form.addRow("Pixel", self.pixel)
        form.addRow("Format", self.kind)
        form.addRow("", self.bar)
        form.addRow("Size", self._size)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        self._box = _buttons(self, "Export …")
        layout.addWidget(self._box)

    def _tell_size(self) -> None:
        part, pixel = self._parts[self.whole.isChecked()], self.pixel.value()
        width, height = (max(1, math.ceil(side / pixel)) for side in (part.width, part.height))
        fits = width * height <= MAX_PIXELS
        micrometres = f"{words(part.width / 1000)} × {words(part.height / 1000)} µm"
        self._size.setText(f"{width:,} × {height:,} pixels, {micrometres}" + ("" if fits else " – too many"))
        button = self._box.button(QDialogButtonBox.StandardButton.Ok)
        if button is not None:
            button.setEnabled(fits)


def with_suffix(path: Path, suffix: str) -> Path:
    """``path`` with ``suffix``, unless it has one that means the same."""
    alike = {".tif": (".tif", ".tiff"), ".hdf5": (".hdf5", ".h5")}.get(suffix, (suffix,))
    return path if path.suffix.lower() in alike else path.with_name(path.name + suffix)


def _buttons(dialog: QDialog, accept: str) -> QDialogButtonBox:
    box = QDialogButtonBox()
    button = box.addButton(QDialogButtonBox.StandardButton.Ok)
    box.addButton(QDialogButtonBox.StandardButton.Cancel)
    if button is not None:
        button.setText(accept)
    box.accepted.connect(dialog.accept)
    box.rejected.connect(dialog.reject)
    return box
