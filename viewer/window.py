"""The live window: ``python -m viewer.window RUN_FOLDER``. It reads the run's files and never touches the run."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import numpy as np
from PyQt5.QtCore import QRectF, Qt, QTimer
from PyQt5.QtGui import QColor, QFont, QImage, QPainter, QPaintEvent
from PyQt5.QtWidgets import QApplication, QLabel, QMainWindow, QWidget

from config.errors import LivelocError
from engine.output.image import bar_length, length_text
from viewer.live_picture import Colours, LivePicture

INTERVAL = 200
"""Time between two looks at the log [ms]."""
STYLE = """
QMainWindow, QStatusBar { background: #121214; }
QStatusBar { color: #b8b8bd; padding: 2px 8px; }
QStatusBar::item { border: none; }
QLabel { color: #b8b8bd; padding: 0 10px; }
QLabel#state { color: #ffb454; }
"""


class Canvas(QWidget):
    """Shows one picture as large as it fits, with a scale bar."""

    def __init__(self) -> None:
        super().__init__()
        self._image: QImage | None = None
        self._nm = 1.0
        self.setMinimumSize(320, 320)

    def show_picture(self, colours: Colours, pixel: float) -> None:
        """Take a picture (H, W, 3) whose pixels are ``pixel`` nm wide."""
        colours = np.ascontiguousarray(colours)
        height, width, _ = colours.shape
        # The copy is Qt's own: the array may go.
        self._image = QImage(colours.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888).copy()
        self._nm = pixel
        self.update()

    def paintEvent(self, a0: QPaintEvent | None) -> None:  # noqa: ARG002, N802 - Qt's names
        """Draw. Qt calls this."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor("#121214"))
        if self._image is None:
            painter.setPen(QColor("#77777d"))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "waiting for the first localisations …")
        else:
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            place = self._place(self._image)
            painter.drawImage(place, self._image)
            self._draw_bar(painter, place, self._image.width() * self._nm)
        painter.end()

    def _place(self, image: QImage) -> QRectF:
        """Where the picture goes: centred, its sides in proportion."""
        scale = min(self.width() / image.width(), self.height() / image.height())
        width, height = image.width() * scale, image.height() * scale
        return QRectF((self.width() - width) / 2, (self.height() - height) / 2, width, height)

    def _draw_bar(self, painter: QPainter, place: QRectF, field: float) -> None:
        """A bar of a round length in the lower right of a picture ``field`` nm wide."""
        length = bar_length(field)
        width = place.width() * length / field
        bar = QRectF(place.right() - width - 20, place.bottom() - 24, width, 4)
        painter.fillRect(bar, QColor("white"))
        painter.setPen(QColor("white"))
        painter.setFont(QFont(self.font().family(), 11))
        above = bar.adjusted(-60, -26, 60, -6)
        painter.drawText(above, Qt.AlignmentFlag.AlignCenter, length_text(length))


class Window(QMainWindow):
    """The picture of one run as it grows, and in one line where the run stands."""

    def __init__(self, picture: LivePicture, close_at_end: bool = False, screenshot: Path | None = None) -> None:
        """``screenshot``: save the window there once the run has ended, then close."""
        super().__init__()
        self._picture, self._close_at_end, self._screenshot = picture, close_at_end, screenshot
        self.canvas, self.counts, self.state = Canvas(), QLabel(), QLabel("waiting")
        self.state.setObjectName("state")
        self._build()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.refresh)
        self._timer.start(INTERVAL)
        self.refresh()

    def _build(self) -> None:
        self.setWindowTitle(f"liveloc – {self._picture.folder.name}")
        self.setStyleSheet(STYLE)
        self.setCentralWidget(self.canvas)
        self.resize(720, 760)
        status = self.statusBar()
        assert status is not None
        status.setSizeGripEnabled(False)
        status.addWidget(self.counts, 1)
        status.addPermanentWidget(self.state)

    def refresh(self) -> None:
        """Look at the run's files; show what is new."""
        try:
            changed = self._picture.update()
        except LivelocError as error:
            self._stop(str(error))
            return
        if changed:
            self._show()
        if self._picture.ended:
            self._stop(f"run ended: {self._picture.ended}")
            self._leave()

    def _show(self) -> None:
        picture = self._picture
        if picture.localisations:
            self.canvas.show_picture(picture.shaded(), picture.pixel)
        self.counts.setText(f"{picture.localisations:,} localisations · frame {picture.frame:,} · {picture.pixel:g} nm")
        self.state.setText("recording")

    def _stop(self, why: str) -> None:
        self._timer.stop()
        self.state.setText(why)

    def _leave(self) -> None:
        """After the end: take the screenshot that was asked for, once the window has drawn itself, and close."""
        if self._screenshot or self._close_at_end:
            QTimer.singleShot(2 * INTERVAL, self._save_and_close)

    def _save_and_close(self) -> None:
        if self._screenshot:
            self.grab().save(str(self._screenshot), "PNG")
        self.close()


def main(arguments: list[str]) -> int:
    """Open the window and stay until it is closed."""
    options = _parser().parse_args(arguments)
    application = QApplication([sys.argv[0]])
    if options.probe:
        return 0
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Qt's loop would not look at Python's own handler
    window = Window(LivePicture(options.folder, options.pixel), options.close, options.screenshot)
    window.show()
    return int(application.exec_())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("viewer.window", description="Show a run's picture while it is recorded.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="the run folder")
    parser.add_argument("--pixel", type=float, default=10.0, help="pixel of the picture [nm]")
    parser.add_argument("--close", action="store_true", help="close when the run has ended")
    parser.add_argument("--screenshot", type=Path, help="save the window here when the run has ended, and close")
    parser.add_argument("--probe", action="store_true", help="only find out whether a window can be opened")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
