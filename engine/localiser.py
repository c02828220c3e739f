"""What a localiser is: the part of the engine that turns frames into localisations."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from acquisition.source import Frames
from engine.runtimes.model_file import ModelDescription


class Localiser(Protocol):
    """Turns frames into localisations, keeping the temporal neighbourhood itself.

    The engine's inference thread is the only caller. Pushing a movie in blocks of any size gives the same table as
    pushing it whole. A gap in the frame numbers acts as the edge of a movie.
    """

    @property
    def context(self) -> tuple[int, int]:
        """(past, future) frames that one frame's answer depends on."""
        ...

    def push(self, frames: Frames) -> pa.RecordBatch:
        """Take frames in ADU; give the rows (LOCALISATION_SCHEMA) of all frames that are now decided, in order."""
        ...

    def flush(self) -> pa.RecordBatch:
        """Give the rows of the frames that still waited for a future that will not come."""
        ...

    def describe(self) -> ModelDescription:
        """What the model file says of itself."""
        ...
