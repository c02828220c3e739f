"""An engine for the window's tests: a real recorder and publisher, with localisations of known places and no camera."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from config.errors import RunError
from config.schema import WireSettings
from engine.output.publisher import Publisher
from engine.output.recorder import Recorder
from engine.output.table import describe_field
from tests.viewer.localisations import batch_of
from viewer.files import LOG, REPORT

PIXEL, SIDE = 100.0, 128
"""Camera pixel [nm] and pixels of a side."""
FIELD = PIXEL * SIDE
"""[nm]."""
FILAMENTS = 24


def filaments(rows: int, seed: int, first_frame: int = 0, per_frame: float = 40.0) -> pa.RecordBatch:
    """Localisations on curved lines that are the same in every call, frames going on from ``first_frame``."""
    shape, rng = np.random.default_rng(7), np.random.default_rng(seed)
    angle, x0, y0, bend = (shape.uniform(low, high, FILAMENTS) for low, high in ((0, np.pi), (0, 1), (0, 1), (-1, 1)))
    which, along = rng.integers(0, FILAMENTS, rows), rng.uniform(-0.7, 0.7, rows)
    side = bend[which] * 0.3 * along**2
    sigma = np.clip(rng.gamma(6, 2.2, rows), 4, 60)
    x = x0[which] + along * np.cos(angle[which]) - side * np.sin(angle[which])
    y = y0[which] + along * np.sin(angle[which]) + side * np.cos(angle[which])
    inside = (x > 0.02) & (x < 0.98) & (y > 0.02) & (y < 0.98)
    x, y = (np.where(inside, place, rng.uniform(0.02, 0.98, rows)) for place in (x, y))
    return batch_of(
        x * FIELD + rng.normal(0, sigma),
        y * FIELD + rng.normal(0, sigma),
        frame=first_frame + np.sort(rng.integers(0, max(1, round(rows / per_frame)), rows)),
        photons=200 * 120 / sigma,
        background=rng.normal(22, 3, rows),
        sigma_x=sigma,
        sigma_y=sigma,
        probability=rng.beta(9, 1, rows),
    )


@dataclass
class Engine:
    """A run that is recorded and published."""

    folder: Path
    recorder: Recorder
    publisher: Publisher
    commands: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """What clients asked for."""
    status: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    batches: int = 0
    time: float = 0.0
    """Of the figures of quality [s]."""

    @property
    def endpoint(self) -> str:
        return self.publisher.endpoint

    def write(self, batches: int = 1, rows: int = 200) -> None:
        for _ in range(batches):
            self.write_batch(filaments(rows, self.batches + 1, self.rows // 40))

    def write_batch(self, batch: pa.RecordBatch) -> None:
        self.recorder.write(batch)
        self.publisher.write(batch)
        self.rows += batch.num_rows
        self.batches += 1

    def tell(self, **changes: Any) -> None:
        """Publish the status."""
        frames = self.rows // 40
        self.status = {**STATUS, "acquired": frames + 3, "analysed": frames, "localisations": self.rows} | changes
        self.publisher.send_status(self.status)

    def tell_quality(self, rows: int = 1) -> None:
        rng = np.random.default_rng(int(self.time))
        for _ in range(rows):
            self.time += 1.0
            self.publisher.send_quality(figures(self.time, rng))
            time.sleep(0.0005)  # so many at once are more than a busy listener takes

    def show(self, frame: int = 100, seed: int = 3) -> None:
        """Publish a camera frame."""
        pixels, rows = camera_frame(seed)
        self.publisher.send_preview(frame, pixels, rows)

    def handle(self, command: str, arguments: Mapping[str, Any]) -> None:
        if command == "pause" and self.status.get("paused"):
            raise RunError("the run is paused already.")
        self.commands.append((command, dict(arguments)))

    def end(self, reason: str = "finished") -> None:
        self.recorder.close()
        self.tell(state=reason, end_reason=reason)
        write_account(self.folder, self.endpoint, reason, self.rows)


STATUS = {
    "state": "running", "expected": 20000, "lag": 3, "rate_in": 33.3, "rate_out": 33.2, "elapsed": 371.0, "missing": 0,
    "skipped": 0, "spooled_frames": 0, "delay_median": 0.41, "paused": False, "end_reason": "running",
    "source": "Andor iXon 897, 128×128, 30 ms", "model": "default on onnxruntime CPU", "warnings": [],
    "feedback": {"enabled": True, "state": "holding", "target": 1.0, "power": 13.4, "note": ""},
}  # fmt: skip


def figures(now: float, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "time": now,
        "localisations_per_frame": 40 + 10 * np.exp(-now / 60) + rng.normal(),
        "density": 1 + 0.3 * np.exp(-now / 50) + 0.03 * rng.normal(),
        "target": 1.0,
        "precision": 12 + 0.3 * rng.normal(),
        "background": 22 + now / 100,
        "drift_x": now / 10,
        "drift_y": -now / 20,
        "frc": 80 * np.exp(-now / 80) + 30 if now > 20 else None,
    }


def camera_frame(seed: int) -> tuple[np.ndarray[Any, Any], pa.RecordBatch]:
    """(SIDE, SIDE) ADU and what was found in it: one spot, in the raw frame without a ring, was missed."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(4, SIDE - 4, (2, 40))
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    light = np.full((SIDE, SIDE), 22.0)
    for spot in zip(x, y, strict=True):
        light += 90 * np.exp(-((columns - spot[0]) ** 2 + (rows - spot[1]) ** 2) / (2 * 1.35**2))
    pixels = (100 + 3 * rng.poisson(light)).astype(np.uint16)
    return pixels, batch_of(x[1:] * PIXEL, y[1:] * PIXEL, frame=100)


def write_account(folder: Path, endpoint: str | None, reason: str, rows: int = 0) -> None:
    account = {
        "run": folder.name, "end_reason": reason, "endpoint": endpoint, "frames_seen": 500, "frames_analysed": 498,
        "missing_ranges": [[7, 8]], "localisations": rows, "frames_per_second": 33.0, "seconds": 15.0,
        "source": {"name": "a camera", "frames": 500}, "model": {"name": "default"}, "warnings": ["Too dense."],
    }  # fmt: skip
    (folder / REPORT).write_text(json.dumps(account), encoding="utf-8")


@contextmanager
def engine(folder: Path, settings: WireSettings | None = None) -> Iterator[Engine]:
    """A run into ``folder``, on free ports unless the settings say otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = describe_field(folder.name, PIXEL, SIDE, SIDE)
    recorder = Recorder(folder / LOG, metadata)
    running: list[Engine] = []

    class Handler:
        def handle(self, command: str, arguments: Mapping[str, Any]) -> None:
            running[0].handle(command, arguments)

    describe = lambda: {"status": running[0].status or None} if running else {}  # noqa: E731
    with Publisher(folder / LOG, folder.name, settings or WireSettings(port=0), describe, Handler()) as publisher:
        running.append(Engine(folder, recorder, publisher))
        write_account(folder, publisher.endpoint, "running")
        yield running[0]
        recorder.close()
