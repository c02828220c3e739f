"""What the window says over the picture: what to do when it is empty, and plainly when something is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from PyQt5.QtCore import QEvent, QObject, Qt
from PyQt5.QtWidgets import QFrame, QLabel, QProgressBar, QVBoxLayout, QWidget

from viewer import style
from viewer.feed import Link
from viewer.state import Session

MARGIN = 14
"""Between the notice and the picture's upper edge [px]."""
WIDTH = 460
"""Of the notice [px], where there is room."""
COLOURS = {Link.STALE: style.WARN, Link.LOST: style.BAD, Link.FAILED: style.BAD}
"""Of its edge; the others are quiet."""


@dataclass(frozen=True)
class Words:
    """What is said."""

    title: str
    text: str
    colour: str = style.LINE
    done: int | None = None
    """Of ``total``; None for no bar."""
    total: int = 0
    """0: it is not known."""
    central: bool = False
    """In the middle of an empty picture; else at its upper edge."""


EMPTY = Words(
    "Nothing open",
    "Drop a table or a run folder here, or press\n"
    "Ctrl+O for a file, Ctrl+Shift+O for a run folder,\nCtrl+L for a running engine",
    central=True,
)


def words_for(session: Session, empty: bool, failure: str | None = None) -> Words | None:
    """What there is to say; None where the picture says everything. ``failure``: why nothing can be drawn."""
    link, words = session.link, session.words
    if failure is not None:
        return Words("The picture cannot be drawn", failure, style.BAD, central=True)
    if link is Link.EMPTY:
        return EMPTY
    if link is Link.WAITING:
        return Words("Waiting", words, central=True)
    if link is Link.LOADING:
        progress = session.progress
        done, total = (progress.done, progress.total or 0) if progress else (0, 0)
        return Words("Loading", words, done=done, total=total, central=empty)
    if link is Link.STALE:
        return Words("No news", words, style.WARN, central=empty)
    if link is Link.LOST:
        return Words("Connection lost", f"{words}\nWhat came before is still shown.", style.BAD, central=empty)
    if link is Link.FAILED:
        return Words("This cannot be shown", words, style.BAD, central=empty)
    if empty and link in (Link.DONE, Link.ENDED):
        return Words("No localisations", words, central=True)
    if empty:
        return Words("Connected", "waiting for the first localisations", central=True)
    return None


class Notice(QFrame):
    """A quiet box over the picture, which leaves the mouse to it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("notice")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._words: Words | None = None
        self.title, self.text, self._bar = QLabel(), QLabel(), QProgressBar()
        self.title.setObjectName("big")
        self._bar.setTextVisible(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(18, 12, 18, 14)
        for label in (self.title, self.text):
            label.setWordWrap(True)
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        for widget in (self.title, self.text, self._bar):
            layout.addWidget(widget)
        parent.installEventFilter(self)
        self.hide()

    def say(self, words: Words | None) -> None:
        """Say it, or nothing."""
        if words == self._words:
            return
        self._words = words
        self.setVisible(words is not None)
        if words is None:
            return
        quiet = words.central and words.colour == style.LINE
        ground, edge = ("transparent", "none") if quiet else (style.PANEL, f"1px solid {words.colour}")
        self.setStyleSheet(f"#notice {{ background: {ground}; border: {edge}; border-radius: 6px; }}")
        self.title.setText(words.title)
        self.title.setStyleSheet(f"color: {style.TEXT if words.colour == style.LINE else words.colour}")
        self.text.setText(words.text)
        self._bar.setVisible(words.done is not None)
        self._bar.setRange(0, words.total)
        self._bar.setValue(words.done or 0)
        self._place()

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:  # noqa: N802 (Qt's name)
        """Keep the place when the picture changes its size."""
        if a1 is not None and a1.type() == QEvent.Type.Resize:
            self._place()
        return super().eventFilter(a0, a1)

    def _place(self) -> None:
        parent = self.parentWidget()
        if parent is None or self._words is None:
            return
        width = min(WIDTH, parent.width() - 2 * MARGIN)
        self.setFixedWidth(max(width, 100))
        layout = self.layout()
        height = layout.totalHeightForWidth(self.width()) if layout is not None else self.sizeHint().height()
        top = (parent.height() - height) // 2 if self._words.central else MARGIN
        self.setGeometry((parent.width() - self.width()) // 2, max(MARGIN, top), self.width(), height)
        self.raise_()
