"""What part of the sample is on the screen: centre and scale, and how pixels become nanometres. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace

from viewer.points import Rectangle

FINEST, COARSEST = 0.01, 1e5
"""Scales that can be zoomed to [nm/pixel]."""
FIT_MARGIN = 1.04
"""The field fills the window but for this."""


@dataclass(frozen=True)
class View:
    """The sample point at the middle of the window, and the scale. y runs downwards, as the camera's rows do."""

    x: float
    y: float
    """[nm]."""
    scale: float
    """[nm / device pixel]."""

    def sample(self, column: float, row: float, size: tuple[int, int]) -> tuple[float, float]:
        """(x, y) [nm] at a point of a window of ``size`` (width, height), all in device pixels from its upper left."""
        return self.x + (column - size[0] / 2) * self.scale, self.y + (row - size[1] / 2) * self.scale

    def pixel(self, x: float, y: float, size: tuple[int, int]) -> tuple[float, float]:
        """(column, row) [device pixels] of a sample point [nm]."""
        return (x - self.x) / self.scale + size[0] / 2, (y - self.y) / self.scale + size[1] / 2

    def rectangle(self, size: tuple[int, int]) -> Rectangle:
        """What a window of ``size`` device pixels shows."""
        return Rectangle(*self.sample(0, 0, size), *self.sample(*size, size))

    def moved(self, columns: float, rows: float) -> View:
        """The picture dragged by so many device pixels."""
        return replace(self, x=self.x - columns * self.scale, y=self.y - rows * self.scale)

    def zoomed(self, factor: float, column: float, row: float, size: tuple[int, int]) -> View:
        """``factor`` times as many nm per pixel; what is at (column, row) [device pixels] stays there."""
        scale = min(max(self.scale * factor, FINEST), COARSEST)
        x, y = self.sample(column, row, size)
        return View(x - (column - size[0] / 2) * scale, y - (row - size[1] / 2) * scale, scale)


def fitting(field: Rectangle, size: tuple[int, int]) -> View:
    """The view that shows ``field`` whole in a window of ``size`` device pixels."""
    scale = max(field.width / max(size[0], 1), field.height / max(size[1], 1)) * FIT_MARGIN
    middle = (field.left + field.right) / 2, (field.top + field.bottom) / 2
    return View(*middle, min(max(scale, FINEST), COARSEST))
