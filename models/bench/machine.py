"""What the computer itself can do: large matrix products and copies of memory, by one core and by all."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

from engine.runtimes.cache import processor
from engine.runtimes.runtime import usable_cores
from engine.runtimes.torch_runtime import TYPES
from models.bench.facts import Machine, Peak

SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices."""
COPIED = {"cpu": 1 << 27, "cuda": 1 << 30}
"""Bytes that are copied: more than any cache holds."""
WINDOWS = 3
"""The best of so many measurements counts: a peak is what nothing else held up."""

Work = Callable[[], object]


def measure_machine(device: str, seconds: float, precisions: tuple[str, ...], threads: int | None = None) -> Machine:
    """Peaks of ``device``, cpu or cuda. ``seconds`` for each figure; ``threads``: as run.threads."""
    cores = usable_cores()
    counts = [0] if device == "cuda" else sorted({1, threads or cores})
    peaks = tuple(_peak(device, count, seconds, precisions) for count in counts)
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    return Machine(name, device, cores, torch.__version__, peaks)


def _peak(device: str, cores: int, seconds: float, precisions: tuple[str, ...]) -> Peak:
    side, workers = SIDE[device], max(1, cores)
    products = {name: _products_a_second(device, name, workers, seconds) * 2.0 * side**3 for name in precisions}
    copied = COPIED[device] // workers
    return Peak(cores, products, 2.0 * copied * _rate(lambda: _copy(device, copied), workers, seconds))


def _products_a_second(device: str, precision: str, workers: int, seconds: float) -> float:
    return _rate(lambda: _product(device, SIDE[device], TYPES[precision]), workers, seconds)


def _product(device: str, side: int, kind: torch.dtype) -> Work:
    first, second = (torch.rand(side, side, device=device).to(kind) for _ in range(2))
    result = torch.empty_like(first)
    return lambda: torch.mm(first, second, out=result)


def _copy(device: str, size: int) -> Work:
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source)


def _rate(make: Callable[[], Work], workers: int, seconds: float) -> float:
    """How often a second the works of all ``workers`` are done, each in a thread of its own with memory of its own."""
    together = Barrier(workers)

    def one() -> list[float]:
        work = make()
        work()
        rates = []
        for _ in range(WINDOWS):
            together.wait()
            rates.append(repeated(work, seconds / WINDOWS))
        return rates

    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        rates = [future.result() for future in [pool.submit(one) for _ in range(workers)]]
    return max(map(sum, zip(*rates, strict=True)))


def repeated(work: Work, seconds: float) -> float:
    """How often a second ``work`` is done; the last time may end late."""
    times, began = 0, time.perf_counter()
    while True:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times += 1
        spent = time.perf_counter() - began
        if spent >= seconds:
            return times / spent
