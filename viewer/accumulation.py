"""A picture that is being added up: a texture of floats, and which part of the sample it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from OpenGL import GL  # type: ignore[import-untyped]

from config.errors import RuntimeUnavailable

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """Where the pixels of an image lie in the sample."""

    left: float
    top: float
    """Outer corner of pixel (0, 0) [nm]."""
    pixel: float
    """[nm]."""
    width: int
    height: int
    """[pixels]."""

    def across(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        """(u, v, du, dv): texture coordinates (u, v) + share · (du, dv) across a rectangle of the sample [nm]."""
        wide, high = self.pixel * self.width, self.pixel * self.height
        return (left - self.left) / wide, (top - self.top) / high, width / wide, height / high


class Accumulation:
    """Sums of localisations in the pixels of a frame: (share) or (share, share · value, share of known value)."""

    def __init__(self, frame: Frame, coloured: bool) -> None:
        """Empty. ``coloured`` keeps the sums that a colour by value needs. Raises RuntimeUnavailable."""
        self.frame = frame
        self.coloured = coloured
        self.texture, self._target = int(GL.glGenTextures(1)), int(GL.glGenFramebuffers(1))
        inner, outer = (GL.GL_RGBA32F, GL.GL_RGBA) if coloured else (GL.GL_R32F, GL.GL_RED)
        GL.glBindTexture(GL.GL_TEXTURE_2D, self.texture)
        GL.glTexImage2D(GL.GL_TEXTURE_2D, 0, inner, frame.width, frame.height, 0, outer, GL.GL_FLOAT, None)
        for name in (GL.GL_TEXTURE_MIN_FILTER, GL.GL_TEXTURE_MAG_FILTER):
            GL.glTexParameteri(GL.GL_TEXTURE_2D, name, GL.GL_LINEAR)
        for name in (GL.GL_TEXTURE_WRAP_S, GL.GL_TEXTURE_WRAP_T):
            GL.glTexParameteri(GL.GL_TEXTURE_2D, name, GL.GL_CLAMP_TO_EDGE)
        self._attach()
        self.clear()

    def clear(self) -> None:
        """Make all sums 0."""
        self.bind()
        GL.glDisable(GL.GL_SCISSOR_TEST)
        GL.glClearColor(0, 0, 0, 0)
        GL.glClear(GL.GL_COLOR_BUFFER_BIT)

    def bind(self) -> None:
        """Draw into it from now on."""
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._target)
        GL.glViewport(0, 0, self.frame.width, self.frame.height)

    def read(self, left: int, top: int, width: int, height: int) -> Floats:
        """(height, width, channels) of a part; row 0 is the smallest y. Waits for the graphics card."""
        channels, kind = (4, GL.GL_RGBA) if self.coloured else (1, GL.GL_RED)
        sums = np.empty((height, width, channels), np.float32)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self._target)
        GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
        GL.glReadPixels(left, top, width, height, kind, GL.GL_FLOAT, sums)
        return sums

    def copy(self, other: Accumulation, columns: int, rows: int, part: tuple[int, int, int, int]) -> None:
        """Take over pixels (left, top, right, bottom) from those ``columns``, ``rows`` further on in ``other``."""
        left, top, right, bottom = part
        source = left + columns, top + rows, right + columns, bottom + rows
        GL.glDisable(GL.GL_SCISSOR_TEST)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, other._target)
        GL.glBindFramebuffer(GL.GL_DRAW_FRAMEBUFFER, self._target)
        GL.glBlitFramebuffer(*source, *part, GL.GL_COLOR_BUFFER_BIT, GL.GL_NEAREST)

    def sample(self, side: int) -> Floats:
        """(H, W, channels) of pixels picked evenly, at most ``side`` on each axis."""
        frame = self.frame
        width, height = min(side, frame.width), min(side, frame.height)
        small = Accumulation(Frame(frame.left, frame.top, frame.pixel, width, height), self.coloured)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self._target)
        GL.glBindFramebuffer(GL.GL_DRAW_FRAMEBUFFER, small._target)
        GL.glBlitFramebuffer(
            0, 0, frame.width, frame.height, 0, 0, width, height, GL.GL_COLOR_BUFFER_BIT, GL.GL_NEAREST
        )
        sums = small.read(0, 0, width, height)
        small.delete()
        return sums

    def delete(self) -> None:
        """Give the memory back."""
        GL.glDeleteFramebuffers(1, [self._target])
        GL.glDeleteTextures([self.texture])

    def _attach(self) -> None:
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._target)
        GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, GL.GL_COLOR_ATTACHMENT0, GL.GL_TEXTURE_2D, self.texture, 0)
        if GL.glCheckFramebufferStatus(GL.GL_FRAMEBUFFER) != GL.GL_FRAMEBUFFER_COMPLETE:
            self.delete()
            raise RuntimeUnavailable(
                f"the graphics driver cannot draw into {self.frame.width} by {self.frame.height} floats. "
                "Make the window smaller, or update the driver."
            )
