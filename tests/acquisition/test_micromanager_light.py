"""The activation light as a device property, and its guard behind the Java bridge."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from config.errors import SettingsError, SourceError

pytest.importorskip("mm_test_adapters", reason="pycromanager is not installed (group micromanager)")

from acquisition.micromanager_light import MicroManagerLight, open_light
from simulation.micromanager_camera import PycromanagerCore
from tests.acquisition.java_bridge_double import demo_core
from tests.acquisition.test_micromanager import bridge  # noqa: F401 (a fixture)

ROOT = Path(__file__).resolve().parents[2]
DEVICE, PROPERTY = "Camera", "TestProperty2"
"""A property from −200 to 200 that stands for a laser's power."""


def light(name: str = PROPERTY, device: str = DEVICE) -> MicroManagerLight:
    return MicroManagerLight(PycromanagerCore(demo_core(64, 1.0)), device, name)


def test_power_is_set_and_read() -> None:
    lamp = light()
    lamp.set_power(12.5)
    assert lamp.power() == 12.5


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "device": (lambda: light(device="Camra"), "Did you mean Camera?"),
    "property": (lambda: light("TestProperti2"), "Did you mean TestProperty"),
    "read only": (lambda: light("CameraID"), "cannot be told"),
    "range": (lambda: light().check_range(0, 300), "takes -200 to 200"),
}


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_work_is_said_before_the_run(make: Callable[[], object], words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)):
        make()


def test_powers_within_the_limits_pass() -> None:
    light().check_range(0, 200)
    light("OnCameraCCDXSize").check_range(0, 1e6)  # a property without limits


def test_a_device_that_refuses_is_an_error_in_words() -> None:
    with pytest.raises(SourceError, match="does not take 999"):
        light().set_power(999)


def test_a_property_that_is_no_number_is_an_error_in_words() -> None:
    with pytest.raises(SourceError, match="no number"):
        light("PixelType").power()


ENGINE = """
import sys, time
from acquisition.micromanager_light import light_arguments, open_light
from engine.monitor.guard import Guard, LightPlan

port = int(sys.argv[1])
arguments = light_arguments("Camera", "TestProperty2", port)
guard = Guard(LightPlan("acquisition.micromanager_light:open_light", arguments, safe=1.5))
open_light(**arguments).set_power(50)
print("lit", flush=True)
time.sleep(100)
"""


def test_the_guard_makes_the_light_safe_when_the_engine_is_killed(
    bridge: tuple[int, subprocess.Popen[str]],  # noqa: F811
) -> None:
    port, _ = bridge
    lamp = open_light(DEVICE, PROPERTY, port)
    command = [sys.executable, "-c", ENGINE, str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "lit\n"
        assert lamp.power() == 50
        engine.kill()
    deadline = time.monotonic() + 30
    while lamp.power() != 1.5:
        assert time.monotonic() < deadline, "the light was left on"
        time.sleep(0.1)
