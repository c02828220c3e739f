"""One stack on a cluster, from the client's side: its chunks come back in any order and are recorded in theirs."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine.ledger import FrameLedger, gaps, skip
from engine.localisations import LOCALISATION_SCHEMA
from engine.output.recorder import Recorder
from engine.output.run_folder import RunFolder
from engine.scale.plan import Chunk, Plan
from engine.scale.worker import Job, Localised
from engine.status import State, Status

logger = logging.getLogger(__name__)


@dataclass
class Share:
    """What one worker did for a stack."""

    host: str
    runtime: str
    chunks: int = 0
    frames: int = 0
    """Read, with those that were another chunk's."""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    """Of all of its cores."""


class StackRun:
    """A stack, its plan, its run folder. One thread calls; any thread may ask for the figures."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        future: int,
        folder: RunFolder,
        recorder: Recorder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``future`` frames are to come before one can be answered; ``clock`` gives seconds."""
        self.job, self.plan, self.folder = job, plan, folder
        self._future, self._recorder, self._clock = future, recorder, clock
        self._came, self._analysed = FrameLedger(), 0
        self._held: dict[int, Localised] = {}
        """Chunks that came back and wait for an earlier one."""
        self._recorded = 0
        """Chunks that are recorded: the first so many."""
        self._far: dict[int, int] = {}
        """Frames that workers say to have localised, by chunk in hand."""
        self._shares: dict[str, Share] = {}
        self._begun: dict[int, list[str]] = {}
        """Workers that began a chunk, by its index."""
        self._failed: set[int] = set()
        """Chunks of which it is known why they are done again."""
        self._began, self._ended = clock(), 0.0
        self._state, self._reason = State.RUNNING, ""
        self._error: Exception | None = None

    @property
    def over(self) -> bool:
        """Whether no more of its chunks are wanted."""
        return self._state.over

    @property
    def complete(self) -> bool:
        """Whether every chunk is recorded."""
        return self._recorded == len(self.plan)

    @property
    def held(self) -> tuple[int, int]:
        """Chunks that wait for an earlier one, and their bytes."""
        chunks = list(self._held.values())
        return len(chunks), sum(chunk.size for chunk in chunks)

    @property
    def localised(self) -> int:
        """Frames that workers have localised, recorded or not."""
        waiting = sum(_frames(chunk) for chunk in list(self._held.values()))
        return self._came.count + waiting + sum(list(self._far.values()))

    @property
    def furthest(self) -> int:
        """Index of the last chunk that a worker began, -1 before the first."""
        return max(self._begun, default=-1)

    def tell(self, index: int, frames: int, worker: str) -> None:
        """A worker says how far a chunk is; with 0 frames it begins."""
        if index < self._recorded or index in self._held:
            return
        if not frames:
            self._note_begin(index, worker)
        self._far[index] = frames

    def _note_begin(self, index: int, worker: str) -> None:
        earlier = self._begun.setdefault(index, [])
        if earlier and index not in self._failed:
            logger.warning("worker %s was lost; its chunk %d is done again by %s", earlier[-1], index, worker)
        self._failed.discard(index)
        earlier.append(worker)

    def fail(self, index: int, words: str) -> None:
        """A chunk failed on one worker, and another one tries."""
        logger.warning("%s Another worker tries.", words)
        self._failed.add(index)

    def take(self, chunk: Chunk, done: Localised) -> None:
        """A chunk came back: record it, and those that waited for it. Raises RecorderFailed."""
        for words in done.warnings:
            logger.warning("%s", words)
        self._far.pop(chunk.index, None)
        self._count(done)
        self._held[chunk.index] = done
        while self._recorded in self._held:
            self._record(self._held[self._recorded])
            del self._held[self._recorded]
            self._recorded += 1

    def end(self, state: State, error: Exception | None = None, reason: str = "") -> None:
        """No more chunks will be taken; the first call counts."""
        if self.over:
            return
        self._ended = self._clock()
        self._error, self._reason, self._state = error, reason, state
        self._held.clear()
        self._far.clear()
        self._recorder.close()

    def finish(self, **figures: Any) -> None:
        """Write the run's account, tables and picture. ``figures`` go into the account's ``cluster``."""
        self.folder.note("cluster", {**figures, **self._account()})
        self.folder.finish(self.status())
        self.folder.close()

    def abandon(self) -> None:
        """Leave everything as it is, and write down that the run was left."""
        self.folder.__exit__(None, None, None)

    def status(self) -> Status:
        """A snapshot. Any thread."""
        came = self._came.came()
        return Status(
            state=self._state,
            acquired=self._came.count,
            analysed=self._analysed,
            localisations=self._recorder.rows,
            expected=self.plan.frames,
            waiting=(len(self._far), len(self._held)),
            rate_in=0.0,
            rate_out=0.0,
            elapsed=(self._ended or self._clock()) - self._began,
            missing=gaps(came),
            pending=skip(came, self._analysed),
            dropped_sinks=(),
            error=self._error,
            ended_by=self._reason,
        )

    def _record(self, done: Localised) -> None:
        batches = [pa.ipc.read_record_batch(pa.py_buffer(one), LOCALISATION_SCHEMA) for one in done.batches]
        self._recorder.write_together(batches)
        for numbers in done.came:
            self._came.add(np.arange(numbers.start, numbers.stop))
        last = self._recorded + 1 == len(self.plan)
        self._analysed = self._came.count - (0 if last else min(self._future, self._came.streak))

    def _count(self, done: Localised) -> None:
        share = self._shares.setdefault(done.worker, Share(done.host, done.runtime))
        share.chunks += 1
        share.frames += done.read
        share.seconds += done.seconds
        share.processor_seconds += done.processor_seconds
        if len(names := {one.runtime for one in self._shares.values()}) > 1:
            logger.warning(
                "the workers run %s: rows of different workers agree to float tolerance only. Set run.runtime and "
                "run.device so that all run the same.",
                " and ".join(sorted(names)),
            )

    def _account(self) -> dict[str, Any]:
        """What run.json keeps of the work."""
        begun = Counter({index: len(workers) for index, workers in self._begun.items()})
        return {
            "chunks": len(self.plan),
            "chunk_frames": self.plan.chunk * self.plan.block,
            "chunks_recorded": self._recorded,
            "chunks_done_again": sum(times - 1 for times in begun.values()),
            "frames_read": sum(share.frames for share in self._shares.values()),
            "workers": [
                {"address": address, **{name: _rounded(value) for name, value in vars(share).items()}}
                for address, share in sorted(self._shares.items())
            ],
        }


def _rounded(value: str | float) -> str | float:
    return round(value, 3) if isinstance(value, float) else value


def _frames(done: Localised) -> int:
    return sum(map(len, done.came))
