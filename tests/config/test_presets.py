"""Every preset fills its dataclass, and those that say so are complete."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import config
from acquisition.camera import Camera
from config.schema import CameraSettings, OpticsSettings

FOLDER = Path(config.__file__).parent
CAMERAS = sorted((FOLDER / "camera").glob("*.yaml"))
OPTICS = sorted((FOLDER / "optics").glob("*.yaml"))


def load(path: Path, schema: type) -> object:
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.load(path)))


@pytest.mark.parametrize("path", CAMERAS, ids=lambda path: path.stem)
def test_camera_presets_fit_the_schema_and_carry_their_own_name(path: Path) -> None:
    settings = load(path, CameraSettings)
    assert isinstance(settings, CameraSettings)
    assert settings.name == path.stem


@pytest.mark.parametrize("name", ["challenge_emccd", "ixon897", "ixon888", "scmos"])
def test_calibrated_presets_need_a_pixel_size_at_most(name: str) -> None:
    settings = load(FOLDER / "camera" / f"{name}.yaml", CameraSettings)
    assert isinstance(settings, CameraSettings)
    camera = Camera.from_settings(settings, {"pixel_size": 100.0}, (8, 8), (0, 0))
    assert (camera.em_gain > 1) == (name != "scmos")


def test_the_challenge_camera_is_the_published_one() -> None:
    settings = load(FOLDER / "camera" / "challenge_emccd.yaml", CameraSettings)
    assert settings == CameraSettings(
        name="challenge_emccd",
        baseline=100.0,
        e_per_adu=45.0,
        em_gain=300.0,
        quantum_efficiency=0.9,
        read_noise=74.4,
        spurious_charge=0.002,
        pixel_size=100.0,
    )


@pytest.mark.parametrize("path", OPTICS, ids=lambda path: path.stem)
def test_optics_presets_fit_the_schema(path: Path) -> None:
    settings = load(path, OpticsSettings)
    assert isinstance(settings, OpticsSettings)
    assert settings.name == path.stem
    assert path.stem == "unknown" or 50 < (settings.psf_sigma or 0) < 300


def test_objective_presets_follow_their_formula() -> None:
    settings = load(FOLDER / "optics" / "oil_100x_1.49.yaml", OpticsSettings)
    assert isinstance(settings, OpticsSettings)
    assert settings.psf_sigma == pytest.approx(0.21 * 670 / 1.49, abs=0.1)
