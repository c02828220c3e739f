"""The guard process: the light is safe however the engine ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from config.errors import RunError
from engine.monitor.guard import Guard, LightPlan
from tests.engine.monitor.lights import FileLight, plan_for

ROOT = Path(__file__).parents[3]
DEADLINE = 60.0
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture(autouse=True)
def _findable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def light(tmp_path: Path) -> FileLight:
    path = tmp_path / "light.json"
    path.write_text(json.dumps({"power": 40.0, "by": os.getpid()}), encoding="utf-8")
    return FileLight(path)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def last_setter(light: FileLight) -> int:
    return int(json.loads(light.path.read_text(encoding="utf-8"))["by"])


def test_at_its_end_the_guard_sets_the_light(light: FileLight) -> None:
    guard = Guard(plan_for(light.path))
    guard.beat()
    assert light.power() == 40.0
    guard.close()
    guard.close()
    assert (light.power(), last_setter(light)) == (3.0, guard.pid)
    with pytest.raises(RunError, match="ended with status 0"):
        guard.beat()


def test_an_engine_that_falls_silent_counts_as_gone_and_may_come_back(light: FileLight) -> None:
    with Guard(plan_for(light.path, patience=0.2)) as guard:
        wait_until(lambda: light.power() == 3.0)
        guard.beat()
        light.set_power(20.0)
        wait_until(lambda: light.power() == 3.0)


def test_signs_of_life_keep_it_quiet(light: FileLight) -> None:
    with Guard(plan_for(light.path, patience=20.0)) as guard:
        for _ in range(50):
            guard.beat()
        assert light.power() == 40.0


def test_a_light_that_cannot_be_reached_is_said_at_once() -> None:
    plan = LightPlan("tests.engine.monitor.lights:open_nothing", {"words": "no such device: Laser"})
    with pytest.raises(RunError, match="cannot reach the activation light: no such device: Laser"):
        Guard(plan)


@pytest.mark.parametrize("opener", ["no_such_module:open", "acquisition.light:no_such_function", "nonsense"])
def test_a_plan_that_leads_nowhere_is_said_at_once(opener: str) -> None:
    with pytest.raises(RunError, match="cannot reach the activation light"):
        Guard(LightPlan(opener))


def test_a_guard_that_was_killed_is_noticed(light: FileLight) -> None:
    guard = Guard(plan_for(light.path))
    guard._process.kill()
    guard._process.wait()
    with pytest.raises(RunError, match="ended with status"):
        guard.beat()
    guard.close()


def test_a_light_that_fails_for_a_moment_is_tried_again(light: FileLight) -> None:
    away = light.path.with_name("away")
    guard = Guard(plan_for(light.path, patience=0.2))
    light.path.rename(away)
    assert guard._process.stdin is not None
    guard._process.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        guard._process.wait(1.0)
    away.rename(light.path)
    guard.close()
    assert light.power() == 3.0


@pytest.fixture
def engine(light: FileLight) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(ending: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "tests.engine.monitor.lights",
            json.dumps(asdict(plan_for(light.path))),
            ending,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "moved\n"
        assert light.power() < 40.0
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@posix
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT", "SIGSEGV"])
def test_a_signal_to_the_engine_leaves_the_light_safe(
    engine: Callable[[str], subprocess.Popen[str]], light: FileLight, name: str
) -> None:
    process = engine("go on")
    process.send_signal(getattr(signal, name))
    process.wait(DEADLINE)
    wait_until(lambda: light.power() == 3.0)
    wait_until(lambda: last_setter(light) != process.pid)  # the guard, too


@pytest.mark.parametrize("ending", ["exception", "exit"])
def test_however_the_engine_ends_the_light_is_safe(
    engine: Callable[[str], subprocess.Popen[str]], light: FileLight, ending: str
) -> None:
    engine(ending).wait(DEADLINE)
    assert light.power() == 3.0


@posix
def test_ctrl_c_in_the_terminal_does_not_reach_the_guard(light: FileLight) -> None:
    guard = Guard(plan_for(light.path))
    assert os.getpgid(guard.pid) != os.getpgid(0)
    os.kill(guard.pid, signal.SIGINT)
    guard.beat()
    guard.close()
    assert light.power() == 3.0
