"""The picture: an OpenGL widget that shows the points of a PointStore and lets a user move through them."""
# ruff: noqa: N802 - Qt's names

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, replace

import pyarrow as pa
from OpenGL import GL  # type: ignore[import-untyped]
from OpenGL.error import Error as OpenGLError  # type: ignore[import-untyped]
from PyQt5.QtCore import QEvent, QPointF, QRectF, Qt, QTimer, pyqtSignal
from PyQt5.QtGui import QMouseEvent, QResizeEvent, QShowEvent, QSurfaceFormat, QWheelEvent
from PyQt5.QtWidgets import QOpenGLWidget, QWidget

from config.errors import LivelocError, RuntimeUnavailable, SettingsError
from viewer.look import Look, colour_table
from viewer.offscreen import MAJOR, MINOR
from viewer.overlay import Overlay
from viewer.points import MEASURES, PointStore, Rectangle
from viewer.rendered import Rendered
from viewer.renderer import DENSITY, MODES, Drawing
from viewer.scene import Scene
from viewer.tiles import draw_image
from viewer.view import View, fitting

logger = logging.getLogger(__name__)

LEAST_SECONDS, MOST_SECONDS = 0.010, 0.030
"""Time for drawing points in one frame: as long as the rest of the frame takes, within these. A graphics card then
shows 60 frames a second, and a processor, where showing takes its time, still spends a good part of it on drawing."""
NOTCH = 1.2
"""Zoom of one notch of the wheel."""
NOTCH_ANGLE = 120
"""What Qt calls a notch [1/8 degree]."""
LEAST_DRAG = 3.0
"""A smaller rectangle is a click [logical pixels]."""
GROWTH = 0.1
"""Room that fitting leaves for a field that grows, on each side."""
NOTHING = View(0.0, 0.0, 100.0)
"""Before there is anything to show."""
BUTTON = Qt.MouseButton


@dataclass(frozen=True)
class Grip:
    """A drag that is going on."""

    start: QPointF
    """Where it began [logical pixels]."""
    view: View
    """The view then."""
    draws: bool
    """A rectangle; else it moves the picture."""


class Canvas(QOpenGLWidget):
    """Shows a PointStore, which it shares with whoever counts and filters. It has no panels and knows no file."""

    hovered = pyqtSignal(float, float, float)
    """(x [nm], y [nm], density there [localisations/µm²]) under the pointer; NaN where nothing is drawn."""
    left = pyqtSignal()
    """The pointer is no longer over the picture."""
    rectangle_drawn = pyqtSignal(float, float, float, float)
    """(left, top, right, bottom) [nm] of a rectangle that the user has drawn; it stays until ``set_rectangle``."""
    view_changed = pyqtSignal()
    """Another part of the sample is shown: see ``view``."""
    contrast_changed = pyqtSignal(float, float)
    """(low, high) [localisations/µm²] that are shown black and at full brightness."""
    failed = pyqtSignal(str)
    """OpenGL cannot draw; the words say why and what to do. Once."""

    def __init__(self, store: PointStore, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFormat(_format())
        self.setMouseTracking(True)
        self.setMinimumSize(64, 64)
        self.store = store
        self.failure: str | None = None
        """Why OpenGL cannot draw; None while it can."""
        self._scene: Scene | None = None
        self._look, self._mode, self._width, self._by = Look(), MODES[0], 15.0, DENSITY
        self._view, self._follows = NOTHING, True
        self._field: Rectangle | None = None
        self._seen = store.version
        """The store's version that was last shown."""
        self._current = False
        """Whether what was last painted is what is wanted."""
        self._overlay, self._bar, self._tool = Overlay(self), True, "pan"
        self._rectangle: Rectangle | None = None
        self._grip: Grip | None = None
        self._budget = LEAST_SECONDS
        self._advanced = -math.inf
        """When the scene last ended to draw; −∞ when it had nothing to draw."""
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.update)

    @property
    def view(self) -> View:
        """Centre [nm] and scale [nm / device pixel]."""
        return self._view

    @property
    def pixels(self) -> tuple[int, int]:
        """(width, height) of the picture [device pixels]."""
        ratio = self.devicePixelRatioF()
        return max(1, round(self.width() * ratio)), max(1, round(self.height() * ratio))

    @property
    def settled(self) -> bool:
        """Whether everything in the store is drawn at its final quality; for screenshots and tests."""
        return self._current and self._scene is not None and self._scene.settled

    @property
    def rectangle(self) -> Rectangle | None:
        """The rectangle that is drawn."""
        return self._rectangle

    @property
    def limits(self) -> tuple[float, float]:
        """Densities that are shown black and at full brightness [localisations/µm²]."""
        return self._scene.limits if self._scene else (0.0, 0.0)

    @property
    def nbytes(self) -> int:
        """Graphics memory of the points [bytes]."""
        return self._scene.nbytes if self._scene else 0

    def append(self, batch: pa.RecordBatch) -> None:
        """Add localisations to the store and draw them; costs only themselves."""
        self.store.append(batch)
        self.refresh()

    def refresh(self) -> None:
        """Look at the store again: points that came, filters that changed, everything that was cleared."""
        if self._seen != self.store.version:
            self._seen, self._follows, self._view = self.store.version, True, NOTHING
        self._follow()
        self._draw_soon()

    def set_field(self, field: Rectangle | None) -> None:
        """What ``fit`` shows, where the recording says it; None for what the points lie in."""
        if field != self._field:
            self._field = field
            self._follow()

    def fit(self) -> None:
        """Show the whole field, and go on doing so while it grows, until the user moves the picture."""
        self._follows = True
        field = self._field or self.store.field
        if field:
            self._look_at(fitting(field, self.pixels))

    def set_view(self, view: View) -> None:
        """Show another part of the sample, and stay there."""
        self._follows = False
        self._look_at(view)

    def zoom(self, factor: float) -> None:
        """``factor`` times as many nm per pixel, about the middle of the window; below 1 zooms in."""
        size = self.pixels
        self.set_view(self._view.zoomed(factor, size[0] / 2, size[1] / 2, size))

    def set_filter(self, column: str, low: float, high: float) -> None:
        """Show only ``low`` to ``high`` (infinite where open) of a column in points.FILTERABLE, x and y too."""
        self.store.set_filter(column, low, high)
        self.refresh()

    def set_colour(self, colours: str, by: str, gamma: float, limits: tuple[float, float] | None) -> None:
        """How brightness and colour are made.

        ``colours`` names a map of cmap; ``by`` is density or a column of points.MEASURES, whose mean then is the colour
        and the density the brightness; brightness is raised to ``gamma``; ``limits`` are the densities shown black and
        at full brightness [localisations/µm²], None for automatic ones. Raises SettingsError for unknown names.
        """
        if by not in (DENSITY, *MEASURES):
            raise SettingsError(f"there is no colour by {by!r}. Choose one of {', '.join((DENSITY, *MEASURES))}.")
        colour_table(colours)
        self._look, self._by = replace(self._look, colours=colours, gamma=gamma, limits=limits), by
        self._draw_soon()

    def set_values(self, values: tuple[float, float] | None) -> None:
        """Values at the ends of the colour map where a column is the colour; None for all but a few outliers."""
        self._look = replace(self._look, values=values)
        self._draw_soon()

    def set_mode(self, mode: str, width: float) -> None:
        """Draw each localisation as a Gaussian of its own "precision", as one of a "fixed" standard deviation ``width``
        [nm], or as a "histogram" of bins ``width`` nm wide. Raises SettingsError for another mode.
        """
        if mode not in MODES or not width > 0:
            raise SettingsError(
                f"mode {mode!r} with {width} nm: choose one of {', '.join(MODES)}, and a width above 0."
            )
        self._mode, self._width = mode, width
        self._draw_soon()

    def set_scale_bar(self, shown: bool) -> None:
        """Draw the scale bar or not."""
        self._bar = shown
        self._place_marks()

    def set_tool(self, tool: str) -> None:
        """What dragging with the left button does: "pan" or "rectangle". The middle button always pans."""
        self._tool = tool
        self.setCursor(Qt.CursorShape.CrossCursor if tool == "rectangle" else Qt.CursorShape.ArrowCursor)

    def set_rectangle(self, rectangle: Rectangle | None) -> None:
        """Draw a rectangle, or none."""
        self._rectangle = rectangle
        self._place_marks()

    def render_image(self, rectangle: Rectangle, pixel: float) -> Rendered:
        """The shown points in ``rectangle`` at ``pixel`` nm, in the present mode; see viewer/render.py for files of it.

        Raises TableError for an image of more than render.MAX_PIXELS, RuntimeUnavailable where OpenGL cannot draw.
        """
        self.makeCurrent()
        try:
            if self._scene is None:
                raise RuntimeUnavailable(self.failure or "the window has not been shown yet, so nothing can be drawn.")
            scene = self._scene
            return draw_image(scene.renderer, scene.buffers, self._drawing, self.store.filters, rectangle, pixel)
        finally:
            self.doneCurrent()

    def initializeGL(self) -> None:
        """Called by Qt when there is a context, again when the window has moved to another one."""
        context = self.context()
        assert context is not None
        context.aboutToBeDestroyed.connect(self._release)
        try:
            if context.format().version() < (MAJOR, MINOR):
                found = ".".join(map(str, context.format().version()))
                raise RuntimeUnavailable(
                    f"the picture needs OpenGL {MAJOR}.{MINOR}; this driver has {found}. Update the graphics driver."
                )
            self._scene = Scene(self.store)
        except (LivelocError, OpenGLError) as error:
            self._fail(error)

    def paintGL(self) -> None:
        """Called by Qt when there is something to show."""
        target, before = self.defaultFramebufferObject(), self.limits
        try:
            wait = self._advance()
            GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, target)
            GL.glViewport(0, 0, *self.pixels)
            GL.glClearColor(0, 0, 0, 1)
            GL.glClear(GL.GL_COLOR_BUFFER_BIT)
            if self._scene:
                self._scene.show()
        except (LivelocError, OpenGLError) as error:
            self._fail(error)
            return
        if self.limits != before:
            self.contrast_changed.emit(*self.limits)
        if math.isfinite(wait):
            self._timer.start(math.ceil(wait * 1000))

    def resizeEvent(self, e: QResizeEvent | None) -> None:
        """Called by Qt."""
        super().resizeEvent(e)
        self._overlay.resize(self.size())
        if self._follows:
            self.fit()
        self._place_marks()
        self._draw_soon()

    def showEvent(self, a0: QShowEvent | None) -> None:
        """Called by Qt. What changed while the canvas was hidden is drawn now."""
        super().showEvent(a0)
        self._draw_soon()

    def wheelEvent(self, a0: QWheelEvent | None) -> None:
        """Zoom about the pointer."""
        assert a0 is not None
        turned = a0.angleDelta().y() / NOTCH_ANGLE
        at = self._device(a0.position())
        if turned:
            self.set_view(self._view.zoomed(NOTCH**-turned, at.x(), at.y(), self.pixels))
        a0.accept()

    def mousePressEvent(self, a0: QMouseEvent | None) -> None:
        """Begin to drag the picture, or to draw a rectangle."""
        assert a0 is not None
        if a0.button() in (BUTTON.LeftButton, BUTTON.MiddleButton):
            draws = self._tool == "rectangle" and a0.button() == BUTTON.LeftButton
            self._grip = Grip(a0.localPos(), self._view, draws)

    def mouseMoveEvent(self, a0: QMouseEvent | None) -> None:
        """Drag, and tell what is under the pointer."""
        assert a0 is not None
        if self._grip:
            self._drag(self._grip, a0.localPos())
        self._hover(a0.localPos())

    def mouseReleaseEvent(self, a0: QMouseEvent | None) -> None:
        """End a drag; a rectangle is told of, unless it was hardly more than a click."""
        assert a0 is not None
        grip, self._grip = self._grip, None
        if grip is None or not grip.draws:
            return
        moved = a0.localPos() - grip.start
        if min(abs(moved.x()), abs(moved.y())) < LEAST_DRAG:
            self.set_rectangle(None)
            return
        rectangle = self._between(grip.start, a0.localPos())
        self.set_rectangle(rectangle)
        self.rectangle_drawn.emit(rectangle.left, rectangle.top, rectangle.right, rectangle.bottom)

    def mouseDoubleClickEvent(self, a0: QMouseEvent | None) -> None:
        """Show the whole field."""
        assert a0 is not None
        if a0.button() == BUTTON.LeftButton:
            self._grip = None
            self.fit()

    def leaveEvent(self, a0: QEvent | None) -> None:  # noqa: ARG002
        """The pointer is gone."""
        self.left.emit()

    @property
    def _drawing(self) -> Drawing:
        return Drawing(self._mode, self._width, self._by)

    def _advance(self) -> float:
        """Let the scene draw; after how many seconds it has to go on."""
        if self._scene is None:
            return math.inf
        self._current = True
        self._scene.drawing, self._scene.look = self._drawing, self._look
        rest = time.perf_counter() - self._advanced
        if rest < 1:
            self._budget = min(max(rest, LEAST_SECONDS), MOST_SECONDS)
        wait = self._scene.advance(self._view, self.pixels, self._budget)
        self._advanced = time.perf_counter() if wait == 0 else -math.inf
        return wait

    def _draw_soon(self) -> None:
        self._current = False
        self.update()

    def _look_at(self, view: View) -> None:
        if view != self._view:
            self._view = view
            self._place_marks()
            self._draw_soon()
            self.view_changed.emit()

    def _follow(self) -> None:
        """Keep the field in view while it grows; with room to grow into, so that the picture seldom moves."""
        field = self._field or self.store.field
        if not self._follows or field is None:
            return
        first = self._view is NOTHING
        if not first and _contains(self._view.rectangle(self.pixels), field):
            return
        room = 0.0 if self._field or first else GROWTH
        self._look_at(fitting(_enlarged(field, room), self.pixels))

    def _drag(self, grip: Grip, to: QPointF) -> None:
        if grip.draws:
            self.set_rectangle(self._between(grip.start, to))
            return
        moved = self._device(to - grip.start)
        # by whole pixels: what stays in the window need not be drawn again
        self.set_view(grip.view.moved(round(moved.x()), round(moved.y())))

    def _hover(self, spot: QPointF) -> None:
        at = self._device(spot)
        x, y = self._view.sample(at.x(), at.y(), self.pixels)
        self.hovered.emit(x, y, self._density(x, y))

    def _density(self, x: float, y: float) -> float:
        if self._scene is None:
            return math.nan
        self.makeCurrent()
        try:
            return self._scene.density(x, y)
        finally:
            self.doneCurrent()

    def _between(self, one: QPointF, other: QPointF) -> Rectangle:
        """The rectangle [nm] between two points [logical pixels]."""
        corners = QRectF(self._device(one), self._device(other)).normalized()
        size = self.pixels
        return Rectangle(
            *self._view.sample(corners.left(), corners.top(), size),
            *self._view.sample(corners.right(), corners.bottom(), size),
        )

    def _device(self, spot: QPointF) -> QPointF:
        """Logical to device pixels."""
        return spot * self.devicePixelRatioF()

    def _place_marks(self) -> None:
        """Put the scale bar and the rectangle where they belong in the present view."""
        ratio, rectangle = self.devicePixelRatioF(), None
        if self._rectangle:
            size, drawn = self.pixels, self._rectangle
            first = QPointF(*self._view.pixel(drawn.left, drawn.top, size)) / ratio
            rectangle = QRectF(first, QPointF(*self._view.pixel(drawn.right, drawn.bottom, size)) / ratio)
        there = self._bar and (self.store.count > 0 or self._field is not None)
        self._overlay.show_marks(self._view.scale * ratio if there else 0.0, rectangle)

    def _release(self) -> None:
        """The context goes: give back what is in it."""
        if self._scene is None:
            return
        self.makeCurrent()
        self._scene.delete()
        self.doneCurrent()
        self._scene = None

    def _fail(self, error: Exception) -> None:
        self._scene = None
        if self.failure is None:
            self.failure = str(error) if isinstance(error, LivelocError) else f"OpenGL cannot draw the picture: {error}"
            logger.error("%s", self.failure)
            self.failed.emit(self.failure)


def _format() -> QSurfaceFormat:
    """OpenGL 3.3 without what was old then; macOS gives no more than 2.1 to who does not ask for this."""
    wanted = QSurfaceFormat()
    wanted.setVersion(MAJOR, MINOR)
    wanted.setProfile(QSurfaceFormat.OpenGLContextProfile.CoreProfile)
    return wanted


def _contains(outer: Rectangle, inner: Rectangle) -> bool:
    return (
        outer.left <= inner.left
        and outer.top <= inner.top
        and outer.right >= inner.right
        and outer.bottom >= inner.bottom
    )


def _enlarged(field: Rectangle, share: float) -> Rectangle:
    """With ``share`` of its size more on every side."""
    wide, high = field.width * share, field.height * share
    return Rectangle(field.left - wide, field.top - high, field.right + wide, field.bottom + high)
