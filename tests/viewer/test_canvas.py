"""The canvas in a real window on a (virtual) screen."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from config.errors import RuntimeUnavailable, SettingsError
from tests.viewer.localisations import batch_of, scattered, store_of
from viewer.points import PointStore, Rectangle
from viewer.view import View, fitting

pytest.importorskip("PyQt5.QtWidgets", reason="PyQt5 is not installed (group viewer)")
pytest.importorskip("OpenGL", reason="PyOpenGL is not installed (group viewer)")

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from viewer.canvas import Canvas

SIZE = (400, 300)
MIDDLE = (200, 150)


@pytest.fixture
def canvas(qtbot: QtBot) -> Iterator[Canvas]:
    """A canvas in a window, showing nothing yet. OpenGL must not have complained by the end."""
    from viewer.canvas import Canvas

    made = Canvas(PointStore())
    qtbot.addWidget(made)
    show(made, qtbot)
    yield made
    assert made.failure is None


def show(canvas: Canvas, qtbot: QtBot) -> None:
    with qtbot.waitExposed(canvas):
        canvas.resize(*SIZE)
        canvas.show()


def settle(canvas: Canvas, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: canvas.settled, timeout=20_000)


def picture(canvas: Canvas) -> NDArray[np.uint8]:
    """(H, W, 3) red, green, blue."""
    from PyQt5.QtGui import QImage

    image = canvas.grabFramebuffer().convertToFormat(QImage.Format.Format_RGB888)
    bits = image.constBits()
    assert bits is not None
    bits.setsize(image.byteCount())
    rows = np.frombuffer(bits.asstring(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3)


Place: TypeAlias = tuple[float, float]
"""(column, row) in the canvas [logical pixels]."""


def spot(place: Place) -> Any:
    from PyQt5.QtCore import QPoint

    return QPoint(round(place[0]), round(place[1]))


def send(canvas: Canvas, kind: str, place: Place, button: Any = None) -> None:
    """A mouse event without the detour over the screen's real pointer, which takes its time."""
    from PyQt5.QtCore import QEvent, QPointF, Qt
    from PyQt5.QtGui import QMouseEvent
    from PyQt5.QtWidgets import QApplication

    pressed = button or Qt.MouseButton.LeftButton
    event = QMouseEvent(
        getattr(QEvent.Type, kind), QPointF(*place), QPointF(canvas.mapToGlobal(spot(place))), pressed, pressed,
        Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip
    QApplication.sendEvent(canvas, event)


def drag(canvas: Canvas, start: Place, stop: Place, button: Any = None) -> None:
    send(canvas, "MouseButtonPress", start, button)
    send(canvas, "MouseMove", ((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2), button)
    send(canvas, "MouseMove", stop, button)
    send(canvas, "MouseButtonRelease", stop, button)


def turn_wheel(canvas: Canvas, place: Place, angle: int) -> None:
    from PyQt5.QtCore import QPoint, QPointF, Qt
    from PyQt5.QtGui import QWheelEvent
    from PyQt5.QtWidgets import QApplication

    at = QPointF(*place)
    event = QWheelEvent(
        at, QPointF(canvas.mapToGlobal(at.toPoint())), QPoint(), QPoint(0, angle), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(canvas, event)


def test_a_point_is_on_the_screen_where_it_is_in_the_sample(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.set_view(View(1000.0, 2000.0, 10.0))
    canvas.append(batch_of([400.0], [1200.0], sigma_x=25.0, sigma_y=25.0))
    settle(canvas, qtbot)
    row, column = divmod(int(picture(canvas).sum(axis=2).argmax()), SIZE[0])
    assert (column, row) == pytest.approx((140, 70), abs=1)


def test_the_picture_grows_as_points_come(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.set_field(Rectangle(0, 0, 10_000, 10_000))
    lit = []
    for seed in range(4):
        canvas.append(scattered(50, seed))
        settle(canvas, qtbot)
        lit.append(np.count_nonzero(picture(canvas).max(axis=2) > 60))
    assert lit[0] > 0
    assert lit[3] > 2 * lit[0]
    assert canvas.store.count == 200


def test_the_first_points_are_fitted_and_a_growing_field_stays_in_view(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.append(batch_of([5000.0, 6000.0], [5000.0, 5500.0]))
    shown = canvas.view.rectangle(canvas.pixels)
    assert shown.left < 5000
    assert 6000 < shown.right < 8000
    canvas.append(batch_of([1000.0, 9000.0], [1000.0, 8000.0]))
    shown = canvas.view.rectangle(canvas.pixels)
    assert shown.left < 1000
    assert shown.right > 9000
    assert shown.top < 1000


def test_who_has_moved_the_picture_is_left_alone(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.append(scattered(100))
    drag(canvas, (100, 100), (130, 90))
    moved = canvas.view
    canvas.append(scattered(100, field=90_000))
    assert canvas.view == moved
    canvas.fit()
    assert canvas.view.scale > 2 * moved.scale


def test_the_recorded_field_is_what_is_fitted(canvas: Canvas, qtbot: QtBot) -> None:
    field = Rectangle(0, 0, 20_000, 15_000)
    canvas.append(scattered(100))
    canvas.set_field(field)
    assert canvas.view == fitting(field, SIZE)
    canvas.resize(800, 300)
    qtbot.waitUntil(lambda: canvas.view == fitting(field, (800, 300)), timeout=5000)


@pytest.mark.parametrize("angle", [120, -240, 15])
def test_the_wheel_zooms_at_the_pointer(canvas: Canvas, qtbot: QtBot, angle: int) -> None:
    canvas.append(scattered(100))
    before, place = canvas.view, (310.0, 40.0)
    turn_wheel(canvas, place, angle)
    assert canvas.view.sample(*place, SIZE) == pytest.approx(before.sample(*place, SIZE))
    assert canvas.view.scale == pytest.approx(before.scale * 1.2 ** (-angle / 120))


def test_dragging_moves_what_is_under_the_pointer_along(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.append(scattered(2000))
    settle(canvas, qtbot)
    before, image = canvas.view, picture(canvas)
    with qtbot.waitSignal(canvas.view_changed):
        drag(canvas, (100, 100), (160, 80))
    assert canvas.view.sample(160, 80, SIZE) == pytest.approx(before.sample(100, 100, SIZE))
    settle(canvas, qtbot)
    moved = picture(canvas)
    assert np.abs(moved[:-20, 60:].astype(int) - image[20:, :-60]).mean() < 2


def test_a_double_click_fits(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.append(scattered(100))
    fitted = fitted_view(canvas)
    canvas.zoom(0.1)
    send(canvas, "MouseButtonDblClick", MIDDLE)
    assert canvas.view == fitted


def fitted_view(canvas: Canvas) -> View:
    field = canvas.store.field
    assert field is not None
    return fitting(field, canvas.pixels)


def test_a_rectangle_is_drawn_and_told_of_in_nm(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.set_view(View(0.0, 0.0, 10.0))
    canvas.set_tool("rectangle")
    with qtbot.waitSignal(canvas.rectangle_drawn) as told:
        drag(canvas, (250, 200), (150, 100))  # from the lower right, which is as good
    assert told.args == pytest.approx([-500.0, -500.0, 500.0, 500.0])
    assert canvas.rectangle == Rectangle(-500.0, -500.0, 500.0, 500.0)
    assert canvas.view == View(0.0, 0.0, 10.0)
    drag(canvas, (10, 10), (11, 11))
    assert canvas.rectangle is None


def test_the_middle_button_pans_with_any_tool(canvas: Canvas, qtbot: QtBot) -> None:
    from PyQt5.QtCore import Qt

    canvas.set_view(View(0.0, 0.0, 10.0))
    canvas.set_tool("rectangle")
    drag(canvas, (100, 100), (110, 105), Qt.MouseButton.MiddleButton)
    assert canvas.view == View(-100.0, -50.0, 10.0)
    assert canvas.rectangle is None


def test_the_rectangle_and_the_scale_bar_stand_over_the_picture(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.set_view(View(0.0, 0.0, 10.0))
    canvas.append(batch_of([0.0], [0.0]))
    canvas.set_rectangle(Rectangle(-1000, -1000, 0, 0))
    settle(canvas, qtbot)
    image = canvas.grab().toImage()
    assert image.pixelColor(150, 50).red() > 100  # its upper edge
    bar = [column for column in range(SIZE[0]) if image.pixelColor(column, SIZE[1] - 18).green() > 200]
    assert len(bar) == pytest.approx(50, abs=2)  # 500 nm
    canvas.set_rectangle(None)
    canvas.set_scale_bar(False)
    qtbot.wait(20)
    image = canvas.grab().toImage()
    assert image.pixelColor(150, 50).red() < 40
    assert all(image.pixelColor(column, SIZE[1] - 18).green() < 100 for column in bar)


def test_the_pointer_reads_out_where_it_is(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.set_view(View(0.0, 0.0, 10.0))
    canvas.append(batch_of([500.0] * 5, [200.0] * 5, sigma_x=50.0, sigma_y=50.0))
    settle(canvas, qtbot)
    with qtbot.waitSignal(canvas.hovered) as told:
        send(canvas, "MouseMove", (250, 170))
    assert told.args is not None
    x, y, density = told.args
    assert (x, y) == pytest.approx((500.0, 200.0))
    assert density == pytest.approx(5 / (2 * math.pi * 0.05**2), rel=0.15)


def test_filters_and_modes_change_the_picture(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.set_view(View(0.0, 0.0, 10.0))
    canvas.append(batch_of([-500.0, 500.0], [0.0, 0.0], photons=[100.0, 900.0], sigma_x=30.0, sigma_y=30.0))
    settle(canvas, qtbot)
    both = picture(canvas).max(axis=2)
    assert min(both[150, 150], both[150, 250]) > 128
    canvas.set_filter("photons", 500, math.inf)
    settle(canvas, qtbot)
    one = picture(canvas).max(axis=2)
    assert one[150, 150] < 20
    assert one[150, 250] > 128
    canvas.set_mode("histogram", 200.0)
    settle(canvas, qtbot)
    square = picture(canvas).max(axis=2) > 128
    assert np.count_nonzero(square) == pytest.approx(400, abs=45)
    canvas.set_colour("viridis", "photons", 1.0, (0.0, 10.0))
    settle(canvas, qtbot)
    assert canvas.limits == (0.0, 10.0)


def test_contrast_is_told(canvas: Canvas, qtbot: QtBot) -> None:
    with qtbot.waitSignal(canvas.contrast_changed, timeout=10_000) as told:
        canvas.append(scattered(1000))
    assert told.args is not None
    assert told.args[0] == 0 < told.args[1]


@pytest.mark.parametrize(("mode", "width"), [("blob", 10.0), ("fixed", 0.0), ("fixed", math.nan)])
def test_unknown_choices_are_refused(canvas: Canvas, mode: str, width: float) -> None:
    with pytest.raises(SettingsError, match="choose one of"):
        canvas.set_mode(mode, width)
    with pytest.raises(SettingsError, match="no colour by"):
        canvas.set_colour("hot", "taste", 1.0, None)
    with pytest.raises(SettingsError, match="no colour map"):
        canvas.set_colour("glow", "density", 1.0, None)


def test_cleared_it_is_dark_and_fits_what_comes_next(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.append(scattered(500))
    settle(canvas, qtbot)
    assert canvas.nbytes > 0
    canvas.store.clear()
    canvas.refresh()
    settle(canvas, qtbot)
    assert picture(canvas).max() < 20
    assert canvas.nbytes == 0
    canvas.append(batch_of([100.0, 200.0], [100.0, 150.0]))
    assert canvas.view.rectangle(canvas.pixels).right < 1000


def test_an_image_of_it_is_the_image_without_a_window(canvas: Canvas, qtbot: QtBot) -> None:
    from viewer.render import render_store

    field = Rectangle(0, 0, 10_000, 10_000)
    canvas.append(scattered(1000))
    settle(canvas, qtbot)
    before = picture(canvas)
    found = canvas.render_image(field, 20.0)
    np.testing.assert_allclose(found.density, render_store(canvas.store, 20.0, field).density, atol=1e-4)
    np.testing.assert_array_equal(picture(canvas), before)


def test_it_goes_on_in_another_window(canvas: Canvas, qtbot: QtBot) -> None:
    """Qt gives a widget that moves to another window another context."""
    from PyQt5.QtWidgets import QVBoxLayout, QWidget

    canvas.append(scattered(500))
    settle(canvas, qtbot)
    before, home, left = picture(canvas), QWidget(), canvas._scene
    qtbot.addWidget(home)
    home.resize(500, 400)
    layout = QVBoxLayout(home)
    canvas.setFixedSize(*SIZE)
    layout.addWidget(canvas)
    with qtbot.waitExposed(home):
        home.show()
    qtbot.waitUntil(lambda: canvas.isVisible() and canvas.settled, timeout=10_000)
    np.testing.assert_allclose(picture(canvas), before, atol=30)
    assert left is not None
    assert left.buffers.pieces == []  # and the memory in the old context was given back
    canvas.setParent(None)


def test_a_driver_that_cannot_is_said_once(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    from viewer import canvas as module

    def refuse(store: PointStore) -> None:
        raise RuntimeUnavailable("the graphics driver is from 1999. Update the driver.")

    monkeypatch.setattr(module, "Scene", refuse)
    made = module.Canvas(store_of(scattered(10)))
    said: list[str] = []
    made.failed.connect(said.append)
    qtbot.addWidget(made)
    show(made, qtbot)
    qtbot.waitUntil(lambda: bool(said), timeout=5000)
    made.refresh()
    made.fit()
    send(made, "MouseMove", MIDDLE)
    qtbot.wait(20)
    assert said == ["the graphics driver is from 1999. Update the driver."]
    with pytest.raises(RuntimeUnavailable, match="from 1999"):
        made.render_image(Rectangle(0, 0, 10, 10), 1.0)


HIGH_DPI = """
import time
import numpy as np
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication
from tests.viewer.localisations import batch_of, store_of
from tests.viewer.test_canvas import picture, send
from viewer.canvas import Canvas
from viewer.view import View
application = QApplication([])
canvas = Canvas(store_of())
canvas.resize(200, 150)
canvas.show()
assert QTest.qWaitForWindowExposed(canvas)
assert canvas.devicePixelRatioF() == 2 and canvas.pixels == (400, 300), canvas.pixels
canvas.set_view(View(0.0, 0.0, 10.0))
canvas.append(batch_of([500.0], [-300.0], sigma_x=30.0, sigma_y=30.0))
end = time.monotonic() + 20
while not canvas.settled:
    assert time.monotonic() < end
    application.processEvents()
image = picture(canvas)
assert image.shape == (300, 400, 3), image.shape
row, column = divmod(int(image.sum(axis=2).argmax()), 400)
assert abs(column - 250) <= 1 and abs(row - 120) <= 1, (column, row)
told = []
canvas.hovered.connect(lambda x, y, density: told.append((x, y)))
send(canvas, "MouseMove", (125, 60))
assert told[-1] == (500.0, -300.0), told
print("seen")
"""


def test_two_device_pixels_to_one(screen: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_SCALE_FACTOR", "2")
    done = subprocess.run([sys.executable, "-c", HIGH_DPI], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "seen", done.stderr


def test_the_canvas_loads_no_torch() -> None:
    script = "import sys, viewer.canvas; print(sorted({'torch', 'onnxruntime', 'lightning'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
