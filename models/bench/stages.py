"""How long each stage of a network takes while it streams, on torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.runtimes.runtime import usable_cores
from engine.runtimes.torch_runtime import TorchRuntime
from models.bench.facts import STAGES, StageTimes
from models.export import build_step

TOGETHER = (("encode",), ("attend",), ("decode", "detect"))
"""Stages whose parts run side by side; a call waits for all of one before it begins the next."""
CALLS = 3
"""A call is timed at least so often."""

Spans = list[tuple[str, float, float]]
"""Stage, begin and end of each part of a call [s]."""


class _Watch:
    """Notes when each part of a stage begins and ends, on whatever thread."""

    def __init__(self, device: str) -> None:
        self._spans: Spans = []
        self._lock, self._device = Lock(), device

    def around(self, name: str, stage: Any) -> Callable[..., Any]:
        """The stage, timed."""

        def timed(*given: Any) -> Any:
            began = self._now()
            result = stage(*given)
            ended = self._now()
            with self._lock:
                self._spans.append((name, began, ended))
            return result

        return timed

    def taken(self) -> Spans:
        """What was noted since the last time."""
        with self._lock:
            spans, self._spans = self._spans, []
        return spans

    def _now(self) -> float:
        if self._device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def shared_out(spans: Spans, whole: float) -> dict[str, float]:
    """Seconds of a call by stage, and ``rest`` of the ``whole`` call.

    Stages that run side by side share the time from the first's begin to the last's end as they were at work in it.
    """
    stages: list[str] = [*STAGES, "rest"]
    seconds, left = dict.fromkeys(stages, 0.0), whole
    for names in TOGETHER:
        parts = [part for part in spans if part[0] in names]
        if not parts:
            continue
        lasted = max(end for *_, end in parts) - min(begin for _, begin, _ in parts)
        busy = sum(end - begin for _, begin, end in parts)
        for name, begin, end in parts:
            seconds[name] += lasted * (end - begin) / busy
        left -= lasted
    return {**seconds, "rest": max(0.0, left)}


def measure_stages(
    path: Path,
    name: str,
    device: str,
    precision: str,
    threads: int | None,
    photons: NDArray[np.float32],
    seconds: float,
) -> StageTimes:
    """Times of the stages with frames ``photons`` (T, H, W) a call, after warming up: of the median call.

    ``path`` of a .safetensors model file.
    """
    module, description = build_step(path)
    watch = _Watch(device)
    module.wrap_stages(watch.around)
    runtime = TorchRuntime(module, description, device, threads, precision)
    calls = _calls(runtime, photons, watch, seconds)
    middle = sorted(calls, key=lambda call: sum(call.values()))[len(calls) // 2]
    cores = 0 if device == "cuda" else threads or usable_cores()
    pixels = {stage: spent / photons.size for stage, spent in middle.items()}
    return StageTimes(name, precision, cores, photons.shape[1], len(photons), pixels)


def _calls(
    runtime: TorchRuntime, photons: NDArray[np.float32], watch: _Watch, seconds: float
) -> list[Mapping[str, float]]:
    valid = np.ones(sum(runtime.description.context) + len(photons), bool)
    _, state = runtime.step(photons, runtime.blank_state(*photons.shape[1:]), valid, 0.5)
    watch.taken()
    calls, end = list[Mapping[str, float]](), time.perf_counter() + seconds
    while len(calls) < CALLS or time.perf_counter() < end:
        began = time.perf_counter()
        _, state = runtime.step(photons, state, valid, 0.5)
        calls.append(shared_out(watch.taken(), time.perf_counter() - began))
    return calls
