"""The speed of one model on one runtime: the bare network, the engine around it, and the delay of a live run.

Runs in a process of its own, and loads torch only where that is the runtime.
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from acquisition.camera import Camera
from acquisition.source import Pixels
from config.schema import Settings
from engine.output.run_folder import RunFolder
from engine.runtimes.runtime import Runtime
from engine.session import Session
from engine.status import Status
from engine.streaming import PIXELS_A_CALL
from models.bench.apart import Send
from models.bench.facts import Row, bottleneck, share_of_peak
from models.bench.feed import Feed, Hungry, MemorySource, Steady
from models.bench.jobs import Job
from models.bench.memory import peak_memory
from models.runtime import open_model

LOAD = 0.8
"""A live run is fed at so much of the rate that the engine reaches."""
BLOCKS = 4
"""A run is at least so many blocks long."""
HELD = 1 << 25
"""Pixels of all frames in memory, about."""


Given = TypeVar("Given", bound=Feed)


def measure(job: Job, send: Send) -> None:
    """Send what is being measured, in words, and a Row for each of bench.sizes, the smallest first."""
    run = replace(job.settings.run, runtime=job.candidate.runtime, precision=job.candidate.precision)
    settings = replace(job.settings, run=run, model=str(job.path))
    runtime, path = open_model(settings)
    for size in sorted(settings.bench.sizes):
        send(f"{job.name} on {job.candidate}, {size} × {size}")
        bench = _Bench(job, settings, runtime, path, laid(np.load(job.frames), size))
        send(bench.row())


def laid(frames: Pixels, size: int) -> Pixels:
    """Frames of ``size`` × ``size`` pixels: smaller ones side by side. As many as memory should hold."""
    count = max(1, min(len(frames), HELD // size**2))
    times = -(-size // frames.shape[1])
    return np.ascontiguousarray(np.tile(frames[:count], (1, times, times))[:, :size, :size])


class _Bench:
    """One model on one runtime with frames of one size."""

    def __init__(self, job: Job, settings: Settings, runtime: Runtime, path: Path, pixels: Pixels) -> None:
        self._job, self._runtime, self._path, self._pixels = job, runtime, path, pixels
        self._shape, self._seconds = pixels.shape[1:], settings.bench.seconds
        self._block = max(1, min(settings.run.block, PIXELS_A_CALL // pixels[0].size, len(pixels)))
        wire = replace(settings.wire, port=0)
        run = replace(settings.run, block=self._block, formats=[], image_pixel=1000.0)
        self._settings = replace(settings, run=run, wire=wire)
        self._camera = Camera.from_settings(settings.camera, {}, self._shape, (0, 0))

    def row(self) -> Row:
        """Everything of it. The network is timed before and after the engine, so that a slow moment strikes both."""
        network = _Network(self._runtime, self._camera.to_photons(self._pixels[: self._block]))
        network.run(self._seconds / 2)
        expected = network.rate
        engine = self._engine(expected)
        network.run(self._seconds / 2)
        live, status, kept_up = self._live(engine)
        delay, height, width = status.delay_run, *self._shape
        device = device_of(self._runtime)
        machine, candidate, pixels = self._job.machine, self._job.candidate, height * width
        peak = machine.peak if machine.device == device else None
        share = share_of_peak(network.rate * pixels, self._job.cost, peak, candidate.precision)
        return Row(
            model=self._job.name,
            runtime=str(candidate),
            precision=candidate.precision,
            device=device,
            runs_on=self._runtime.name,
            height=height,
            width=width,
            block=self._block,
            frames_per_second=engine,
            network_frames_per_second=network.rate,
            live_frames_per_second=live,
            live_delay=delay.median if delay else math.nan,
            live_delay_99=delay.p99 if delay else math.nan,
            kept_up=kept_up,
            memory=peak_memory(),
            device_memory=_device_memory(),
            of_product=share,
            bottleneck=bottleneck(engine / network.rate, share, self._job.cost, peak, candidate.precision),
        )

    def _engine(self, expected: float) -> float:
        """Frames a second of a live run that always has frames waiting, published and recorded."""
        future = self._runtime.description.context[1]

        def feed(status: Callable[[], Status]) -> Hungry:
            return Hungry(status, self._block, future, time.perf_counter)

        return self._run(expected, feed)[0].rate

    def _live(self, engine: float) -> tuple[float, Status, bool]:
        """Rate and status of a live run that is fed steadily, and whether it kept up."""
        rate = LOAD * engine
        feed, status = self._run(rate, lambda status: Steady(status, 1 / rate))
        return rate, status, feed.lag <= BLOCKS * self._block + self._runtime.description.context[1]

    def _run(self, rate: float, make: Callable[[Callable[[], Status]], Given]) -> tuple[Given, Status]:
        """Run the engine at about ``rate`` in a folder that is thrown away."""
        frames = max(round(rate * self._seconds), BLOCKS * self._block) + self._runtime.description.context[1]
        sessions = list[Session]()

        def status() -> Status:
            return sessions[0].pipeline.status()

        feed = make(status)
        with tempfile.TemporaryDirectory(prefix="liveloc-bench-") as folder:
            settings = replace(self._settings, run=replace(self._settings.run, output=str(Path(folder) / "run")))
            source = MemorySource(self._pixels, frames, 1 / rate, feed)
            with RunFolder.create(settings) as kept:
                parts = (settings, kept, source, source.open(), self._camera, self._runtime, self._path)
                with Session(*parts, live=True) as session:
                    sessions.append(session)
                    return feed, session.run(_nobody_watches)


class _Network:
    """The bare network, timed in several stretches that count together."""

    def __init__(self, runtime: Runtime, photons: NDArray[np.float32]) -> None:
        self._runtime, self._photons = runtime, photons
        self._valid = np.ones(sum(runtime.description.context) + len(photons), bool)
        self._state = runtime.blank_state(*photons.shape[1:])
        self._frames, self._spent = 0, 0.0
        self._call()

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self._frames / self._spent

    def run(self, seconds: float) -> None:
        """Call it for so long, at least once."""
        began = time.perf_counter()
        while True:
            self._call()
            self._frames += len(self._photons)
            spent = time.perf_counter() - began
            if spent >= seconds:
                break
        self._spent += spent

    def _call(self) -> None:
        _, self._state = self._runtime.step(self._photons, self._state, self._valid, 0.5)


def _nobody_watches(status: Status) -> None:
    """The engine's figures are taken at its end."""


def device_of(runtime: Runtime) -> str:
    """Cpu or cuda: what really computes."""
    return "cuda" if re.search("cuda|tensorrt", runtime.name, re.IGNORECASE) else "cpu"


def _device_memory() -> int:
    """Most memory that torch has taken on a graphics card."""
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated()) if torch is not None and torch.cuda.is_available() else 0
