"""The window itself, on a real or a virtual screen, with a real engine at the other end of the wire."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from config.schema import WireSettings
from engine.output.formats import read_table
from engine.output.recorder import Recorder, read_log
from tests.viewer.engine import FIELD, Engine, engine, filaments, write_account
from tests.viewer.localisations import batch_of
from tests.viewer.test_client import free_port
from viewer.display import open_window, why_no_window
from viewer.feed import Link
from viewer.files import LOG
from viewer.settings import ExportSettings, ViewerSettings, load

pytest.importorskip("PyQt5", reason="PyQt5 is not installed (group viewer)")
pytestmark = pytest.mark.usefixtures("screen")

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from viewer.window import Window

PATIENCE = 60_000
"""[ms]."""
OPEN = (float("-inf"), float("inf"))


@pytest.fixture
def open_one(qtbot: QtBot) -> Iterator[Callable[..., Window]]:
    """Makes windows, shows them, and closes them at the end: what they started must be gone then."""
    from viewer.window import Window

    before = set(threading.enumerate())
    windows: list[Window] = []

    def make(*args: Any) -> Window:
        window = Window(*args)
        windows.append(window)
        window.show()
        qtbot.waitExposed(window)
        return window

    yield make
    for window in windows:
        window.close()
        assert window.canvas.failure is None
        window.deleteLater()
    left = [
        thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith(("feed", "liveloc"))
    ]
    assert not left


@pytest.fixture
def window(open_one: Callable[..., Window]) -> Window:
    return open_one()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path / "run") as running:
        yield running


def until(qtbot: QtBot, condition: Callable[[], object]) -> None:
    qtbot.waitUntil(lambda: bool(condition()), timeout=PATIENCE)


def click(qtbot: Any, button: object) -> None:
    from PyQt5.QtCore import Qt

    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def press(qtbot: Any, window: Window, key: str) -> None:
    from PyQt5.QtCore import Qt

    qtbot.keyClick(window, getattr(Qt.Key, key))


def shows(window: Window, rows: int) -> bool:
    """Whether so many rows are there and drawn."""
    return window.complete and window.store.count == rows


def light(window: Window) -> float:
    """Mean brightness of the picture on the screen."""
    picture = window.canvas.grabFramebuffer()
    pixels = picture.convertToFormat(picture.Format.Format_RGB888)
    bits = pixels.constBits()
    assert bits is not None
    data = bits.asstring(pixels.bytesPerLine() * pixels.height())
    lines = np.frombuffer(data, np.uint8).reshape(pixels.height(), -1)
    return float(lines[:, : 3 * pixels.width()].mean())


def write_ring(path: Path, rows: int = 2000) -> None:
    """A log of a ring of 1 µm radius in a field of 6.4 by 6.4 µm."""
    angle = np.random.default_rng(1).uniform(0, 2 * np.pi, rows)
    recorder = Recorder(path, {"pixel_size_nm": "100", "width_px": "64", "height_px": "64"})
    recorder.write(batch_of(3200 + 1000 * np.cos(angle), 3200 + 1000 * np.sin(angle), frame=np.arange(rows)))
    recorder.close()


def test_it_begins_empty_and_says_what_to_do(window: Window) -> None:
    assert window.session.link is Link.EMPTY
    assert window.notice.isVisible()
    assert "Ctrl+O" in window.notice.text.text()
    assert not window.docks["run"].isVisible()
    assert window.docks["filters"].isVisible()


def test_it_waits_for_an_engine_then_shows_it_live(window: Window, qtbot: QtBot, tmp_path: Path) -> None:
    port = free_port()
    window.open(f"tcp://127.0.0.1:{port}")
    until(qtbot, lambda: window.session.link is Link.WAITING and "no engine" in window.notice.text.text())
    dark = light(window)
    with engine(tmp_path / "run", WireSettings(port=port)) as run:
        until(qtbot, lambda: window.session.link is Link.LIVE)
        for _ in range(5):
            run.write(2, 500)
            run.tell()
            until(qtbot, lambda: window.store.count == run.rows)
        until(qtbot, lambda: window.complete)
        assert light(window) > dark + 2
        assert not window.notice.isVisible()
        until(qtbot, lambda: "5,000 localisations" in window.counts.text())
        until(qtbot, lambda: "5,000 localisations" in window.run.figures.text("localisations"))
        assert window.run.isVisible()


def test_it_loses_the_engine_says_so_and_finds_the_next(window: Window, qtbot: QtBot, tmp_path: Path) -> None:
    port = free_port()
    window.open(f"tcp://127.0.0.1:{port}")
    with engine(tmp_path / "one", WireSettings(port=port)) as run:
        run.write(3)
        until(qtbot, lambda: window.store.count == run.rows)
    until(qtbot, lambda: window.notice.title.text() == "Connection lost" and window.notice.isVisible())
    assert window.store.count == 600
    with engine(tmp_path / "two", WireSettings(port=port)) as run:
        run.write(1, 77)
        until(qtbot, lambda: window.session.name == "two" and window.store.count == 77)
        until(qtbot, lambda: not window.notice.isVisible())


def test_what_the_panels_tell(window: Window, qtbot: QtBot, run: Engine) -> None:
    window.open(run.endpoint)
    until(qtbot, lambda: window.session.link is Link.LIVE)
    run.write(3)
    run.tell(warnings=["Too bright for this model."], missing=5)
    run.tell_quality(3)
    run.show(frame=42)
    until(qtbot, lambda: "42" in window.raw._text.text() and "39 found" in window.raw._text.text())
    until(qtbot, lambda: len(window.session.quality) == 3)
    assert "Too bright" in window.run.warnings.text()
    assert window.run.figures.text("missing") == "5"
    image, rings = np.asarray(window.raw.image.image), window.raw.rings.getData()[0]
    assert image.shape == (128, 128)
    assert len(rings) == 39
    until(qtbot, lambda: "target 1" in window.quality.plots[1]._title.text())


def test_commands_reach_the_engine(window: Window, qtbot: QtBot, run: Engine) -> None:
    window.open(run.endpoint)
    run.tell()
    until(qtbot, lambda: window.session.link is Link.LIVE and window.run.pause.isEnabled())
    click(qtbot, window.run.pause)
    window.run.note.setText("focus moved")
    click(qtbot, window.run.mark)
    click(qtbot, window.run.stop)
    assert window.run.stop.text() == "Really?"
    click(qtbot, window.run.stop)
    until(qtbot, lambda: len(run.commands) == 3)
    assert run.commands == [("pause", {}), ("mark", {"text": "focus moved"}), ("stop", {})]
    window.docks["feedback"].set_folded(False)
    window.feedback.target.setValue(1.7)
    window.feedback.target.editingFinished.emit()
    until(qtbot, lambda: run.commands[-1] == ("target", {"value": 1.7}))
    run.tell(paused=True)
    until(qtbot, lambda: window.run.start.text() == "Resume" and window.run.start.isEnabled())
    window.command("pause", {})
    until(qtbot, lambda: "paused already" in window.run.answer.text())


def test_filters_act_on_picture_and_counts(window: Window, qtbot: QtBot, run: Engine) -> None:
    run.write(5, 1000)
    window.open(run.endpoint)
    until(qtbot, lambda: window.complete and window.store.count == 5000)
    precision = np.sqrt(
        np.mean([read_log(run.folder / LOG)[name].to_numpy() ** 2 for name in ("sigma_x", "sigma_y")], 0)
    )
    window.change_picture(automatic=False)
    until(qtbot, lambda: window.complete)
    bright = light(window)
    row = window.filters.rows["precision"]
    row.high.setText("10")
    row.high.editingFinished.emit()
    until(qtbot, lambda: window.complete)
    assert light(window) < bright
    shown = int(np.count_nonzero(precision <= 10))
    assert abs(window.store.shown - shown) <= 0.002 * 5000
    until(qtbot, lambda: f"{window.store.shown:,} of 5,000" in window.counts.text())
    window.filters.reset.click()
    assert window.store.shown == 5000


def test_a_handle_at_its_end_lets_what_is_to_come_through(window: Window, qtbot: QtBot, run: Engine) -> None:
    run.write(2)
    window.open(run.endpoint)
    until(qtbot, lambda: window.complete and window.store.count == run.rows)
    row = window.filters.rows["frame"]
    low, high = map(float, row.slider.value())
    row.slider.setValue((low + 0.5 * (high - low), high))
    chosen, end = row.range
    assert chosen > 0
    assert end == float("inf")
    run.write_batch(filaments(50, 9, first_frame=10_000))
    until(qtbot, lambda: window.store.count == run.rows)
    assert row.range == (chosen, end)
    assert window.store.filters["frame"] == (chosen, end)


def test_a_rectangle_is_measured_and_filtered_to(window: Window, qtbot: QtBot, tmp_path: Path) -> None:
    from viewer.points import Rectangle

    write_ring(tmp_path / "ring.arrows")
    window.open(str(tmp_path / "ring.arrows"))
    until(qtbot, lambda: window.complete)
    half = Rectangle(0.0, 0.0, 3200.0, 6400.0)
    window.canvas.set_rectangle(half)
    window.canvas.rectangle_drawn.emit(half.left, half.top, half.right, half.bottom)
    inside = int(np.count_nonzero(read_table(tmp_path / "ring.arrows")["x"].to_numpy() <= 3200))
    assert window.measure.figures.text("count") == f"{inside:,}"
    assert window.measure.figures.text("precision").startswith("10")
    assert window.measure.figures.text("size") == "3.20 × 6.40 µm"
    window.measure.only.click()
    assert window.store.shown == inside
    window.leave_rectangle()
    assert window.store.shown == 2000
    assert window.canvas.rectangle is None


def test_keys(window: Window, qtbot: QtBot, tmp_path: Path) -> None:
    from PyQt5.QtWidgets import QApplication

    write_ring(tmp_path / "ring.arrows")
    window.open(str(tmp_path / "ring.arrows"))
    until(qtbot, lambda: window.complete)
    QApplication.setActiveWindow(window)
    fitted = window.canvas.view.scale
    press(qtbot, window, "Key_Plus")
    assert window.canvas.view.scale == pytest.approx(fitted / 1.5)
    press(qtbot, window, "Key_F")
    assert window.canvas.view.scale == pytest.approx(fitted)
    colours = window.picture.settings.colours
    press(qtbot, window, "Key_C")
    assert window.picture.settings.colours != colours
    press(qtbot, window, "Key_H")
    assert not window.docks["filters"].isVisible()
    press(qtbot, window, "Key_H")
    assert window.docks["filters"].isVisible()


def test_shortcuts_are_shown_and_none_is_given_twice(window: Window) -> None:
    from PyQt5.QtWidgets import QAction

    keys = [action.shortcut().toString() for action in window.findChildren(QAction) if not action.shortcut().isEmpty()]
    assert len(keys) > 20
    assert len(keys) == len(set(keys))


def test_pictures_are_exported(window: Window, qtbot: QtBot, tmp_path: Path) -> None:
    write_ring(tmp_path / "ring.arrows")
    window.open(str(tmp_path / "ring.arrows"))
    until(qtbot, lambda: window.complete)
    exports = {
        "PNG, as on the screen": "picture.png",
        "TIFF, 32 bits, localisations per pixel": "floats.tif",
        "TIFF, 16 bits, scaled to the brightest pixel": "words.tif",
    }
    for kind, name in exports.items():
        window.export_picture(tmp_path / name, ExportSettings(True, 20.0, False, kind))
    until(qtbot, lambda: not window.background.busy)
    assert Image.open(tmp_path / "picture.png").size == (320, 320)
    floats = tifffile.imread(tmp_path / "floats.tif")
    assert floats.shape == (320, 320)
    assert floats.sum() == pytest.approx(2000, rel=0.01)
    rows, columns = np.indices(floats.shape) + 0.5
    distance = np.hypot(rows - 160, columns - 160) * 20
    assert floats[abs(distance - 1000) < 60].sum() > 0.98 * floats.sum()
    assert tifffile.imread(tmp_path / "words.tif").dtype == np.uint16
    window.canvas.zoom(0.5)
    window.export_picture(tmp_path / "view", ExportSettings(False, 20.0, True, "PNG, as on the screen"))
    until(qtbot, (tmp_path / "view.png").exists)


def test_an_export_that_cannot_be_is_told(window: Window, qtbot: QtBot, tmp_path: Path) -> None:
    write_ring(tmp_path / "ring.arrows")
    window.open(str(tmp_path / "ring.arrows"))
    until(qtbot, lambda: window.complete)
    window.export_picture(tmp_path / "huge.png", ExportSettings(True, 0.1))
    assert "Choose more nm per pixel" in message(window)
    (tmp_path / "file").touch()
    window.export_picture(tmp_path / "file" / "picture.png", ExportSettings(True, 20.0))
    until(qtbot, lambda: "cannot be written" in message(window))
    window.save_table(tmp_path / "file" / "table.csv")
    until(qtbot, lambda: not window.background.busy and "table.csv" in message(window))


def message(window: Window) -> str:
    bar = window.statusBar()
    assert bar is not None
    return bar.currentMessage()


@pytest.mark.parametrize("suffix", [".csv", ".hdf5", ".parquet", ".arrows"])
def test_the_filtered_table_is_saved(suffix: str, window: Window, qtbot: QtBot, tmp_path: Path) -> None:
    write_ring(tmp_path / "ring.arrows")
    window.open(str(tmp_path / "ring.arrows"))
    until(qtbot, lambda: window.complete)
    window.filters.rows["frame"].set_range((500.0, 999.0))
    window.filters.changed.emit("frame", 500.0, 999.0)
    window.save_table(tmp_path / f"saved{suffix}")
    until(qtbot, lambda: not window.background.busy)
    saved = read_table(tmp_path / f"saved{suffix}")
    assert saved.column("frame").to_pylist() == list(range(500, 1000))
    np.testing.assert_allclose(saved["x"], read_table(tmp_path / "ring.arrows")["x"].to_numpy()[500:1000], atol=0.01)


def test_what_is_dropped_is_opened(window: Window, qtbot: QtBot, tmp_path: Path) -> None:
    from PyQt5.QtCore import QMimeData, QPointF, Qt, QUrl
    from PyQt5.QtGui import QDropEvent

    write_ring(tmp_path / "ring.arrows")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "ring.arrows"))])
    nothing = Qt.MouseButtons(Qt.MouseButton.NoButton), Qt.KeyboardModifiers(Qt.KeyboardModifier.NoModifier)
    window.dropEvent(QDropEvent(QPointF(50, 50), Qt.DropActions(Qt.DropAction.CopyAction), data, *nothing))
    until(qtbot, lambda: window.store.count == 2000)


def test_what_cannot_be_opened_is_told_and_the_next_can(window: Window, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    window.open(str(tmp_path / "broken.parquet"))
    until(qtbot, lambda: window.notice.title.text() == "This cannot be shown")
    (tmp_path / "notes.txt").touch()
    window.open(str(tmp_path / "notes.txt"))
    assert ".txt" in message(window)
    write_ring(tmp_path / "ring.arrows")
    window.open(str(tmp_path / "ring.arrows"))
    until(qtbot, lambda: window.complete and not window.notice.isVisible())
    assert window.store.count == 2000


def test_another_file_replaces_the_first(window: Window, qtbot: QtBot, tmp_path: Path) -> None:
    for rows in (2000, 300):
        write_ring(tmp_path / f"{rows}.arrows", rows)
        window.open(str(tmp_path / f"{rows}.arrows"))
        until(qtbot, partial(shows, window, rows))
    assert window.settings.recent[0].endswith("300.arrows")


def test_settings_are_remembered(open_one: Callable[..., Window], tmp_path: Path) -> None:
    first = open_one(ViewerSettings(), tmp_path / "viewer.json")
    first.change_picture(colours="viridis", gamma=1.3, mode="histogram")
    for name in ("precision", "frame"):
        first.filters.rows[name]._choose((OPEN[0], 12.0))
    first.docks["picture"].set_folded(True)
    first.docks["measure"].hide()
    first.resize(1111, 777)
    first.close()
    second = open_one(load(tmp_path / "viewer.json"), tmp_path / "viewer.json")
    picture = second.picture.settings
    assert (picture.colours, picture.gamma, picture.mode) == ("viridis", 1.3, "histogram")
    assert second.filters.ranges == {"precision": (OPEN[0], 12.0)}
    assert second.store.filters == {"precision": (OPEN[0], 12.0)}
    assert second.docks["picture"].folded
    assert not second.docks["measure"].isVisible()
    assert (second.width(), second.height()) == (1111, 777)


def test_panels_about_the_engine_come_and_go(window: Window, qtbot: QtBot, run: Engine, tmp_path: Path) -> None:
    window.open(run.endpoint)
    assert window.docks["quality"].isVisible()
    window.toggle_panel("raw")
    write_ring(tmp_path / "ring.arrows")
    window.open(str(tmp_path / "ring.arrows"))
    until(qtbot, lambda: window.complete)
    assert not window.docks["quality"].isVisible()
    window.open(run.endpoint)
    assert window.docks["quality"].isVisible()
    assert not window.docks["raw"].isVisible()


def test_closing_it_stops_nothing(open_one: Callable[..., Window], qtbot: QtBot, run: Engine) -> None:
    window = open_one()
    window.open(run.endpoint)
    run.write()
    until(qtbot, lambda: window.store.count == run.rows)
    window.close()
    run.write()
    run.tell()
    assert run.commands == []
    assert read_log(run.folder / LOG).num_rows == run.rows


def test_an_error_in_a_slot_is_told_and_not_fatal(window: Window) -> None:
    from viewer.window import _excepthook

    error = ValueError("broken")
    _excepthook(window)(ValueError, error, None)
    assert "broken" in message(window)


def test_a_wide_field_keeps_up(window: Window, qtbot: QtBot, run: Engine) -> None:
    """Batches come faster than the screen can show them; none is left out and the window answers."""
    window.open(run.endpoint)
    until(qtbot, lambda: window.session.link is Link.LIVE)
    run.write(200, 500)
    until(qtbot, lambda: window.store.count == 100_000)
    until(qtbot, lambda: window.complete)
    x = np.sort(read_log(run.folder / LOG)["x"].to_numpy())
    np.testing.assert_array_equal(np.sort(window.store.table({}, filtered=False)["x"].to_numpy()), x)
    assert x.max() < 1.1 * FIELD


# The process.


def shoot(*arguments: str | Path, expect: int = 0) -> str:
    command = [sys.executable, "-m", "viewer.window", *map(str, arguments)]
    done = subprocess.run(command, timeout=120, capture_output=True, text=True)
    assert done.returncode == expect, done.stderr
    return done.stderr


def test_the_process_saves_its_screenshot_and_leaves(tmp_path: Path) -> None:
    write_ring(tmp_path / LOG)
    write_account(tmp_path, None, "finished")
    shot = tmp_path / "shot.png"
    shoot(tmp_path, "--screenshot", shot, "--settings", tmp_path / "viewer.json", "--size", "900", "700")
    picture = np.asarray(Image.open(shot).convert("L"), float)
    assert picture.shape == (700, 900)
    assert picture.max() > 200
    assert json.loads((tmp_path / "viewer.json").read_text())["recent"] == [str(tmp_path)]


def test_the_process_tells_by_its_code_that_nothing_could_be_shown(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    shot = tmp_path / "shot.png"
    shoot(tmp_path / "broken.parquet", "--screenshot", shot, "--settings", tmp_path / "viewer.json", expect=2)
    assert shot.exists()
    (tmp_path / "notes.txt").touch()
    said = shoot(tmp_path / "notes.txt", "--screenshot", shot, "--settings", tmp_path / "viewer.json", expect=2)
    assert "notes.txt" in said


def test_open_window_follows_a_run_and_closes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    folder = tmp_path / "run"
    folder.mkdir()
    window = open_window(folder, stay=False, log=tmp_path / "viewer.log")
    try:
        write_ring(folder / LOG)
        assert window.poll() is None
        write_account(folder, None, "finished")
        assert window.wait(60) == 0
    finally:
        window.kill()
        window.wait()
    assert "Traceback" not in (tmp_path / "viewer.log").read_text()


def test_the_window_needs_no_torch() -> None:
    code = "import sys, viewer.window; print([m for m in ('torch', 'onnxruntime', 'lightning') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout.strip() == "[]"
    )
    importlib.import_module("viewer.window")


def test_a_screen_is_found() -> None:
    assert why_no_window() is None


def test_no_screen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux can lack a screen")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert why_no_window() == "there is no screen: DISPLAY is not set"


def test_a_dead_screen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux can lack a screen")
    monkeypatch.setenv("DISPLAY", ":4999")
    reason = why_no_window()
    assert reason is not None
    assert "Qt could not open a window" in reason
