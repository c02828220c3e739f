"""Shows accumulations in the framebuffer that is bound: contrast, gamma, colour map. Needs a current context."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from OpenGL import GL  # type: ignore[import-untyped]

from viewer.accumulation import Accumulation, Frame
from viewer.look import COLOURS, Look, colour_table
from viewer.points import Rectangle
from viewer.program import Program

FRONT, BACK, MAP = 0, 1, 2
"""Texture units."""


@dataclass(frozen=True)
class Layer:
    """An accumulation, and what share of its points has been drawn."""

    sums: Accumulation
    share: float
    whole: Rectangle
    """Where no point is missing that lies outside the image [nm]."""

    @property
    def gain(self) -> float:
        """From sums to density [1/µm²], as if all points had been drawn."""
        return 1e6 / self.sums.frame.pixel**2 / max(self.share, 1e-9)


class Screen:
    """The program that turns sums into colours."""

    def __init__(self) -> None:
        self._program = Program("screen.vert", "screen.frag")
        self._nothing = Accumulation(Frame(0.0, 0.0, 1.0, 1, 1), coloured=False)
        self._array = int(GL.glGenVertexArrays(1))
        self._map = int(GL.glGenTextures(1))
        self._colours = ""

    def show(
        self,
        shown: Rectangle,
        front: Layer | None,
        back: Layer | None,
        fade: float,
        look: Look,
        limits: tuple[float, float],
        values: tuple[float, float] | None,
    ) -> None:
        """Fill the viewport with the part ``shown`` of the sample.

        ``back`` is mixed in by ``fade`` where ``front`` is whole, and stands alone elsewhere. ``limits`` are densities
        [1/µm²]; ``values`` the ends of the colour map, None where density is the colour.
        """
        GL.glDisable(GL.GL_BLEND)
        self._program.use()
        self._load_colours(look.colours)
        gains = [self._bind(layer, unit, shown) for layer, unit in ((front, FRONT), (back, BACK))]
        self._program.set("gain", *gains)
        self._program.set("fade", fade)
        self._program.set("front_whole", *(_inside(front) if front else (0.0, 0.0, 0.0, 0.0)))
        self._program.set("limits", *limits)
        self._program.set("gamma", look.gamma)
        self._program.set_int("by_value", int(values is not None))
        self._program.set("values", *(values or (0.0, 1.0)))
        GL.glBindVertexArray(self._array)
        GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)
        GL.glBindVertexArray(0)

    def delete(self) -> None:
        """Give the memory back."""
        self._program.delete()
        self._nothing.delete()
        GL.glDeleteVertexArrays(1, [self._array])
        GL.glDeleteTextures([self._map])

    def _bind(self, layer: Layer | None, unit: int, shown: Rectangle) -> float:
        """Bind a layer's texture to a unit; its gain."""
        sums = layer.sums if layer else self._nothing
        name = ("front", "back")[unit]
        GL.glActiveTexture(int(GL.GL_TEXTURE0) + unit)
        GL.glBindTexture(GL.GL_TEXTURE_2D, sums.texture)
        self._program.set_int(name, unit)
        self._program.set_int(f"has_{name}", int(layer is not None))
        self._program.set(f"{name}_at", *sums.frame.across(shown.left, shown.top, shown.width, shown.height))
        return layer.gain if layer else 0.0

    def _load_colours(self, name: str) -> None:
        GL.glActiveTexture(int(GL.GL_TEXTURE0) + MAP)
        GL.glBindTexture(GL.GL_TEXTURE_1D, self._map)
        self._program.set_int("colours", MAP)
        if name == self._colours:
            return
        table = np.ascontiguousarray(colour_table(name))
        GL.glPixelStorei(GL.GL_UNPACK_ALIGNMENT, 1)
        GL.glTexImage1D(GL.GL_TEXTURE_1D, 0, GL.GL_RGB32F, COLOURS, 0, GL.GL_RGB, GL.GL_FLOAT, table)
        for parameter in (GL.GL_TEXTURE_MIN_FILTER, GL.GL_TEXTURE_MAG_FILTER):
            GL.glTexParameteri(GL.GL_TEXTURE_1D, parameter, GL.GL_LINEAR)
        GL.glTexParameteri(GL.GL_TEXTURE_1D, GL.GL_TEXTURE_WRAP_S, GL.GL_CLAMP_TO_EDGE)
        self._colours = name


def _inside(layer: Layer) -> tuple[float, float, float, float]:
    """left, top, right, bottom of the part that is whole, as texture coordinates."""
    whole = layer.whole
    u, v, wide, high = layer.sums.frame.across(whole.left, whole.top, whole.width, whole.height)
    return u, v, u + wide, v + high
