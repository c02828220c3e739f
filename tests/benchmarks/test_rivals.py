"""Our networks and published ones side by side: the same machinery, threads, frames, precision and rows a frame.

`pytest -s -m benchmark tests/benchmarks/test_rivals.py`. Figures go to the terminal, as ratios of one run: all take
turns, and of the turns' ratios the median counts, so that a slow minute strikes all of them. The networks are
untrained, which speed does not know; each reports as many rows as there are emitters at a density of 1 /µm².

DECODE runs in two ways: ``decode`` streams like all networks here and encodes each frame once, ``decode_published``
does as DECODE's own program (2.0 MFLOP a pixel and frame) and encodes a frame anew for each window that it is in.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from config.compose import compose
from config.schema import TrainingSettings
from engine.runtimes.torch_runtime import TorchRuntime
from models.export import describe
from models.registry import build_network
from models.streaming import StreamStep
from tests.precisions import PRECISIONS

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

THREADS, SIZE, ROWS = 2, 64, 41
"""Of frames of 64 × 64 pixels of 100 nm."""
ROUNDS, TURN = 7, 0.7
"""A turn is as many calls as take so many seconds, and one at least."""
BLOCKS = (16, 32, 64)
"""Frames a call that are tried; each network takes its best one."""
PUBLISHED = "_published"
Report = Callable[[str], None]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Writes a line to the terminal, though output is captured."""

    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")

    return write


def encoded_for_each_window(stage: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """A stage of DECODE as its own program runs it: each frame is in three windows."""

    def thrice(*inputs: Any) -> Any:
        run(*inputs)
        run(*inputs)
        return run(*inputs)

    return thrice if stage == "encode" else run


class Runner:
    """A network that streams noise."""

    def __init__(self, name: str, precision: str) -> None:
        settings = compose([f"network={name.removesuffix(PUBLISHED)}"]).network
        torch.manual_seed(0)
        module = StreamStep(build_network(settings))
        if name.endswith(PUBLISHED):
            module.wrap_stages(encoded_for_each_window)
        described = describe(settings, TrainingSettings(), 0, name)
        self.name, self.rates = name, list[float]()
        self.runtime = TorchRuntime(module, described, "cpu", THREADS, precision)
        self._window = sum(described.context)
        self._threshold = 0.0
        self._state = self.runtime.blank_state(SIZE, SIZE)
        self.block = 8
        self._threshold = self._found()
        self.block = self._best()

    def turn(self) -> None:
        """Note the frames/s of one turn."""
        self.rates.append(self._rate(TURN))

    def _step(self) -> tuple[float, NDArray[np.float32]]:
        """Seconds of a call, and its rows."""
        frames = np.random.default_rng(self.block).poisson(20.0, (self.block, SIZE, SIZE)).astype(np.float32)
        valid = np.ones(self._window + self.block, bool)
        began = time.perf_counter()
        rows, self._state = self.runtime.step(frames, self._state, valid, self._threshold)
        return time.perf_counter() - began, rows

    def _rate(self, seconds: float) -> float:
        """Frames/s of calls that take ``seconds`` together, or of one that takes longer."""
        spent = [self._step()[0]]
        while sum(spent) < seconds:
            spent.append(self._step()[0])
        return self.block * len(spent) / sum(spent)

    def _found(self) -> float:
        """The threshold above which ROWS rows a frame are reported."""
        self._step()
        probability = self._step()[1][:, self.runtime.description.columns.index("probability")]
        return float(np.sort(probability)[-ROWS * self.block])

    def _best(self) -> int:
        rates = dict[int, float]()
        for self.block in BLOCKS:
            self._rate(0)
            rates[self.block] = self._rate(TURN)
        return max(rates, key=lambda block: rates[block])


@dataclass(frozen=True)
class Bar:
    """One network must be so many times as fast as another."""

    fast: str
    slow: str
    times: float


BARS = (
    Bar("default", "decode_published", 5),
    Bar("default", "decode", 1),
    Bar("default", "liteloc", 2),
    Bar("default", "seed_v2", 30),
    Bar("small", "default", 2.5),
)


def raced(names: Sequence[str], precision: str, rounds: int) -> dict[str, Runner]:
    """Those networks after so many turns each."""
    runners = {name: Runner(name, precision) for name in names}
    for _ in range(rounds):
        for runner in runners.values():
            runner.turn()
    return runners


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bar", BARS, ids=lambda bar: f"{bar.fast}-{bar.slow}")
def test_networks_side_by_side(bar: Bar, precision: str, report: Report) -> None:
    runners = raced((bar.fast, bar.slow), precision, ROUNDS)
    fast, slow = runners[bar.fast], runners[bar.slow]
    ratios = [one / other for one, other in zip(fast.rates, slow.rates, strict=True)]
    figures = ", ".join(
        f"{runner.name} {statistics.median(runner.rates):.1f} frames/s in blocks of {runner.block}"
        for runner in (fast, slow)
    )
    report(
        f"{precision}, {THREADS} threads, {SIZE}×{SIZE}: {figures}: × {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}), wanted × {bar.times:g}"
    )
    assert statistics.median(ratios) >= bar.times
