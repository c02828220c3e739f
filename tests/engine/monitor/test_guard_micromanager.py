"""A laser in a Micro-Manager that runs by itself is made safe when the engine is killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from acquisition.micromanager_light import MicroManagerLight, light_arguments, open_light
from config.errors import RunError
from engine.monitor.guard import Guard, LightPlan

ROOT = Path(__file__).parents[3]
DEADLINE = 60.0
DEVICE, PROPERTY = "Camera", "ReadNoise (electrons)"
"""Of the demo camera: a number without limits, as good as a laser's power."""

pytest.importorskip("pymmcore")
pytest.importorskip("mmpycorex")


@pytest.fixture
def port() -> Iterator[int]:
    """Of a Micro-Manager in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    command = [sys.executable, "tests/acquisition/java_bridge_double.py", str(number), "64", "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield number
        process.kill()


def plan_for(port: int, name: str = PROPERTY) -> LightPlan:
    return LightPlan("acquisition.micromanager_light:open_light", light_arguments(DEVICE, name, port), 3.0)


def reaches(light: MicroManagerLight, power: float) -> bool:
    deadline = time.monotonic() + DEADLINE
    while light.power() != power and time.monotonic() < deadline:
        time.sleep(0.05)
    return light.power() == power


def test_the_light_of_a_killed_engine_is_made_safe(port: int) -> None:
    light = open_light(DEVICE, PROPERTY, port)
    light.set_power(40.0)
    command = [sys.executable, "-m", "tests.engine.monitor.lights", json.dumps(asdict(plan_for(port))), "go on"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "moved\n"
        assert 5.0 <= light.power() < 40.0
        engine.kill()
    assert reaches(light, 3.0)


def test_a_property_that_does_not_exist_is_said_before_anything_moves(port: int) -> None:
    with pytest.raises(RunError, match=r"cannot reach .* feedback\.property=ReadNois: Camera has no such"):
        Guard(plan_for(port, "ReadNois"))
