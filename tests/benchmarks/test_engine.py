"""What the engine costs on top of its network, and whether its cost is flat in the size and the number of frames.

`pytest -s -m benchmark tests/benchmarks/test_engine.py`. Figures go to the terminal as ratios of one run: what is
compared takes turns, and of the turns' ratios the median counts, so that a slow minute strikes both sides.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from acquisition.camera import Camera
from acquisition.source import Frames, Pixels, SourceDescription
from config.compose import compose
from config.schema import Settings
from engine.output.recorder import read_log
from engine.output.run_folder import RunFolder
from engine.runtimes.choice import frames_per_second
from engine.runtimes.runtime import Runtime, calibrated
from engine.session import Session
from engine.status import Status
from engine.streaming import StreamingLocaliser
from models.runtime import open_model
from simulation.dataset import make_simulator

psutil = pytest.importorskip("psutil", reason="psutil is not installed (extra cluster)")
pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

SIZE, BLOCK = 64, 16
SCENE = 128
"""Height, width and number of the frames that are simulated, at a density of 1 /µm²; larger fields repeat them."""
Report = Callable[[str], None]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Writes a line to the terminal, though output is captured."""

    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")

    return write


def settings(*overrides: str) -> Settings:
    return compose(["camera=challenge_emccd", "optics=challenge", "dataset=density_1", "run.formats=[]", *overrides])


@cache
def scene() -> Pixels:
    size = (f"dataset.{name}={SCENE}" for name in ("frames", "height", "width"))
    return np.asarray(make_simulator(settings(*size, "dataset.seed=5")).frames(0, SCENE))


def field_of(size: int, frames: int = SCENE) -> Pixels:
    """(frames, size, size) in ADU; every size has as much light in a pixel."""
    times = -(-size // SCENE)
    return np.tile(scene()[:frames, :size, :size], (1, times, times))[:, :size, :size]


@cache
def camera() -> Camera:
    return Camera.from_settings(settings().camera, {}, (1, 1), (0, 0))


@dataclass
class Memory:
    """A source of frames that lie in memory, again and again."""

    pixels: Pixels
    frames: int
    exposure: float = 5.0
    """Of the times that frames are given [ms]; they come as fast as they are taken."""
    began: float = 0.0
    """When the first frame was asked for, in this process's processor time [s]."""
    _stopped: threading.Event = field(default_factory=threading.Event)

    def open(self) -> SourceDescription:
        _, height, width = self.pixels.shape
        return SourceDescription("memory", height, width, self.pixels.dtype, self.frames, self.exposure)

    def blocks(self, size: int) -> Iterator[Frames]:
        self.began = time.process_time()
        for first in range(0, self.frames, size):
            if self._stopped.is_set():
                return
            numbers = np.arange(first, min(first + size, self.frames))
            yield Frames(self.pixels[numbers % len(self.pixels)], numbers, numbers * self.exposure / 1000)

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class Timed:
    """A runtime that knows how long it took."""

    inner: Runtime
    inside: float = 0.0
    """Seconds in ``step``."""
    ended: float = 0.0
    """When the last call ended, in this process's processor time [s]."""

    @property
    def description(self) -> Any:
        return self.inner.description

    @property
    def name(self) -> str:
        return self.inner.name

    def calibrated(self, camera: Camera) -> Timed:
        self.inner = calibrated(self.inner, camera)
        return self

    def blank_state(self, height: int, width: int) -> Any:
        return self.inner.blank_state(height, width)

    def step(self, photons: Any, state: Any, valid: NDArray[np.bool_], threshold: float) -> Any:
        began = time.perf_counter()
        try:
            return self.inner.step(photons, state, valid, threshold)
        finally:
            self.inside += time.perf_counter() - began
            self.ended = time.process_time()


def analysed(
    source: Memory, runtime: Runtime, folder: Path, live: bool = False, watch: Callable[[Status], None] | None = None
) -> Status:
    """A whole run of the engine. ``live``: published too, with all figures, to a listener in a process of its own."""
    chosen = settings(f"run.output={folder}", f"run.block={BLOCK}", "wire.port=0", "run.memory=4096")
    _, model = open_model(chosen)
    with RunFolder.create(chosen) as kept:
        parts = (chosen, kept, source, source.open(), camera(), runtime, model)
        with Session(*parts, live=live) as session, listening(session):
            status = session.run(watch or (lambda status: None))
        assert status.analysed == source.frames
        assert read_log(kept.log_path).num_rows == status.localisations > 0
    return status


LISTENER = """
import sys
from engine.output.subscriber import Batch, Subscriber
rows, ended = 0, False
with Subscriber(sys.argv[1]) as subscriber:
    while not ended:
        for event in subscriber.poll(0.1):
            if isinstance(event, Batch):
                rows += event.rows.num_rows
            state = getattr(event, "status", {}).get("state")
            ended = state in ("finished", "failed", "stopped") or ended
            if state:
                print(state, flush=True)
"""


@contextmanager
def listening(session: Session) -> Iterator[None]:
    """Somebody who takes all rows that are published, where they are."""
    if session.publisher is None:
        yield
        return
    child = [sys.executable, "-c", LISTENER, session.publisher.endpoint]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(child, stdout=subprocess.DEVNULL, cwd=root) as listener:
        time.sleep(2)  # it loads its libraries before the clock runs
        yield
        listener.terminate()


def bare(runtime: Runtime, photons: NDArray[np.float32], frames: int) -> float:
    """Frames/s of the network alone, in blocks, photons in and rows out."""
    window, size = sum(runtime.description.context), photons.shape[1]
    state, valid = runtime.blank_state(size, size), np.ones(window + BLOCK, bool)
    began = time.perf_counter()
    for first in range(0, frames, BLOCK):
        part = photons[first % len(photons) :][:BLOCK]
        _, state = runtime.step(part, state, valid, 0.45)
    return frames / (time.perf_counter() - began)


def rate(status: Status) -> float:
    return status.analysed / status.elapsed


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


@pytest.mark.parametrize(("size", "frames", "rounds"), [(64, 1280, 5), (256, 256, 3)])
def test_the_engine_against_its_network(size: int, frames: int, rounds: int, tmp_path: Path, report: Report) -> None:
    """Frames in memory to rows on disk, and to rows on disk and on the wire."""
    runtime, _ = open_model(settings())
    pixels = field_of(size)
    photons = camera().to_photons(pixels)
    bare(runtime, photons, 2 * BLOCK)
    rates: dict[str, list[float]] = {"network": [], "recorded": [], "published": []}
    for number in range(rounds):
        rates["network"].append(bare(runtime, photons, frames))
        for name, live in (("recorded", False), ("published", True)):
            source = Memory(pixels, frames, exposure=5.0 * (size / 64) ** 2)
            rates[name].append(rate(analysed(source, runtime, tmp_path / f"{name} {number}", live)))
    alone = rates.pop("network")
    report(f"{size}×{size}, {runtime.name}, blocks of {BLOCK}: network {statistics.median(alone):.1f} frames/s")
    for name, found in rates.items():
        ratios = [one / other for one, other in zip(found, alone, strict=True)]
        report(f"  {name} {statistics.median(found):.1f} frames/s, of the network's {spread(ratios)}, wanted 0.9")
        rates[name] = ratios
    assert min(statistics.median(ratios) for ratios in rates.values()) >= 0.9


def test_what_python_takes_of_a_frame(tmp_path: Path, report: Report) -> None:
    """The engine's time outside of the network's call, and how long a call takes that has almost nothing to compute."""
    runtime, _ = open_model(settings())
    pixels, outside, within = field_of(SIZE), [], []
    for number in range(4):
        timed = Timed(runtime)
        status = analysed(Memory(pixels, 1280), timed, tmp_path / str(number))
        outside.append(1 - timed.inside / status.elapsed)
        empty = BLOCK / frames_per_second(runtime, BLOCK, 8, 0.3)
        within.append(empty / (timed.inside / (1280 / BLOCK + 1)))
    report(f"{SIZE}×{SIZE}, blocks of {BLOCK}, {runtime.name}: outside of the network's call {spread(outside)}")
    report(f"  a call for frames of 8×8 against one for these: {spread(within)}")
    assert statistics.median(outside) < 0.1


def test_cost_is_flat_in_the_size_of_frames(report: Report) -> None:
    """Rate per pixel of the streaming localiser, photons to table, in calls of as many frames as it takes."""
    runtime, _ = open_model(settings())
    sizes = (128, 256, 512, 1024)
    streams = {size: _stream(runtime, size) for size in sizes}
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(3):
        for size, stream in streams.items():
            rates[size].append(next(stream) * size**2 / 1e6)
    report(f"{runtime.name}, millions of pixels a second")
    ratios = {size: [one / other for one, other in zip(rates[size], rates[128], strict=True)] for size in sizes}
    for size in sizes:
        report(f"  {size}×{size}: {statistics.median(rates[size]):.3f}, against 128×128 {spread(ratios[size])}")
    middle = [statistics.median(found) for found in ratios.values()]
    assert max(middle) / min(middle) < 1.15


def _stream(runtime: Runtime, size: int) -> Iterator[float]:
    """Frames/s of as many frames as there are about sixteen million pixels in, again and again.

    After a call that does not count: while other sizes had their turn, a virtual machine's host took back the memory
    that the last one freed, and to get it again took a third of a call's time.
    """
    pixels = field_of(size, 16)
    who = StreamingLocaliser(runtime, camera(), 0.45, block=BLOCK)
    place, calls = 0, max(1, (1 << 24) // (len(pixels) * size**2))
    while True:
        place += len(pixels)
        who.push(_numbered(pixels, place))
        began = time.perf_counter()
        for _ in range(calls):
            place += len(pixels)
            who.push(_numbered(pixels, place))
        yield calls * len(pixels) / (time.perf_counter() - began)


def _numbered(pixels: Pixels, first: int) -> Frames:
    return Frames(pixels, np.arange(first, first + len(pixels)), np.full(len(pixels), np.nan))


def test_cost_is_flat_in_the_number_of_frames(tmp_path: Path, report: Report) -> None:
    """A hundred small frames against a hundred thousand, and the engine's memory on the way.

    In processor time, first frame to last call: other programs strike a run of a tenth of a second at random.
    """
    runtime, _ = open_model(settings("model=small"))
    pixels, resident = field_of(32), list[tuple[int, float]]()
    process = psutil.Process()

    def cost(frames: int, name: str, watch: Callable[[Status], None] | None = None) -> tuple[float, float]:
        """Processor time of a frame [ms], and frames/s."""
        source, timed = Memory(pixels, frames), Timed(runtime)
        status = analysed(source, timed, tmp_path / name, watch=watch)
        return (timed.ended - source.began) / frames * 1e3, rate(status)

    def watch(status: Status) -> None:
        resident.append((status.analysed, process.memory_info().rss / 1e6))

    cost(100, "warm")
    short = [cost(100, f"before {number}") for number in range(11)]
    long = cost(100_000, "long", watch)
    short += [cost(100, f"after {number}") for number in range(11)]
    of_hundred, rate_of_hundred = (statistics.median(column) for column in zip(*short, strict=True))
    report(f"32×32, {runtime.name}: 100 frames {of_hundred:.3f} processor ms a frame, {rate_of_hundred:.0f} frames/s")
    report(f"  100,000 frames {long[0]:.3f} ms (× {long[0] / of_hundred:.3f}), {long[1]:.0f} frames/s")
    for least in (100, 1_000, 10_000, 50_000, 99_000):
        frames, megabytes = next(one for one in resident if one[0] >= least)
        report(f"  after {frames:,} frames {megabytes:.1f} MB")
    early = max(megabytes for frames, megabytes in resident if frames <= 10_000)
    late = max(megabytes for frames, megabytes in resident if frames > 90_000)
    report(f"  most before 10,000 frames {early:.1f} MB, after 90,000 {late:.1f} MB")
    assert late < early + 10
    assert abs(long[0] / of_hundred - 1) < 0.15


@pytest.mark.parametrize("size", [64, 256])
def test_what_the_size_of_a_block_costs(size: int, report: Report) -> None:
    """Frames/s of the streaming localiser by the frames of a call."""
    runtime, _ = open_model(settings())
    pixels, frames = field_of(size, 64), 64 if size == 64 else 16
    rates: dict[int, list[float]] = {1: [], 4: [], 16: [], 64: []}
    streams = {block: _blocks(runtime, pixels, block, max(frames, block)) for block in rates}
    for _ in range(6):
        for block, stream in streams.items():
            rates[block].append(next(stream))
    report(f"{size}×{size}, {runtime.name}: frames/s by frames of a call")
    for block, found in rates.items():
        ratios = [one / other for one, other in zip(found, rates[16], strict=True)]
        report(f"  {block}: {statistics.median(found):.1f}, against 16 {spread(ratios)}")
    assert statistics.median(rates[4]) > 0.5 * statistics.median(rates[16])


def _blocks(runtime: Runtime, pixels: Pixels, block: int, frames: int) -> Iterator[float]:
    """Frames/s of that many frames in blocks, again and again."""
    who = StreamingLocaliser(runtime, camera(), 0.45, block=block)
    who.push(_numbered(pixels[:block], 0))
    place = block
    while True:
        began = time.perf_counter()
        for first in range(0, frames, block):
            who.push(_numbered(pixels[first : first + block], place + first))
        place += frames
        yield frames / (time.perf_counter() - began)
