"""An sCMOS with drawn maps: on frames, on disk, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acquisition.camera import Camera
from config.compose import compose
from config.errors import SettingsError
from simulation.dataset import make_simulator, write_dataset

SMALL = ("optics=challenge", "dataset.frames=300", "dataset.height=16", "dataset.width=20", "dataset.density=0")
SCMOS = ("camera=scmos", "camera.pixel_size=100", "dataset.pixel_maps=true", *SMALL)


def test_pixels_differ_as_their_maps_say() -> None:
    simulator = make_simulator(compose([*SCMOS, "dataset.background=0", "camera.spurious_charge=0"]))
    frames = simulator.frames(0, 300).astype(float)
    baseline = np.asarray(simulator.camera.baseline)
    assert baseline.std() == pytest.approx(2, rel=0.3)
    # The converter floors: half an ADU less on average.
    assert np.abs(frames.mean(0) + 0.5 - baseline).max() < 1.5
    noise = np.asarray(simulator.camera.read_noise) / np.asarray(simulator.camera.e_per_adu)
    assert np.corrcoef(frames.std(0).ravel(), noise.ravel())[0, 1] > 0.9


def test_maps_on_disk_are_those_of_the_camera(tmp_path: Path) -> None:
    settings = compose([*SCMOS, "dataset.frames=4"])
    write_dataset(settings, tmp_path / "set")
    drawn = make_simulator(settings).camera
    read = compose([f"camera={tmp_path / 'set' / 'camera.yaml'}"]).camera
    camera = Camera.from_settings(read, {}, (16, 20), (0, 0))
    for name in ("baseline", "e_per_adu", "read_noise"):
        assert np.allclose(getattr(camera, name), getattr(drawn, name), rtol=1e-5)


def test_maps_are_for_an_scmos_without_any() -> None:
    with pytest.raises(SettingsError, match="EM register"):
        make_simulator(compose(["camera=challenge_emccd", "dataset.pixel_maps=true", *SMALL]))
