"""What a running pipeline tells of itself: its state, and a frozen snapshot of its figures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from engine.delay import Delay
from engine.ledger import Ranges, count, numbers_of, union


class State(Enum):
    """Where a pipeline stands."""

    IDLE = "idle"
    """Not started."""
    RUNNING = "running"
    """Frames come."""
    STOPPING = "stopping"
    """No more frames are taken; those that came are worked off."""
    FINISHED = "finished"
    """The source came to its end, and every frame that came was analysed."""
    STOPPED = "stopped"
    """Stopped on request; every frame that came was analysed."""
    FAILED = "failed"
    """An error ended it."""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.FINISHED, State.STOPPED, State.FAILED)


@dataclass(frozen=True)
class Mark:
    """A word that somebody put into a run."""

    text: str
    frame: int | None
    """Newest frame at that moment, None before the first."""
    seconds: float
    """Since the start of the run [s]."""
    time: str
    """Time of day, ISO 8601 in UTC."""


@dataclass(frozen=True)
class Status:
    """A snapshot."""

    state: State
    acquired: int
    """Frames that came from the source."""
    analysed: int
    """Frames whose localisations are decided and recorded."""
    localisations: int
    """Localisations that the recorder has taken."""
    expected: int | None
    """Frames that the source announced, if it did."""
    waiting: tuple[int, int]
    """Blocks that wait for inference, and batches that wait for the recorder."""
    rate_in: float
    """Frames acquired per second, over the last seconds."""
    rate_out: float
    """Frames analysed per second, over the last seconds."""
    elapsed: float
    """Seconds since the start, up to the end of the run."""
    missing: Ranges
    """Numbers between the first and the last frame that never came from the source."""
    pending: Ranges
    """Numbers of frames that came and are not analysed: yet, or, once the run has failed, never."""
    dropped_sinks: tuple[str, ...]
    """Sinks that failed and were dropped, with their errors."""
    error: Exception | None
    """What ended the run."""

    skipped_behind: Ranges = ()
    """Numbers of frames that came and were given up because inference was too slow (run.policy=newest)."""
    skipped_paused: Ranges = ()
    """Numbers of frames that came while the run was paused."""
    spooled_frames: int = 0
    """Frames that wait on disk for inference."""
    spooled_bytes: int = 0
    """Size of the spool's files."""
    delay: Delay | None = None
    """From a frame taken to its localisations recorded, over the last seconds; None where none was."""
    delay_run: Delay | None = None
    """The same over the whole run."""
    paused: bool = False
    """Whether frames that come are skipped, on request."""
    marks: tuple[Mark, ...] = ()
    """Marks so far."""
    ended_by: str = ""
    """Why the run was stopped, or which limit ended it; empty for the source's own end and a stop without a reason."""

    @property
    def skipped(self) -> Ranges:
        """Numbers of all frames that came and were not to be analysed."""
        return union(self.skipped_behind, self.skipped_paused)

    @property
    def lag(self) -> int:
        """Frames that came and are not yet analysed, though they will be."""
        return self.acquired - self.analysed - count(self.skipped_behind) - count(self.skipped_paused)

    @property
    def frames_per_second(self) -> float:
        """Frames analysed per second since the start."""
        return self.analysed / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def end_reason(self) -> str:
        """``running``, ``finished`` or ``stopped`` (with what ended it behind a colon, if known), ``failed: why``."""
        if self.state is State.FAILED:
            return f"failed: {self.error or 'unknown'}"
        if not self.state.over:
            return "running"
        return f"{self.state.value}: {self.ended_by}" if self.ended_by else self.state.value

    def figures(self) -> dict[str, Any]:
        """The snapshot as a flat dictionary of plain values, for messages to other programs. Times in seconds."""
        return {
            "state": self.state.value,
            "acquired": self.acquired,
            "analysed": self.analysed,
            "localisations": self.localisations,
            "expected": self.expected,
            "lag": self.lag,
            "waiting_blocks": self.waiting[0],
            "waiting_batches": self.waiting[1],
            "rate_in": round(self.rate_in, 2),
            "rate_out": round(self.rate_out, 2),
            "elapsed": round(self.elapsed, 3),
            "missing": count(self.missing),
            "skipped": count(self.skipped),
            "spooled_frames": self.spooled_frames,
            "spooled_bytes": self.spooled_bytes,
            "delay_median": self.delay and round(self.delay.median, 4),
            "delay_p99": self.delay and round(self.delay.p99, 4),
            "paused": self.paused,
            "marks": len(self.marks),
            "dropped_sinks": list(self.dropped_sinks),
            "end_reason": self.end_reason,
        }

    def not_analysed(self) -> list[int]:
        """Every frame number that this run owes an answer for: those that never came, and those still pending."""
        return numbers_of(self.missing, self.pending)


class RateMeter:
    """Counts per second over a window of time. One thread counts, any thread asks."""

    def __init__(self, clock: Callable[[], float], window: float = 3.0) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._window = window
        self._marks: deque[tuple[float, int]] = deque()
        self._latest = (clock(), 0.0)

    def count(self, total: int) -> None:
        """Note the total so far."""
        now = self._clock()
        self._marks.append((now, total))
        while len(self._marks) > 2 and now - self._marks[0][0] > self._window:
            self._marks.popleft()
        first, before = self._marks[0]
        self._latest = now, ((total - before) / (now - first) if now > first else 0.0)

    def rate(self) -> float:
        """Per second; 0 where nothing was counted for a whole window."""
        when, rate = self._latest
        return rate if self._clock() - when <= self._window else 0.0
