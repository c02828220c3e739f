"""What feedback moves: the light that switches molecules on."""

from __future__ import annotations

from typing import Protocol


class ActivationLight(Protocol):
    """The power of the activation light, in its device's own unit. Any thread may call, one at a time."""

    def power(self) -> float:
        """As it is set now. Raises SourceError where the device cannot be reached."""
        ...

    def set_power(self, power: float) -> None:
        """Set it. Raises SourceError where the device cannot be reached or refuses."""
        ...
