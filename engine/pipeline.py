"""The pipeline: three threads that carry frames from a source through a localiser to disk.

    acquire ──blocks──▶ infer ──batches──▶ output (the recorder first, then the other sinks)

Each stage owns its figures and its ends of the channels. When one ends, for whatever reason, the stages behind it work
off what they hold, and the stages before it stop: so a source that fails loses no frame that came, and a full disk
stops the camera.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

import pyarrow as pa

from acquisition.source import Frames, FrameSource, SourceDescription
from config.errors import RunError, SourceStopped
from engine.channel import Channel, ConsumerGone
from engine.ledger import FrameLedger
from engine.localiser import Localiser
from engine.outlet import Outlet
from engine.sink import Sink
from engine.status import RateMeter, State, Status

logger = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that a source has to end after it was asked to stop, before it is given up."""
WATCH_EVERY = 0.2
"""Most seconds between two calls of a watcher."""

Watcher = Callable[[Status], None]


class _Stage(threading.Thread):
    """A thread that says itself that it has ended.

    ``Thread.join`` cannot be trusted for it: a KeyboardInterrupt within it makes Python 3.11 take a living thread for
    an ended one. A daemon, so that a source that hangs in its driver cannot keep the program from ending.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.ended = threading.Event()

    def run(self) -> None:
        """Called by the thread."""
        try:
            self._work()
        finally:
            self.ended.set()


class Pipeline:
    """One run of the engine. ``run`` blocks; ``start``, ``stop`` and ``join`` are for live use. Runs once.

    Every frame that the source gives is analysed exactly once, in order. Numbers that never came are in
    ``status().missing``; frames that came before a failure and could not be analysed are in ``status().pending``.
    """

    def __init__(
        self,
        source: FrameSource,
        localiser: Localiser,
        recorder: Sink,
        sinks: Sequence[Sink] = (),
        *,
        block: int = 16,
        queue: int = 8,
        description: SourceDescription | None = None,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
    ) -> None:
        """Join the parts; nothing runs yet. The pipeline closes the source and the sinks when it ends.

        ``block`` is the most frames handed on at once, ``queue`` the most blocks that wait between two stages; a full
        queue holds the source up. ``description`` says that the source is open already; without it, it is opened here.
        An error of ``recorder`` ends the run; one of ``sinks`` drops that sink with a warning. ``clock`` gives seconds.
        """
        self.description = description
        self._source, self._localiser, self._outlet = source, localiser, Outlet(recorder, sinks)
        self._block, self._clock, self._patience = block, clock, patience
        self._blocks: Channel[Frames] = Channel(queue)
        self._batches: Channel[tuple[pa.RecordBatch, int]] = Channel(queue)
        self._ledger, self._analysed = FrameLedger(), 0
        self._rate_in, self._rate_out = RateMeter(clock), RateMeter(clock)
        self._started: float | None = None
        self._asked_to_stop: float | None = None
        self._ended: float | None = None
        self._in_source_since: float | None = None
        self._source_ended_itself = False
        self._source_given_up = False
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self._acquiring = self._stage("acquire", self._acquire)
        self._stages = (self._acquiring, self._stage("infer", self._infer), self._stage("output", self._output))

    def run(self, watch: Watcher | None = None) -> Status:
        """Run to the end and return the last status. ``watch`` is called a few times a second, on this thread.

        Ctrl-C stops as ``stop`` does: what came is analysed first. A second Ctrl-C is not caught.
        Raises SourceError, RecorderFailed, RunError or whatever else a stage met.
        """
        self.start()
        try:
            self._wait(watch)
        except KeyboardInterrupt:
            logger.info("interrupted: the frames that came are analysed first")
            self.stop()
            self._wait(watch)
        return self.join()

    def start(self) -> None:
        """Start the threads. Raises RunError when called twice."""
        if self._started is not None:
            raise RunError("this pipeline was started before, and a pipeline runs once. Build a new one.")
        self._started = self._in_source_since = self._clock()
        for stage in self._stages:
            stage.start()

    def stop(self) -> None:
        """Take no more frames; those that came are still analysed and recorded. Any thread, any number of times."""
        if self._asked_to_stop is None:
            self._asked_to_stop = self._clock()
        self._source.stop()

    def join(self, timeout: float | None = None) -> Status:
        """Wait for the end, at most ``timeout`` seconds, and return the status. Raises what ended the run."""
        deadline = float("inf") if timeout is None else self._clock() + timeout
        while not self._all_ended() and self._clock() < deadline:
            self._pause()
        status = self.status()
        if status.state is State.FAILED and status.error is not None:
            raise status.error
        return status

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and wait. Raises what ended the run, if anything did."""
        self.stop()
        self.join()

    def status(self) -> Status:
        """A snapshot. Any thread."""
        analysed = self._analysed  # before the frames that came, so that the lag is never negative
        return Status(
            state=self._state(),
            acquired=self._ledger.count,
            analysed=analysed,
            localisations=self._outlet.localisations,
            expected=self.description.frames if self.description else None,
            waiting=(len(self._blocks), len(self._batches)),
            rate_in=self._rate_in.rate(),
            rate_out=self._rate_out.rate(),
            elapsed=self._elapsed(),
            missing=self._ledger.missing(),
            pending=self._ledger.after(analysed),
            dropped_sinks=self._outlet.dropped,
            error=self._error,
        )

    # The three stages, each on its own thread.

    def _acquire(self) -> None:
        try:
            if self.description is None:
                self.description = self._source.open()
            for frames in self._source.blocks(self._block):
                self._take(frames)
                if self._asked_to_stop is not None:
                    break
            self._source_ended_itself = self._asked_to_stop is None
            self._compare_with(self.description)
        finally:
            self._blocks.finish()
            self._source.close()

    def _infer(self) -> None:
        pushed = FrameLedger()
        try:
            for frames in self._blocks:
                batch = self._localiser.push(frames)
                pushed.add(frames.numbers)
                undecided = min(self._localiser.context[1], pushed.streak)
                self._batches.put((batch, pushed.count - undecided))
            self._batches.put((self._localiser.flush(), pushed.count))
        finally:
            self._blocks.leave()
            self._batches.finish()

    def _output(self) -> None:
        try:
            for batch, analysed in self._batches:
                self._outlet.write(batch)
                self._analysed = analysed
                self._rate_out.count(analysed)
        finally:
            self._batches.leave()
            self._outlet.close()

    def _take(self, frames: Frames) -> None:
        """Book a block and pass it on, up to the first frame whose number is out of order; that one ends the run."""
        if len(frames.pixels) != len(frames.numbers):
            raise RunError(
                f"the source gave {len(frames.pixels)} frames with {len(frames.numbers)} numbers; "
                "each frame needs its own. This is a fault of the source: please report it."
            )
        good = self._ledger.in_order(frames.numbers)
        if good:
            self._pass_on(Frames(frames.pixels[:good], frames.numbers[:good], frames.times[:good]))
        self._ledger.add(frames.numbers[good:])

    def _pass_on(self, frames: Frames) -> None:
        self._ledger.add(frames.numbers)
        self._rate_in.count(self._ledger.count)
        self._in_source_since = None  # from here on, a wait is for the network and not for the source
        self._blocks.put(frames)
        self._in_source_since = self._clock()

    def _compare_with(self, description: SourceDescription) -> None:
        """A source that ends early without an error is worth a word, as frames may be missing at its end."""
        given = self._ledger.count + sum(map(len, self._ledger.missing()))
        if self._source_ended_itself and description.frames is not None and given < description.frames:
            logger.warning("the source announced %d frames and ended after %d", description.frames, given)

    # Threads, their errors, and their end.

    def _stage(self, name: str, stage: Callable[[], None]) -> _Stage:
        return _Stage(partial(self._guard, stage), f"liveloc-{name}")

    def _guard(self, stage: Callable[[], None]) -> None:
        """Run a stage; its error stops the source and is kept for whoever waits for the end."""
        try:
            stage()
        except ConsumerGone:
            return  # the stage behind has ended, and has said why
        except Exception as error:  # noqa: BLE001 (it is raised again by run and join)
            logger.error("the run ends with an error: %s", error)
            self._keep(error)
            self._stop_quietly()

    def _keep(self, error: Exception) -> None:
        """The first error is the cause; later ones follow from it."""
        with self._lock:
            self._error = self._error or error

    def _stop_quietly(self) -> None:
        try:
            self.stop()
        except Exception as error:  # noqa: BLE001 (the error before it matters)
            logger.warning("the source could not be stopped: %s", error)

    def _wait(self, watch: Watcher | None) -> None:
        while not self._all_ended():
            self._pause()
            if watch is not None:
                watch(self.status())

    def _pause(self) -> None:
        """Wait a little for the threads: not for long at once, as that cannot be interrupted on Windows."""
        living = next((stage for stage in reversed(self._stages) if not stage.ended.is_set()), None)
        if living is not None:
            living.ended.wait(WATCH_EVERY)
        if not self._acquiring.ended.is_set() and self._source_hangs():
            self._give_source_up()

    def _source_hangs(self) -> bool:
        asked, since = self._asked_to_stop, self._in_source_since
        return asked is not None and since is not None and self._clock() - max(asked, since) > self._patience

    def _give_source_up(self) -> None:
        """Go on without a source that does not stop; its thread is left to itself."""
        self._keep(
            SourceStopped(
                f"the source did not stop within {self._patience:g} s of being asked. The frames that came are "
                "analysed and recorded. Restart the camera's program before the next run."
            )
        )
        self._source_given_up = True
        self._blocks.finish()

    def _all_ended(self) -> bool:
        """Whether every stage has ended; a source that was given up counts as ended."""
        waited_for = self._stages[1:] if self._source_given_up else self._stages
        ended = self._started is not None and all(stage.ended.is_set() for stage in waited_for)
        if ended and self._ended is None:
            self._ended = self._clock()
        return ended

    def _elapsed(self) -> float:
        if self._started is None:
            return 0.0
        return (self._clock() if self._ended is None else self._ended) - self._started

    def _state(self) -> State:
        if self._started is None:
            return State.IDLE
        if not self._all_ended():
            return State.RUNNING if self._asked_to_stop is None else State.STOPPING
        if self._error is not None:
            return State.FAILED
        return State.FINISHED if self._source_ended_itself else State.STOPPED
