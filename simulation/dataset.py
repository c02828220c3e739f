"""A simulated acquisition on disk: frames.ome.tif, emitters.parquet, settings.yaml."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from omegaconf import OmegaConf
from pyarrow import parquet

from acquisition.camera import Camera
from config.errors import SettingsError
from config.schema import Settings
from simulation.live import LiveSimulator
from simulation.simulator import Simulator

BLOCK = 64
"""Frames rendered at once."""


def make_simulator(settings: Settings) -> Simulator:
    """The acquisition that the settings describe. Raises CalibrationMissing, SettingsError."""
    return Simulator(settings.dataset, *_camera_and_psf(settings))


def make_live_simulator(settings: Settings) -> LiveSimulator:
    """The same kind of acquisition, without an end. Raises CalibrationMissing, SettingsError."""
    return LiveSimulator(settings.dataset, *_camera_and_psf(settings))


def _camera_and_psf(settings: Settings) -> tuple[Camera, float]:
    shape = (settings.dataset.height, settings.dataset.width)
    if settings.optics.psf_sigma is None:
        raise SettingsError("a simulation needs optics.psf_sigma in nm: optics.psf_sigma=135, or optics=challenge")
    return Camera.from_settings(settings.camera, {}, shape, (0, 0)), settings.optics.psf_sigma


def write_dataset(settings: Settings, folder: Path, progress: Callable[[int], object] | None = None) -> Path:
    """Simulate into ``folder``; ``progress`` is told how many frames are written. Gives the path of the frames.

    Raises SettingsError when the folder already holds frames, and what ``make_simulator`` raises.
    """
    frames = folder / "frames.ome.tif"
    if frames.exists():
        raise SettingsError(f"{frames} is already there. Give another folder: dataset.output=FOLDER")
    simulator = make_simulator(settings)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(settings)), encoding="utf-8")
    parquet.write_table(simulator.emitters(), folder / "emitters.parquet")
    _write_frames(simulator, frames, progress or (lambda _: None))
    return frames


def _write_frames(simulator: Simulator, path: Path, progress: Callable[[int], object]) -> None:
    total = simulator.dataset.frames
    micrometres = simulator.camera.pixel_size / 1000
    metadata = {
        "axes": "TYX",
        "PhysicalSizeX": micrometres,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": micrometres,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": simulator.dataset.exposure,
        "TimeIncrementUnit": "ms",
    }

    def pages() -> Iterator[NDArray[np.uint16]]:
        for start in range(0, total, BLOCK):
            stop = min(start + BLOCK, total)
            yield from simulator.frames(start, stop)
            progress(stop)

    big = total * simulator.shape[0] * simulator.shape[1] * 2 > 2**31
    tifffile.imwrite(
        path, pages(), shape=(total, *simulator.shape), dtype="uint16", metadata=metadata, bigtiff=big, ome=True
    )
