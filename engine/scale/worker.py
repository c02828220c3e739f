"""What a worker of a cluster does: it opens the stack, loads the model once, localises a chunk and gives its rows.

These functions run in the worker's process, on its task thread. What goes wrong comes back as a value that names the
worker, so that the user reads a sentence and not the traceback of another computer.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from acquisition.camera import Camera
from acquisition.recorded import RecordedSource, rectangle
from acquisition.source import SourceDescription
from config.errors import ModelFileInvalid
from config.schema import Settings
from engine.domain_check import DomainCheck
from engine.facts import model_used
from engine.ledger import FrameLedger, Ranges
from engine.observer import ObservedLocaliser
from engine.output.run_folder import PACKAGES, ModelUsed
from engine.runtimes.model_file import ModelDescription
from engine.runtimes.resilient import ResilientRuntime
from engine.runtimes.runtime import Runtime
from engine.scale.gpu import claim_gpu
from engine.scale.plan import Chunk
from engine.streaming import StreamingLocaliser

OpenModel = Callable[[Settings], tuple[Runtime, Path]]
"""Loads the model that settings name, and tells its file. A function of a module that the workers can import."""
Tell = Callable[[int], None]
"""Takes how many frames of the chunk are localised so far."""

TELL_EVERY = 1.0
"""Least time between two words on how far a chunk is [s]."""


@dataclass(frozen=True)
class Job:
    """A stack to localise, as a worker needs to know it. Paths are absolute: workers must see the same files."""

    token: str
    """Names the job among all of a cluster."""
    topic: str
    """Under which workers tell the client how far they are."""
    stack: Path
    settings: Settings
    """Complete: what was to be estimated of the camera is."""
    open_model: OpenModel
    sha256: str
    """Of the model file that every worker must run."""


@dataclass(frozen=True)
class Localised:
    """What a worker made of a chunk."""

    batches: list[bytes]
    """Arrow messages: one a block that gave rows, as an undivided run would record them."""
    came: Ranges
    """Frames whose blocks are the chunk's own."""
    read: int
    """Frames read, with those that another chunk answers."""
    worker: str
    """Address."""
    host: str
    runtime: str
    """What ran, for people."""
    seconds: float
    processor_seconds: float
    """Of all cores, for this process."""
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of its rows."""
        return sum(map(len, self.batches))


@dataclass(frozen=True)
class Examined:
    """What a worker finds of the model before the first frame."""

    model: ModelUsed
    description: ModelDescription
    host: str


@dataclass(frozen=True)
class Failed:
    """What went wrong on a worker, in words that travel."""

    worker: str
    host: str
    kind: str
    """Name of the error's class."""
    message: str
    trace: str


def examine(job: Job) -> Examined | Failed:
    """Load the model, as ``localise`` will, and say what it is."""
    with _Context() as context:
        try:
            loaded = _load(job)
            return Examined(loaded.used, loaded.runtime.description, context.host)
        except Exception as error:  # noqa: BLE001 (it travels as a value)
            return context.failed(error)


def localise(job: Job, chunk: Chunk) -> Localised | Failed:
    """Localise one chunk of a stack. Called by the cluster."""
    with _Context() as context:
        try:
            return _localise(job, chunk, context)
        except Exception as error:  # noqa: BLE001 (it travels as a value)
            return context.failed(error)


def release() -> None:
    """Close the stacks that this process holds open, and forget its models. While no task runs."""
    with _lock:
        for opened in _opened.values():
            opened.source.close()
        _opened.clear()
        _loaded.clear()


def _localise(job: Job, chunk: Chunk, context: _Context) -> Localised:
    begun, used = time.perf_counter(), time.process_time()
    context.tell(job.topic, (job.token, chunk.index, 0))
    with _kept_warnings() as warnings:
        loaded, opened = _load(job), _open(job)
        if loaded.used.sha256 != job.sha256:
            raise ModelFileInvalid(
                f"the model file {loaded.used.path} of this worker is another than the first worker's. Give all of "
                "them the same file: the same version of liveloc for a shipped model, a shared folder for one of yours."
            )
        part = _Part(job, chunk, loaded.runtime, opened, _Telling(context, job, chunk))
        batches = [batch.serialize().to_pybytes() for batch in part.rows() if batch.num_rows]
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    return Localised(
        batches,
        part.came.came(),
        part.read,
        context.address,
        context.host,
        loaded.runtime.name,
        seconds,
        used,
        tuple(warnings),
    )


class _Part:
    """One chunk on its way through the network."""

    def __init__(self, job: Job, chunk: Chunk, runtime: Runtime, opened: _Opened, tell: Tell) -> None:
        self._chunk, self._block, self._tell = chunk, job.settings.run.block, tell
        self._source = opened.source
        run, origin = job.settings.run, opened.description.origin
        fallback = _fallback(job) if run.cpu_fallback else None
        streaming = StreamingLocaliser(
            ResilientRuntime(runtime, fallback), opened.camera, run.threshold, origin, run.block
        )
        check = DomainCheck(runtime.description, opened.camera, job.settings.optics.psf_sigma, origin)
        self._localiser = ObservedLocaliser(streaming, [check] if chunk.index == 0 else [])
        self.came = FrameLedger()
        """Frames of the chunk's own blocks."""
        self.read = 0
        """Frames read."""

    def rows(self) -> Iterator[pa.RecordBatch]:
        """What each of the chunk's own blocks answers; at the end of the stack, what still waited for a future."""
        chunk = self._chunk
        for place, frames in enumerate(self._source.some_blocks(self._block, chunk.warm, chunk.stop), chunk.warm):
            batch = self._localiser.push(frames)
            self.read += len(frames)
            if place >= chunk.first:
                self._count(frames.numbers)
                yield batch
        if chunk.last:
            yield self._localiser.flush()
        elif chunk.index == 0:
            self._localiser.flush()  # so that a check of the model that waits for more frames is made with these

    def _count(self, numbers: NDArray[np.int64]) -> None:
        self.came.add(numbers)
        self._tell(self.came.count)


def _fallback(job: Job) -> Callable[[], Runtime]:
    """How to go on without the GPU; see Session."""
    on_processor = replace(job.settings, run=replace(job.settings.run, device="cpu"))
    return lambda: job.open_model(on_processor)[0]


class _Telling:
    """Tells the client how far a chunk is, now and then."""

    def __init__(self, context: _Context, job: Job, chunk: Chunk) -> None:
        self._context, self._job, self._chunk = context, job, chunk
        self._next = time.monotonic() + TELL_EVERY

    def __call__(self, frames: int) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + TELL_EVERY
            self._context.tell(self._job.topic, (self._job.token, self._chunk.index, frames))


class _Context:
    """Where a task runs: on a worker, or plainly in a process, as tests do."""

    def __init__(self) -> None:
        from distributed import get_worker

        self.host = socket.gethostname()
        try:
            self._worker: Any = get_worker()
            self.address: str = self._worker.address
        except ValueError:
            self._worker, self.address = None, "this process"

    def tell(self, topic: str, message: tuple[str, int, int]) -> None:
        """Send a few words to the client."""
        if self._worker is not None:
            self._worker.log_event(topic, (*message, self.address))

    def failed(self, error: Exception) -> Failed:
        """The error as a value."""
        trace = "".join(traceback.format_exception(error))
        return Failed(self.address, self.host, type(error).__name__, str(error) or type(error).__name__, trace)

    def __enter__(self) -> _Context:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker = None


# What a worker keeps from task to task.


@dataclass(frozen=True, eq=False)
class _Loaded:
    runtime: Runtime
    used: ModelUsed


@dataclass(frozen=True, eq=False)
class _Opened:
    token: str
    source: RecordedSource
    description: SourceDescription
    camera: Camera


_lock = threading.Lock()
_loaded: dict[tuple[Any, ...], _Loaded] = {}
"""The model that was used last, by what makes it another."""
_opened: dict[int, _Opened] = {}
"""The stack that each thread of this process reads. One each: a file has one place at which it is read."""


def _load(job: Job) -> _Loaded:
    """The model: loaded once, on a card of this worker's own where there are several."""
    run = job.settings.run
    how = (run.runtime, run.precision, run.device, run.threads, run.compile, run.tile)
    key = (job.settings.model, *how, job.open_model)
    with _lock:
        if key not in _loaded:
            _loaded.clear()
            if run.device != "cpu":
                claim_gpu()
            runtime, file = job.open_model(job.settings)
            _loaded[key] = _Loaded(_OneAtATime(runtime), model_used(runtime, file))
        return _loaded[key]


def _open(job: Job) -> _Opened:
    """The stack: its index may be long, so it is read once for all of its chunks."""
    thread = threading.get_ident()
    with _lock:
        before = _opened.get(thread)
    if before is not None and before.token == job.token:
        return before
    if before is not None:
        before.source.close()
    run = job.settings.run
    source = RecordedSource(job.stack, run.start, run.stop, rectangle(run))
    description = source.open()
    try:
        shape = description.height, description.width
        camera = Camera.from_settings(job.settings.camera, description.camera, shape, description.origin)
    except Exception:
        source.close()
        raise
    with _lock:
        _opened[thread] = _Opened(job.token, source, description, camera)
        return _opened[thread]


class _OneAtATime:
    """A Runtime that the several threads of a worker share: one computes while another reads."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._turn = runtime, threading.Lock()

    @property
    def description(self) -> ModelDescription:
        """See Runtime.description."""
        return self._runtime.description

    @property
    def name(self) -> str:
        """See Runtime.name."""
        return self._runtime.name

    def blank_state(self, height: int, width: int) -> Any:
        """See Runtime.blank_state."""
        with self._turn:
            return self._runtime.blank_state(height, width)

    def step(
        self, photons: NDArray[np.float32], state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        """See Runtime.step."""
        with self._turn:
            return self._runtime.step(photons, state, valid, threshold)


@contextmanager
def _kept_warnings() -> Iterator[list[str]]:
    """What liveloc warns of on this thread meanwhile, each text once. Nothing is printed on the worker."""
    kept = _Keeper(threading.get_ident())
    packages = [logging.getLogger(name) for name in PACKAGES]
    for package in packages:
        package.addHandler(kept)
    try:
        yield kept.texts
    finally:
        for package in packages:
            package.removeHandler(kept)


class _Keeper(logging.Handler):
    def __init__(self, thread: int) -> None:
        super().__init__(logging.WARNING)
        self._thread = thread
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.thread == self._thread and text not in self.texts:
            self.texts.append(text)
