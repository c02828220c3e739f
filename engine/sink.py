"""What takes localisations from the engine: the recorder, and later the publisher."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa


class Sink(Protocol):
    """Takes batches of localisations in order. The engine's output thread is the only caller.

    An error from the recorder stops the run; an error from any other sink is reported and that sink is dropped.
    """

    def write(self, batch: pa.RecordBatch) -> None:
        """Take one batch (LOCALISATION_SCHEMA). When it returns, the recorder's rows are on disk. Raises RunError."""
        ...

    def close(self) -> None:
        """No more batches will come. May be called twice."""
        ...
