"""How fast the viewer's picture is, and how much memory a point takes: a table in the terminal.

`pytest -m benchmark tests/benchmarks/test_viewer.py`. Everything is drawn for a window of 1000 by 1000 pixels that
shows the whole field, without the window itself, by whatever OpenGL this machine has; the table's first line names it.
"""

from __future__ import annotations

import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from tests.viewer.conftest import qapp_cls, screen  # noqa: F401 (fixtures)
from tests.viewer.localisations import batch_of
from viewer.offscreen import offscreen
from viewer.points import PointStore
from viewer.view import View

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from viewer.scene import Scene

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

SIZE = (1000, 1000)
FIELD = 40_000.0
"""Side of the field [nm]."""
VIEW = View(FIELD / 2, FIELD / 2, FIELD / 1000)
BATCH = 10_000
FRAMES_A_SECOND = 30
BUDGET = 0.025
"""Seconds that a scene may draw in one frame, as in the canvas."""
MILLION = 1_000_000
WINDOW = [0]
"""The framebuffer that stands for the window, once there is one."""
STARTUP = """
import time
begun = time.perf_counter()
from PyQt5.QtWidgets import QApplication
application = QApplication([])
from viewer.canvas import Canvas
from viewer.points import PointStore
canvas = Canvas(PointStore())
canvas.resize(1000, 1000)
canvas.show()
while canvas._scene is None or not canvas.settled and canvas._scene._front is None:
    application.processEvents()
print(time.perf_counter() - begun)
"""


class Table:
    """Rows of figures, printed at the end."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def add(self, what: str, value: float, unit: str) -> float:
        self.rows.append((what, f"{value:,.4g} {unit}"))
        return value

    def print(self) -> None:
        wide = max(len(what) for what, _ in self.rows)
        lines = [f"{what:<{wide}}  {value:>16}" for what, value in self.rows]
        sys.stderr.write("\n" + "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    made = Table()
    yield made
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        made.print()


@pytest.fixture(scope="module")
def device(table: Table) -> Iterator[str]:
    with offscreen():
        from OpenGL import GL  # type: ignore[import-untyped]

        renderer: Any = GL.glGetString(GL.GL_RENDERER)
        name: str = renderer.decode()
        table.rows.append(("drawn by", name))
        WINDOW[0] = _window()
        _warm_up()
        yield name


def filaments(rows: int, seed: int, first_frame: int = 0) -> pa.RecordBatch:
    """Localisations along 200 curved filaments, as of a dense 2-D recording: 100 in every frame, 12 nm precise."""
    shapes, rng = np.random.default_rng(0), np.random.default_rng(seed)
    which, along = rng.integers(0, 200, rows), rng.uniform(-0.5, 0.5, rows)
    x0, y0, angle, bend = (
        shapes.random(200),
        shapes.random(200),
        2 * math.pi * shapes.random(200),
        shapes.normal(0, 0.25, 200),
    )
    x = x0[which] + 0.6 * along * np.cos(angle)[which]
    y = y0[which] + 0.6 * along * np.sin(angle)[which] + bend[which] * along**2
    sigma = rng.gamma(9, 12 / 9, rows)
    return batch_of(
        FIELD * x + rng.normal(0, 12, rows), FIELD * y + rng.normal(0, 12, rows),
        frame=first_frame + np.arange(rows) // 100, sigma_x=sigma, sigma_y=sigma, photons=rng.lognormal(7, 0.5, rows),
        background=rng.uniform(5, 15, rows), probability=rng.beta(9, 1, rows), sigma_photons=rng.uniform(20, 60, rows),
    )  # fmt: skip


def filled(points: int) -> PointStore:
    store = PointStore()
    for start in range(0, points, 250_000):
        store.append(filaments(min(250_000, points - start), 1 + start, start // 100))
    return store


def seconds(work: Callable[[], object]) -> float:
    from OpenGL import GL

    GL.glFinish()
    begun = time.perf_counter()
    work()
    GL.glFinish()
    return time.perf_counter() - begun


def show(scene: Scene) -> None:
    """Into the framebuffer that stands for the window."""
    from OpenGL import GL

    GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, WINDOW[0])
    GL.glViewport(0, 0, *SIZE)
    scene.show()


def _warm_up() -> None:
    """Drivers compile shaders when they first draw."""
    from viewer.scene import Scene

    scene = Scene(filled(10_000))
    settle(scene)
    live_frames(scene, scene.store, 3)
    scene.delete()


def _window() -> int:
    """A framebuffer of bytes, as a window has."""
    from OpenGL import GL

    texture, target = GL.glGenTextures(1), GL.glGenFramebuffers(1)
    GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
    GL.glTexImage2D(GL.GL_TEXTURE_2D, 0, GL.GL_RGBA8, *SIZE, 0, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, None)
    GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, target)
    GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, GL.GL_COLOR_ATTACHMENT0, GL.GL_TEXTURE_2D, texture, 0)
    return int(target)


def resident() -> float:
    """Memory of this process [bytes]; NaN where the system does not tell it this way."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return math.nan
    return pages * float(os.sysconf("SC_PAGE_SIZE"))


def settle(scene: Scene, view: View = VIEW) -> None:
    while (wait := scene.advance(view, SIZE, 1.0)) < math.inf:
        scene._looked -= wait


def live_frames(scene: Scene, store: PointStore, count: int) -> list[float]:
    """Seconds of each frame while 10,000 localisations come in a second."""

    def frame(batch: pa.RecordBatch) -> None:
        store.append(batch)
        scene.advance(VIEW, SIZE, BUDGET)
        show(scene)

    each = BATCH // FRAMES_A_SECOND
    batches = [filaments(each, seed, 200_000) for seed in range(count)]
    return [seconds(partial(frame, batch)) for batch in batches]


@pytest.mark.parametrize("points", [MILLION, 10 * MILLION], ids=["1M", "10M"])
def test_drawing(device: str, table: Table, points: int) -> None:
    from viewer.scene import Scene

    name = f"{points // MILLION} M"
    gc.collect()
    before = resident()
    store = filled(points)
    scene = Scene(store)
    while scene.buffers.count < store.count:
        scene.buffers.sync(2**20)
    per_point = table.add(f"{name}: memory of a point, all copies", (store.nbytes + scene.nbytes) / points, "bytes")
    gc.collect()
    table.add(f"{name}: the process grew, over the points", (resident() - before) / points, "bytes")
    assert per_point < 64

    settle(scene)
    views = [View(place, place, 20.0) for place in range(9000, 30_000, 3000)]
    firsts = [seconds(partial(_frame, scene, view)) for view in views]
    table.add(f"{name}: first picture of a new view, median", statistics.median(firsts) * 1e3, "ms")
    table.add(f"{name}: first picture of a new view, slowest", max(firsts) * 1e3, "ms")
    settle(scene)
    redraw = table.add(f"{name}: full redraw", seconds(lambda: _redraw(scene)) * 1e3, "ms")
    _append(table, name, scene, store, redraw)
    _pan_and_zoom(table, name, scene)
    frames = live_frames(scene, store, 60)
    table.add(f"{name}: frame while 10,000/s come, median", statistics.median(frames) * 1e3, "ms")
    table.add(f"{name}: frame while 10,000/s come, 95 %", float(np.quantile(frames, 0.95)) * 1e3, "ms")
    scene.delete()


def _redraw(scene: Scene) -> None:
    """Everything that is in the window, in one go."""
    picture = scene._front
    assert picture is not None
    from viewer.renderer import everything

    picture.sums.clear()
    scene.renderer.draw(picture.sums, scene.buffers, everything(scene.buffers), scene.drawing, {})


def _append(table: Table, name: str, scene: Scene, store: PointStore, redraw: float) -> None:
    def append(batch: pa.RecordBatch) -> None:
        store.append(batch)
        while sum(scene._front.counts if scene._front else []) < store.count:
            scene.advance(VIEW, SIZE, BUDGET)

    batches = [filaments(BATCH, seed, 150_000) for seed in range(7)]
    taken = statistics.median(seconds(partial(append, batch)) for batch in batches) * 1e3
    table.add(f"{name}: append and draw 10,000 points", taken, "ms")
    ratio = table.add(f"{name}: faster than a redraw of everything", redraw / taken, "times")
    assert ratio >= 20


def _pan_and_zoom(table: Table, name: str, scene: Scene) -> None:
    """The frames while the mouse moves, and how long until all is drawn after it has come to rest."""
    pans = [seconds(partial(_frame, scene, VIEW.moved(4 * step, 3 * step))) for step in range(1, 21)]
    table.add(f"{name}: frame while panning, median", statistics.median(pans) * 1e3, "ms")
    table.add(f"{name}: at rest after panning", seconds(lambda: settle(scene, VIEW.moved(80, 60))), "s")
    zooms = [seconds(partial(_frame, scene, VIEW.zoomed(0.85**step, 300, 600, SIZE))) for step in range(1, 21)]
    table.add(f"{name}: frame while zooming in, median", statistics.median(zooms) * 1e3, "ms")
    table.add(f"{name}: frame while zooming in, slowest", max(zooms) * 1e3, "ms")
    table.add(
        f"{name}: at rest, 26 times closer", seconds(lambda: settle(scene, VIEW.zoomed(0.85**20, 300, 600, SIZE))), "s"
    )
    settle(scene)


def _frame(scene: Scene, view: View) -> None:
    scene.advance(view, SIZE, BUDGET)
    show(scene)


def test_the_frame_time_does_not_grow(device: str, table: Table) -> None:
    """With what is shown already: 0 against 2 million points, in the same minute."""
    from viewer.scene import Scene

    medians = []
    for points in (10_000, 2 * MILLION):
        store = filled(points)
        scene = Scene(store)
        settle(scene)
        medians.append(statistics.median(live_frames(scene, store, 60)))
        scene.delete()
    assert table.add("frame at 2 M over frame at 10,000", medians[1] / medians[0], "") < 2


def test_start_up(qapp_cls: type, table: Table) -> None:  # noqa: F811
    """From an empty process to the first frame of a canvas on the screen."""
    done = subprocess.run([sys.executable, "-c", STARTUP], capture_output=True, text=True, timeout=120, check=True)
    table.add("start-up of the canvas", float(done.stdout), "s")


LIVE_SECONDS = 600
"""How long the live run with the window lasts; the one without it lasts a third of that."""


def test_a_live_run_with_the_window(
    qapp_cls: type,  # noqa: F811
    table: Table,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: QtBot,
) -> None:
    """An engine in a process of its own, the real window in this one: neither may weigh on the other, however long."""
    from viewer.canvas import Canvas
    from viewer.window import Window

    paints: list[float] = []
    paint = Canvas.paintGL

    def timed(canvas: Canvas) -> None:
        begun = time.perf_counter()
        paint(canvas)
        paints.append(time.perf_counter() - begun)

    monkeypatch.setattr(Canvas, "paintGL", timed)
    engine = _live(tmp_path / "with", LIVE_SECONDS)
    window = Window()
    qtbot.addWidget(window)
    window.resize(1280, 900)
    window.show()
    window.open(ENDPOINT)
    while engine.poll() is None:
        qtbot.wait(500)
    shown = window.store.count
    window.close()
    assert _live(tmp_path / "without", LIVE_SECONDS / 3).wait(LIVE_SECONDS) == 0
    quarter = len(paints) // 4
    early, late = (statistics.median(part) for part in (paints[quarter : 2 * quarter], paints[-quarter:]))
    report = {name: json.loads((tmp_path / name / "run.json").read_text()) for name in ("with", "without")}
    for name, run in report.items():
        table.add(f"live {name} the window: median delay", run["delay"]["median"], "s")
        table.add(f"live {name} the window: 99th percentile of the delay", run["delay"]["p99"], "s")
        table.add(f"live {name} the window: frames a second", run["frames_per_second"], "")
        assert run["frames_analysed"] == run["frames_seen"]
    table.add("live: localisations shown", shown, "")
    table.add("live: frames painted a second", len(paints) / LIVE_SECONDS, "")
    table.add("live: frame in the second quarter", 1000 * early, "ms")
    table.add("live: frame in the last quarter", 1000 * late, "ms")
    assert shown == report["with"]["localisations"]
    assert late < 1.5 * early


ENDPOINT = "tcp://127.0.0.1:5651"


def _live(output: Path, duration: float) -> subprocess.Popen[bytes]:
    front_door = "from liveloc import main; main()"
    overrides = [f"run.output={output}", f"run.seconds={duration}", "viewer=false", "wire.port=5651"]
    return subprocess.Popen([sys.executable, "-c", front_door, "live", *overrides], stdout=subprocess.DEVNULL)
