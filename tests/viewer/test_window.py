"""The window itself, on a real or a virtual screen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.localisations import LOCALISATION_SCHEMA
from engine.output.recorder import Recorder
from viewer.display import open_window, why_no_window
from viewer.live_picture import LOG, REPORT, LivePicture

pytest.importorskip("PyQt5", reason="PyQt5 is not installed (group viewer)")
pytestmark = pytest.mark.usefixtures("screen")


def record_ring(folder: Path, rows: int = 400) -> Recorder:
    """A log of a ring of 1 µm radius in a field of 6.4 by 6.4 µm."""
    import pyarrow as pa

    folder.mkdir(exist_ok=True)
    angle = np.random.default_rng(1).uniform(0, 2 * np.pi, rows)
    columns = {"x": 3200 + 1000 * np.cos(angle), "y": 3200 + 1000 * np.sin(angle), "frame": np.arange(rows)}
    known = [columns.get(field.name, np.full(rows, 12.0)) for field in LOCALISATION_SCHEMA]
    arrays = [pa.array(values).cast(field.type) for values, field in zip(known, LOCALISATION_SCHEMA, strict=True)]
    recorder = Recorder(folder / LOG, {"pixel_size_nm": "100", "width_px": "64", "height_px": "64"})
    recorder.write(pa.RecordBatch.from_arrays(arrays, schema=LOCALISATION_SCHEMA))
    return recorder


def end(folder: Path) -> None:
    (folder / REPORT).write_text(json.dumps({"end_reason": "finished"}))


def brightness(path: Path) -> tuple[float, float]:
    """Mean light on the ring and at its centre, in a picture of the window."""
    picture = np.asarray(Image.open(path).convert("L"), float)[:-40]
    rows, columns = np.indices(picture.shape)
    side = min(picture.shape)
    distance = np.hypot(rows - picture.shape[0] / 2, columns - picture.shape[1] / 2) / side * 6400
    return float(picture[abs(distance - 1000) < 40].mean()), float(picture[distance < 500].mean())


def test_the_window_shows_what_was_recorded(tmp_path: Path, qtbot: object) -> None:
    from pytestqt.qtbot import QtBot

    from viewer.window import Window

    assert isinstance(qtbot, QtBot)
    recorder = record_ring(tmp_path / "run")
    window = Window(LivePicture(tmp_path / "run"))
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    assert "400 localisations · frame 399" in window.counts.text()
    assert window.state.text() == "recording"
    window.grab().save(str(tmp_path / "window.png"))
    ring, centre = brightness(tmp_path / "window.png")
    assert ring > 5 * centre
    recorder.close()


def test_the_window_tells_the_end(tmp_path: Path, qtbot: object) -> None:
    from pytestqt.qtbot import QtBot

    from viewer.window import Window

    assert isinstance(qtbot, QtBot)
    window = Window(LivePicture(tmp_path))
    qtbot.addWidget(window)
    assert window.state.text() == "waiting"
    end(tmp_path)
    qtbot.waitUntil(lambda: window.state.text() == "run ended: finished")


def test_a_broken_log_is_told_and_not_fatal(tmp_path: Path, qtbot: object) -> None:
    from pytestqt.qtbot import QtBot

    from viewer.window import Window

    assert isinstance(qtbot, QtBot)
    window = Window(LivePicture(tmp_path))
    qtbot.addWidget(window)
    recorder = record_ring(tmp_path)
    window.refresh()
    recorder.close()
    (tmp_path / LOG).write_bytes(b"")
    window.refresh()
    assert "became shorter" in window.state.text()


def test_the_process_saves_its_screenshot_at_the_end_and_leaves(tmp_path: Path) -> None:
    record_ring(tmp_path).close()
    end(tmp_path)
    shot = tmp_path / "shot.png"
    command = [sys.executable, "-m", "viewer.window", str(tmp_path), "--screenshot", str(shot)]
    subprocess.run(command, check=True, timeout=60)
    ring, centre = brightness(shot)
    assert ring > 5 * centre


def test_open_window_follows_a_run_and_closes_with_it(tmp_path: Path) -> None:
    window = open_window(tmp_path, stay=False, log=tmp_path / "viewer.log")
    try:
        record_ring(tmp_path).close()
        assert window.poll() is None
        end(tmp_path)
        assert window.wait(60) == 0
    finally:
        window.kill()
        window.wait()
    assert "Traceback" not in (tmp_path / "viewer.log").read_text()


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
