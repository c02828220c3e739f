"""Where localisations leave the engine: the recorder first, then whoever else listens."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pyarrow as pa

from engine.sink import Sink

logger = logging.getLogger(__name__)


class Outlet:
    """Hands each batch to the recorder and then to the other sinks. One thread writes, any thread reads the figures.

    The recorder comes first, so what any other sink is given is on disk already, and its errors come through. Another
    sink that fails is dropped with a warning. A sink must not block: the recording would wait for it.
    """

    def __init__(self, recorder: Sink, sinks: Iterable[Sink] = ()) -> None:
        self._recorder = recorder
        self._sinks = tuple(sinks)
        self.localisations = 0
        """Localisations that the recorder has taken."""
        self.dropped: tuple[str, ...] = ()
        """Sinks that failed, with their errors."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Deliver one batch. Raises what the recorder raises."""
        self._recorder.write(batch)
        self.localisations += batch.num_rows
        for sink in self._sinks:
            self._offer(sink, batch)

    def close(self) -> None:
        """Close every sink. Raises what the recorder raises, once the others are closed."""
        try:
            self._recorder.close()
        finally:
            for sink in self._sinks:
                _close_quietly(sink)

    def _offer(self, sink: Sink, batch: pa.RecordBatch) -> None:
        try:
            sink.write(batch)
        except Exception as error:  # noqa: BLE001 (whatever befalls a publisher, the recording goes on)
            name = type(sink).__name__
            logger.warning("%s failed and is dropped; the recording goes on: %s", name, error)
            self.dropped = (*self.dropped, f"{name}: {error}")
            self._sinks = tuple(other for other in self._sinks if other is not sink)
            _close_quietly(sink)


def _close_quietly(sink: Sink) -> None:
    try:
        sink.close()
    except Exception as error:  # noqa: BLE001 (its rows are not ours to keep)
        logger.warning("%s could not be closed: %s", type(sink).__name__, error)
