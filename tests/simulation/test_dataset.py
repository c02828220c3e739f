"""Data sets on disk, and every preset in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from config.compose import compose, options
from config.schema import Settings
from engine.output.formats import read_table
from simulation.dataset import make_simulator, write_dataset

MICROSCOPES = ("airyscan", "contest", "flim", "highpower")
CHALLENGE = ("camera=challenge_emccd", "optics=challenge")
GOES_WITH = {
    **{name: (f"camera={name}", f"optics={name}") for name in MICROSCOPES},
    "scmos": ("camera=scmos", "camera.pixel_size=100", "optics=challenge"),
    "microtubules_3d": ("camera=challenge_emccd", "optics=astigmatic"),
}
SMALL = ("dataset.frames=6", "dataset.height=64", "dataset.width=64")


def rendered(*overrides: str) -> Settings:
    """The settings, after their frames were looked at."""
    settings = compose(overrides)
    simulator = make_simulator(settings)
    frames = simulator.frames(0, 3)
    assert frames.shape == (3, *simulator.shape)
    assert frames.std() > 0
    assert 0 < frames.mean() < 65535
    assert np.isfinite(simulator.photons(0, 3).numpy()).all()
    assert float(simulator.photons(0, 3).min()) >= 0
    return settings


@pytest.mark.parametrize("name", options("dataset"))
def test_every_data_set_renders(name: str) -> None:
    settings = rendered(f"dataset={name}", *GOES_WITH.get(name, CHALLENGE), *SMALL)
    assert settings.dataset.name == name
    assert len(make_simulator(settings).emitters()) > 0


@pytest.mark.parametrize("name", [name for name in options("optics") if name != "unknown"])
def test_every_optics_renders(name: str) -> None:
    rendered("camera=challenge_emccd", f"optics={name}", "dataset.depth=[-300,300]", *SMALL)


@pytest.mark.parametrize("name", [name for name in options("camera") if name not in ("unknown", "estimate")])
def test_every_camera_renders(name: str) -> None:
    rendered(f"camera={name}", "camera.pixel_size=100", "optics=challenge", *SMALL)


@pytest.mark.parametrize("name", options("photophysics"))
def test_every_photophysics_renders(name: str) -> None:
    settings = rendered(*CHALLENGE, f"photophysics={name}", "dataset.density=0.3", *SMALL)
    assert settings.photophysics.name == name


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    settings = compose(
        [
            "camera=challenge_emccd",
            "optics=astigmatic",
            "dataset=microtubules_3d",
            "dataset.background_change=0.3",
            *SMALL,
        ]
    )
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
    settings = compose([*CHALLENGE, *SMALL, "dataset.frames=200"])

    def fail(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(settings, tmp_path, fail)
    assert not list(tmp_path.glob("*.tif"))
    write_dataset(settings, tmp_path)
    assert (tmp_path / "frames.ome.tif").is_file()
