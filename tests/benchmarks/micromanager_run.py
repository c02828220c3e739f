"""One run of the whole engine on a camera in a Micro-Manager core, in a process of its own; prints one line of JSON.

``python -m tests.benchmarks.micromanager_run BACKEND PORT CAMERA SIZE FRAMES EXPOSURE LAG FOLDER``. With LAG 1 nothing
is analysed until the camera has given every frame.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acquisition.micromanager import MicroManagerSource
from config.schema import SourceSettings
from engine.ledger import numbers_of
from engine.output.recorder import Recorder, read_log
from engine.pipeline import Pipeline
from simulation.micromanager_camera import PycromanagerCore
from tests.acquisition.encoding_camera import encoding_core
from tests.acquisition.java_bridge_double import demo_core
from tests.engine.doubles import DecodingLocaliser

CAMERAS: dict[str, Callable[[int, float], PycromanagerCore]] = {
    "encoding": encoding_core,
    "demo": lambda size, exposure: PycromanagerCore(demo_core(size, exposure)),
}

BUFFER = {"python": 5.0, "java": 60.0}
"""Seconds of frames that may wait in Micro-Manager, which over the bridge is memory of another process."""


def run(backend: str, port: int, camera: str, size: int, frames: int, exposure: float, lag: bool, folder: Path) -> Any:
    """Figures of one run."""
    settings = SourceSettings(backend=backend, port=port, silence=30.0, buffer=BUFFER[backend])
    core = (lambda: CAMERAS[camera](size, exposure)) if backend == "python" else None
    log, gate = folder / "log.arrows", threading.Event()
    with MicroManagerSource(settings, None, frames, core) as source:
        localiser = DecodingLocaliser(gate if lag else None)
        pipeline = Pipeline(source, localiser, Recorder(log, {}), live=True, spool=folder, description=source.open())
        begun = time.monotonic()
        pipeline.start()
        while lag and pipeline.status().acquired < frames and not pipeline.status().state.over:
            time.sleep(0.05)
        waited, spooled = time.monotonic() - begun, pipeline.status().spooled_bytes
        gate.set()
        status = pipeline.join()
        took = time.monotonic() - begun
    table = read_log(log)
    analysed, said = table["frame"].to_numpy(), table["photons"].to_numpy()
    return {
        "analysed": len(analysed),
        "in_order": bool((analysed[1:] > analysed[:-1]).all()),
        "accounted": sorted({*analysed.tolist(), *numbers_of(status.missing)}) == list(range(frames)),
        "pixels_agree": bool((analysed == said).all()) if camera == "encoding" else None,
        "missing": numbers_of(status.missing),
        "rate": frames / (waited if lag else took),
        "spooled": spooled / 1e6,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


if __name__ == "__main__":
    backend, port, camera, size, frames, exposure, lag, folder = sys.argv[1:]
    figures = run(backend, int(port), camera, int(size), int(frames), float(exposure), lag == "1", Path(folder))
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    os._exit(0)  # pymmcore-plus may abort at the end of a process
