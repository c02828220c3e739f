"""A simulated acquisition on disk.

frames.ome.tif      what the camera gave, with pixel size, interval and how it was made
emitters.parquet    the truth (EMITTER_SCHEMA); emitters.csv: the same for ThunderSTORM and whatever reads its tables
settings.yaml       everything that made it
camera.yaml         the camera, for `camera=…/camera.yaml`; camera_maps.npz where its pixels differ
preview.png         a frame, the mean of all frames, the truth
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tifffile
from numpy.typing import NDArray
from omegaconf import OmegaConf
from pyarrow import parquet

from acquisition.camera import Camera
from config.errors import SettingsError
from config.schema import Settings
from engine.output.disk import replace_text, replacing
from engine.output.formats import write_table
from engine.output.table import describe_field, table_from_columns
from simulation.live import LiveSimulator
from simulation.motion import Motion
from simulation.optics import make_psf
from simulation.pictures import write_preview
from simulation.pixel_maps import save_maps, with_maps
from simulation.psf import Psf
from simulation.simulator import Simulator

BLOCK = 64
"""Frames rendered at once."""
MAPS = "camera_maps.npz"


def make_simulator(settings: Settings) -> Simulator:
    """The acquisition that the settings describe. Raises CalibrationMissing, SettingsError."""
    camera, psf = _camera_and_psf(settings)
    return Simulator(settings.dataset, camera, psf, settings.photophysics, settings.optics.sigma_spread)


def make_live_simulator(settings: Settings) -> LiveSimulator:
    """The same kind of acquisition, without an end. Raises CalibrationMissing, SettingsError."""
    if settings.photophysics.kind != "two_state":
        raise SettingsError(
            f"photophysics={settings.photophysics.name}: a live simulation blinks by two states, since a light that "
            "changes acts on them. Set photophysics=two_state, or write a data set with `liveloc simulate`."
        )
    return LiveSimulator(settings.dataset, *_camera_and_psf(settings), settings.optics.sigma_spread)


def _camera_and_psf(settings: Settings) -> tuple[Camera, Psf]:
    shape = (settings.dataset.height, settings.dataset.width)
    camera = Camera.from_settings(settings.camera, {}, shape, (0, 0))
    if settings.dataset.pixel_maps:
        camera = with_maps(camera, shape, settings.dataset.seed)
    return camera, make_psf(settings.optics, camera.pixel_size, Motion(settings.dataset).blur)


def write_dataset(settings: Settings, folder: Path, progress: Callable[[int], object] | None = None) -> Path:
    """Simulate into ``folder``; ``progress`` is told how many frames are written. Gives the path of the frames.

    Raises SettingsError when the folder already holds frames, and what ``make_simulator`` raises.
    """
    frames = folder / "frames.ome.tif"
    if frames.exists():
        raise SettingsError(f"{frames} is already there. Give another folder: dataset.output=FOLDER")
    simulator = make_simulator(settings)
    folder.mkdir(parents=True, exist_ok=True)
    _write_settings(settings, simulator, folder)
    truth = simulator.emitters()
    parquet.write_table(truth, folder / "emitters.parquet")
    table = as_localisations(truth, simulator, settings)
    write_table(table, folder / "emitters.csv")
    first, mean = _write_frames(simulator, settings, frames, progress or (lambda _: None))
    write_preview(folder / "preview.png", first, mean, table, simulator.camera.pixel_size)
    return frames


def as_localisations(truth: pa.Table, simulator: Simulator, settings: Settings) -> pa.Table:
    """The truth as a perfect analysis would give it (LOCALISATION_SCHEMA); z only where the sample has depth."""
    columns = {name: truth[name].to_numpy() for name in ("frame", "x", "y", "photons")}
    if settings.dataset.depth[1] > settings.dataset.depth[0] or truth["z"].to_numpy().any():
        columns["z"] = truth["z"].to_numpy()
    columns["background"] = _background_behind(columns, simulator)
    facts = describe_field(
        pixel_size=simulator.camera.pixel_size,
        width=simulator.shape[1],
        height=simulator.shape[0],
        frames=simulator.dataset.frames,
        psf_sigma=settings.optics.psf_sigma,
    )
    return table_from_columns(columns, facts)


def _background_behind(columns: Mapping[str, NDArray[Any]], simulator: Simulator) -> NDArray[np.float32]:
    """Expected background in each emitter's pixel [photons]; ``columns`` are sorted by frame."""
    frame, pixel = columns["frame"], simulator.camera.pixel_size
    row, column = ((columns[name] / pixel).astype(int) for name in ("y", "x"))
    row, column = row.clip(0, simulator.shape[0] - 1), column.clip(0, simulator.shape[1] - 1)
    found = np.empty(len(frame), np.float32)
    for start in range(0, simulator.dataset.frames, BLOCK):
        here = slice(*np.searchsorted(frame, [start, start + BLOCK]).tolist())
        field = simulator.background(start, start + BLOCK)
        found[here] = field[frame[here] - start, row[here], column[here]].numpy()
    return found


def _write_settings(settings: Settings, simulator: Simulator, folder: Path) -> None:
    """settings.yaml and camera.yaml, with the maps where pixels were drawn apart."""
    camera = {field.name: getattr(settings.camera, field.name) for field in fields(settings.camera)}
    if settings.dataset.pixel_maps:
        save_maps(simulator.camera, folder / MAPS)
        camera["maps"] = MAPS
    replace_text(folder / "settings.yaml", OmegaConf.to_yaml(OmegaConf.structured(settings)))
    replace_text(folder / "camera.yaml", OmegaConf.to_yaml(OmegaConf.create(camera)))


def _write_frames(
    simulator: Simulator, settings: Settings, path: Path, progress: Callable[[int], object]
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Write the frames; give the one in the middle, and the mean of all."""
    total, shape = simulator.dataset.frames, simulator.shape
    shown, summed = np.zeros(shape, np.uint16), np.zeros(shape)

    def pages() -> Iterator[NDArray[np.uint16]]:
        nonlocal shown, summed
        for start in range(0, total, BLOCK):
            block = simulator.frames(start, min(start + BLOCK, total))
            if start <= total // 2 < start + len(block):
                shown = block[total // 2 - start]
            summed += block.sum(0, dtype=np.float64)
            yield from block
            progress(start + len(block))

    big = total * shape[0] * shape[1] * 2 > 2**31
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            pages(),
            shape=(total, *shape),
            dtype="uint16",
            metadata=_metadata(simulator, settings),
            bigtiff=big,
            ome=True,
        )
    return shown, summed / total


def _metadata(simulator: Simulator, settings: Settings) -> dict[str, object]:
    """What the OME-XML says."""
    camera, dataset, micrometres = simulator.camera, simulator.dataset, simulator.camera.pixel_size / 1000
    words = (
        f"Simulated by liveloc: data set {dataset.name}, seed {dataset.seed}; camera {camera.name} (EM gain "
        f"{camera.em_gain:g}, quantum efficiency {camera.quantum_efficiency:g}); optics {settings.optics.name}; "
        f"{dataset.exposure:g} ms exposures without a pause. The truth is in emitters.parquet, all settings are in "
        "settings.yaml."
    )
    return {
        "axes": "TYX",
        "Name": dataset.name,
        "Description": words,
        "PhysicalSizeX": micrometres,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": micrometres,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": dataset.exposure,
        "TimeIncrementUnit": "ms",
    }
