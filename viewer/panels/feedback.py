"""Feedback: the density that the activation light is to hold, and what it does about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PyQt5.QtCore import Qt, pyqtSignal
from PyQt5.QtWidgets import QCheckBox, QDoubleSpinBox, QHBoxLayout, QLabel, QWidget

from viewer.panels.parts import Figures, caption, column, words
from viewer.state import Session, number

CAPTIONS = {"density": "Density", "power": "Light"}


class FeedbackPanel(QWidget):
    """On or off, the target, and the light's power."""

    command = pyqtSignal(str, dict)
    """(command, arguments), as docs/wire.md has them."""

    def __init__(self) -> None:
        super().__init__()
        self.switch, self.target = QCheckBox("Hold the density"), QDoubleSpinBox()
        self.figures, self.note = Figures(CAPTIONS), QLabel()
        self._build()
        self.switch.clicked.connect(lambda on: self.command.emit("target", {"enabled": on}))
        self.target.editingFinished.connect(self._set_target)
        self._told = self.target.value()
        self.show_session(Session(), commands=False)

    def show_session(self, session: Session, commands: bool) -> None:
        """Write everything; what is being typed is left alone."""
        feedback = session.status.get("feedback")
        there = isinstance(feedback, Mapping)
        facts: Mapping[str, Any] = feedback if isinstance(feedback, Mapping) else {}
        for widget in (self.switch, self.target):
            widget.setEnabled(there and commands)
        self.switch.setChecked(bool(facts.get("enabled")))
        target = number(facts.get("target"))
        if target > 0 and not self.target.hasFocus():
            self._told = target
            self.target.setValue(target)
        density = session.quality.newest("density")
        self.figures.show_value("density", words(density, "/µm²"))
        self.figures.show_value("power", words(number(facts.get("power")), str(facts.get("unit") or "")))
        state = str(facts.get("note") or facts.get("state") or "")
        self.note.setText(state if there else "This run moves no activation light.")

    def _build(self) -> None:
        layout = column(self)
        row = QHBoxLayout()
        row.addWidget(self.switch, 1)
        row.addWidget(caption("at"))
        row.addWidget(self.target)
        self.target.setRange(0.01, 100.0)
        self.target.setDecimals(2)
        self.target.setSingleStep(0.1)
        self.target.setSuffix(" /µm²")
        self.target.setToolTip("Localisations per frame and area that the activation light is to hold")
        self.note.setObjectName("caption")
        self.note.setWordWrap(True)
        self.note.setMinimumHeight(2 * self.note.fontMetrics().lineSpacing())
        self.note.setAlignment(Qt.AlignmentFlag.AlignTop)
        layout.addLayout(row)
        layout.addWidget(self.figures)
        layout.addWidget(self.note)
        layout.addStretch(1)

    def _set_target(self) -> None:
        value = round(self.target.value(), 2)
        if value != self._told:
            self._told = value
            self.command.emit("target", {"value": value})
