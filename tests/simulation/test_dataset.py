"""Data sets on disk, and every preset in them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from omegaconf import OmegaConf
from PIL import Image

from config.compose import FOLDER, compose, options
from config.schema import Settings
from engine.output.formats import read_table
from simulation.dataset import make_simulator, write_dataset
from simulation.simulator import Simulator

CHALLENGE = ("camera=challenge_emccd", "optics=challenge")
GOES_WITH = {
    **{name: {"camera": name, "optics": name} for name in ("airyscan", "contest", "flim", "highpower")},
    "scmos": {"camera": "scmos"},
    "microtubules_3d": {"optics": "astigmatic"},
}
"""Files of other groups that a data set is made for; otherwise those of the challenge."""
SMALL = ("dataset.frames=6", "dataset.height=64", "dataset.width=64")


def rendered(settings: Settings) -> Simulator:
    """What the settings make, after its frames were looked at."""
    if settings.camera.pixel_size is None:
        settings = replace(settings, camera=replace(settings.camera, pixel_size=100.0))
    simulator = make_simulator(settings)
    frames, light = simulator.frames(0, 3), simulator.photons(0, 3)
    assert frames.shape == (3, *simulator.shape)
    assert frames.std() > 0
    assert 0 < frames.mean() < 65535
    assert np.isfinite(light.numpy()).all()
    assert float(light.min()) >= 0
    return simulator


def of_file(group: str, name: str) -> Any:
    """One file of a group, read as Hydra does but without the rest, which takes far longer."""
    schema = OmegaConf.structured(getattr(Settings(), group))
    return OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(FOLDER / group / f"{name}.yaml")))


@cache
def like_challenge() -> Settings:
    return compose([*CHALLENGE, *SMALL, "dataset.density=0.3"])


@pytest.mark.parametrize("name", options("dataset"))
def test_every_data_set_renders(name: str) -> None:
    others = {group: of_file(group, file) for group, file in GOES_WITH.get(name, {}).items()}
    dataset = replace(of_file("dataset", name), frames=6, height=64, width=64)
    settings = replace(like_challenge(), dataset=dataset, **others)
    assert len(rendered(settings).emitters()) > 0
    assert dataset.name == name


@pytest.mark.parametrize("name", [name for name in options("optics") if name != "unknown"])
def test_every_optics_renders(name: str) -> None:
    deep = replace(like_challenge().dataset, depth=[-300.0, 300.0])
    rendered(replace(like_challenge(), optics=of_file("optics", name), dataset=deep))


@pytest.mark.parametrize("name", [name for name in options("camera") if name not in ("unknown", "estimate")])
def test_every_camera_renders(name: str) -> None:
    rendered(replace(like_challenge(), camera=replace(of_file("camera", name), pixel_size=100.0)))


@pytest.mark.parametrize("name", options("photophysics"))
def test_every_photophysics_renders(name: str) -> None:
    assert of_file("photophysics", name).name == name
    rendered(replace(like_challenge(), photophysics=of_file("photophysics", name)))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    wanted = ["camera=challenge_emccd", "optics=astigmatic", "dataset=microtubules_3d", *SMALL]
    settings = compose([*wanted, "dataset.background_change=0.3"])
    folder = tmp_path_factory.mktemp("written") / "set"
    write_dataset(settings, folder)
    return settings, folder


def test_a_data_set_is_whole(written: tuple[Settings, Path]) -> None:
    names = {"frames.ome.tif", "emitters.parquet", "emitters.csv", "settings.yaml", "camera.yaml", "preview.png"}
    assert {path.name for path in written[1].iterdir()} == names


def test_truth_as_thunderstorm_reads_it_is_the_truth(written: tuple[Settings, Path]) -> None:
    settings, folder = written
    simulator = make_simulator(settings)
    table, truth = read_table(folder / "emitters.csv"), simulator.emitters()
    for name in ("frame", "x", "y", "z", "photons"):
        assert np.array_equal(table[name].to_numpy(), truth[name].to_numpy()), name
    row = 3
    frame, x, y = (table[name].to_numpy()[row] for name in ("frame", "x", "y"))
    expected = simulator.background(int(frame), int(frame) + 1)[0, int(y // 100), int(x // 100)]
    assert table["background"].to_numpy()[row] == pytest.approx(float(expected), rel=1e-5)


def test_frames_say_how_they_were_made(written: tuple[Settings, Path]) -> None:
    with tifffile.TiffFile(written[1] / "frames.ome.tif") as file:
        assert file.is_ome
        words = file.ome_metadata or ""
    for said in ("microtubules_3d", "challenge_emccd", "PhysicalSizeX", 'TimeIncrement="30', "truth"):
        assert said in words


def test_a_preview_shows_three_panels(written: tuple[Settings, Path]) -> None:
    with Image.open(written[1] / "preview.png") as picture:
        assert picture.size == (3 * 384 + 16, 384)
        pixels = np.asarray(picture.convert("L")).astype(float)
    for start in (0, 392, 784):
        assert pixels[:, start : start + 384].std() > 3


def test_the_written_settings_make_the_same_data_set(written: tuple[Settings, Path]) -> None:
    camera = compose([f"camera={written[1] / 'camera.yaml'}"]).camera
    assert camera == written[0].camera


def test_a_writing_that_failed_leaves_no_frames(tmp_path: Path) -> None:
    settings = replace(like_challenge(), dataset=replace(like_challenge().dataset, frames=200))

    def fail(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(settings, tmp_path, fail)
    assert not list(tmp_path.glob("*.tif"))
    write_dataset(settings, tmp_path)
    assert (tmp_path / "frames.ome.tif").is_file()
