"""The same picture without a window: the points of a store as an array, and that array as PNG or TIFF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]

MAX_PIXELS = 400_000_000
"""Largest image that is made [pixels]: 1.6 GB as float32."""


@dataclass(frozen=True)
class Rendered:
    """An image of localisations."""

    density: Floats
    """(H, W) [localisations / pixel]; row 0 is the smallest y."""
    values: Floats | None
    """(H, W) mean of the column that is the colour, in its unit, NaN where nothing is; None for colour by density."""
    pixel: float
    """Width of a pixel [nm]."""


@dataclass(frozen=True)
class Look:
    """How an image becomes colours."""

    colours: str = "hot"
    """A map of cmap."""
    gamma: float = 0.7
    """Exponent of the brightness."""
    limits: tuple[float, float] | None = None
    """Densities shown black and at full brightness [localisations/µm²]; None for automatic ones."""
    values: tuple[float, float] | None = None
    """Values at the ends of the colour map, where a column is the colour; None for automatic ones."""


def write_png(path: Path, image: Rendered, look: Look, scale_bar: bool = True) -> None:
    """Write what the window would show. Raises TableError where the disk refuses."""
    raise NotImplementedError


def write_tiff(path: Path, image: Rendered, bits: int = 32, scale_bar: bool = False) -> None:
    """Write the density, with its pixel size in the tags: 32 bits [localisations/pixel], or 16 scaled to the brightest.

    Raises TableError where the disk refuses.
    """
    raise NotImplementedError
