"""The pipeline: three threads that carry frames from a source through a localiser to disk.

    acquire ──intake, frame queue──▶ infer ──batches──▶ output (the recorder first, then the other sinks)

Each stage owns its figures and its ends of the channels. When one ends, for whatever reason, the stages behind it work
off what they hold, and the stages before it stop: so a source that fails loses no frame that came, and a full disk
stops the camera.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from acquisition.source import FrameSource, SourceDescription
from config.errors import RunError, SettingsError, SourceStopped
from engine.channel import Channel, ConsumerGone
from engine.delay import DelayMeter
from engine.intake import Intake
from engine.ledger import FrameLedger, count, gaps, skip, union, without
from engine.localisations import joined_batches
from engine.localiser import Localiser
from engine.outlet import Outlet
from engine.sink import Sink
from engine.spool import FrameSpool
from engine.status import Mark, RateMeter, State, Status
from engine.waiting import FrameQueue, HeldFrames, NewestFrames

logger = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that a source has to end after it was asked to stop, before it is given up."""
WATCH_EVERY = 0.2
"""Most seconds between two calls of a watcher."""
POLICIES = ("every", "newest")
LONGEST_TEXT = 1000
"""Characters of a mark, or of a reason to stop."""

Watcher = Callable[[Status], None]


@dataclass(frozen=True, eq=False)
class _Decided:
    """Localisations, and when the frames that they complete were taken [s]."""

    batch: pa.RecordBatch
    came: NDArray[np.float64]


class _Together(Channel[_Decided]):
    """Hands on all that waits as one batch, so that one sync of the disk serves several of a fast camera's."""

    def _pop(self) -> _Decided:
        waiting = tuple(self._items)
        self._items.clear()
        return _Decided(joined_batches([one.batch for one in waiting]), np.concatenate([one.came for one in waiting]))


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

    Every frame that the source gives is analysed exactly once, in order, or listed: numbers that never came are in
    ``status().missing``, frames given up on request in ``skipped_behind`` and ``skipped_paused``, and frames that came
    before a failure and could not be analysed in ``pending``.
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
        live: bool = False,
        policy: str = "every",
        memory: float = 256.0,
        spool: Path | None = None,
        seconds: float | None = None,
        frames: int | None = None,
    ) -> None:
        """Join the parts; nothing runs yet. The pipeline closes the source and the sinks when it ends.

        ``block`` is the most frames handed on at once, ``queue`` the most blocks that wait between two stages.
        ``description`` says that the source is open already; without it, it is opened here. An error of ``recorder``
        ends the run; one of ``sinks`` drops that sink with a warning. ``clock`` gives seconds.

        Where inference falls behind, a source that can wait is held up. One that cannot (``live``) never is: by
        ``policy`` every, frames beyond ``memory`` [MB] wait on disk in a folder inside ``spool`` (None: where the
        system keeps temporary files); by newest, the oldest that wait are skipped. The run ends by itself after
        ``seconds`` or ``frames``. Raises SettingsError for an unknown policy.
        """
        self.description = description
        self._source, self._localiser, self._outlet = source, localiser, Outlet(recorder, sinks)
        self._block, self._clock, self._patience, self._seconds = block, clock, patience, seconds
        self._queue = _frame_queue(live, policy, queue, block, memory, spool)
        # A recorded run keeps its batches apart, so that its log is the same to the byte every time.
        self._batches: Channel[_Decided] = _Together(queue) if live else Channel(queue)
        self._intake, self._analysed = Intake(self._queue, clock, live, frames), 0
        self._rate_out, self._delays = RateMeter(clock), DelayMeter(clock)
        self._marks: tuple[Mark, ...] = ()
        self._started: float | None = None
        self._asked_to_stop: float | None = None
        self._ended: float | None = None
        self._in_source_since: float | None = None
        self._outcome: tuple[State, str] | None = None
        """How the run ends where no error ends it, and in words what asked for it; the first to say so counts."""
        self._source_given_up, self._lock = False, threading.Lock()
        self._error: Exception | None = None
        self._acquiring = self._stage("acquire", self._acquire)
        self._stages = (self._acquiring, self._stage("infer", self._infer), self._stage("output", self._output))

    def run(self, watch: Watcher | None = None) -> Status:
        """Run to the end and return the last status. ``watch`` is called a few times a second, on this thread.

        Ctrl-C (and what engine/signals.py makes of a SIGTERM) stops as ``stop`` does: what came is analysed first. A
        second one is not caught.
        Raises SourceError, RecorderFailed, RunError or whatever else a stage met.
        """
        self.start()
        try:
            self._wait(watch)
        except KeyboardInterrupt as interruption:
            logger.info("interrupted: the frames that came are analysed first")
            self.stop(str(interruption))
            self._wait(watch)
        return self.join()

    def start(self) -> None:
        """Start the threads. Raises RunError when called twice."""
        if self._started is not None:
            raise RunError("this pipeline was started before, and a pipeline runs once. Build a new one.")
        self._started = self._in_source_since = self._clock()
        for stage in self._stages:
            stage.start()

    @property
    def newest(self) -> int | None:
        """Number of the last frame that came, None before the first. Any thread."""
        return self._intake.came.newest

    def stop(self, reason: str = "") -> None:
        """Take no more frames; those that came are still analysed and recorded. Any thread, any number of times.

        The first ``reason`` is kept in the end reason.
        """
        self._end(State.STOPPED, reason)

    def pause(self) -> None:
        """Analyse no frames that come from now on, until ``resume``; they are listed as skipped. Any thread."""
        self._set_paused(True)

    def resume(self) -> None:
        """End a pause. Any thread."""
        self._set_paused(False)

    def mark(self, text: str) -> Mark:
        """Put a word into the run's account, with the newest frame and the time. Any thread."""
        mark = Mark(
            text, self._intake.came.newest, self._elapsed(), datetime.now(UTC).isoformat(timespec="milliseconds")
        )
        with self._lock:
            self._marks = (*self._marks, mark)
        logger.info("mark at frame %s: %s", mark.frame, text)
        return mark

    def handle(self, command: str, arguments: Mapping[str, Any]) -> None:
        """Do what somebody outside asks: start (resume), pause, stop or mark, the last two with ``text``. Any thread.

        Raises RunError to refuse: for any other command, an unsuitable text, and a run that does not go on.
        """
        text = arguments.get("text") or ""
        if self._state() not in (State.RUNNING, State.STOPPING):
            raise RunError(f"{command} needs a run that goes on; this one is {self._state().value}.")
        if not isinstance(text, str) or len(text) > LONGEST_TEXT or (command == "mark" and not text.strip()):
            raise RunError(f"the text of {command} must be 1 to {LONGEST_TEXT} characters; {text!r:.60} was given.")
        commands: dict[str, Callable[[], object]] = {
            "start": self.resume,
            "pause": self.pause,
            "stop": partial(self.stop, text or "asked by a client"),
            "mark": partial(self.mark, text),
        }
        if command not in commands:
            raise RunError(f"the commands here are {', '.join(commands)}; {command!r:.60} was given.")
        commands[command]()

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
        # In this order, as each is at most as far as the next: then no figure is negative and no frame counts twice.
        analysed, behind = self._analysed, self._queue.skipped
        paused = self._intake.paused_out.came()
        came = self._intake.came.came()
        return Status(
            state=self._state(),
            acquired=count(came),
            analysed=analysed,
            localisations=self._outlet.localisations,
            expected=self.description.frames if self.description else None,
            waiting=(len(self._queue), len(self._batches)),
            rate_in=self._intake.rate.rate(),
            rate_out=self._rate_out.rate(),
            elapsed=self._elapsed(),
            missing=gaps(came),
            pending=skip(without(came, union(behind, paused)), analysed),
            dropped_sinks=self._outlet.dropped,
            error=self._error,
            skipped_behind=behind,
            skipped_paused=paused,
            spooled_frames=self._queue.spooled[0],
            spooled_bytes=self._queue.spooled[1],
            delay=self._delays.recent(),
            delay_run=self._delays.whole(),
            paused=self._intake.paused,
            marks=self._marks,
            ended_by=self._outcome[1] if self._outcome else "",
        )

    # The three stages, each on its own thread.

    def _acquire(self) -> None:
        try:
            if self.description is None:
                self.description = self._source.open()
            for frames in self._source.blocks(self._block):
                self._in_source_since = None  # from here on, a wait is for the network and not for the source
                self._intake.take(frames, self.description)
                self._in_source_since = self._clock()
                self._check_limits()
                if self._asked_to_stop is not None:
                    break
            self._note_end_of_source(self.description)
        finally:
            self._queue.finish()
            self._source.close()

    def _infer(self) -> None:
        pushed, came = FrameLedger(), np.empty(0)
        try:
            for taken in self._queue:
                batch = self._localiser.push(taken.frames)
                pushed.add(taken.frames.numbers)
                came = np.concatenate([came, taken.came])
                decided = len(came) - min(self._localiser.context[1], pushed.streak)
                self._batches.put(_Decided(batch, came[:decided]))
                came = came[decided:]
            self._batches.put(_Decided(self._localiser.flush(), came))
        finally:
            self._queue.leave()
            self._batches.finish()

    def _output(self) -> None:
        try:
            for decided in self._batches:
                self._outlet.write(decided.batch)
                self._delays.add(self._clock() - decided.came)
                self._analysed += len(decided.came)
                self._rate_out.count(self._analysed)
        finally:
            self._batches.leave()
            self._outlet.close()

    def _note_end_of_source(self, description: SourceDescription) -> None:
        """A source that ends early without an error is worth a word, as frames may be missing at its end."""
        if not self._decide(State.FINISHED, ""):
            return
        came = self._intake.came
        given = came.count + count(came.missing())
        if description.frames is not None and given < description.frames:
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

    def _decide(self, state: State, reason: str) -> bool:
        """Note how the run ends, unless that was decided before; whether it was not."""
        with self._lock:
            first = self._outcome is None
            self._outcome = self._outcome or (state, reason)
        return first

    def _end(self, state: State, reason: str) -> None:
        """Take no more frames."""
        self._decide(state, reason)
        if self._asked_to_stop is None:
            self._asked_to_stop = self._clock()
        self._source.stop()

    def _check_limits(self) -> None:
        if self._intake.full:
            self._end(State.FINISHED, f"{self._intake.came.count} frames (run.frames)")
        elif self._seconds is not None and self._elapsed() >= self._seconds:
            self._end(State.FINISHED, f"{self._seconds:g} s (run.seconds)")

    def _set_paused(self, paused: bool) -> None:
        if paused != self._intake.paused:
            logger.info("%s after frame %s", "paused" if paused else "resumed", self._intake.came.newest)
        self._intake.paused = paused

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
        if not self._acquiring.ended.is_set():
            self._check_limits()  # here too, as a source without frames calls nobody
            if self._source_hangs():
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
        self._queue.finish()

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
        return self._outcome[0] if self._outcome else State.STOPPED


def _frame_queue(live: bool, policy: str, queue: int, block: int, memory: float, spool: Path | None) -> FrameQueue:
    """What keeps the frames that wait for inference. Raises SettingsError."""
    if policy not in POLICIES:
        raise SettingsError(f"run.policy must be {' or '.join(POLICIES)}, found {policy!r}. Correct run.policy.")
    if not live:
        return HeldFrames(queue)
    return NewestFrames(block) if policy == "newest" else FrameSpool(spool, memory, block)
