"""A model that workers load in no time, whose rows tell what it was shown, and which does what a test asks of it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from acquisition.camera import Camera
from acquisition.recorded import RecordedSource, rectangle
from config.schema import CameraSettings, Settings
from engine.output.run_folder import RunFolder
from engine.runtimes.model_file import ROW_COLUMNS, ModelDescription
from engine.runtimes.runtime import Runtime
from engine.session import Session

PAST, FUTURE = 3, 2
HELD = 60.0
"""Longest time that a worker is held [s]."""
DESCRIPTION = ModelDescription(
    name="telling",
    version="1",
    context=(PAST, FUTURE),
    state_shape=(1, 1),
    psf_sigma=(0.1, 9.0),
    photons=(0.0, 1e9),
    background=(0.0, 1e9),
    density=(0.0, 1.0),
    cameras=("scmos",),
)


class TellingRuntime:
    """Finds two emitters a frame; their photons and background depend on every frame of the context and its order.

    Files in the model's folder steer it: ``hold`` keeps every worker waiting, ``fail`` makes each call fail, ``fail
    once`` one call of one worker, ``die once`` ends one process. Each process that begins leaves a file ``begun PID``.
    """

    def __init__(self, folder: Path, threads: int | None) -> None:
        self._folder, self.threads = folder, threads
        self.description = DESCRIPTION
        self.name = "onnx of a test"

    def blank_state(self, height: int, width: int) -> NDArray[np.float32]:
        return np.zeros((PAST + FUTURE, height, width), np.float32)

    def step(
        self, photons: NDArray[np.float32], state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        self._obey()
        frames = np.concatenate([state, photons])
        light = np.where(valid, frames.mean((1, 2)), 0)
        rows = [row for place in range(len(photons)) if valid[PAST + place] for row in _rows(place, frames, light)]
        return np.array(rows, np.float32).reshape(-1, len(ROW_COLUMNS)), frames[len(photons) :]

    def _obey(self) -> None:
        (self._folder / f"begun {os.getpid()}").touch()
        deadline = time.monotonic() + HELD
        while (self._folder / "hold").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if (self._folder / "die once").exists():
            (self._folder / "die once").unlink()
            os._exit(9)
        if (self._folder / "fail").exists():
            raise ValueError("the network fell over")
        if (self._folder / "fail once").exists():
            (self._folder / "fail once").unlink()
            raise OSError("the network drive went away")


def _rows(place: int, frames: NDArray[np.float32], light: NDArray[np.float64]) -> list[list[float]]:
    window = light[place : place + PAST + FUTURE + 1]
    told = float(window @ np.arange(1, len(window) + 1))
    values = {"frame": place, "photons": float(frames[PAST + place, 0, 0]), "background": told, "probability": 0.9}
    return [[values.get(name, 1.0 + number) for name in ROW_COLUMNS] for number in (0, 1)]


def open_telling(settings: Settings) -> tuple[Runtime, Path]:
    """The model whose file is ``settings.model``."""
    file = Path(settings.model)
    return TellingRuntime(file.parent, settings.run.threads), file


def movie(folder: Path, name: str, frames: int = 100) -> Path:
    """A stack whose pixels hold the frame's number and a little noise."""
    pixels = np.random.default_rng(frames).integers(0, 50, (frames, 8, 10)).astype(np.uint16)
    pixels[:, 0, 0] = np.arange(frames) + 200
    tifffile.imwrite(folder / name, pixels, metadata={"axes": "TYX"})
    return folder / name


def movie_with_gaps(folder: Path, name: str, present: list[int]) -> Path:
    """An OME-TIFF of whose time points some are missing."""
    pixels = np.random.default_rng(7).integers(0, 50, (len(present), 8, 10)).astype(np.uint16)
    planes = "".join(f'<TiffData IFD="{place}" FirstT="{t}" PlaneCount="1"/>' for place, t in enumerate(present))
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="10" SizeY="8" SizeC="1" SizeZ="1" '
        f'SizeT="{max(present) + 1}">{planes}</Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(folder / name) as writer:
        for place, page in enumerate(pixels):
            writer.write(page, description=xml if not place else None, metadata=None, contiguous=False)
    return folder / name


def settings_for(folder: Path, output: Path | None = None, **cluster: Any) -> Settings:
    """Settings of a run of the telling model, whose file lies in ``folder``."""
    (folder / "telling.onnx").write_text("weights")
    settings = Settings(model=str(folder / "telling.onnx"))
    settings.camera = CameraSettings("test", 0.0, 1.0, 1.0, 1.0, pixel_size=100.0)
    run = replace(settings.run, output=str(output) if output else None, block=4, formats=["parquet"], threads=1)
    return replace(settings, run=run, cluster=replace(settings.cluster, **({"chunk": 12} | cluster)))


def replayed(stack: Path, settings: Settings) -> Path:
    """The run folder of a replay in this process."""
    run = settings.run
    runtime, model = open_telling(settings)
    with RecordedSource(stack, run.start, run.stop, rectangle(run)) as source, RunFolder.create(settings) as folder:
        description = source.open()
        shape = description.height, description.width
        camera = Camera.from_settings(settings.camera, description.camera, shape, description.origin)
        with Session(settings, folder, source, description, camera, runtime, model) as session:
            session.run(lambda status: None)
    return folder.path


def begun(folder: Path) -> list[int]:
    """Processes that have begun."""
    return sorted(int(path.name.removeprefix("begun ")) for path in folder.glob("begun *"))


def wait_until(holds: Any, what: str, seconds: float = HELD) -> None:
    """Wait for something, with a deadline."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
