"""An image of localisations, however it was made."""

from __future__ import annotations

from dataclasses import dataclass
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

    @property
    def per_area(self) -> float:
        """From localisations / pixel to localisations / µm²."""
        return 1e6 / self.pixel**2
