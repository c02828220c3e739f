"""Figures of quality while a run goes on: measured beside the analysis, kept in the run folder, told to readers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, Full, Queue
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from acquisition.camera import Camera
from acquisition.source import Frames, Pixels, SourceDescription
from config.schema import MonitorSettings
from engine.monitor.figures import Quality, QualityMeter
from engine.monitor.quality_log import QualityLog
from engine.monitor.stopping import Plateau
from engine.monitor.windows import Seen, Window, Windows, seconds
from engine.runtimes.model_file import ModelDescription

logger = logging.getLogger(__name__)

Reader: TypeAlias = Callable[[Quality], object]

MOST_WAITING = 2000
"""Blocks that may wait to be measured; beyond that they are left out of the figures."""
FEW_WAITING = 8
"""With more, no frames are taken along: each keeps its whole block in memory."""
PICTURES = 10
"""Frames of a window on which the width of the PSF is measured."""
PICTURE_PIXELS = 2_000_000
"""Most pixels of these, save that one frame is always taken."""
OUTSIDE = 3
"""Windows in a row after which data counts as outside what the model was trained for, or inside again."""
PATIENCE = 30.0
"""Seconds that the last figures may take when the run is over."""


class QualityMonitor:
    """An Observer that measures on a thread of its own.

    ``observe`` only puts what it sees into a queue, a few microseconds a block. A row of figures a window of
    ``monitor.every`` seconds goes to quality.arrows in the run folder and then to every reader, on the monitor's
    thread; a reader that raises is logged and dropped, as an observer is. ``close`` ends it and makes quality.parquet.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        camera: Camera,
        description: SourceDescription,
        model: ModelDescription,
        folder: Path,
        *,
        readers: Sequence[Reader] = (),
        target: Callable[[], float | None] = lambda: None,
        stop: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start measuring a run on ``folder``.

        ``target`` tells the density that feedback holds [1/µm²]. ``stop`` is called with the reason, on the monitor's
        thread and once, when the resolution has reached its plateau or enough was localised, if the settings ask for
        it.
        """
        self._settings, self._readers, self._target, self._stop = settings, tuple(readers), target, stop
        self._meter = QualityMeter(settings, camera, description, model)
        self._windows = Windows(settings.every, model.context[1])
        self._log = QualityLog(folder)
        self._interval = description.exposure / 1000 if description.exposure else None
        self._clock, self._began = clock, clock()
        self._pictures = max(1, min(PICTURES, PICTURE_PIXELS // (description.height * description.width)))
        self._next_picture = -np.inf
        self._left_out = 0
        self._frames = self._localisations = 0
        self._plateau = Plateau(settings.plateau)
        self._asked_to_stop = False
        self._domain = DomainWatch()
        self._queue: Queue[Seen | None] = Queue(MOST_WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="liveloc-monitor", daemon=True)
        self._thread.start()

    def observe(self, frames: Frames | None, batch: pa.RecordBatch) -> None:
        """See Observer.observe."""
        if not self._thread.is_alive():
            return
        try:
            self._queue.put_nowait(self._seen(frames, batch))
        except Full:
            self._leave_out()

    def close(self) -> None:
        """Measure what is left, make quality.parquet, end the thread. May be called twice."""
        self._closing.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            logger.warning("the figures of quality are not ready %g s after the run, and are left behind", PATIENCE)

    def _seen(self, frames: Frames | None, batch: pa.RecordBatch) -> Seen:
        if frames is None:
            return Seen(np.empty(0, np.int64), np.empty(0), batch)
        times = seconds(frames, self._interval, self._clock() - self._began)
        return Seen(frames.numbers, times, batch, self._picture(frames, float(times[-1])))

    def _picture(self, frames: Frames, now: float) -> dict[int, Pixels]:
        """Its last frame, now and then."""
        if now < self._next_picture or self._queue.qsize() > FEW_WAITING:
            return {}
        self._next_picture = now + self._settings.every / self._pictures
        return {int(frames.numbers[-1]): frames.pixels[-1]}

    def _leave_out(self) -> None:
        if not self._left_out:
            logger.warning("measuring the quality cannot follow the analysis: figures leave out some of the data")
        self._left_out += 1

    # On the monitor's thread.

    def _work(self) -> None:
        try:
            while (seen := self._next()) is not None:
                for window in self._windows.add(seen):
                    self._tell(window)
            rest = list(self._windows.finish())
            for window in rest:
                self._tell(window, last=window is rest[-1])
        except Exception:
            logger.exception("the quality of this run is measured no longer")
        finally:
            self._log.close()

    def _next(self) -> Seen | None:
        """What was seen next; None once it is closing and all has been taken."""
        while True:
            try:
                return self._queue.get(timeout=0.1)
            except Empty:
                if self._closing.is_set():
                    return None

    def _tell(self, window: Window, last: bool = False) -> None:
        estimates = self._meter.estimates
        quality = self._meter.measure(window, self._target(), last)
        self._frames += quality.frames
        self._localisations += quality.localisations
        self._log.write(quality)
        self._domain.look(quality.warnings)
        for reader in self._readers:
            self._show(reader, quality)
        if not last:
            self._stop_if_due(quality, self._meter.estimates > estimates)

    def _show(self, reader: Reader, quality: Quality) -> None:
        try:
            reader(quality)
        except Exception as error:  # noqa: BLE001 (whatever befalls a reader, the others get their figures)
            logger.warning("figures of quality are no longer told to %s, which failed: %s", reader, error)
            self._readers = tuple(other for other in self._readers if other is not reader)

    def _stop_if_due(self, quality: Quality, estimated: bool) -> None:
        reason = self._enough()
        if estimated and quality.frc is not None:
            plateau = self._plateau.add(self._frames, quality.frc)
            reason = reason or (plateau if self._settings.stop_at_plateau else None)
        if reason is not None and not self._asked_to_stop:
            self._asked_to_stop = True
            logger.info("the run is stopped: %s", reason)
            self._stop(reason)

    def _enough(self) -> str | None:
        limit = self._settings.stop_after
        if limit is None or self._localisations < limit:
            return None
        return f"{self._localisations} localisations; monitor.stop_after is {limit}"


class DomainWatch:
    """Says in the log when data leaves what the model was trained for. DomainCheck says what the first frames show."""

    def __init__(self) -> None:
        self._outside = False
        self._different = 0
        self._windows = 0

    def look(self, warnings: Sequence[str]) -> None:
        """Take the warnings of the next window."""
        self._windows += 1
        self._different = self._different + 1 if bool(warnings) != self._outside else 0
        if self._different < OUTSIDE:
            return
        self._outside, self._different = not self._outside, 0
        if not self._outside:
            logger.info("the data is within what the model was trained for again")
        elif self._windows > OUTSIDE:
            for words in warnings:
                logger.warning("%s", words)
