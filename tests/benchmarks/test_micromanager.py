"""Cameras in a real Micro-Manager core through the whole engine: every frame once, memory bounded.

`pytest -m benchmark tests/benchmarks/test_micromanager.py`. Figures go to the terminal.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mm_test_adapters", reason="pycromanager is not installed (group micromanager)")
pytest.importorskip("resource", reason="peak memory as POSIX tells it")

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
DOUBLE = ROOT / "tests" / "acquisition" / "java_bridge_double.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
LARGEST_PEAK = 1500.0
"""[MB]"""

CASES = {
    "python, 64×64": ("python", "encoding", 64, 60_000, 1.0, False),
    "python, 64×64, demo camera": ("python", "demo", 64, 60_000, 1.0, False),
    "python, 512×512": ("python", "encoding", 512, 5_000, 5.0, False),
    "python, 512×512, all of it lagging": ("python", "encoding", 512, 5_000, 5.0, True),
    "bridge, 64×64": ("java", "encoding", 64, 60_000, 2.0, False),
    "bridge, 64×64, demo camera": ("java", "demo", 64, 60_000, 1.0, False),
    "bridge, 512×512": ("java", "encoding", 512, 5_000, 10.0, False),
}
"""Backend, camera, size [pixels], frames, exposure [ms], whether the network waits until every frame has come."""


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Writes a line to the terminal, though output is captured."""

    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")

    return write


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(port: int, camera: str, size: int, exposure: float) -> subprocess.Popen[str]:
    """The Java bridge in front of a core with this camera, in a process of its own."""
    command = [sys.executable, str(DOUBLE), str(port), str(size), str(exposure), camera]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("case", CASES)
def test_every_frame_is_analysed_once_or_listed(case: str, tmp_path: Path, report: Callable[[str], None]) -> None:
    backend, camera, size, frames, exposure, lag = CASES[case]
    port = free_port()
    with ExitStack() as served:
        if backend == "java":
            process = served.enter_context(serve(port, camera, size, exposure))
            served.callback(process.kill)
        words = [backend, port, camera, size, frames, exposure, int(lag), tmp_path]
        command = [sys.executable, "-m", "tests.benchmarks.micromanager_run", *map(str, words)]
        done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.stdout, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    report(
        f"{case}: {figures['analysed']} of {frames} frames at {figures['rate']:.0f}/s, {len(figures['missing'])} "
        f"missing, spool {figures['spooled']:.0f} MB, peak memory {figures['peak']:.0f} MB"
    )
    assert figures["in_order"]
    assert figures["accounted"]
    assert figures["pixels_agree"] in (True, None)
    assert figures["missing"] == []
    assert figures["peak"] < LARGEST_PEAK
