"""Which runtime and which precision to take: the fastest that this computer has for the model, by a short measurement.

What was found is kept for each computer and model (engine/runtimes/cache.py), so that the next start is quick and
takes the same; so two runs on one computer compute alike.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from config.errors import RuntimeUnavailable
from engine.runtimes.cache import keep, machine, recall
from engine.runtimes.runtime import Runtime

logger = logging.getLogger(__name__)

FRAMES, SIZE = 16, 64
"""Frames of a call, and their height and width, that candidates are timed with [pixels]."""
ENOUGH = 1.0
"""Seconds that one candidate is timed for at most, after a first call; a call that has begun is waited for."""
WORTH_IT = 1.05
"""A candidate must be so many times as fast as one listed before it, which is more exact."""


@dataclass(frozen=True)
class Candidate:
    """A runtime and what it computes in."""

    runtime: str
    """onnx or torch."""
    precision: str
    """fp32, bf16 or fp16."""

    def __str__(self) -> str:
        return f"{self.runtime}-{self.precision}"

    @classmethod
    def named(cls, words: str) -> Candidate:
        """``onnx-fp32`` or ``torch``, which is torch-fp32."""
        runtime, _, precision = words.partition("-")
        return cls(runtime, precision or "fp32")


def candidates(runtime: str, precision: str, forms: Sequence[str], gpu: bool) -> list[Candidate]:
    """What comes into question, the most exact first.

    ``runtime`` and ``precision`` as in settings, either may be auto; ``forms``: runtimes for which there is a file;
    ``gpu``: whether a GPU will compute.
    """
    lower = {"torch": ("bf16", "fp16") if gpu else ("bf16",), "onnx": ("fp16",) if gpu else ()}
    found = [Candidate(name, "fp32") for name in ("onnx", "torch") if name in forms]
    found += [Candidate(name, short) for name in ("torch", "onnx") if name in forms for short in lower[name]]
    if runtime != "auto":
        found = [one for one in found if one.runtime == runtime]
    if precision != "auto":
        found = [one for one in found if one.precision == precision]
    return found


def choose(
    found: Sequence[Candidate], make: Callable[[Candidate], Runtime], about: str
) -> tuple[Candidate, Runtime | None]:
    """The fastest of ``found``, and its runtime where it has just been made.

    ``make`` builds one; a candidate that cannot run here is passed over. ``about``: the model, the device and whatever
    else the speed depends on. Raises RuntimeUnavailable where none runs.
    """
    if len(found) == 1:
        return found[0], None
    key = "|".join([machine(), about, *map(str, found)])
    known = recall(key)
    if isinstance(known, dict) and (kept := Candidate.named(str(known.get("chosen")))) in found:
        return kept, None
    rates, runtimes = _measured(found, make)
    if not rates:
        raise RuntimeUnavailable(
            f"none of {', '.join(map(str, found))} runs here. Run `liveloc doctor`, or name one: run.runtime,"
            " run.precision."
        )
    best = _best(rates)
    keep(key, {"chosen": str(best), "frames_per_second": {str(one): round(rate, 1) for one, rate in rates.items()}})
    rated = ", ".join(f"{one} {rate:.0f}" for one, rate in rates.items())
    logger.info("%s is fastest here (frames of %d × %d pixels in a second: %s)", best, SIZE, SIZE, rated)
    return best, runtimes[best]


def frames_per_second(runtime: Runtime, frames: int = FRAMES, size: int = SIZE, seconds: float = ENOUGH) -> float:
    """Speed of calls of ``frames`` frames of ``size`` × ``size`` pixels: of the fastest call within ``seconds``."""
    window = sum(runtime.description.context)
    photons = np.random.default_rng(0).poisson(20.0, (frames, size, size)).astype(np.float32)
    valid, state = np.ones(window + frames, bool), runtime.blank_state(size, size)
    _, state = runtime.step(photons, state, valid, 0.5)
    best, end = float("inf"), time.monotonic() + seconds
    while True:
        start = time.perf_counter()
        _, state = runtime.step(photons, state, valid, 0.5)
        best = min(best, time.perf_counter() - start)
        if time.monotonic() > end:
            return frames / best


def _measured(
    found: Sequence[Candidate], make: Callable[[Candidate], Runtime]
) -> tuple[dict[Candidate, float], dict[Candidate, Runtime]]:
    rates: dict[Candidate, float] = {}
    runtimes: dict[Candidate, Runtime] = {}
    for one in found:
        try:
            runtimes[one] = make(one)
            rates[one] = frames_per_second(runtimes[one])
        except (RuntimeUnavailable, RuntimeError, ImportError, MemoryError) as error:
            logger.info("%s does not run here: %s", one, error)
    return rates, runtimes


def _best(rates: dict[Candidate, float]) -> Candidate:
    best = next(iter(rates))
    for one, rate in rates.items():
        if rate > WORTH_IT * rates[best]:
            best = one
    return best


@dataclass(frozen=True)
class Wanted:
    """How a model is to be run, as settings say it (RunSettings)."""

    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    compiled: bool = False
    tile: str = "auto"

    def words(self) -> str:
        """What a speed depends on."""
        return repr(asdict(self))
