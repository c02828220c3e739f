"""The closed loop: simulated camera, localiser, figures of quality, feedback, light, and round again."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from config.compose import compose
from config.schema import Settings
from engine.monitor.feedback import Feedback
from engine.monitor.figures import Quality
from engine.monitor.quality import QualityMonitor
from engine.observer import ObservedLocaliser
from engine.output.recorder import Recorder
from engine.pipeline import Pipeline
from engine.runtimes import load_runtime
from engine.runtimes.choice import Wanted
from engine.streaming import StreamingLocaliser
from models.export import build_step
from models.weights import model_path
from simulation.activation import Blinking
from simulation.camera_source import SimulatedCamera
from tests.engine.monitor.samples import MODEL, batch

DEADLINE = 60.0
SECONDS = 80
"""Of the accelerated loop."""
FEEDBACK = ["feedback=activation", "feedback.maximum=2", "feedback.slew=0.2", "feedback.safe=0.01"]


def dense(*more: str) -> Settings:
    """A sample that is three times denser than the target at the light's first power, 1."""
    size = ["dataset.height=48", "dataset.width=48", "dataset.exposure=50", "dataset.on_time=200"]
    scene = ["camera=challenge_emccd", "optics=challenge", "dataset.density=3", "dataset.off_time=3000", *size]
    return compose([*scene, *FEEDBACK, *more])


class Oracle:
    """Localises by the truth, blurred by 15 nm: it blinks as the camera's sample does, from the same seed and light."""

    def __init__(self, settings: Settings, pixel_size: float) -> None:
        self._blinking, self._pixel = Blinking(settings.dataset, pixel_size), pixel_size
        self._size = settings.dataset.width, settings.dataset.height
        self._random = np.random.default_rng(0)

    def localise(self, numbers: NDArray[np.int64], power: float) -> pa.RecordBatch:
        """The next frames, all taken with this power of the light; who is dim or outside the field is not found."""
        rows: dict[str, list[NDArray[Any]]] = {name: [] for name in ("frame", "x", "y", "photons")}
        for number in numbers:
            lit = self._blinking.frame(power)
            inside = (lit.x > 0) & (lit.x < self._size[0]) & (lit.y > 0) & (lit.y < self._size[1]) & (lit.photons > 100)
            rows["frame"].append(np.full(inside.sum(), number))
            for axis, place in (("x", lit.x), ("y", lit.y)):
                rows[axis].append(place[inside] * self._pixel + self._random.normal(0, 15, inside.sum()))
            rows["photons"].append(lit.photons[inside])
        columns = {name: np.concatenate(parts) for name, parts in rows.items()}
        return batch(columns | dict.fromkeys(("sigma_x", "sigma_y"), np.full(len(columns["x"]), 15.0)))


class Told:
    """Keeps figures, and lets another thread wait for them."""

    def __init__(self) -> None:
        self.rows: list[Quality] = []
        self._came = threading.Condition()

    def take(self, quality: Quality) -> None:
        with self._came:
            self.rows.append(quality)
            self._came.notify_all()

    def wait_for(self, count: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: len(self.rows) >= count, DEADLINE)


def within(values: list[float], target: float, share: float = 0.15) -> bool:
    """Whether means over five seconds stay that close to the target."""
    means = np.convolve(values, np.full(5, 0.2), "valid")
    return bool(np.abs(means / target - 1).max() <= share)


def test_from_three_times_too_dense_the_target_is_reached_and_held(tmp_path: Path) -> None:
    settings, now, told = dense(), [0.0], Told()

    def wait(seconds: float) -> bool:
        now[0] += max(seconds, 1.0)
        return False

    camera = SimulatedCamera(settings, lambda: now[0], wait, endless=True)
    simulator, light = camera.simulator, camera.light()
    oracle = Oracle(settings, simulator.camera.pixel_size)
    feedback = Feedback(settings.feedback, light, lambda: simulator.exposed - 1, clock=lambda: now[0])
    monitor = QualityMonitor(
        settings.monitor, simulator.camera, camera.open(), replace(MODEL, context=(0, 0)), tmp_path,
        readers=[feedback.take, told.take], target=feedback.target, clock=lambda: now[0],
    )  # fmt: skip
    for second, frames in enumerate(camera.blocks(20)):
        monitor.observe(frames, oracle.localise(frames.numbers, light.power()))
        told.wait_for(second + 1)  # so that the course is the same whatever the threads do
        feedback.tick()
        if second == SECONDS:
            camera.stop()
    monitor.close()
    feedback.close()
    densities = [quality.density for quality in told.rows]
    assert densities[0] > 2.5
    assert within(densities[45:], 1.0)
    assert within(densities[45:], float(np.mean(densities[45:])))  # it does not swing
    assert light.power() == settings.feedback.safe


@pytest.mark.benchmark
@pytest.mark.timeout(300)
def test_the_shipped_model_holds_the_density_in_real_time(tmp_path: Path) -> None:
    """Two minutes of a camera at 50 frames/s through the whole engine, the light on its own threads."""
    settings, told = dense("dataset.exposure=20"), Told()
    camera = SimulatedCamera(settings, endless=True)
    description, calibration = camera.open(), camera.simulator.camera
    runtime = load_runtime(model_path("default"), Wanted("auto", "cpu", "fp32", None), build_step)
    with Feedback(settings.feedback, camera.light(), lambda: camera.simulator.exposed - 1) as feedback:
        monitor = QualityMonitor(
            settings.monitor, calibration, description, runtime.description, tmp_path,
            readers=[feedback.take, told.take], target=feedback.target,
        )  # fmt: skip
        localiser = ObservedLocaliser(StreamingLocaliser(runtime, calibration, 0.5), [monitor])
        recorder = Recorder(tmp_path / "localisations.arrows")
        status = Pipeline(camera, localiser, recorder, description=description, live=True, seconds=120).run()
    monitor.close()
    densities = [quality.density for quality in told.rows]
    figures = f"{np.round(densities, 2).tolist()} {status.figures()}"
    assert camera.light().power() == settings.feedback.safe, figures
    assert within(densities[60:-1], 1.0), figures
    logging.getLogger("engine").warning("densities: %s", figures)
