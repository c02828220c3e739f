"""What the window shows of a PointStore: drawn as far as there is time, refined while it is looked at. No Qt.

Each advance() has a few milliseconds. New points are added to the picture that is there. Another view, filter or shape
begins a new picture behind it, from evenly chosen shares of all points: the first share is a picture already, and every
further one makes it smoother. Until it is whole, the old picture is shown where it reaches, stretched to the new view.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from OpenGL import GL  # type: ignore[import-untyped]

from viewer.accumulation import Accumulation, Frame
from viewer.buffers import PointBuffers
from viewer.look import Look, automatic
from viewer.points import PointStore, Rectangle
from viewer.renderer import Box, Drawing, Part, Renderer, between, first_of, since
from viewer.screen import Layer, Screen
from viewer.view import View

UPLOAD = 65_536
"""Points that are written to the graphics memory in one advance."""
FIRST_RATE = 500_000.0
"""Points a second that are expected to be drawn, before it has been measured."""
FIRST_PORTION = 1000.0
"""Points from which the portions of a new picture grow."""
SLOWEST_RATE = 20_000.0
GROWTH = 4.0
"""Most by which one portion may exceed the one before."""
REACH = 3.5
"""Standard deviations to which a Gaussian is drawn, as in shaders/points.vert."""
SMOOTH = 3.0
"""Standard deviation [pixels] from which a Gaussian is drawn in coarser pixels: nothing is lost between them."""
SHARP = 64.0
"""Bins wider than this [pixels] are drawn in coarser ones."""
MARGIN = 128
"""Widest margin around the window [pixels]."""
CONTRAST_SECONDS = 0.5
"""Between two looks at the contrast of a growing picture."""
CONTRAST_SIDE = 256
"""Pixels on each axis that the automatic contrast looks at."""
STEADY = 0.03
"""A change of contrast smaller than this is none."""
EASE = 0.35
"""Share of a change of contrast that is made in one advance."""


@dataclass(frozen=True)
class Target:
    """What a picture is a picture of. Another target, another picture."""

    view: View
    size: tuple[int, int]
    drawing: Drawing
    filter_version: int

    @property
    def content(self) -> tuple[Drawing, int]:
        """What it shows, wherever it looks."""
        return self.drawing, self.filter_version


class Picture:
    """One target, as far as it has been drawn."""

    def __init__(self, target: Target, frame: Frame, margin: int, counts: list[int]) -> None:
        """``margin`` [pixels] around the window; ``counts`` points in each piece, which it is to show."""
        self.target, self.margin, self.counts = target, margin, counts
        self.sums = Accumulation(frame, target.drawing.coloured)
        self.share = 0.0 if sum(counts) else 1.0
        """Of its points, that have been drawn."""
        self.boxes: list[Box] | None = None
        """Where they are drawn, if the rest was taken from the picture before; None for everywhere."""

    @property
    def layer(self) -> Layer:
        """For the screen."""
        frame, margin = self.sums.frame, self.margin
        left, top = frame.left + margin * frame.pixel, frame.top + margin * frame.pixel
        width, height = (frame.width - 2 * margin) * frame.pixel, (frame.height - 2 * margin) * frame.pixel
        return Layer(self.sums, self.share, Rectangle(left, top, left + width, top + height))


class Scene:
    """The pictures of one store in one OpenGL context, which must be current in every call."""

    def __init__(self, store: PointStore) -> None:
        """Raises RuntimeUnavailable where the driver refuses."""
        self.store = store
        self.drawing, self.look = Drawing(), Look()
        self.limits = 0.0, 0.0
        """Densities that are shown black and at full brightness [1/µm²]."""
        self.drawn = 0
        """Points drawn since the beginning, each as often as it was drawn: what drawing has cost."""
        self._buffers, self._renderer, self._screen = PointBuffers(store), Renderer(), Screen()
        self._front: Picture | None = None
        self._back: Picture | None = None
        self._rate, self._portion = FIRST_RATE, FIRST_PORTION
        self._white = 0.0
        """What the contrast is on its way to."""
        self._looked, self._stale = -math.inf, True

    @property
    def settled(self) -> bool:
        """Whether everything is drawn as it will remain."""
        front = self._front
        drawn = front is not None and self._back is None and sum(front.counts) == self.store.count
        return drawn and not self._stale and self.limits == self._wanted()

    @property
    def nbytes(self) -> int:
        """Graphics memory of the points [bytes]."""
        return self._buffers.nbytes

    def advance(self, view: View, size: tuple[int, int], seconds: float) -> float:
        """Draw for about ``seconds`` towards ``view`` in a window of ``size`` device pixels.

        Returns after how many seconds it has to be called again: 0 while there is something to draw, infinity when all
        is as it will remain until a point, a filter or another view comes.
        """
        deadline = time.perf_counter() + seconds
        if self._buffers.sync(UPLOAD):
            self._forget()
        target = Target(view, size, self.drawing, self.store.filter_version)
        newest = self._back or self._front
        if newest is None or newest.target != target:
            self._begin(target)
        if self._back:
            self._refine(self._back, deadline)
        if self._back is None and self._front:
            self._add_new(self._front, deadline)
        self._adapt()
        return self._pause()

    def show(self) -> None:
        """Fill the viewport of the framebuffer that is bound."""
        newest = self._back or self._front
        if newest is None:
            return
        target = newest.target
        front, back = self._front, self._back
        fade = 1.0
        if front and front is not newest and front.target.content == target.content:
            fade = 0.0 if newest.boxes is not None else newest.share
        self._screen.show(
            target.view.rectangle(target.size),
            front.layer if front and (back is None or fade < 1) else None,
            back.layer if back else None,
            fade if back else 0.0,
            self.look,
            self.limits,
            self._ends(),
        )

    def density(self, x: float, y: float) -> float:
        """Density [1/µm²] that is shown at (x, y) [nm]; NaN outside the picture."""
        picture = self._best()
        if picture is None:
            return math.nan
        frame = picture.sums.frame
        column, row = math.floor((x - frame.left) / frame.pixel), math.floor((y - frame.top) / frame.pixel)
        if not (0 <= column < frame.width and 0 <= row < frame.height):
            return math.nan
        return float(picture.sums.read(column, row, 1, 1)[0, 0, 0]) * picture.layer.gain

    def delete(self) -> None:
        """Give all graphics memory back."""
        self._forget()
        for part in (self._buffers, self._renderer, self._screen):
            part.delete()

    @property
    def renderer(self) -> Renderer:
        """For images of another size; see viewer/render.py."""
        return self._renderer

    @property
    def buffers(self) -> PointBuffers:
        """The points in the graphics memory."""
        return self._buffers

    def _pause(self) -> float:
        if self.settled:
            return math.inf
        waits = self._back is None and self._buffers.count == self.store.count and self.limits == self._wanted()
        return max(0.0, CONTRAST_SECONDS + self._looked - time.perf_counter()) if waits else 0.0

    def _forget(self) -> None:
        self._white, self.limits = 0.0, (0.0, 0.0)
        for picture in (self._front, self._back):
            if picture:
                picture.sums.delete()
        self._front = self._back = None

    def _best(self) -> Picture | None:
        """What the eye sees most of."""
        front, back = self._front, self._back
        return back if back and (front is None or back.share > 0.5) else front

    def _begin(self, target: Target) -> None:
        """Start a picture of ``target`` behind the present one."""
        if self._back:
            kept = self._back.boxes is None and (self._front is None or self._back.share > 0.5)
            dropped = self._front if kept else self._back
            self._front = self._back if kept else self._front
            if dropped:
                dropped.sums.delete()
        frame, margin = self._frame(target)
        counts = [piece.rows for piece in self._buffers.pieces]
        self._back = Picture(target, frame, margin, counts)
        if self._front and _alike(self._front, self._back):
            self._take_over(self._front, self._back)
        self._portion = FIRST_PORTION  # the rate of another view says little: most of its points may have been outside

    def _frame(self, target: Target) -> tuple[Frame, int]:
        """The image for a target, with a margin for points outside the window that reach into it."""
        narrow, wide = (width / target.view.scale for width in self._widths(target.drawing))
        bins = target.drawing.mode == "histogram"
        step = 2 ** math.floor(math.log2(max(1.0, wide / SHARP if bins else narrow / SMOOTH)))
        margin = min(MARGIN, math.ceil(wide / step * (0.5 if bins else REACH)) + 2)
        pixel = target.view.scale * step
        columns, rows = (math.ceil(side / step) + 2 * margin for side in target.size)
        left, top = target.view.sample(0, 0, target.size)
        return Frame(left - margin * pixel, top - margin * pixel, pixel, columns, rows), margin

    def _widths(self, drawing: Drawing) -> tuple[float, float]:
        """Narrowest and widest that most localisations are drawn [nm]."""
        low, high = self.store.extent("precision")
        if drawing.mode != "precision" or math.isnan(low):
            return drawing.width, drawing.width
        return max(low, 1e-3), max(high, 1e-3)

    def _take_over(self, old: Picture, new: Picture) -> None:
        """Copy what both pictures show; the rest is drawn."""
        columns, rows = _shift(old, new)
        first, last = old.margin, new.margin
        left, top = max(first - columns, last), max(first - rows, last)
        right = min(old.sums.frame.width - first - columns, new.sums.frame.width - last)
        bottom = min(old.sums.frame.height - first - rows, new.sums.frame.height - last)
        if right <= left or bottom <= top:
            return
        new.sums.copy(old.sums, columns, rows, (left, top, right, bottom))
        new.counts = list(old.counts)
        new.boxes = _around((left, top, right, bottom), new.sums.frame)

    def _refine(self, picture: Picture, deadline: float) -> None:
        """Draw shares of a picture's points until the deadline; when it is whole, it comes to the front."""
        total = max(1, sum(picture.counts))
        while picture.share < 1:
            stop = min(1.0, picture.share + self._affordable(deadline) / total)
            self._draw(picture, between(picture.counts, picture.share, stop))
            picture.share = stop
            if time.perf_counter() >= deadline:
                break
        if picture.share >= 1:
            if self._front:
                self._front.sums.delete()
            self._front, self._back = picture, None
            picture.boxes, self._stale, self._looked = None, True, -math.inf  # look at its contrast at once

    def _add_new(self, picture: Picture, deadline: float) -> None:
        """Add points that have come to a whole picture."""
        while parts := first_of(since(picture.counts, self._buffers), math.ceil(self._affordable(deadline))):
            self._draw(picture, parts)
            picture.counts += [0] * (len(self._buffers.pieces) - len(picture.counts))
            for index, _, count in parts:
                picture.counts[index] += count
            if time.perf_counter() >= deadline:
                break

    def _affordable(self, deadline: float) -> float:
        """Points that can be drawn by the deadline, at least a few."""
        left = max(0.0, deadline - time.perf_counter())
        return max(min(self._rate * left, self._portion * GROWTH), SLOWEST_RATE / 100)

    def _draw(self, picture: Picture, parts: list[Part]) -> None:
        """Draw and wait for it, to learn how long that takes."""
        count = sum(part[2] for part in parts)
        if not count:
            return
        begun = time.perf_counter()
        self._renderer.draw(picture.sums, self._buffers, parts, self.drawing, self.store.filters, picture.boxes)
        GL.glFinish()
        self._portion = count
        self._rate = max(SLOWEST_RATE, count / max(time.perf_counter() - begun, 1e-6))
        self.drawn += count
        self._stale = True

    def _adapt(self) -> None:
        """Let the automatic contrast follow, without a jump."""
        picture, now = self._best(), time.perf_counter()
        if picture and self._stale and now - self._looked >= CONTRAST_SECONDS:
            white = automatic(picture.sums.sample(CONTRAST_SIDE)[..., 0])[1] * picture.layer.gain
            if white > 0 and abs(white - self._white) > STEADY * self._white:
                self._white = white
            self._looked, self._stale = now, False
        wanted = self._wanted()
        near = abs(wanted[1] - self.limits[1]) <= 0.01 * wanted[1]
        at_once = near or self.look.limits is not None or self.limits[1] == 0
        self.limits = wanted if at_once else (0.0, self.limits[1] + EASE * (wanted[1] - self.limits[1]))

    def _wanted(self) -> tuple[float, float]:
        return self.look.limits or (0.0, self._white)

    def _ends(self) -> tuple[float, float] | None:
        """Values at the ends of the colour map; None where density is the colour."""
        if not self.drawing.coloured:
            return None
        low, high = self.look.values or self.store.extent(self.drawing.by)
        return (0.0, 1.0) if math.isnan(low) else (low, high)


def _alike(old: Picture, new: Picture) -> bool:
    """Whether pixels of a whole picture can be taken over into a new one as they are."""
    if old.share < 1 or old.target.content != new.target.content or old.sums.frame.pixel != new.sums.frame.pixel:
        return False
    columns, rows = _offset(old.sums.frame, new.sums.frame)
    return max(abs(columns - round(columns)), abs(rows - round(rows))) < 1e-3


def _offset(old: Frame, new: Frame) -> tuple[float, float]:
    """Where the corner of ``new`` lies in ``old`` [pixels]."""
    return (new.left - old.left) / old.pixel, (new.top - old.top) / old.pixel


def _shift(old: Picture, new: Picture) -> tuple[int, int]:
    columns, rows = _offset(old.sums.frame, new.sums.frame)
    return round(columns), round(rows)


def _around(hole: Box, frame: Frame) -> list[Box]:
    """Up to four boxes that cover the image but for ``hole``."""
    left, top, right, bottom = hole
    boxes = [
        (0, 0, frame.width, top),
        (0, bottom, frame.width, frame.height),
        (0, top, left, bottom),
        (right, top, frame.width, bottom),
    ]
    return [box for box in boxes if box[2] > box[0] and box[3] > box[1]]
