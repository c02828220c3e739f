"""Recorded stacks, one or ten thousand, localised by a cluster: each into a run folder of its own.

One thread hands out chunks, takes their rows and records them; the caller's thread watches and catches Ctrl-C. Only a
few chunks for each worker are under way at once, across stacks, so that memory is bounded here and on the scheduler,
and small stacks do not leave workers idle.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future as Finishing
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from acquisition.calibration import estimated_settings
from acquisition.camera import Camera
from acquisition.recorded import RecordedSource, rectangle
from acquisition.source import SourceDescription
from config import errors
from config.errors import ClusterFailed, LivelocError
from config.schema import CameraSettings, Settings
from engine.facts import log_metadata, run_facts
from engine.output.recorder import Recorder
from engine.output.run_folder import RunFolder, messages_for
from engine.scale.cluster import Cluster, for_workers
from engine.scale.outcome import Outcome, Place
from engine.scale.plan import Chunk, Plan
from engine.scale.stack_run import StackRun
from engine.scale.stacks import is_done, of_stack
from engine.scale.worker import Examined, Failed, Job, Localised, OpenModel, examine, localise, release
from engine.status import RateMeter, State, Status

if TYPE_CHECKING:
    from distributed import Future

logger = logging.getLogger(__name__)

CHUNKS_A_SLOT = 3
"""Chunks under way for each that workers can compute at once: one in work, one that waits there, one that came back."""
HELD = 1 << 30
"""Bytes of rows that may wait for an earlier chunk; beyond them nothing new is handed out."""
ASK_EVERY = 1.0
"""Time between two looks at how many workers there are [s]."""
MOST_CHUNKS = 1_000_000
"""More than a stack has, so that chunks of all stacks go in one order."""
WATCH_EVERY = 0.2
"""Most seconds between two calls of a watcher."""
RATE_WINDOW = 10.0
"""Time over which the frames a second that are shown are taken [s]: workers tell once a second."""

Watcher = Callable[[Status, str], None]
"""Takes the sum over all stacks so far, and in words which of them these are."""


@dataclass(frozen=True)
class _Told:
    """A word of a worker."""

    token: str
    index: int
    frames: int
    worker: str


@dataclass(eq=False)
class _Handed:
    """A chunk that was handed out."""

    run: StackRun
    chunk: Chunk
    future: Future[Any]
    tries: int = 1


@dataclass(frozen=True)
class _Sum:
    """Figures of several stacks."""

    localised: int = 0
    analysed: int = 0
    localisations: int = 0
    frames: int = 0

    @classmethod
    def of(cls, run: StackRun) -> _Sum:
        status = run.status()
        return cls(run.localised, status.analysed, status.localisations, run.plan.frames)

    def __add__(self, other: _Sum) -> _Sum:
        both = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Sum(*(one + another for one, another in both))


_WAKE = None
"""A message that only wakes the thread."""


class Archive:
    """Localises stacks on a cluster. ``run`` once."""

    def __init__(
        self, cluster: Cluster, settings: Settings, places: Sequence[Place], open_model: OpenModel, held: int = HELD
    ) -> None:
        """``open_model`` is imported by the workers; see OpenModel. Settings are for all stacks; their model must go by
        a name or a path that holds on every worker. ``held``: bytes of rows that may wait for an earlier chunk.
        """
        self._cluster, self._client = cluster, cluster.client
        self._settings, self._places, self._open_model, self._most_held = settings, places, open_model, held
        self._topic = f"liveloc-{uuid.uuid4().hex}"
        self._messages: SimpleQueue[_Told | str | None] = SimpleQueue()
        self._out: dict[str, _Handed] = {}
        self._runs: dict[str, StackRun] = {}
        """Runs that are not over, by token."""
        self._numbers: dict[str, int] = {}
        """Which stack each of them is."""
        self._outcomes: dict[int, Outcome] = {}
        self._past, self._counting = _Sum(), threading.Lock()
        self._chunks = self._all_chunks()
        self._exhausted = False
        self._stopping: str | None = None
        self._slots, self._asked = 1, 0.0
        self._deserted: float | None = None
        """Since when there is no worker at all [s]."""
        self._rate = RateMeter(time.monotonic, RATE_WINDOW)
        self._began = time.monotonic()
        self._examined: Examined | None = None
        self._finisher = ThreadPoolExecutor(1, "liveloc-finish")
        self._finishing: list[Finishing[None]] = []
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def run(self, watch: Watcher) -> list[Outcome]:
        """Localise all; give what became of each stack, in their order. A stack that fails does not stop the others.

        ``watch`` is called a few times a second, on this thread. Ctrl-C is an end as well: chunks that are in work are
        still recorded. A second one is not caught. Raises ClusterFailed where no worker can load the model.
        """
        thread = threading.Thread(target=self._work, name="liveloc-archive", daemon=True)
        self._client.subscribe_topic(self._topic, self._hear)
        try:
            thread.start()
            try:
                self._wait(watch)
            except KeyboardInterrupt as interruption:
                logger.info("interrupted: the chunks that are in work are recorded first")
                self.stop(str(interruption))
                self._wait(watch)
        finally:
            self._client.unsubscribe_topic(self._topic)
            self._abandon()
        if self._error is not None:
            raise self._error
        return [self._outcomes.get(place, Outcome(self._places[place])) for place in range(len(self._places))]

    def stop(self, reason: str = "") -> None:
        """Begin no more chunks; those in work are recorded. Any thread."""
        self._stopping = self._stopping or reason or "on request"
        self._messages.put(_WAKE)

    def status(self) -> Status:
        """The sum over the stacks so far. Any thread."""
        with self._counting:
            runs = list(self._runs.values())
            total = sum((_Sum.of(run) for run in runs), self._past)
        self._rate.count(total.localised)
        all_known = self._exhausted or len(self._places) == len(runs)
        return Status(
            state=State.RUNNING if self._stopping is None else State.STOPPING,
            acquired=total.localised,
            analysed=total.analysed,
            localisations=total.localisations,
            expected=total.frames if all_known else None,
            waiting=(len(self._out), sum(run.held[0] for run in runs)),
            rate_in=self._rate.rate(),
            rate_out=self._rate.rate(),
            elapsed=time.monotonic() - self._began,
            missing=(),
            pending=(),
            dropped_sinks=(),
            error=None,
        )

    def _wait(self, watch: Watcher) -> None:
        while not self._ended.wait(WATCH_EVERY):
            watch(self.status(), self._words())
        watch(self.status(), self._words())

    def _words(self) -> str:
        """``3 of 12 stacks · 8 workers``; the first only where there are several."""
        stacks = f"{len(self._outcomes)} of {len(self._places)} stacks · " if len(self._places) > 1 else ""
        return f"{stacks}{self._slots} worker{'s' if self._slots != 1 else ''}"

    def _abandon(self) -> None:
        """What a second Ctrl-C leaves behind is written down as such."""
        if not self._ended.is_set():
            for run in list(self._runs.values()):
                run.abandon()
        self._finisher.shutdown(wait=self._ended.is_set())

    def _hear(self, event: tuple[float, Any]) -> None:
        """Called by Dask on its own thread."""
        token, index, frames, worker = event[1]
        self._messages.put(_Told(token, index, frames, worker))

    # The thread that hands out and records.

    def _work(self) -> None:
        try:
            with messages_for(None):
                self._examined = self._examine()
                self._count_workers()
                self._hand_out()
                while self._out or not self._exhausted:
                    self._attend()
                    self._hand_out()
            for one in self._finishing:
                one.result()
            with suppress(Exception):  # a worker that is leaving needs no tidying
                self._client.run(release)
        except Exception as error:  # noqa: BLE001 (raised again by run)
            self._error = _lost_connection(error) if isinstance(error, OSError) else error
            for run in list(self._runs.values()):
                self._end(run, State.FAILED, error)
        finally:
            self._ended.set()

    def _attend(self) -> None:
        """Take one message, and look after the rest once a second."""
        try:
            message = self._messages.get(timeout=ASK_EVERY)
        except Empty:
            message = _WAKE
        if isinstance(message, _Told):
            self._take_word(message)
        elif isinstance(message, str):
            self._take_chunk(message)
        if self._stopping is not None:
            self._wind_up()
        self._count_workers()

    def _count_workers(self) -> None:
        """Look once a second how many workers there are. Raises ClusterFailed where there was none for long."""
        now, patience = time.monotonic(), self._settings.cluster.patience
        if now - self._asked < ASK_EVERY:
            return
        self._slots, self._asked = self._cluster.slots(), now
        if self._slots:
            self._deserted = None
        elif self._deserted is None:
            self._deserted = now
            logger.warning("%s has no workers now; others may join within %g s", self._cluster.name, patience)
        elif now - self._deserted > patience:
            raise ClusterFailed(
                f"{self._cluster.name} had no worker for {patience:g} s (cluster.patience). What came before is "
                "recorded; start workers and run again."
            )

    def _take_word(self, told: _Told) -> None:
        if run := self._runs.get(told.token):
            with messages_for(run.folder):
                run.tell(told.index, told.frames, told.worker)

    def _take_chunk(self, key: str) -> None:
        handed = self._out.pop(key, None)
        if handed is None:
            return
        run = handed.run
        with messages_for(run.folder):
            try:
                done = _result(handed.future)
                if isinstance(done, Failed):
                    self._again(handed, done)
                else:
                    run.take(handed.chunk, done)
                    if run.complete:
                        self._end(run, State.FINISHED)
            except LivelocError as error:
                self._end(run, State.FAILED, error)

    def _again(self, handed: _Handed, failed: Failed) -> None:
        """Give a chunk to another worker, as often as the settings say. Raises what it failed of."""
        error = _raised(failed, handed.run.job)
        logger.info("%s", failed.trace.rstrip())
        if handed.tries > self._settings.cluster.retries or self._stopping is not None:
            raise error
        handed.run.fail(handed.chunk.index, str(error))
        others = [address for address in self._client.nthreads() if address != failed.worker]
        self._hand(handed.run, handed.chunk, handed.tries + 1, others)

    def _hand_out(self) -> None:
        while not self._exhausted and self._room():
            try:
                run, chunk = next(self._chunks)
            except StopIteration:
                self._exhausted = True
                return
            self._hand(run, chunk)

    def _room(self) -> bool:
        """Whether another chunk may be handed out."""
        held = [run.held for run in self._runs.values()]
        under_way = len(self._out) + sum(chunks for chunks, _ in held)
        too_much = sum(size for _, size in held) > self._most_held
        return not self._out or (under_way < CHUNKS_A_SLOT * self._slots and not too_much)

    def _hand(self, run: StackRun, chunk: Chunk, tries: int = 1, workers: Sequence[str] = ()) -> None:
        key = f"{run.job.token}-{chunk.index}-{tries}"
        future = self._client.submit(
            localise,
            run.job,
            chunk,
            key=key,
            pure=False,
            priority=-(self._numbers[run.job.token] * MOST_CHUNKS + chunk.index),
            workers=list(workers) or None,
            allow_other_workers=bool(workers),
        )
        self._out[key] = _Handed(run, chunk, future, tries)
        future.add_done_callback(lambda done: self._messages.put(done.key))

    def _wind_up(self) -> None:
        """Take back what no worker has begun; what is in work goes on, with what must come before it."""
        self._exhausted = True
        for key, handed in list(self._out.items()):
            if handed.chunk.index > handed.run.furthest:
                del self._out[key]
                handed.future.cancel()
        for run in list(self._runs.values()):
            if not any(handed.run is run for handed in self._out.values()):
                self._end(run, State.STOPPED, reason=self._stopping or "")

    def _end(self, run: StackRun, state: State, error: Exception | None = None, reason: str = "") -> None:
        """Close a run and let its tables be made; chunks of it that are still out are taken back."""
        run.end(state, error, reason)
        with self._counting:
            del self._runs[run.job.token]
            self._past += _Sum.of(run)
        for key in [key for key, handed in self._out.items() if handed.run is run]:
            self._out.pop(key).future.cancel()
        self._finishing.append(self._finisher.submit(self._finish, run))

    def _finish(self, run: StackRun) -> None:
        """On the finisher's thread."""
        with messages_for(run.folder):
            run.finish(scheduler=self._cluster.name, threads=self._cluster.threads)
            status, number = run.status(), self._numbers[run.job.token]
            self._outcomes[number] = Outcome(Place(self._places[number].stack, run.folder.path), status, status.error)

    # Stacks, one after the other.

    def _all_chunks(self) -> Iterator[tuple[StackRun, Chunk]]:
        for number, place in enumerate(self._places):
            if self._stopping is not None:
                return
            if is_done(place.folder) and len(self._places) > 1:
                self._outcomes[number] = Outcome(place, done_before=True)
                continue
            run = self._run_of(number, place)
            if run is None:
                continue
            if not len(run.plan):
                self._end(run, State.FINISHED)
            for chunk in run.plan:
                if run.over:
                    break
                yield run, chunk

    def _run_of(self, number: int, place: Place) -> StackRun | None:
        """The run of a stack; None, with an outcome, where it cannot begin."""
        try:
            run = self._begin(place)
        except LivelocError as error:
            if isinstance(error, ClusterFailed):
                raise
            logger.error("%s: %s", place.stack, error)
            self._outcomes[number] = Outcome(place, error=error)
            return None
        self._numbers[run.job.token] = number
        with self._counting:
            self._runs[run.job.token] = run
        return run

    def _begin(self, place: Place) -> StackRun:
        settings = self._settings
        window = (settings.run.start, settings.run.stop, rectangle(settings.run))
        with RecordedSource(place.stack, *window) as source:
            description = source.open()
            known, notes = _calibrated(settings, source, description)
            block = source.block_frames(settings.run.block)
        shape = description.height, description.width
        camera = Camera.from_settings(known, description.camera, shape, description.origin)
        with ExitStack() as closing:
            folder = closing.enter_context(RunFolder.create(of_stack(settings, place, many=len(self._places) > 1)))
            with messages_for(folder):
                for words in notes:
                    logger.warning("%s", words)
                run = self._open_run(place, folder, replace(settings, camera=known), camera, description, block)
            closing.pop_all()
        return run

    def _open_run(
        self,
        place: Place,
        folder: RunFolder,
        settings: Settings,
        camera: Camera,
        description: SourceDescription,
        block: int,
    ) -> StackRun:
        examined = self._examined
        assert examined is not None
        model = examined.description
        workers = max(1, self._slots) if len(self._places) == 1 else 1
        pixels = description.height * description.width
        plan = Plan.of(description.frames or 0, block, model.context, pixels, workers, settings.cluster.chunk)
        job = self._job(place.stack, settings, examined.model.sha256)
        folder.begin(run_facts(examined.model, camera, description))
        recorder = Recorder(folder.log_path, log_metadata(folder.run_id, camera, description, settings))
        logger.info(
            "%s: %d frames in %d chunks, %s on %s, %s",
            description.name,
            plan.frames,
            len(plan),
            model.name,
            examined.model.device,
            self._cluster.name,
        )
        return StackRun(job, plan, model.context[1], folder, recorder)

    def _job(self, stack: Path, settings: Settings, sha256: str = "") -> Job:
        ready = for_workers(settings, self._cluster.threads)
        return Job(uuid.uuid4().hex, self._topic, stack.resolve(), ready, self._open_model, sha256)

    def _examine(self) -> Examined:
        """What the model is. A worker is asked: this computer may not be able to run it. Raises LivelocError."""
        found = _result(self._client.submit(examine, self._job(Path(), self._settings), pure=False))
        if isinstance(found, Failed):
            raise _raised(found, None)
        assert isinstance(found, Examined)
        return found


def _calibrated(
    settings: Settings, source: RecordedSource, description: SourceDescription
) -> tuple[CameraSettings, list[str]]:
    """The camera's settings, estimated where that is asked for, and what the user should know about it."""
    known = settings.camera
    if not known.estimate:
        return known, []
    return estimated_settings(known, description.camera, source.blocks(settings.run.block))


def _result(future: Future[Any]) -> Any:
    """What a task gave. Raises ClusterFailed where the cluster lost it."""
    from distributed import CancelledError, KilledWorker

    try:
        found: Localised | Examined | Failed = future.result()
    except KilledWorker as error:
        raise ClusterFailed(
            f"{error.last_worker.address} was the last of {error.allowed_failures + 1} workers that died over the same "
            "chunk. Likely it takes more memory than a worker has: smaller run.block, smaller run.roi, fewer workers."
        ) from error
    except CancelledError as error:
        raise _lost_connection(error) from error
    except Exception as error:
        raise ClusterFailed(
            f"the cluster could not run liveloc's task: {type(error).__name__}: {error}. Every worker needs the same "
            "liveloc, Python and Dask as this computer."
        ) from error
    return found


def _lost_connection(error: BaseException) -> ClusterFailed:
    return ClusterFailed(
        f"the connection to the cluster's scheduler was lost ({error}), and its work with it. What came before is "
        "recorded; see that the scheduler runs, and run again."
    )


def _raised(failed: Failed, job: Job | None) -> LivelocError:
    """A worker's error as one of this process: of liveloc's own kinds where it is one."""
    kind = getattr(errors, failed.kind, None)
    known = isinstance(kind, type) and issubclass(kind, LivelocError)
    words = failed.message if known else f"{failed.kind}: {failed.message}"
    what = f" on {job.stack}" if job else ""
    hint = " A worker must see stacks and models under the same paths as this computer." if job and known else ""
    text = f"worker {failed.worker} on {failed.host} failed{what}: {words}{hint}"
    return kind(text) if known and kind is not None else ClusterFailed(text)
