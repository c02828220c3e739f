"""Run: where the engine stands, what it warns of, and the buttons that tell it something."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from PyQt5.QtCore import Qt, QTimer, pyqtSignal
from PyQt5.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QProgressBar, QPushButton, QVBoxLayout, QWidget

from viewer import style
from viewer.feed import Link
from viewer.panels.parts import UNKNOWN, Figures, column, restyle, words
from viewer.state import Session, number

BAR_STEPS = 1000
"""Of the progress bar."""
CONFIRM = 3000
"""How long a second press of Stop counts [ms]."""
WIDE = {"source": "Source", "model": "Model", "frames": "Frames", "localisations": "Found"}
CAPTIONS = {
    "rate_in": "Camera",
    "rate_out": "Analysis",
    "lag": "Lag",
    "delay": "Delay",
    "missing": "Missing",
    "skipped": "Skipped",
    "spooled": "On disk",
    "elapsed": "Time",
}
COLOURS = {
    Link.LIVE: style.GOOD,
    Link.DONE: style.TEXT,
    Link.ENDED: style.TEXT,
    Link.STALE: style.WARN,
    Link.LOST: style.BAD,
    Link.FAILED: style.BAD,
}
"""Of the state; the others are dim."""


class StopButton(QPushButton):
    """Stops a run at the second press within a few seconds: a slip of the hand ends no acquisition."""

    confirmed = pyqtSignal()

    def __init__(self) -> None:
        super().__init__("Stop")
        self.setToolTip("Stop the run; what has come is analysed to its end")
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(CONFIRM)
        self._timer.timeout.connect(self._disarm)
        self.clicked.connect(self._pressed)

    def _pressed(self) -> None:
        if self._timer.isActive():
            self._disarm()
            self.confirmed.emit()
        else:
            self._timer.start()
            self._look("danger", "Really?")

    def _disarm(self) -> None:
        self._timer.stop()
        self._look("", "Stop")

    def _look(self, name: str, text: str) -> None:
        self.setObjectName(name)
        self.setText(text)
        restyle(self)


class RunPanel(QWidget):
    """Figures of the run, warnings in words, commands."""

    command = pyqtSignal(str, dict)
    """(command, arguments), as docs/wire.md has them."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.figures, self.bar = QLabel(), Figures(CAPTIONS, WIDE), QProgressBar()
        self.warnings, self.answer = QLabel(), QLabel()
        self.start, self.pause, self.stop, self.mark = (
            QPushButton("Start"), QPushButton("Pause"), StopButton(), QPushButton("Mark"),
        )  # fmt: skip
        self.note = QLineEdit()
        self._build()
        self._connect()
        self.show_session(Session(), commands=False)

    def show_session(self, session: Session, commands: bool) -> None:
        """Write everything. ``commands``: whether there is an engine that can be told something."""
        status = session.status
        self._write_state(session)
        self._write_figures(status)
        self._write_warnings(session)
        over = bool(status.get("end_reason")) and status.get("end_reason") != "running"
        able = commands and session.link in (Link.LIVE, Link.STALE) and not over
        paused, idle = bool(status.get("paused")), status.get("state") in ("idle", "waiting")
        self.start.setText("Resume" if paused else "Start")
        self.start.setEnabled(able and (paused or idle))
        self.pause.setEnabled(able and not paused and not idle)
        for widget in (self.stop, self.mark, self.note):
            widget.setEnabled(able)
        self._write_answer(session)

    def _build(self) -> None:
        layout = column(self, 7)
        self.bar.setTextVisible(False)
        for label in (self.warnings, self.answer):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.warnings.setObjectName("warning")
        self.answer.setObjectName("caption")
        self.state.setTextFormat(Qt.TextFormat.RichText)
        for widget in (self.state, self.bar, self.figures):
            layout.addWidget(widget)
        self._add_buttons(layout)
        layout.addWidget(self.answer)
        layout.addWidget(self.warnings)
        layout.addStretch(1)

    def _add_buttons(self, layout: QVBoxLayout) -> None:
        commands, marks = QHBoxLayout(), QHBoxLayout()
        for button in (self.start, self.pause, self.stop):
            commands.addWidget(button, 1)
        self.note.setPlaceholderText("a note for the log")
        self.note.setMaxLength(200)
        marks.addWidget(self.note, 1)
        marks.addWidget(self.mark)
        self.mark.setToolTip("Write the note, with the frame it was made at, into the run's log")
        layout.addLayout(commands)
        layout.addLayout(marks)

    def _connect(self) -> None:
        self.start.clicked.connect(lambda: self.command.emit("start", {}))
        self.pause.clicked.connect(lambda: self.command.emit("pause", {}))
        self.stop.confirmed.connect(lambda: self.command.emit("stop", {}))
        self.mark.clicked.connect(self._mark)
        self.note.returnPressed.connect(self._mark)

    def _mark(self) -> None:
        self.command.emit("mark", {"text": self.note.text().strip()})
        self.note.clear()

    def _write_state(self, session: Session) -> None:
        paused = session.link is Link.LIVE and session.status.get("paused")
        colour = style.WARN if paused else COLOURS.get(session.link, style.DIM)
        self.state.setText(f"<span style='color:{colour}'>●</span> &nbsp;<b>{escape(state_in_words(session))}</b>")
        expected, analysed = number(session.status.get("expected")), number(session.status.get("analysed"))
        known = expected > 0 and analysed >= 0
        self.bar.setRange(0, BAR_STEPS)
        self.bar.setValue(round(BAR_STEPS * min(1.0, analysed / expected)) if known else 0)

    def _write_figures(self, status: Mapping[str, Any]) -> None:
        for key, text in figures_in_words(status).items():
            self.figures.show_value(key, text, warn=key in ("missing", "skipped") and text not in ("0", UNKNOWN))

    def _write_warnings(self, session: Session) -> None:
        warnings = session.status.get("warnings")
        lines = [str(line) for line in warnings] if isinstance(warnings, list) else []
        if session.malformed:
            lines.append(f"{session.malformed:,} messages could not be read and were left out.")
        if session.gaps:
            lines.append(f"{session.gaps:,} messages were lost on the way and fetched again.")
        self.warnings.setText("\n".join(f"⚠ {line}" for line in lines))
        self.warnings.setVisible(bool(lines))

    def _write_answer(self, session: Session) -> None:
        answer = session.answer
        text = "" if answer is None else f"{answer.command}: {answer.refused or 'done'}"
        self.answer.setText(text)
        self.answer.setVisible(bool(text))


def state_in_words(session: Session) -> str:
    """One line: ``live · running``, ``lost · trying again``."""
    reason = session.status.get("end_reason")
    if session.link is Link.ENDED and reason:
        return f"ended · {reason}"
    state = "paused" if session.status.get("paused") else str(session.status.get("state") or "")
    return f"{session.link.value} · {state}" if session.link is Link.LIVE and state else session.link.value


def figures_in_words(status: Mapping[str, Any]) -> dict[str, str]:
    """Each figure of the run as it is written; a dash where it is not known."""
    plain = {key: words(number(status.get(key))) for key in ("lag", "missing", "skipped")}
    found = number(status.get("localisations"))
    rates = {key: words(number(status.get(key)), "/s") for key in ("rate_in", "rate_out")}
    return plain | rates | {
        "source": str(status.get("source") or UNKNOWN),
        "model": str(status.get("model") or UNKNOWN),
        "frames": _frames(status),
        "localisations": f"{words(found)} localisations" if found >= 0 else UNKNOWN,
        "spooled": words(number(status.get("spooled_frames"))),
        "delay": words(number(status.get("delay_median")), "s"),
        "elapsed": duration(number(status.get("elapsed"))),
    }  # fmt: skip


def _frames(status: Mapping[str, Any]) -> str:
    """``12,340 analysed of 20,000``; of those that came, where nobody knows how many will."""
    analysed, came, expected = (number(status.get(key)) for key in ("analysed", "acquired", "expected"))
    total = expected if expected > 0 else came
    return f"{words(analysed)} analysed of {words(total)}" if analysed >= 0 else UNKNOWN


def duration(seconds: float) -> str:
    """``3 min 07 s``."""
    if not seconds >= 0:
        return UNKNOWN
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
