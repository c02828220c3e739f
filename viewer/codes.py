"""Values of a localisation in 16 bits, for the graphics memory and for counting; the same formula stands in GLSL.

The code of v is 32768 + round(asinh(v / unit) / step): even steps below ``unit``, steps in proportion to v above it. It
grows with v and never skips, so a filter on codes hides nothing that a filter on values would show. 0 is unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Codes: TypeAlias = NDArray[np.uint16]

UNKNOWN = 0
ZERO = 32768
"""The code of the value 0."""
TOP = 65535
"""The largest code; the smallest of a known value is 1."""


@dataclass(frozen=True)
class Scale:
    """How the values of one column become codes."""

    unit: float
    """Value below which the steps are even, in the column's unit."""
    limit: float
    """Largest magnitude; what lies beyond has its code."""

    @property
    def step(self) -> float:
        """Difference of asinh(v / unit) between two codes."""
        return math.asinh(self.limit / self.unit) / (TOP - ZERO)

    def encode(self, values: NDArray[Any]) -> Codes:
        """(N,) values to (N,) codes; NaN is unknown."""
        known = ~np.isnan(values)
        steps = np.arcsinh(np.where(known, values, 0) / self.unit) / self.step
        codes = np.clip(np.rint(steps) + ZERO, 1, TOP)
        return np.where(known, codes, UNKNOWN).astype(np.uint16)

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """(N,) codes, fractions of codes too, to (N,) values; the unknown one becomes NaN."""
        values = self.unit * np.sinh((np.asarray(codes, np.float64) - ZERO) * self.step)
        return np.where(np.asarray(codes) == UNKNOWN, np.nan, values)

    def limits(self, low: float, high: float) -> tuple[float, float]:
        """Lowest and highest code that a filter from ``low`` to ``high`` shows; unknown ones where it is open."""
        if math.isinf(low) and math.isinf(high):
            return UNKNOWN, TOP
        lowest, highest = self.encode(np.array([low, high]))
        return float(lowest), float(highest)


SCALES = {
    "precision": Scale(unit=1.0, limit=1e5),
    "photons": Scale(unit=1.0, limit=1e9),
    "background": Scale(unit=0.1, limit=1e6),
    "probability": Scale(unit=1.0, limit=1.0),
    "z": Scale(unit=1000.0, limit=1e6),
    "x": Scale(unit=1000.0, limit=1e9),
    "y": Scale(unit=1000.0, limit=1e9),
}
"""Column → scale. Steps: 0.07 % or less of precision, photons and background, 3e-5 of probability, 0.2 nm of z."""
