"""The picture: an OpenGL widget that shows the points of a PointStore and lets a user move through them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from PyQt5.QtCore import pyqtSignal
from PyQt5.QtWidgets import QOpenGLWidget, QWidget

from viewer.points import PointStore, Rectangle
from viewer.render import Rendered
from viewer.view import View


class Canvas(QOpenGLWidget):
    """Shows a PointStore, which it shares with whoever counts and filters. It has no panels and knows no file."""

    hovered = pyqtSignal(float, float, float)
    """(x [nm], y [nm], density there [localisations/µm²]) under the pointer."""
    left = pyqtSignal()
    """The pointer is no longer over the picture."""
    rectangle_drawn = pyqtSignal(float, float, float, float)
    """(left, top, right, bottom) [nm] of a rectangle that the user has drawn; it stays until ``set_rectangle``."""
    view_changed = pyqtSignal()
    """Another part of the sample is shown: see ``view``."""
    contrast_changed = pyqtSignal(float, float)
    """(low, high) [localisations/µm²] that the automatic contrast has found."""
    failed = pyqtSignal(str)
    """OpenGL cannot draw; the words say why and what to do. Once."""

    def __init__(self, store: PointStore, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.store = store

    @property
    def view(self) -> View:
        """Centre [nm] and scale [nm / device pixel]."""
        return View(0.0, 0.0, 1.0)

    @property
    def settled(self) -> bool:
        """Whether everything in the store is drawn at its final quality; for screenshots and tests."""
        return True

    @property
    def rectangle(self) -> Rectangle | None:
        """The rectangle that is drawn."""
        return None

    def append(self, batch: pa.RecordBatch) -> None:
        """Add localisations to the store and draw them; costs only themselves."""
        self.store.append(batch)
        self.refresh()

    def refresh(self) -> None:
        """Look at the store again: points that came, filters that changed, everything that was cleared."""

    def set_field(self, field: Rectangle | None) -> None:
        """What ``fit`` shows, where the recording says it; None for what the points lie in."""

    def fit(self) -> None:
        """Show the whole field, and go on doing so while it grows, until the user moves the picture."""

    def set_view(self, view: View) -> None:
        """Show another part of the sample."""

    def zoom(self, factor: float) -> None:
        """``factor`` times as many nm per pixel, about the middle of the window; below 1 zooms in."""

    def set_filter(self, column: str, low: float, high: float) -> None:
        """Show only ``low`` to ``high`` (infinite where open) of a column in points.FILTERABLE, x and y too."""
        self.store.set_filter(column, low, high)
        self.refresh()

    def set_colour(self, colours: str, by: str, gamma: float, limits: tuple[float, float] | None) -> None:
        """How brightness and colour are made.

        ``colours`` names a map of cmap; ``by`` is density or a column of points.MEASURES, whose mean is the colour
        then, and the density the brightness; brightness is raised to ``gamma``; ``limits`` are the densities shown black and
        at full brightness [localisations/µm²], None for automatic ones.
        """

    def set_mode(self, mode: str, width: float) -> None:
        """Draw each localisation as a Gaussian of its own "precision", as one of a "fixed" standard deviation ``width``
        [nm], or as a "histogram" of bins ``width`` nm wide.
        """

    def set_scale_bar(self, shown: bool) -> None:
        """Draw the scale bar or not."""

    def set_tool(self, tool: str) -> None:
        """What dragging with the left button does: "pan" or "rectangle". The middle button always pans."""

    def set_rectangle(self, rectangle: Rectangle | None) -> None:
        """Draw a rectangle, or none."""

    def render_image(self, rectangle: Rectangle, pixel: float) -> Rendered:
        """The shown points in ``rectangle`` at ``pixel`` nm, in the present mode; see viewer/render.py for files of it.

        Raises TableError for an image of more than render.MAX_PIXELS.
        """
        shape = round(rectangle.height / pixel), round(rectangle.width / pixel)
        return Rendered(np.zeros(shape, np.float32), None, pixel)
