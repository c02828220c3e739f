"""When more frames no longer make the picture better."""

from __future__ import annotations

import numpy as np

AROUND = 3
"""Estimates whose median stands for one moment: a single one scatters by a percent or two."""
FEWEST = 8
"""Estimates that must be there before a plateau is believed."""
IN_A_ROW = 3
"""How often in a row the improvement must be too small."""


class Plateau:
    """Watches the resolution against the amount of data."""

    def __init__(self, least: float) -> None:
        """``least`` relative improvement over half of the data that is worth going on for."""
        self._least = least
        self._estimates: list[tuple[int, float]] = []
        self._small = 0

    def add(self, frames: int, resolution: float) -> str | None:
        """Take the ``resolution`` [nm] of the first ``frames`` frames. Gives words once a plateau is reached."""
        self._estimates.append((frames, resolution))
        if len(self._estimates) < FEWEST:
            return None
        before, now = self._near(frames // 2), self._near(frames)
        self._small = self._small + 1 if 1 - now / before < self._least else 0
        if self._small < IN_A_ROW:
            return None
        return f"the FRC resolution has reached a plateau: {now:.0f} nm, {before:.0f} nm with half of the frames"

    def _near(self, frames: int) -> float:
        """Median of the estimates nearest to so many frames, of the last ones where that is the end."""
        nearest = sorted(self._estimates, key=lambda estimate: abs(estimate[0] - frames))[:AROUND]
        return float(np.median([resolution for _, resolution in nearest]))
