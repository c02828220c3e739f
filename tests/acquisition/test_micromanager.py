"""Micro-Manager's camera as a source: a real core with its demo camera, here and behind the Java bridge."""

from __future__ import annotations

import atexit
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from acquisition.micromanager import MicroManagerSource
from acquisition.source import Frames
from config.errors import SourceError, SourceStopped
from config.schema import SourceSettings

pytest.importorskip("mm_test_adapters", reason="pycromanager is not installed (group micromanager)")

from simulation.micromanager_camera import PycromanagerCore
from tests.acquisition.java_bridge_double import demo_core

ROOT = Path(__file__).resolve().parents[2]
DOUBLE = Path(__file__).with_name("java_bridge_double.py")


def demo(size: int = 64, exposure: float = 1.0, kind: type[PycromanagerCore] = PycromanagerCore) -> Callable[[], Any]:
    return lambda: kind(demo_core(size, exposure))


def numbers(blocks: list[Frames]) -> list[int]:
    return [int(number) for frames in blocks for number in frames.numbers]


def collected(source: MicroManagerSource, size: int = 16) -> tuple[list[Frames], SourceError | None]:
    """Every block, and what ended them."""
    blocks: list[Frames] = []
    try:
        blocks.extend(source.blocks(size))
    except SourceError as error:
        return blocks, error
    return blocks, None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def bridge() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A Micro-Manager behind the Java bridge, in a process of its own: its port and the process."""
    port = free_port()
    command = [sys.executable, str(DOUBLE), str(port), "64", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield port, process
        process.kill()


def test_every_image_comes_once_and_in_order() -> None:
    with MicroManagerSource(SourceSettings(exposure=1.0), None, 1000, demo()) as source:
        described = source.open()
        blocks, error = collected(source)
    assert error is None
    assert numbers(blocks) == list(range(1000))
    assert {frames.pixels.shape[1:] for frames in blocks} == {(64, 64)}
    assert (described.frames, described.exposure, described.camera["saturation"]) == (1000, 1.0, 65535.0)


def test_exposure_region_and_binning_are_set() -> None:
    settings = SourceSettings(exposure=7.0, binning=2)
    with MicroManagerSource(settings, [4, 8, 20, 12], 5, demo()) as source:
        described = source.open()
        blocks, _ = collected(source)
        assert source.core.get_property("Camera", "Binning") == "2"
    assert (described.width, described.height, described.origin, described.exposure) == (20, 12, (4, 8), 7.0)
    assert blocks[0].pixels.shape[1:] == (12, 20)


def test_eight_bits_are_eight_bits() -> None:
    core = demo_core(64, 1.0)
    core.setProperty("Camera", "PixelType", "8bit")
    with MicroManagerSource(SourceSettings(), None, 5, lambda: PycromanagerCore(core)) as source:
        assert source.open().dtype == np.uint8
        assert collected(source)[0][0].pixels.dtype == np.uint8


@pytest.mark.parametrize("pixels", ["32bitRGB", "32bit"])
def test_pixels_that_are_no_grey_values_are_refused(pixels: str) -> None:
    core = demo_core(64, 1.0)
    core.setProperty("Camera", "PixelType", pixels)
    with (
        MicroManagerSource(SourceSettings(), None, 5, lambda: PycromanagerCore(core)) as source,
        pytest.raises(SourceError, match="grey values"),
    ):
        source.open()


def test_a_full_buffer_is_named_and_nothing_before_it_is_lost() -> None:
    """The buffer is tiny and nobody takes frames out of the source for a while."""
    with MicroManagerSource(SourceSettings(exposure=1.0), None, None, demo(256)) as source:
        source.open()
        source.core.set_circular_buffer_memory_footprint(2)
        blocks = source.blocks(2)
        came = [next(blocks)]
        deadline = time.monotonic() + 20
        while source.core.is_sequence_running():
            assert time.monotonic() < deadline, "the camera was never stopped"
            time.sleep(0.01)
        with pytest.raises(SourceStopped, match="buffer was full"):
            came.extend(blocks)
    assert numbers(came) == list(range(len(numbers(came))))
    assert len(numbers(came)) > 15  # what was in the buffer, too


def test_a_camera_that_somebody_else_stops_is_named() -> None:
    with MicroManagerSource(SourceSettings(exposure=5.0), None, None, demo()) as source:
        source.open()
        blocks = source.blocks(4)
        came = [next(blocks)]
        source.core.stop_sequence_acquisition()
        with pytest.raises(SourceStopped, match="not because liveloc asked"):
            came.extend(blocks)
    assert numbers(came) == list(range(len(numbers(came))))


class ShrinkingCore(PycromanagerCore):
    """Its region is changed after ten images."""

    popped = 0

    def pop_next_tagged_image(self) -> SimpleNamespace:
        image = super().pop_next_tagged_image()
        self.popped += 1
        if self.popped > 10:
            image.pix = image.pix[:32]
            image.tags["Height"] = "32"
        return image


def test_a_changed_region_is_named_after_the_frames_before_it() -> None:
    with MicroManagerSource(SourceSettings(exposure=2.0), None, None, demo(kind=ShrinkingCore)) as source:
        source.open()
        blocks, error = collected(source, 4)
    assert numbers(blocks) == list(range(10))
    assert isinstance(error, SourceStopped)
    assert "64×32 pixels, those before 64×64" in str(error)


class SkippingCore(PycromanagerCore):
    """Loses images 5 to 7, as Micro-Manager's Live mode may."""

    def pop_next_tagged_image(self) -> SimpleNamespace:
        image = super().pop_next_tagged_image()
        number = int(image.tags["ImageNumber"])
        image.tags["ImageNumber"] = str(number + 3 if number >= 5 else number)
        return image


def test_a_lost_image_is_a_gap_in_the_numbers() -> None:
    with MicroManagerSource(SourceSettings(exposure=1.0), None, 12, demo(kind=SkippingCore)) as source:
        source.open()
        blocks, _ = collected(source)
    assert numbers(blocks) == [0, 1, 2, 3, 4, *range(8, 15)]


class RestartedCore(PycromanagerCore):
    """Somebody else starts another sequence after ten images: it counts from 0 again."""

    def pop_next_tagged_image(self) -> SimpleNamespace:
        image = super().pop_next_tagged_image()
        image.tags["ImageNumber"] = str(int(image.tags["ImageNumber"]) % 10)
        return image


class FailingCore(PycromanagerCore):
    """A driver that fails while a block is taken."""

    popped = 0

    def pop_next_tagged_image(self) -> SimpleNamespace:
        if self.popped == 10:
            raise RuntimeError("device busy")
        self.popped += 1
        return super().pop_next_tagged_image()


@pytest.mark.parametrize(
    ("kind", "words"), [(RestartedCore, "frame 0 came after frame 9"), (FailingCore, "after 10 frames: device busy")]
)
@pytest.mark.parametrize("size", [1, 4, 16])
def test_what_came_before_a_failure_is_given_first(kind: type[PycromanagerCore], words: str, size: int) -> None:
    with MicroManagerSource(SourceSettings(exposure=1.0), None, None, demo(kind=kind)) as source:
        source.open()
        blocks, error = collected(source, size)
    assert numbers(blocks) == list(range(10))
    assert isinstance(error, SourceStopped)
    assert words in str(error)


def test_a_region_that_was_set_in_micro_manager_is_told() -> None:
    core = demo_core(64, 1.0)
    core.setROI(6, 10, 24, 16)
    with MicroManagerSource(SourceSettings(), None, 5, lambda: PycromanagerCore(core)) as source:
        described = source.open()
    assert (described.origin, described.width, described.height) == ((6, 10), 24, 16)


def test_nothing_on_the_port_says_what_to_start() -> None:
    with (
        MicroManagerSource(SourceSettings(port=free_port())) as source,
        pytest.raises(SourceError, match="open Tools > Options and tick 'Run pycro-manager server"),
    ):
        source.open()


OTHER = """
import os, socket
from acquisition.micromanager_core import connect
from config.errors import SourceError
from config.schema import SourceSettings
with socket.create_server(("127.0.0.1", 0)) as other:
    try:
        connect(SourceSettings(port=other.getsockname()[1]))
    except SourceError as error:
        print(error, flush=True)
os._exit(0)  # a thread of pyjavaz that could not connect fails when it is collected
"""


def test_something_else_on_the_port_is_not_taken_for_micro_manager() -> None:
    done = subprocess.run([sys.executable, "-c", OTHER], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "not as Micro-Manager" in done.stdout, done.stderr


class SilentCore(PycromanagerCore):
    """Waits for a trigger that never comes."""

    waiting = False

    def start_sequence_acquisition(self, *_: Any) -> None:
        self.waiting = True

    def is_sequence_running(self) -> bool:
        return self.waiting


def test_a_camera_that_gives_nothing_is_named() -> None:
    with MicroManagerSource(SourceSettings(silence=0.3), None, None, demo(kind=SilentCore)) as source:
        source.open()
        blocks, error = collected(source)
    assert blocks == []
    assert "gave no frame for 0.3 s" in str(error)


def test_a_camera_that_runs_already_is_left_alone() -> None:
    core = demo_core(64, 10.0)
    core.startContinuousSequenceAcquisition(0)
    try:
        source = MicroManagerSource(SourceSettings(), None, None, lambda: PycromanagerCore(core))
        with source, pytest.raises(SourceError, match="running already"):
            source.open()
        assert core.isSequenceRunning()
    finally:
        core.stopSequenceAcquisition()


def test_stop_is_prompt_and_stops_the_camera() -> None:
    with MicroManagerSource(SourceSettings(exposure=20.0), None, None, demo()) as source:
        source.open()
        came = threading.Event()
        ended: list[float] = []

        def read() -> None:
            for _ in source.blocks(4):
                came.set()
            ended.append(time.monotonic())

        reader = threading.Thread(target=read)
        reader.start()
        assert came.wait(20)
        asked = time.monotonic()
        source.stop()
        reader.join(20)
        source.close()
        assert not source.core.is_sequence_running()
    assert ended[0] - asked < 1.0  # one exposure or 0.2 s, on a busy machine


def test_waiting_costs_next_to_nothing() -> None:
    with MicroManagerSource(SourceSettings(exposure=200.0), None, 10, demo()) as source:
        source.open()
        begin, spent = time.monotonic(), time.process_time()
        collected(source)
        share = (time.process_time() - spent) / (time.monotonic() - begin)
    assert share < 0.1


def test_through_the_bridge_every_image_comes_once_and_leaves_nothing_behind(
    bridge: tuple[int, subprocess.Popen[str]],
) -> None:
    port, _ = bridge
    with MicroManagerSource(SourceSettings(port=port), [8, 4, 32, 16], 1000) as source:
        described = source.open()
        blocks = source.blocks(16)
        came = [next(blocks)]
        callbacks = atexit._ncallbacks()
        came.extend(blocks)
        grown = atexit._ncallbacks() - callbacks
    assert numbers(came) == list(range(1000))
    assert came[0].pixels.shape[1:] == (16, 32)
    assert came[0].pixels.dtype == np.uint16
    assert (described.origin, described.camera["pixel_size"]) == ((8, 4), 1000.0)
    assert grown == 0


DYING = """
import json, os, signal, sys, time
import acquisition.micromanager
from acquisition.micromanager import MicroManagerSource
from config.errors import SourceStopped
from config.schema import SourceSettings

acquisition.micromanager.FAREWELL = 0.5
port, double = map(int, sys.argv[1:])
numbers, words = [], ""
with MicroManagerSource(SourceSettings(port=port, exposure=10.0, silence=0.5), None, None) as source:
    source.open()
    try:
        for frames in source.blocks(4):
            numbers += frames.numbers.tolist()
            os.kill(double, signal.SIGTERM)
    except SourceStopped as error:
        words = str(error)
print(json.dumps([numbers == list(range(len(numbers))), len(numbers) > 0, words]), flush=True)
"""


def test_a_micro_manager_that_dies_is_named(bridge: tuple[int, subprocess.Popen[str]]) -> None:
    port, process = bridge
    command = [sys.executable, "-c", DYING, str(port), str(process.pid)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    in_order, some, words = json.loads(done.stdout.splitlines()[-1])  # and it ended, which it would not by itself
    assert in_order
    assert some
    assert "gave no frame for" in words


ENCODED = """
import json, os, sys
import numpy as np
from pymmcore_plus.experimental.unicore import CameraDevice
from acquisition.micromanager import MicroManagerSource
from config.schema import SourceSettings
from simulation.micromanager_camera import core_with

class Counter(CameraDevice):
    exposure = 1.0
    def get_exposure(self): return self.exposure
    def set_exposure(self, exposure): self.exposure = exposure
    def shape(self): return (16, 24)
    def dtype(self): return np.uint16
    def start_sequence(self, n, get_buffer):
        for number in range(n):
            get_buffer((16, 24), np.uint16)[:] = number
            yield {}

with MicroManagerSource(SourceSettings(), None, 3000, lambda: core_with({"Counter": Counter()})) as source:
    source.open()
    said, seen = [], []
    for frames in source.blocks(16):
        said += frames.numbers.tolist()
        seen += frames.pixels[:, 5, 7].tolist()
print(json.dumps([said == list(range(3000)), seen == said]), flush=True)
os._exit(0)  # pymmcore-plus may abort at the end of a process
"""


def test_pixels_that_tell_their_number_agree_with_the_numbers() -> None:
    done = subprocess.run([sys.executable, "-c", ENCODED], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout.splitlines()[-1]) == [True, True], done.stderr
