"""How the activation light is moved to hold a density: pure, without threads, clocks or devices.

The density of emitters follows the light with a delay that nobody knows: emitters that are on stay on, a device ramps,
a localiser needs later frames, an analysis may lag. A loop that corrects faster than it sees what it did swings. So a
change is made, the sample is given SETTLE seconds, and only frames taken after that decide about the next change.
Which frames these are is told by their numbers, so that an analysis however late does no harm: it only makes the loop
slower.

Densities are about proportional to the light, so errors are ratios: a change multiplies the power by (target /
density) ** gain. With a gain of one half the loop converges without overshoot for a density that grows with any power
of the light between 0 and 2, and does not swing below 4.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from config.schema import FeedbackSettings

SETTLE = 5.0
"""Seconds that a sample has to follow a change before frames count."""
DEADBAND = 0.05
"""Relative error that is left alone."""
LARGEST = math.log(4.0)
"""Largest error that is believed at once, as the logarithm of a ratio."""
SCATTER = 5.0
"""An error must exceed this over √n of n localisations: an emitter gives several, so they scatter more than √n."""
READINGS = 20
"""Windows that are averaged at most, so that a slow change still shows."""
LEAST = 1e-3
"""Share of ``feedback.maximum`` from which a light that is off begins to rise."""


@dataclass(frozen=True)
class Reading:
    """What one window of frames showed."""

    first: int
    """Number of its first frame."""
    localisations: int
    area: float
    """Frames times area of the field [µm²]."""


class DensityController:
    """Decides on the power of the light, in its own unit."""

    def __init__(self, settings: FeedbackSettings, power: float) -> None:
        """The light has ``power`` now. Limits, slew rate and gain as the settings say."""
        self.target = settings.target
        """Density to hold [1/µm²]; may be changed at any time."""
        self.power = power
        """As it should be set now."""
        self._settings = settings
        self._goal = self._limited(power if settings.start is None else settings.start)
        self._stepped: float | None = None
        self._changed = -math.inf
        self._fresh_from: int | None = None
        """Frames beyond this number were taken after the last change had settled; None until then."""
        self._readings: deque[Reading] = deque(maxlen=READINGS)
        self._at_limit = False

    def read(self, reading: Reading) -> None:
        """Take a window's figures; those of frames before the last change had settled tell nothing."""
        if self._fresh_from is not None and reading.first > self._fresh_from:
            self._readings.append(reading)

    def step(self, now: float, newest: int) -> str | None:
        """Move ``power`` on, at ``now`` [s], when ``newest`` is the last frame taken. Gives words for a decision."""
        elapsed = 0.0 if self._stepped is None else min(now - self._stepped, 2 * self._settings.every)
        self._stepped = now
        if self.power != self._goal:
            self._ramp(elapsed, now)
        elif self._fresh_from is None:
            if now - self._changed >= SETTLE:
                self._fresh_from = newest
        elif self._readings:
            return self._decide()
        return None

    def restart(self, power: float) -> None:
        """The light was set to ``power`` by someone else: go back to where it was, by the slew rate."""
        self.power, self._stepped = power, None
        self._forget()

    def _ramp(self, elapsed: float, now: float) -> None:
        most = self._settings.slew * elapsed
        self.power += max(-most, min(most, self._goal - self.power))
        self._changed = now

    def _forget(self) -> None:
        self._fresh_from = None
        self._readings.clear()

    def _decide(self) -> str | None:
        """Set a new goal if the readings are clear enough."""
        area = sum(reading.area for reading in self._readings)
        density = sum(reading.localisations for reading in self._readings) / area
        error = math.log(self.target / density) if density else math.inf
        expected = area * max(density, self.target)
        if abs(error) <= max(DEADBAND, SCATTER / math.sqrt(expected)):
            return None
        goal = self._next(max(-LARGEST, min(LARGEST, error)))
        what = f"{density:.3g} /µm² for a target of {self.target:.3g}"
        if goal == self.power:
            return self._say_limit(what)
        words = f"{what}: activation light {self.power:.4g} → {goal:.4g}"
        self._goal, self._at_limit = goal, False
        self._forget()
        return words

    def _next(self, error: float) -> float:
        """The power that makes good the gain's share of an error."""
        least = LEAST * self._settings.maximum
        goal = max(self.power, least if error > 0 else 0.0) * math.exp(self._settings.gain * error)
        return self._limited(goal if goal >= least else 0.0)

    def _limited(self, power: float) -> float:
        return max(self._settings.minimum, min(self._settings.maximum, power))

    def _say_limit(self, what: str) -> str | None:
        """Once, until the light moves again."""
        if self._at_limit:
            return None
        self._at_limit = True
        return f"{what}: the activation light is at its limit of {self.power:.4g} and cannot hold it"
