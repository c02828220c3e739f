"""What is measured on a recording is what it was simulated with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from acquisition.camera import Camera
from acquisition.source import Frames
from config.compose import compose
from config.errors import CalibrationMissing
from config.schema import Settings
from engine.runtimes import load_runtime
from engine.runtimes.choice import Wanted
from engine.streaming import StreamingLocaliser
from models import microscope
from models.evaluation.benchmark import localise
from models.export import build_step
from models.weights import model_path
from simulation.dataset import make_simulator

TRUTH = {"photons": 900.0, "photons_sd": 200.0, "background": 30.0, "on_time": 90.0, "density": 0.15, "exposure": 30.0}


def settings() -> Settings:
    values = [f"dataset.{name}={value}" for name, value in TRUTH.items()]
    more = ["dataset.frames=400", "dataset.seed=77", "dataset.background_variation=0.1", "run.threshold=0.45"]
    return compose(["camera=challenge_emccd", "optics.psf_sigma=150", *values, *more])


@pytest.fixture(scope="module")
def found() -> microscope.Microscope:
    chosen = settings()
    simulator = make_simulator(chosen)
    runtime = load_runtime(model_path("default"), Wanted("onnx", "cpu", "fp32", 1), build_step)
    localiser = StreamingLocaliser(runtime, simulator.camera, chosen.run.threshold)
    table = localise(simulator, localiser)
    frames = Frames(simulator.frames(0, 400), np.arange(400), np.full(400, np.nan))
    return microscope.measure(frames, table, simulator.camera)


def test_the_figures_are_the_truth(found: microscope.Microscope) -> None:
    assert found.psf_sigma == pytest.approx(150, rel=0.06)
    # The model reports 3 % too many photons, and so few emitters scatter by 2 %.
    assert found.photons == pytest.approx(900, rel=0.08)
    assert found.photons_sd == pytest.approx(200, rel=0.25)
    assert found.background == pytest.approx(30, rel=0.06)
    assert found.on_time == pytest.approx(3, rel=0.2)
    assert found.density == pytest.approx(0.15, rel=0.15)
    assert found.tracks > 100


def test_the_files_are_settings(found: microscope.Microscope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = tmp_path / "mine", list[tuple[Settings, float]]()

    def affordable(recipe: Settings, seconds: float, fewest: int, most: int) -> int:
        asked.append((recipe, seconds))
        return 777

    monkeypatch.setattr(microscope, "affordable_steps", affordable)
    network = asdict(compose(["network=small"]).network)
    files = microscope.write_settings(folder, found, settings().camera, 30.0, "small", network, seconds=60.0)
    ((recipe, seconds),) = asked
    assert (recipe.network.name, recipe.training.name, seconds) == ("small", "mine", 60.0)
    read = compose([f"{group}={path}" for group, path in files.items()])
    assert read.network == compose(["network=small"]).network
    assert read.training.steps == 777
    assert read.camera.em_gain == 300
    assert read.optics.psf_sigma == pytest.approx(found.psf_sigma, abs=0.1)
    assert read.dataset.on_time == pytest.approx(30 * found.on_time, abs=0.1)
    domain = read.training.domain
    assert domain.photons[0] < 900 < domain.photons[1]
    assert domain.psf_sigma[0] < 1.5 < domain.psf_sigma[1]
    assert domain.on_time[0] < 3 < domain.on_time[1]
    assert domain.emccd_fraction == 1
    assert read.training.base is not None
    assert Path(read.training.base).exists()
    assert yaml.safe_load(files["training"].read_text(encoding="utf-8"))["name"] == "mine"


def test_links_join_neighbouring_frames_alone() -> None:
    frame = np.array([0, 1, 2, 5, 6, 0, 1])
    x = np.array([3.0, 3.1, 3.0, 3.0, 3.1, 9.0, 9.9])
    emitter = microscope.linked(frame, x, np.full(7, 4.0))
    same = emitter[:, None] == emitter
    assert same[0, 1]
    assert same[1, 2]
    assert not same[2, 3]  # two frames lie between
    assert same[3, 4]
    assert not same[5, 6]  # too far


def test_of_two_near_each_is_linked_once() -> None:
    frame, x = np.array([0, 0, 1, 1]), np.array([3.0, 3.4, 3.05, 3.45])
    emitter = microscope.linked(frame, x, np.zeros(4))
    assert emitter[0] == emitter[2]
    assert emitter[1] == emitter[3]
    assert emitter[0] != emitter[1]


def test_the_busiest_region_is_where_it_blinks() -> None:
    pixels = np.full((20, 300, 200), 100, np.uint16)
    pixels[::2, 210:260, 120:160] += 500
    x, y, width, height = microscope.busiest_region(pixels)
    assert (width, height) == (128, 128)
    assert x <= 120
    assert x + width >= 160
    assert y <= 210
    assert y + height >= 260
    assert microscope.busiest_region(pixels[:, :50, :60]) == (0, 0, 60, 50)


def test_too_little_is_an_error_that_says_what_to_do() -> None:
    camera = Camera("any", 100.0, 1.0, 1.0, 1.0, 100.0)
    frames = Frames(np.full((5, 32, 32), 120, np.uint16), np.arange(5), np.zeros(5))
    runtime = load_runtime(model_path("default"), Wanted("onnx", "cpu", "fp32", 1), build_step)
    localiser = StreamingLocaliser(runtime, camera, 0.45)
    localiser.push(frames)
    with pytest.raises(CalibrationMissing, match=r"run\.roi"):
        microscope.measure(frames, pa.Table.from_batches([localiser.flush()]), camera)
