"""How sums become colours: the colour map, contrast and gamma, the same for window and files. No Qt, no OpenGL."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from cmap import Colormap
from numpy.typing import NDArray

from config.errors import SettingsError
from engine.output.image import white_level

Floats: TypeAlias = NDArray[np.float32]

COLOURS = 256
"""Entries of a colour map."""
COLOURLESS = 0.75
"""Grey of localisations whose value is not known, where a value is the colour."""
PERCENTILE = 99.0
"""Of the lit pixels, shown at full brightness by the automatic contrast."""


@dataclass(frozen=True)
class Look:
    """How an image becomes colours."""

    colours: str = "hot"
    """A map of cmap."""
    gamma: float = 0.7
    """Exponent of the brightness; below 1 it lifts single molecules out of the dark."""
    limits: tuple[float, float] | None = None
    """Densities shown black and at full brightness [localisations/µm²]; None for automatic ones."""
    values: tuple[float, float] | None = None
    """Values at the ends of the colour map, where a column is the colour; None for all but a few outliers."""


@lru_cache(maxsize=8)
def colour_table(name: str) -> NDArray[np.float32]:
    """(COLOURS, 3) red, green, blue from 0 to 1. Raises SettingsError for an unknown name."""
    try:
        table: Floats = np.asarray(Colormap(name).lut(COLOURS), np.float32)[:, :3]
    except (ValueError, TypeError) as error:
        raise SettingsError(f"there is no colour map {name!r}. Choose one of cmap's, for example hot.") from error
    return table


def automatic(density: Floats) -> tuple[float, float]:
    """Limits of an image of densities, in its unit: 0 to the white level; (0, 0) where nothing is lit."""
    return 0.0, white_level(density, PERCENTILE)


def brightness(density: Floats, limits: tuple[float, float], gamma: float) -> Floats:
    """0 to 1, as shaders/screen.frag does it."""
    span = np.float32(max(limits[1] - limits[0], 1e-30))
    bright: Floats = np.clip((density - np.float32(limits[0])) / span, 0, 1) ** np.float32(gamma)
    return bright


def shaded(bright: Floats, look: Look) -> NDArray[np.uint8]:
    """(H, W) brightness to (H, W, 3) colours."""
    return _bytes(colour_table(look.colours))[_entries(bright)]


def shaded_by_value(bright: Floats, values: Floats, ends: tuple[float, float], look: Look) -> NDArray[np.uint8]:
    """(H, W) brightness and (H, W) values, NaN where unknown, to (H, W, 3) colours; ``ends`` of the colour map."""
    places = (values - np.float32(ends[0])) / np.float32(max(ends[1] - ends[0], 1e-30))
    colours = colour_table(look.colours)[_entries(np.nan_to_num(np.clip(places, 0, 1)))]
    colours[np.isnan(values)] = COLOURLESS
    return _bytes(colours * bright[..., None])


def _entries(places: Floats) -> NDArray[np.intp]:
    return np.rint(places * (COLOURS - 1)).astype(np.intp)


def _bytes(colours: Floats) -> NDArray[np.uint8]:
    return np.rint(colours * 255).astype(np.uint8)
