"""The live window: ``python -m viewer.window [ENDPOINT|RUN|FILE]``. It knows the engine by its wire and files alone.

The canvas owns the middle; panels stand around it and only show and emit; what is known stands in ``Session`` and
``PointStore``, what is remembered in ``ViewerSettings``.
"""
# ruff: noqa: N802 - Qt's names

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from PyQt5.QtCore import QByteArray, Qt, QTimer
from PyQt5.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QShowEvent
from PyQt5.QtWidgets import QApplication, QDialog, QFileDialog, QInputDialog, QLabel, QMainWindow, QMessageBox, QWidget

from config.errors import LivelocError
from engine.output.formats import FORMATS, write_table
from engine.output.wire import DEFAULT_PORT, endpoint
from viewer import style
from viewer.actions import build_menus
from viewer.background import Background
from viewer.canvas import Canvas
from viewer.dialogs import KINDS, ConnectDialog, ExportDialog, with_suffix
from viewer.feed import Link, LinkChanged, PreviewCame
from viewer.files import FileFeed, open_feed
from viewer.intake import Intake
from viewer.legend import Legend
from viewer.look import Look
from viewer.notice import Notice, words_for
from viewer.panels.feedback import FeedbackPanel
from viewer.panels.filters import FilterPanel, bulk, tidy
from viewer.panels.measure import MeasurePanel
from viewer.panels.parts import Dock, words
from viewer.panels.picture import COLOUR_MAPS, PicturePanel
from viewer.panels.quality import QualityPanel
from viewer.panels.raw import RawPanel
from viewer.panels.run import RunPanel
from viewer.points import OPEN, PointStore, Rectangle
from viewer.render import recorded_field, write_png, write_tiff
from viewer.settings import ExportSettings, PictureSettings, ViewerSettings, load, save, settings_path
from viewer.state import Session

logger = logging.getLogger(__name__)

TICK = 250
"""Between two looks of the panels at what has come [ms]."""
SHARE = 20
"""A figure over all points that takes long is made so rarely that it takes at most one part in so many of the time."""
SAID = 8000
"""How long a message stays in the status bar [ms]."""
SIDE = 262
"""Least width of the panels at the left [px]."""
RUN_HEIGHT = 400
"""Of the run panel, and of the camera's frame below it [px]."""
GROWING = ("filters", "run", "raw")
"""Panels that share the height that the others leave."""
FINE = 1024
"""Bins of the histogram by which a slider's ends are found."""
ONGOING = (Link.LIVE, Link.STALE, Link.LOST)
"""Of a run whose end is not known."""
LIVE_LOOKS = 12
"""Looks at a run that is live until its picture is taken: three seconds."""
TABLES = {suffix: kind.name for suffix, kind in FORMATS.items() if suffix != ".h5"}
"""What a table can be saved as."""
LIVE_PANELS = ("run", "raw", "feedback", "quality")
"""Panels that a file has nothing for."""
KEPT_FILTERS = ("precision", "probability", "photons", "background")
"""Filters that are remembered; frame and z mean something else in the next recording."""
HELP = """<table cellspacing=6>
<tr><td><b>wheel</b></td><td>zoom at the pointer</td></tr>
<tr><td><b>drag</b></td><td>move the picture; the middle button always does</td></tr>
<tr><td><b>double click, F</b></td><td>show the whole field</td></tr>
<tr><td><b>R, then drag</b></td><td>measure a rectangle; Esc leaves it</td></tr>
<tr><td><b>A, B, C</b></td><td>automatic contrast, scale bar, next colour map</td></tr>
<tr><td><b>Shift ↑ ↓</b></td><td>brighter, darker</td></tr>
<tr><td><b>H, F11</b></td><td>picture only, full screen</td></tr>
<tr><td><b>drop</b></td><td>a table or a run folder opens it</td></tr>
</table>"""


class Window(QMainWindow):
    """Everything on the screen."""

    def __init__(self, settings: ViewerSettings | None = None, settings_file: Path | None = None) -> None:
        """``settings_file``: where the settings are kept when the window closes; None for nowhere."""
        super().__init__()
        self.settings, self._settings_file = settings or ViewerSettings(), settings_file
        self.store = PointStore()
        self.canvas = Canvas(self.store)
        self.intake = Intake(self.canvas)
        self.background = Background(self)
        self.notice, self.legend = Notice(self.canvas), Legend(self.canvas)
        self.picture, self.filters, self.measure = PicturePanel(), FilterPanel(), MeasurePanel()
        self.run, self.raw, self.feedback, self.quality = RunPanel(), RawPanel(), FeedbackPanel(), QualityPanel()
        self.docks: dict[str, Dock] = {}
        self.readout, self.counts, self.scale = QLabel(), QLabel(), QLabel()
        self._shown_rows, self._shown_quality = -1, -1
        self._shown_preview: PreviewCame | None = None
        self._count_after = self._idle_until = 0.0
        self._wanted = dict.fromkeys(LIVE_PANELS, True)
        self._files_only = False
        self._hidden: list[Dock] = []
        self._timer = QTimer(self)
        self._build()
        self._connect()
        self._restore()
        self._fit_panels(files_only=True)
        self._show_session()
        self._tick()

    @property
    def session(self) -> Session:
        """What is known of what is shown."""
        return self.intake.session

    @property
    def complete(self) -> bool:
        """Whether everything that there is has come and is drawn."""
        drawn = self.canvas.settled or self.canvas.failure is not None
        return self.intake.complete and drawn and self._shown_rows == self.store.count

    # What a user does.

    def open(self, target: str, keys: Path | None = None, pixel_size: float | None = None) -> None:
        """Show a file, a run folder or an engine; says so where it cannot be."""
        try:
            feed = open_feed(target, keys, pixel_size)
        except LivelocError as error:
            self._refuse(str(error))
            return
        self.settings.remember(target)
        if Path(target).exists():
            self.settings.folder = str(Path(target).resolve().parent)
        self.setWindowTitle(f"{feed.name} – liveloc")
        self._fit_panels(isinstance(feed, FileFeed))
        self.intake.open(feed)

    def command(self, command: str, arguments: Mapping[str, Any]) -> None:
        """Ask the engine for something."""
        self.intake.command(command, arguments)

    def change_picture(self, **changes: Any) -> None:
        """Change some of the picture's settings."""
        self.picture.show_settings(replace(self.picture.settings, **changes))
        self._apply_picture(self.picture.settings)

    def change_contrast(self, factor: float) -> None:
        """Show ``factor`` times the density at full brightness, from now on by hand."""
        low, high = self.canvas.limits
        self.change_picture(automatic=False, low=low, high=max(high * factor, 1e-3))

    def next_colours(self) -> None:
        """The next colour map."""
        now = self.picture.settings.colours
        place = COLOUR_MAPS.index(now) + 1 if now in COLOUR_MAPS else 0
        self.change_picture(colours=COLOUR_MAPS[place % len(COLOUR_MAPS)])

    def toggle_rectangle_tool(self) -> None:
        """Draw a rectangle with the left button, or move the picture again."""
        self.canvas.set_tool("rectangle")
        self._show_dock("measure")

    def leave_rectangle(self) -> None:
        """No rectangle, and no filter to it."""
        self.canvas.set_tool("pan")
        self.canvas.set_rectangle(None)
        self._filter_to_rectangle(False)
        self.measure.show_measured(None, None)

    def toggle_panel(self, name: str) -> None:
        """Show a panel or close it."""
        dock = self.docks[name]
        if dock.isVisible():
            dock.close()
        else:
            self._show_dock(name)

    def toggle_panels(self) -> None:
        """The picture alone, or the panels as they were."""
        shown = [dock for dock in self.docks.values() if dock.isVisible()]
        if shown:
            self._hidden = shown
            for dock in shown:
                dock.hide()
        else:
            for dock in self._hidden or list(self.docks.values()):
                dock.show()

    def toggle_full_screen(self) -> None:
        """The whole screen, or a window."""
        self.showNormal() if self.isFullScreen() else self.showFullScreen()

    def begin_mark(self) -> None:
        """Write a note for the run's log."""
        self._show_dock("run")
        self.run.note.setFocus()

    def export_picture(self, path: Path, export: ExportSettings) -> None:
        """Draw the field or the view at ``export.pixel`` nm, and write it while the window goes on."""
        suffix, bits = KINDS.get(export.kind) or next(iter(KINDS.values()))
        path = with_suffix(path, suffix)
        part = self._field() if export.whole else self.canvas.view.rectangle(self.canvas.pixels)
        QApplication.setOverrideCursor(Qt.CursorShape.WaitCursor)
        try:
            image = self.canvas.render_image(part, export.pixel)
        except LivelocError as error:
            self.say(str(error), bad=True)
            return
        finally:
            QApplication.restoreOverrideCursor()
        look, done = self._look(), f"written: {path}"
        if suffix == ".png":
            self.background.start(lambda: write_png(path, image, look, export.scale_bar), done)
        else:
            self.background.start(lambda: write_tiff(path, image, bits, export.scale_bar), done)

    def save_table(self, path: Path) -> None:
        """Write the localisations that are shown, in the format of the suffix, while the window goes on."""
        table = self.store.table(self.session.metadata)
        words = f"written: {table.num_rows:,} localisations to {path}"
        self.background.start(lambda: write_table(table, path), words)

    def _refuse(self, words: str) -> None:
        """Something cannot be opened; what is open stays."""
        self.say(words, bad=True)
        if self.intake.feed is None:
            self.session.take(LinkChanged(Link.FAILED, words))
            self._show_session()

    def save_screenshot(self, path: Path) -> None:
        """Write a picture of the window."""
        path.parent.mkdir(parents=True, exist_ok=True)
        well = self.grab().save(str(path), "PNG")
        self.say(f"written: {path}" if well else f"{path} cannot be written. Choose another place.", bad=not well)

    def say(self, words: str, bad: bool = False) -> None:
        """A message in the status bar."""
        bar = self.statusBar()
        assert bar is not None
        (logger.warning if bad else logger.info)("%s", words)
        bar.setStyleSheet(f"QStatusBar {{ color: {style.BAD if bad else style.DIM}; }}")
        bar.showMessage(words, SAID * (3 if bad else 1))

    # Questions to the user.

    def ask_file(self, pixel_size: float | None = None) -> None:
        """Which file to open; ``pixel_size`` [nm] where it does not tell it."""
        kinds = " ".join(f"*{suffix}" for suffix in FORMATS)
        path, _ = QFileDialog.getOpenFileName(self, "Open a table", self.settings.folder, f"Tables ({kinds});;All (*)")
        if path:
            self.open(path, pixel_size=pixel_size)

    def ask_sized_file(self) -> None:
        """The camera's pixel size, then which file to open: some formats measure in pixels and do not tell theirs."""
        pixel, well = QInputDialog.getDouble(
            self, "Pixel size", "Width of a camera pixel [nm]", 100.0, 1.0, 10_000.0, 2
        )
        if well:
            self.ask_file(pixel)

    def ask_folder(self) -> None:
        """Which run folder to open."""
        path = QFileDialog.getExistingDirectory(self, "Open a run folder", self.settings.folder)
        if path:
            self.open(path)

    def ask_endpoint(self) -> None:
        """Which engine to connect to."""
        recent = [one for one in self.settings.recent if one.startswith("tcp://")]
        dialog = ConnectDialog(recent, endpoint("127.0.0.1", DEFAULT_PORT), self)
        if dialog.exec_() == QDialog.DialogCode.Accepted:
            text = dialog.address.currentText().strip()
            self.open(text if text.startswith("tcp://") else f"tcp://{text}")

    def ask_export(self) -> None:
        """How and where to export the picture."""
        if not self.store.count:
            self.say("there is nothing to export yet", bad=True)
            return
        view = self.canvas.view.rectangle(self.canvas.pixels)
        dialog = ExportDialog(self.settings.export, self._field(), view, self)
        if dialog.exec_() != QDialog.DialogCode.Accepted:
            return
        self.settings.export = dialog.settings
        suffix = KINDS[dialog.settings.kind][0]
        if path := self._ask_place("Export the picture", f"picture{suffix}", f"Picture (*{suffix})"):
            self.export_picture(path, dialog.settings)

    def ask_table(self) -> None:
        """Where to save the table, and as what."""
        kinds = ";;".join(f"{name} (*{suffix})" for suffix, name in TABLES.items())
        place = str(Path(self.settings.folder) / "filtered.csv")
        path, kind = QFileDialog.getSaveFileName(self, "Save the filtered table", place, kinds)
        if path:
            self.settings.folder = str(Path(path).parent)
            chosen = kind.rpartition("*")[2].rstrip(")") or ".csv"
            self.save_table(Path(path) if Path(path).suffix.lower() in FORMATS else with_suffix(Path(path), chosen))

    def ask_screenshot(self) -> None:
        """Where to save a picture of the window."""
        if path := self._ask_place("Save a screenshot", "liveloc.png", "Picture (*.png)"):
            QTimer.singleShot(TICK, lambda: self.save_screenshot(with_suffix(path, ".png")))

    def show_help(self) -> None:
        """What mouse and keys do."""
        QMessageBox.information(self, "Mouse and keyboard", HELP)

    def _ask_place(self, title: str, name: str, kinds: str) -> Path | None:
        path, _ = QFileDialog.getSaveFileName(self, title, str(Path(self.settings.folder) / name), kinds)
        if not path:
            return None
        self.settings.folder = str(Path(path).parent)
        return Path(path)

    # Building.

    def _build(self) -> None:
        self.setWindowTitle("liveloc")
        self.setCentralWidget(self.canvas)
        self.setAcceptDrops(True)
        self.resize(1440, 900)
        self._add_docks()
        self._add_status_bar()
        build_menus(self)

    def _add_docks(self) -> None:
        left, right, below = (Qt.DockWidgetArea(area) for area in (1, 2, 8))
        for panel in (self.run, self.raw, self.feedback):
            panel.setMinimumWidth(SIDE)
        places: dict[str, tuple[str, QWidget, Qt.DockWidgetArea]] = {
            "picture": ("Picture", self.picture, right),
            "filters": ("Filters", self.filters, right),
            "measure": ("Measure", self.measure, right),
            "run": ("Run", self.run, left),
            "raw": ("Raw", self.raw, left),
            "feedback": ("Feedback", self.feedback, left),
            "quality": ("Quality", self.quality, below),
        }
        for name, (title, panel, area) in places.items():
            dock = self.docks[name] = Dock(title, name, panel, self, name in GROWING)
            self.addDockWidget(area, dock)
        for corner, area in ((Qt.Corner.BottomLeftCorner, left), (Qt.Corner.BottomRightCorner, right)):
            self.setCorner(corner, area)

    def _add_status_bar(self) -> None:
        bar = self.statusBar()
        assert bar is not None
        bar.setSizeGripEnabled(False)
        for label, width in ((self.readout, 220), (self.scale, 100), (self.counts, 250)):
            label.setObjectName("caption")
            label.setMinimumWidth(width)
            label.setContentsMargins(0, 0, 10, 0)
        self.counts.setAlignment(Qt.AlignmentFlag.AlignRight)
        bar.addPermanentWidget(self.readout)
        bar.addPermanentWidget(self.scale)
        bar.addPermanentWidget(self.counts)

    def _connect(self) -> None:
        self.intake.began.connect(self._begin)
        self.intake.told.connect(self._show_session)
        self.background.done.connect(lambda words, well: self.say(words, bad=not well))
        self.canvas.hovered.connect(self._read_out)
        self.canvas.left.connect(lambda: self.readout.setText(""))
        self.canvas.view_changed.connect(self._show_scale)
        self.canvas.contrast_changed.connect(lambda *_: self._show_contrast())
        self.canvas.rectangle_drawn.connect(lambda *_: self._rectangle_drawn())
        self.canvas.failed.connect(lambda _: self._show_session())
        self.picture.changed.connect(self._apply_picture)
        self.filters.changed.connect(self._filter)
        self.measure.filtered.connect(self._filter_to_rectangle)
        self.measure.cleared.connect(self.leave_rectangle)
        for panel in (self.run, self.feedback):
            panel.command.connect(self.command)
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK)

    def _restore(self) -> None:
        """What was remembered."""
        settings = self.settings
        self.picture.show_settings(settings.picture)
        self._apply_picture(settings.picture)
        ranges = {name: _limits(pair) for name, pair in settings.filters.items() if name in KEPT_FILTERS}
        self.filters.set_ranges(ranges)
        for name, limits in ranges.items():
            self.store.set_filter(name, *limits)
        if settings.geometry:
            self.restoreGeometry(QByteArray.fromBase64(settings.geometry.encode()))
        if settings.layout:
            self.restoreState(QByteArray.fromBase64(settings.layout.encode()))
        for name in settings.closed:
            if name in self.docks:
                self.docks[name].set_folded(True)

    def _remember(self) -> None:
        settings = self.settings
        settings.picture = self.picture.settings
        settings.filters = {
            name: [None if math.isinf(limit) else limit for limit in limits]
            for name, limits in self.filters.ranges.items()
            if name in KEPT_FILTERS
        }
        self._settle_panels()
        settings.geometry = bytes(self.saveGeometry().toBase64()).decode()
        settings.layout = bytes(self.saveState().toBase64()).decode()
        settings.closed = [name for name, dock in self.docks.items() if dock.folded]
        if self._settings_file is not None:
            save(settings, self._settings_file)

    # Showing what is known.

    def _begin(self) -> None:
        """Another run or file."""
        self._shown_rows = -1
        self.measure.show_measured(None, None)
        self._show_session()
        self._tick()

    def _show_session(self) -> None:
        session, commands = self.session, self.intake.takes_commands
        self.run.show_session(session, commands)
        self.feedback.show_session(session, commands and session.link in (Link.LIVE, Link.STALE))
        self._show_notice()

    def _show_notice(self) -> None:
        self.notice.say(words_for(self.session, self.store.count == 0, self.canvas.failure))

    def _tick(self) -> None:
        """What the panels show of points, figures and frames that have come."""
        if self._shown_rows != self.store.count:
            self._shown_rows = self.store.count
            self._show_histograms()
            self._show_legend()
            self._count_soon()
        if self._count_after and time.monotonic() >= self._count_after:
            self._count()
        if self._shown_preview is not self.session.preview:
            self._shown_preview = self.session.preview
            self.raw.show_preview(self._shown_preview)
        if self._shown_quality != len(self.session.quality) and self.quality.isVisible():
            self._shown_quality = len(self.session.quality)
            self.quality.show_history(self.session.quality)
        self._show_notice()

    def _show_histograms(self) -> None:
        for name, row in self.filters.rows.items():
            extent = self.store.extent(name)
            limits = tidy(*(extent if name == "frame" else bulk(self.store.histogram(name, FINE, extent))))
            row.show_histogram(*limits, self.store.histogram(name, limits=limits).counts)

    def _count_soon(self) -> None:
        """Unless the last count took long: then later."""
        self._count_after = self._count_after or max(time.monotonic(), self._idle_until)

    def _count(self) -> None:
        """Figures over all points: they cost the more the more there are, so they are made the more rarely."""
        began = time.monotonic()
        self.filters.show_counts(self.store.shown, self.store.count)
        rectangle = self.canvas.rectangle
        if rectangle is not None:
            self.measure.show_measured(rectangle, self.store.measure(rectangle))
        self.counts.setText(self._counts_in_words())
        now = time.monotonic()
        self._idle_until = now + SHARE * (now - began)
        self._count_after = 0.0

    def _counts_in_words(self) -> str:
        shown, all_ = self.store.shown, self.store.count
        part = f"{shown:,} of {all_:,}" if shown < all_ else f"{all_:,}"
        frame = f" · frame {self.session.frame:,}" if self.session.frame >= 0 else ""
        return f"{part} localisations{frame}" if all_ else ""

    def _show_legend(self) -> None:
        picture = self.picture.settings
        low, high = self.canvas.limits if picture.by == "density" else self.store.extent(picture.by)
        self.legend.show_colours(picture.colours, picture.by, low, high)

    def _show_contrast(self) -> None:
        self.picture.show_range(*self.canvas.limits)
        self._show_legend()

    def _show_scale(self) -> None:
        self.scale.setText(f"{words(self.canvas.view.scale)} nm/pixel")

    def _read_out(self, x: float, y: float, density: float) -> None:
        there = f" · {words(density)} /µm²" if math.isfinite(density) else ""
        self.readout.setText(f"x {x:,.0f} nm   y {y:,.0f} nm{there}")

    # What panels ask for.

    def _apply_picture(self, picture: PictureSettings) -> None:
        limits = None if picture.automatic else (picture.low, picture.high)
        try:
            self.canvas.set_colour(picture.colours, picture.by, picture.gamma, limits)
            self.canvas.set_mode(picture.mode, picture.width)
        except LivelocError as error:
            self.say(str(error), bad=True)
            self.change_picture(colours=PictureSettings.colours, by=PictureSettings.by, mode=PictureSettings.mode)
            return
        self.canvas.set_scale_bar(picture.scale_bar)
        self._show_legend()

    def _look(self) -> Look:
        """As on the screen."""
        picture = self.picture.settings
        values = None if picture.by == "density" else self.store.extent(picture.by)
        return Look(picture.colours, picture.gamma, self.canvas.limits, values)

    def _filter(self, column: str, low: float, high: float) -> None:
        self.canvas.set_filter(column, low, high)
        self._count_soon()

    def _filter_to_rectangle(self, on: bool) -> None:
        rectangle = self.canvas.rectangle if on else None
        sides = ((rectangle.left, rectangle.right), (rectangle.top, rectangle.bottom)) if rectangle else (OPEN, OPEN)
        for axis, limits in zip("xy", sides, strict=True):
            self.canvas.set_filter(axis, *limits)
        self._count_soon()

    def _rectangle_drawn(self) -> None:
        self.canvas.set_tool("pan")
        if self.measure.only.isChecked():
            self._filter_to_rectangle(True)
        self._count()

    def _field(self) -> Rectangle:
        """All of the sample: as recorded, where the table tells it."""
        return recorded_field(self.session.metadata) or self.store.field or Rectangle(0.0, 0.0, 1.0, 1.0)

    # Panels.

    def _show_dock(self, name: str) -> None:
        dock = self.docks[name]
        dock.show()
        dock.set_folded(False)

    def _fit_panels(self, files_only: bool) -> None:
        """Panels about the engine go while a file is shown, and come back as they were."""
        if files_only == self._files_only:
            return
        self._files_only = files_only
        for name in LIVE_PANELS:
            if files_only:
                self._wanted[name] = not self.docks[name].isHidden()
            self.docks[name].setVisible(not files_only and self._wanted[name])
        QTimer.singleShot(0, self._share_room)

    def _settle_panels(self) -> None:
        """All panels where a run would have them, so that a look at a file does not change what is remembered."""
        self._fit_panels(files_only=False)
        places = self.layout()
        for _ in range(2):
            if places is not None:
                places.activate()
            self._share_room()

    def _share_room(self) -> None:
        """Sizes of panels that the user has not chosen yet: narrow, and the camera's frame as large as it can be."""
        if not self.settings.layout:
            left, right = self.docks["run"], self.docks["picture"]
            self.resizeDocks([left, right], [SIDE, SIDE], Qt.Orientation.Horizontal)
            self.resizeDocks([left, self.docks["raw"]], [RUN_HEIGHT, RUN_HEIGHT], Qt.Orientation.Vertical)

    # Qt's own.

    def showEvent(self, a0: QShowEvent | None) -> None:
        """Qt's own, and the panels' sizes."""
        super().showEvent(a0)
        QTimer.singleShot(0, self._share_room)

    def dragEnterEvent(self, a0: QDragEnterEvent | None) -> None:
        """Something is dragged over the window."""
        if a0 is not None and _dropped(a0):
            a0.acceptProposedAction()

    def dropEvent(self, a0: QDropEvent | None) -> None:
        """Something is dropped: open it."""
        if a0 is not None and (path := _dropped(a0)):
            a0.acceptProposedAction()
            self.open(path)

    def closeEvent(self, a0: QCloseEvent | None) -> None:
        """End everything that was started; the engine notices nothing."""
        self._timer.stop()
        self._remember()
        self.intake.close()
        self.background.wait()
        super().closeEvent(a0)


def _dropped(event: QDropEvent) -> str | None:
    """The file or folder that is dragged; None where it is something else."""
    data = event.mimeData()
    places = [url.toLocalFile() for url in data.urls() if url.isLocalFile()] if data is not None else []
    return places[0] if places else None


def _limits(pair: list[float | None]) -> tuple[float, float]:
    low, high = pair
    return -math.inf if low is None else low, math.inf if high is None else high


class Watch:
    """For programs: takes the screenshot once everything is shown, closes the window when the run has ended."""

    def __init__(self, window: Window, screenshot: Path | None, close: bool) -> None:
        self._window, self._screenshot, self._close = window, screenshot, close
        self._timer = QTimer(window)
        self._timer.timeout.connect(self._look)
        self._timer.start(TICK)
        self._calm = self._live = 0
        self.failed = False
        """Whether what was to be shown could not be."""

    def _look(self) -> None:
        """Act when all has been calm for two looks: the panels, too, have drawn themselves then.

        A live run is never calm; its picture is taken once it has been caught up with for a while.
        """
        window = self._window
        link, some = window.session.link, window.store.count > 0
        over = window.complete and link in (Link.ENDED, Link.DONE, Link.FAILED)
        self._calm = self._calm + 1 if over else 0
        self._live = self._live + 1 if link in ONGOING and some and self._screenshot is not None else 0
        if self._calm < 2 and self._live < LIVE_LOOKS:
            return
        self._timer.stop()
        self.failed = link is Link.FAILED
        if self._screenshot is not None:
            self._window.save_screenshot(self._screenshot)
        if self._screenshot is not None or self._close:
            self._window.close()


def main(arguments: list[str]) -> int:
    """Open the window and stay until it is closed. 2: what was to be shown could not be."""
    options = _parser().parse_args(arguments)
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_EnableHighDpiScaling)
    application = QApplication([sys.argv[0]])
    if options.probe:
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Qt's loop would not look at Python's own handler
    style.dress(application)
    window = Window(load(options.settings), options.settings)
    sys.excepthook = _excepthook(window)
    if options.size:
        window.resize(*options.size)
    window.show()
    watch = Watch(window, options.screenshot, options.close)
    if options.target:
        window.open(options.target, options.keys, options.pixel_size)
    application.exec_()
    return 2 if watch.failed else 0


def _excepthook(window: Window) -> Any:
    """PyQt ends the process at an error in a slot; a window that goes on and says so serves its user better."""

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logger.error("an error in the window", exc_info=(kind, error, trace))
        window.say(f"an error in liveloc: {error!r}. The window goes on; the terminal has the details.", bad=True)

    return tell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("viewer.window", description="Watch a run, or look at localisations.")
    parser.add_argument("target", nargs="?", help="an engine's address, a run folder, or a table")
    parser.add_argument("--keys", type=Path, help="the folder of this viewer's keys")
    parser.add_argument("--pixel-size", type=float, help="camera pixel [nm], where a table does not tell it")
    parser.add_argument("--close", action="store_true", help="close when the run has ended")
    parser.add_argument("--screenshot", type=Path, help="save the window here once everything is shown, and close")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="of the window [pixels]")
    parser.add_argument("--settings", type=Path, default=settings_path(), help="where what is remembered is kept")
    parser.add_argument("--probe", action="store_true", help="only find out whether a window can be opened")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
