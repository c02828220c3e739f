"""The live simulator and its camera: the same frames in any blocks, in real time, steered by the light."""

from __future__ import annotations

import logging
import threading
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from acquisition.light import ActivationLight
from acquisition.source import FrameSource
from config.compose import compose
from config.errors import CalibrationMissing, SettingsError
from config.schema import Settings
from simulation.camera_source import SimulatedCamera
from simulation.dataset import make_live_simulator, make_simulator


def settings(*more: str) -> Settings:
    base = ["camera=challenge_emccd", "optics=challenge", "dataset.height=40", "dataset.width=48", "dataset.frames=60"]
    return compose([*base, *more])


class Clock:
    """Time that passes only in waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False


def camera_with(clock: Clock, *more: str, endless: bool = False) -> SimulatedCamera:
    return SimulatedCamera(settings(*more), clock, clock.wait, endless=endless)


def test_frames_are_the_same_in_any_blocks() -> None:
    whole = make_live_simulator(settings()).expose(30)
    parts = make_live_simulator(settings())
    assert np.array_equal(whole, np.concatenate([parts.expose(size) for size in (1, 7, 2, 20)]))
    assert whole.dtype == np.uint16
    assert whole.shape == (30, 40, 48)
    assert not np.array_equal(whole, make_live_simulator(settings("dataset.seed=1")).expose(30))


def test_the_noise_of_a_frame_is_that_of_its_number_and_seed() -> None:
    """Without emitters, the live camera and the recorded acquisition see the same background with the same noise."""
    dark = settings("dataset.density=0")
    assert np.array_equal(make_live_simulator(dark).expose(10), make_simulator(dark).frames(0, 10))


def test_the_truth_is_drawn_again_with_the_history_of_the_light() -> None:
    live = make_live_simulator(settings("dataset.density=2", "dataset.background=1", "dataset.exposure=60"))
    frames = [live.expose(20)]
    live.light.set_power(0.0)
    frames.append(live.expose(20))
    live.light.set_power(3.0)
    frames.append(live.expose(20))
    truth = live.emitters()
    number, photons = truth["frame"].to_numpy(), truth["photons"].to_numpy()
    light = np.bincount(number, weights=photons, minlength=60)
    bright = np.concatenate(frames).astype(float).sum(axis=(1, 2))
    assert np.corrcoef(light, bright)[0, 1] > 0.97
    assert np.all(np.diff(number) >= 0)
    assert light[35:40].sum() == 0
    first, last = np.searchsorted(number, [25, 30]).tolist()
    assert live.emitters(25, 30).equals(truth.slice(first, last - first))
    assert live.emitters(0, 1000).equals(truth)
    assert make_live_simulator(settings()).emitters().num_rows == 0
    assert truth["x"].to_numpy().max() < 4800
    assert truth["y"].to_numpy().max() < 4000


def test_what_a_simulation_needs_is_named() -> None:
    with pytest.raises(SettingsError, match=r"optics\.psf_sigma"):
        make_live_simulator(compose(["camera=challenge_emccd"]))
    with pytest.raises(CalibrationMissing):
        SimulatedCamera(compose(["optics=challenge"])).open()


def test_a_camera_without_an_end_keeps_its_rate_and_its_memory() -> None:
    clock = Clock()
    source: FrameSource = camera_with(clock, "dataset.exposure=10", "dataset.density=0.2", endless=True)
    assert source.open().frames is None
    blocks = source.blocks(8)
    for _ in range(150):
        next(blocks)
    tracemalloc.start()
    for _ in range(599):
        next(blocks)
    block = next(blocks)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert block.numbers.tolist() == [749]
    assert clock.now - 100 == pytest.approx(7.5)
    assert block.times[0] == pytest.approx(7.5)
    assert grown < 1_000_000
    source.stop()
    assert list(blocks) == []


def test_the_light_steers_the_density_while_the_camera_runs() -> None:
    clock = Clock()
    camera = camera_with(clock, "dataset.exposure=20", "dataset.background=5", "dataset.density=0.5", endless=True)
    light: ActivationLight = camera.light()
    blocks = camera.blocks(8)
    dim = [next(blocks) for _ in range(100)]
    light.set_power(4.0)
    bright = [next(blocks) for _ in range(100)]
    assert light.power() == 4.0
    assert [int(block.numbers[0]) for block in dim + bright] == list(range(200))
    counts = np.bincount(camera.simulator.emitters()["frame"].to_numpy(), minlength=200)
    # An on-time is 3 frames: the light acts from the next frame on, and is there in full after a few on-times.
    assert counts[115:].mean() / counts[:100].mean() == pytest.approx(4.0, rel=0.2)
    assert counts[100:102].mean() < 0.75 * counts[115:].mean()
    assert counts[102:110].mean() > 2 * counts[:100].mean()


def test_the_exposure_of_the_source_wins() -> None:
    clock = Clock()
    camera = camera_with(clock, "dataset.exposure=30", "source.exposure=5")
    assert camera.open().exposure == 5.0
    blocks = list(camera.blocks(1))
    assert len(blocks) == 60
    assert clock.now - 100 == pytest.approx(0.3)


def test_a_camera_that_renders_too_slowly_says_so_once_and_drops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    ticking = Clock()

    def clock() -> float:
        ticking.now += 0.05  # every look at the clock takes longer than an exposure
        return ticking.now

    camera = SimulatedCamera(settings("dataset.exposure=10", "dataset.frames=200"), clock, ticking.wait)
    with caplog.at_level(logging.WARNING):
        blocks = list(camera.blocks(4))
    assert [number for block in blocks for number in block.numbers.tolist()] == list(range(200))
    assert all(block.times[-1] == pytest.approx((block.numbers[-1] + 1) * 0.01) for block in blocks)
    assert [record.message for record in caplog.records if "too slow" in record.message] != []
    assert sum("none is lost" in record.message for record in caplog.records) == 1


def test_a_camera_in_real_time_is_on_time_and_stops_at_once() -> None:
    camera = SimulatedCamera(settings("dataset.exposure=20"), endless=True)
    seen: list[int] = []
    enough = threading.Event()

    def read() -> None:
        for block in camera.blocks(8):
            seen.extend(block.numbers.tolist())
            if len(seen) >= 25:
                enough.set()

    camera.open()
    began = time.monotonic()
    reader = threading.Thread(target=read)
    reader.start()
    assert enough.wait(20)
    assert time.monotonic() - began > 0.45  # 25 frames of 20 ms cannot come sooner
    camera.stop()
    asked = time.monotonic()
    reader.join(5)
    assert time.monotonic() - asked < 1.0
    assert seen == list(range(len(seen)))


def test_stop_ends_a_long_exposure_at_once() -> None:
    camera = SimulatedCamera(settings("dataset.exposure=60000"))
    camera.open()
    reader = threading.Thread(target=lambda: list(camera.blocks(1)))
    reader.start()
    camera.stop()
    reader.join(5)
    assert not reader.is_alive()


@pytest.mark.benchmark
def test_what_a_frame_costs(record_testsuite_property: Callable[[str, object], None]) -> None:
    """A 64×64 camera at 100 frames/s should take under a fifth of a core."""
    live = make_live_simulator(settings("dataset.height=64", "dataset.width=64", "dataset.exposure=10"))
    live.expose(100)
    began = time.process_time()
    live.expose(1000)
    cost = time.process_time() - began
    record_testsuite_property("ms of processor time a frame", round(cost, 2))
    assert cost < 2.0
