"""Frames at a fixed rate, by deadlines, so that delays do not add up."""

from __future__ import annotations

from collections.abc import Callable

ROUNDING = 1e-6
"""Share of a frame by which a clock may round down without hiding a frame."""


class Pace:
    """When frames end that follow one another without a pause. It begins where it is made."""

    def __init__(self, interval: float, clock: Callable[[], float], wait: Callable[[float], object]) -> None:
        """``interval`` between frames [s]; ``clock`` gives seconds, ``wait`` waits for so many, or until stopped."""
        self._interval, self._clock, self._wait = interval, clock, wait
        self._begin = clock()

    def ended(self) -> int:
        """How many frames have ended by now."""
        return int((self._clock() - self._begin) / self._interval + ROUNDING)

    def wait_for(self, frame: int) -> int:
        """Wait until ``frame`` (from 0) has ended and say how many have, more where the caller comes late."""
        self._wait(max(0.0, self._begin + (frame + 1) * self._interval - self._clock()))
        return max(frame + 1, self.ended())
