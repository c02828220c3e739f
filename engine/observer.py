"""Who looks on while frames become localisations: the check of the model, the preview, the figures of quality."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from acquisition.source import Frames
from engine.localiser import Localiser
from engine.runtimes.model_file import ModelDescription

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Sees what goes into a localiser and what comes out. The engine's inference thread is the only caller.

    It must be quick: inference waits for it. One that has much to do keeps a thread and a bounded queue of its own.
    An error in it is logged, and it is not called again; the run goes on.
    """

    def observe(self, frames: Frames | None, batch: pa.RecordBatch) -> None:
        """``frames`` were pushed and ``batch`` (LOCALISATION_SCHEMA) was decided; frames is None at the end.

        Rows of the newest frames follow only once their future has come: see Localiser.context.
        """
        ...


class ObservedLocaliser:
    """A Localiser that lets observers look on."""

    def __init__(self, localiser: Localiser, observers: Sequence[Observer]) -> None:
        self._localiser = localiser
        self._observers = tuple(observers)

    @property
    def context(self) -> tuple[int, int]:
        """See Localiser.context."""
        return self._localiser.context

    def describe(self) -> ModelDescription:
        """See Localiser.describe."""
        return self._localiser.describe()

    def push(self, frames: Frames) -> pa.RecordBatch:
        """See Localiser.push."""
        batch = self._localiser.push(frames)
        self._tell(frames, batch)
        return batch

    def flush(self) -> pa.RecordBatch:
        """See Localiser.flush."""
        batch = self._localiser.flush()
        self._tell(None, batch)
        return batch

    def _tell(self, frames: Frames | None, batch: pa.RecordBatch) -> None:
        for observer in self._observers:
            try:
                observer.observe(frames, batch)
            except Exception as error:  # noqa: BLE001 (whatever befalls an onlooker, the analysis goes on)
                logger.warning("%s failed and looks on no longer: %s", type(observer).__name__, error)
                self._observers = tuple(other for other in self._observers if other is not observer)
