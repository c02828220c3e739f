"""What became of a stack, where there are many in one command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.status import State, Status


@dataclass(frozen=True)
class Place:
    """A stack and the folder of its run; None: a dated one under runs/."""

    stack: Path
    folder: Path | None


@dataclass(frozen=True)
class Outcome:
    """What became of a stack."""

    place: Place
    status: Status | None = None
    """None where it did not begin."""
    error: Exception | None = None
    done_before: bool = False
    """An earlier command finished it."""

    @property
    def done(self) -> bool:
        """Whether every frame of it is accounted for."""
        return self.done_before or (self.status is not None and self.status.state is State.FINISHED)

    @property
    def words(self) -> str:
        """In a few words."""
        if self.done_before:
            return "done before"
        if self.error is not None:
            return f"failed: {self.error}"
        return self.status.end_reason if self.status else "not begun"
