"""A whole simulated acquisition, its files and its camera."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from pyarrow import parquet

from acquisition.recorded import RecordedSource
from config.compose import compose
from config.errors import CalibrationMissing, SettingsError
from config.schema import Settings
from simulation.background import smooth_background
from simulation.camera_source import SimulatedCamera
from simulation.dataset import make_simulator, write_dataset


def settings(*more: str) -> Settings:
    base = ["camera=challenge_emccd", "optics=challenge", "dataset.frames=60", "dataset.height=40", "dataset.width=48"]
    return compose([*base, *more])


def test_frames_are_the_same_in_any_blocks() -> None:
    whole = make_simulator(settings()).frames(0, 60)
    other = make_simulator(settings())
    parts = [other.frames(start, min(start + 7, 60)) for start in range(0, 60, 7)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert whole.dtype == np.uint16
    assert whole.shape == (60, 40, 48)


def test_a_seed_is_an_acquisition() -> None:
    first, again, other = (make_simulator(settings(f"dataset.seed={seed}")) for seed in (4, 4, 5))
    assert first.emitters().equals(again.emitters())
    assert not first.emitters().equals(other.emitters())
    assert not np.array_equal(first.frames(0, 1), other.frames(0, 1))


@pytest.mark.parametrize("density", [0.2, 2.0])
def test_density_and_photons_are_what_was_asked_for(density: float) -> None:
    simulator = make_simulator(
        settings(f"dataset.density={density}", "dataset.frames=600", "dataset.height=96", "dataset.width=96")
    )
    truth = simulator.emitters()
    area = (96 * 0.1) ** 2
    light = truth["photons"].to_numpy().sum() / 600 / area  # photons per frame and µm²
    assert abs(light / (density * 1000) - 1) < 0.08


@pytest.mark.parametrize("structure", ["lines", "ring"])
def test_structures_stay_inside_and_keep_the_density(structure: str) -> None:
    truth = make_simulator(settings(f"dataset.structure={structure}", "dataset.frames=400")).emitters()
    light = truth["photons"].to_numpy().sum() / 400 / (4.0 * 4.8)
    assert abs(light / 1000 - 1) < 0.15
    assert truth["x"].to_numpy().max() <= 4800
    assert truth["y"].to_numpy().max() <= 4000


def test_the_light_in_a_frame_is_that_of_its_emitters() -> None:
    simulator = make_simulator(settings("dataset.density=0.3"))
    truth = simulator.emitters()
    x, y, frame, photons = (truth[name].to_numpy() for name in ("x", "y", "frame", "photons"))
    inner = (x > 800) & (x < 4000) & (y > 800) & (y < 3200)
    brightest = np.argmax(np.where(inner, photons, 0))
    image = simulator.photons(int(frame[brightest]), int(frame[brightest]) + 1)[0]
    assert image[int(y[brightest] // 100), int(x[brightest] // 100)] > 0.05 * photons[brightest]


def test_background_is_smooth_and_has_its_mean() -> None:
    field = smooth_background(70, 50, 20.0, 0.3, torch.Generator().manual_seed(0))
    assert abs(float(field.mean()) - 20) < 1e-3
    assert float(field.min()) > 0
    assert float(field.std()) > 1
    assert float((field[1:] - field[:-1]).abs().max()) < 0.15 * 20


def test_a_dataset_on_disk_is_the_acquisition(tmp_path: Path) -> None:
    wanted = settings("dataset.seed=9")
    told: list[int] = []
    path = write_dataset(wanted, tmp_path / "set", told.append)
    simulator = make_simulator(wanted)
    assert np.array_equal(tifffile.imread(path), simulator.frames(0, 60))
    assert parquet.read_table(path.parent / "emitters.parquet").equals(simulator.emitters())
    assert "seed: 9" in (path.parent / "settings.yaml").read_text(encoding="utf-8")
    assert told[-1] == 60
    with RecordedSource(path) as source:
        description = source.open()
        assert description.frames == 60
        assert description.camera["pixel_size"] == pytest.approx(100)
        assert np.array_equal(np.concatenate([block.pixels for block in source.blocks(16)]), simulator.frames(0, 60))


def test_a_dataset_is_never_overwritten(tmp_path: Path) -> None:
    write_dataset(settings(), tmp_path)
    with pytest.raises(SettingsError, match="already there"):
        write_dataset(settings(), tmp_path)


def test_what_a_simulation_needs_is_named() -> None:
    with pytest.raises(SettingsError, match=r"optics\.psf_sigma"):
        make_simulator(compose(["camera=challenge_emccd"]))
    with pytest.raises(CalibrationMissing):
        make_simulator(compose(["optics=challenge"]))


class Clock:
    """Time that passes only in waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False


def test_the_simulated_camera_keeps_its_frame_rate() -> None:
    clock = Clock()
    camera = SimulatedCamera(settings("dataset.exposure=20"), clock, clock.wait)
    with camera:
        assert camera.open().exposure == 20
        arrivals = [(block.numbers.tolist(), clock.now - 100.0) for block in camera.blocks(8)]
    numbers = [number for block, _ in arrivals for number in block]
    assert numbers == list(range(60))
    assert all(abs(when - (block[-1] + 1) * 0.02) < 1e-6 for block, when in arrivals)


def test_a_late_reader_gets_every_frame_in_larger_blocks() -> None:
    clock = Clock()
    blocks = SimulatedCamera(settings("dataset.exposure=20"), clock, clock.wait).blocks(16)
    first = next(blocks)
    clock.now += 0.2
    second = next(blocks)
    assert first.numbers.tolist() == [0]
    assert second.numbers.tolist() == list(range(1, 11))


def test_stop_ends_the_blocks() -> None:
    camera = SimulatedCamera(replace(settings()))
    blocks = camera.blocks(4)
    next(blocks)
    camera.stop()
    assert list(blocks) == []
