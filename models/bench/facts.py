"""What is measured and counted, as plain values. Nothing here loads torch, so that no runtime's memory is mixed up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

STAGES = ("encode", "attend", "decode", "detect")
COUNTED_AT = 64
"""Height and width of the frames that are simulated, and that costs are counted with [pixels]."""
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Of a number."""
WHOLE = 0.9
"""From this share of the bare network's speed on, the engine holds nothing up."""
NEAR = 1.5
"""Within so many times the time that memory needs, memory is what is waited for."""
HALF = 0.5
"""Share of the matrix products' rate that a network is expected to reach."""


@dataclass(frozen=True)
class Peak:
    """What so many cores do, or a graphics card (``cores`` 0)."""

    cores: int
    products: Mapping[str, float]
    """Large matrix products by precision [FLOP/s]; a multiplication and an addition are two."""
    copy: float
    """Memory that is read and memory that is written, together [B/s]."""


@dataclass(frozen=True)
class Machine:
    """A computer and its peaks."""

    name: str
    """The processor's name, or the graphics card's."""
    device: str
    """cpu or cuda."""
    cores: int
    """Cores that this process may use."""
    torch: str
    """Version that measured."""
    peaks: Sequence[Peak]
    """One core first, then all that compute."""

    @property
    def peak(self) -> Peak:
        """Of all that computes."""
        return self.peaks[-1]


@dataclass(frozen=True)
class Cost:
    """Of one stage, for a pixel of a frame, in fp32."""

    flops: float
    """Multiplications and additions of convolutions, matrix products and attention."""
    least: float
    """Bytes that are moved even if everything in between stays in cache: input, output, and the weights once a call."""
    every: float
    """Bytes where each operation reads what it is given from memory and writes its result there."""
    operations: int
    """Operations in a call that compute or copy; views are none."""

    def floor(self, peak: Peak, precision: str) -> float:
        """The least time that it can take [s]: for its arithmetic, or for its memory, whichever is longer."""
        return max(self.arithmetic(peak, precision), self.memory(peak, precision))

    def arithmetic(self, peak: Peak, precision: str) -> float:
        """Time for the arithmetic alone, at the rate of large matrix products [s]."""
        return self.flops / peak.products[precision]

    def memory(self, peak: Peak, precision: str) -> float:
        """Time for the least bytes at the rate of a copy [s]."""
        return self.least * BYTES[precision] / BYTES["fp32"] / peak.copy

    def spilled(self, peak: Peak, precision: str) -> float:
        """Time for the bytes of every operation at the rate of a copy [s]."""
        return self.every * BYTES[precision] / BYTES["fp32"] / peak.copy


def whole(costs: Mapping[str, Cost]) -> Cost:
    """All stages together."""
    parts = [asdict(cost) for cost in costs.values()]
    return Cost(**{name: sum(part[name] for part in parts) for name in parts[0]})


@dataclass(frozen=True)
class StageTimes:
    """How long the stages of a network take, for a pixel of a frame."""

    model: str
    precision: str
    cores: int
    """0: a graphics card."""
    size: int
    """Height and width of the frames [pixels]."""
    block: int
    """Frames a call."""
    seconds: Mapping[str, float]
    """By stage, and under ``rest`` whatever a call does beside them [s]."""


@dataclass(frozen=True)
class Closeness:
    """How close a stage, or a whole network, comes to what the computer can do; for a pixel of a frame."""

    stage: str
    """Or ``whole``."""
    spent: float
    """Time that it takes [s]."""
    floor: float
    """Time that it cannot go below [s]; of the whole, the sum of its stages'."""
    arithmetic: float
    """Time of its arithmetic at the rate of matrix products [s]."""
    memory: float
    """Time of its least bytes at the rate of a copy [s]."""
    spilled: float
    """Time of every operation's bytes at the rate of a copy [s]."""

    @property
    def of_products(self) -> float:
        """Its arithmetic over what matrix products would do in its time."""
        return self.arithmetic / self.spent

    @property
    def waits_for_memory(self) -> bool:
        """Whether memory alone, at the rate of a copy, explains its time."""
        return self.memory > self.arithmetic and self.spent < NEAR * self.memory


def closeness(times: StageTimes, costs: Mapping[str, Cost], peak: Peak) -> list[Closeness]:
    """Each stage, then the whole."""
    parts = [
        Closeness(
            stage,
            times.seconds[stage],
            cost.floor(peak, times.precision),
            cost.arithmetic(peak, times.precision),
            cost.memory(peak, times.precision),
            cost.spilled(peak, times.precision),
        )
        for stage, cost in costs.items()
    ]
    names = ("floor", "arithmetic", "memory", "spilled")
    sums = {name: sum(getattr(part, name) for part in parts) for name in names}
    return [*parts, Closeness("whole", sum(times.seconds.values()), **sums)]


@dataclass(frozen=True)
class Row:
    """One model on one runtime with frames of one size: what ``output=FILE.json`` holds."""

    model: str
    runtime: str
    """Such as torch-bf16."""
    precision: str
    device: str
    """cpu or cuda."""
    runs_on: str
    """The library, its version and what it really computes on."""
    height: int
    width: int
    block: int
    """Most frames a call."""
    frames_per_second: float
    """Of the whole engine: frames in memory to rows recorded and published."""
    network_frames_per_second: float
    """Of the bare network."""
    live_frames_per_second: float
    """The rate that a live run was fed at."""
    live_delay: float
    """In that run, from the end of a frame's exposure to its rows on disk, median [s]."""
    live_delay_99: float
    """The same, 99th percentile [s]."""
    kept_up: bool
    """Whether only a few blocks waited when its last frame came."""
    memory: int
    """Most memory that the process had taken so far, with smaller frames measured before [B]."""
    device_memory: int
    """The same on the graphics card, by torch's account; 0 without one [B]."""
    of_product: float
    """Arithmetic of the bare network over the rate of large matrix products of the same precision; NaN where the two
    do not run on the same device."""
    bottleneck: str
    """What holds the engine up, in words."""


def share_of_peak(pixels: float, cost: Cost, peak: Peak | None, precision: str) -> float:
    """Arithmetic of a network that works off so many ``pixels`` a second over the rate of large matrix products.

    NaN where the peak is not known.
    """
    return pixels * cost.flops / peak.products[precision] if peak is not None else math.nan


def bottleneck(engine: float, share: float, cost: Cost, peak: Peak | None, precision: str) -> str:
    """What holds a run up, in words. ``engine``: its speed over the bare network's; ``share`` as share_of_peak says."""
    if engine < WHOLE:
        return f"engine, at {engine:.0%} of the network"
    if peak is None:
        return "network"
    arithmetic, memory = cost.arithmetic(peak, precision), cost.memory(peak, precision)
    if memory > arithmetic and arithmetic / share < NEAR * memory:
        return "network, waiting for memory"
    return f"network, at {share:.0%} of the matrix products' rate"
