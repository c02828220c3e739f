"""What a recording tells of the microscope that made it, so that a model can be adapted to it and tried on its like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from acquisition.calibration import first_frames
from acquisition.camera import Camera
from acquisition.source import Frames, FrameSource, Pixels
from config.compose import compose
from config.errors import CalibrationMissing
from config.schema import CameraSettings
from engine.domain_check import psf_width
from engine.runtimes.runtime import Runtime
from engine.streaming import StreamingLocaliser
from models.pace import affordable_steps
from models.weights import model_path

FEWEST = 30
"""Tracks below which nothing is concluded."""
SAME = 0.6
"""Localisations of neighbouring frames that lie this near to each other are one emitter [pixels]."""
SIDE = 128
"""Side of the region that is looked at [pixels]."""
FRAMES = 1000
"""Frames that are looked at."""
GLANCE = 50
"""Frames taken from the source at once; so many tell where it blinks."""
ADAPTING = 12 * 60.0
"""Time that the training of a recipe may take: with all around it a quarter of an hour [s]."""
STEPS = (300, 1500)
"""Fewest steps that are worth it, and those after which there is little more to gain."""
COLUMNS = ("frame", "x", "y", "photons", "background", "sigma_photons")

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Microscope:
    """Figures of one recording, those of the emitters corrected for frames in which they shone only in part."""

    psf_sigma: float
    """[nm]"""
    photons: float
    """Mean photons of an emitter in a fully lit frame."""
    photons_sd: float
    """Standard deviation of that over emitters, without the uncertainty of measuring it [photons]."""
    background: float
    """Median [photons / pixel / frame]."""
    background_range: tuple[float, float]
    """5th and 95th percentile of it."""
    on_time: float
    """Mean time an emitter stays on [frames]."""
    density: float
    """Mean number of emitters that are on at any moment, per area [1/µm²]."""
    tracks: int
    """Emitters that these are means of."""

    def rows(self, exposure: float) -> dict[str, float]:
        """The figures with their names and units, for people; ``exposure`` [ms]."""
        low, high = self.background_range
        return {
            "PSF width (standard deviation) [nm]": self.psf_sigma,
            "photons of an emitter in a full frame": self.photons,
            "… standard deviation over emitters": self.photons_sd,
            "background [photons / pixel]": self.background,
            "… 5 % below": low,
            "… 5 % above": high,
            "mean on-time [ms]": self.on_time * exposure,
            "emitters on at any moment [1/µm²]": self.density,
            "emitters measured": self.tracks,
        }


def busiest_region(pixels: Pixels, side: int = SIDE) -> tuple[int, int, int, int]:
    """Where in frames (T, H, W) most blinks: x, y, width, height [pixels] of a square of at most ``side``."""
    height, width = pixels.shape[1:]
    tall, wide = min(side, height), min(side, width)
    blinking = uniform_filter(pixels.astype(np.float32).std(0), (tall, wide), mode="constant")
    # The filter's centre; only squares inside the frame count.
    inner = blinking[tall // 2 : height - (tall - 1) // 2, wide // 2 : width - (wide - 1) // 2]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return int(x), int(y), wide, tall


def region_to_look_at(source: FrameSource, roi: tuple[int, int, int, int] | None) -> tuple[int, int, int, int]:
    """Where in an open source, which shows ``roi`` (x, y, width, height) or everything, most blinks [pixels]."""
    x, y, width, height = busiest_region(first_frames(source.blocks(GLANCE)))
    return x + (roi[0] if roi else 0), y + (roi[1] if roi else 0), width, height


def look(source: FrameSource, camera: Camera, runtime: Runtime, threshold: float) -> Microscope:
    """The figures of an open source's first frames. Raises CalibrationMissing."""
    localiser = StreamingLocaliser(runtime, camera, threshold)
    seen, batches = list[Frames](), list[pa.RecordBatch]()
    for block in source.blocks(GLANCE):
        seen.append(block)
        batches.append(localiser.push(block))
        if sum(map(len, seen)) >= FRAMES:
            break
    parts = (np.concatenate([getattr(block, name) for block in seen]) for name in ("pixels", "numbers", "times"))
    return measure(Frames(*parts), pa.Table.from_batches([*batches, localiser.flush()]), camera)


def measure(frames: Frames, table: pa.Table, camera: Camera) -> Microscope:
    """The figures of frames and of what a model found in them. Raises CalibrationMissing where that is too little.

    ``table`` as LOCALISATION_SCHEMA says, its corner that of the frames.
    """
    column = {name: table[name].to_numpy().astype(np.float64) for name in COLUMNS}
    x, y = (column[axis] / camera.pixel_size for axis in "xy")
    frame = np.searchsorted(frames.numbers, column["frame"].astype(np.int64))
    width = psf_width(camera.to_photons(frames.pixels), frame, x, y, column["photons"])
    emitter = linked(frame, x, y)
    lit = _fully_lit(emitter, frame)
    of_emitter = np.bincount(emitter[lit])
    whole = np.flatnonzero(of_emitter)
    if width is None or len(whole) < FEWEST:
        lack = "isolated spots" if width is None else "emitters that stay on for three frames and more"
        raise CalibrationMissing(
            f"too few {lack} among {table.num_rows:,} localisations in {len(frames)} frames. Give a longer or sparser "
            "recording, one with shorter exposures, or another region: run.roi=[x,y,width,height]."
        )
    brightness = np.bincount(emitter[lit], column["photons"][lit])[whole] / of_emitter[whole]
    measured = np.bincount(emitter[lit], column["sigma_photons"][lit] ** 2)[whole] / of_emitter[whole] ** 2
    photons = float(brightness.mean())
    low, high = map(float, np.percentile(column["background"], (5, 95)))
    light = column["photons"].sum()
    area = frames.pixels[0].size * (camera.pixel_size / 1000) ** 2
    return Microscope(
        psf_sigma=width * camera.pixel_size,
        photons=photons,
        photons_sd=float(np.sqrt(max(brightness.var() - measured.mean(), (0.05 * photons) ** 2))),
        background=float(np.median(column["background"])),
        background_range=(low, high),
        on_time=float(light / (emitter.max() + 1) / photons),
        density=float(light / photons / len(frames) / area),
        tracks=len(whole),
    )


def linked(frame: NDArray[np.int64], x: Values, y: Values) -> NDArray[np.int64]:
    """Number (N,) of the emitter that each localisation belongs to: nearest to each other in neighbouring frames."""
    near = KDTree(np.stack([x, y, 2 * SAME * frame], 1))
    # One frame is 2·SAME along the third axis, so this reaches SAME and the neighbouring frames, no further.
    pairs = near.query_pairs(SAME * np.sqrt(5), output_type="ndarray")
    step = np.abs(frame[pairs[:, 0]] - frame[pairs[:, 1]])
    apart = np.hypot(*(np.subtract(value[pairs[:, 0]], value[pairs[:, 1]]) for value in (x, y)))
    pairs, apart = pairs[(step == 1) & (apart <= SAME)], apart[(step == 1) & (apart <= SAME)]
    pairs = np.where((frame[pairs[:, 0]] < frame[pairs[:, 1]])[:, None], pairs, pairs[:, ::-1])
    for end in (0, 1):  # each keeps its nearest on either side
        order = np.lexsort((apart, pairs[:, end]))
        first = np.unique(pairs[order, end], return_index=True)[1]
        pairs, apart = pairs[order][first], apart[order][first]
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(frame), len(frame)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _fully_lit(emitter: NDArray[np.int64], frame: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Localisations (N,) of frames in the midst of their emitter's, which it spent alight from end to end."""
    first = np.full(emitter.max(initial=-1) + 1, np.iinfo(np.int64).max)
    last = np.full_like(first, -1)
    np.minimum.at(first, emitter, frame)
    np.maximum.at(last, emitter, frame)
    return (frame > first[emitter]) & (frame < last[emitter])


def known_camera(settings: CameraSettings, camera: Camera) -> CameraSettings:
    """The settings with the values that a recording's calibration came to."""
    values = {name: getattr(camera, name, None) for name in asdict(settings) if name != "name"}
    scalars: dict[str, Any] = {name: value for name, value in values.items() if isinstance(value, float)}
    return replace(settings, estimate=False, **scalars)


def write_settings(
    folder: Path,
    found: Microscope,
    camera: CameraSettings,
    exposure: float,
    model: str,
    network: Mapping[str, Any],
    seconds: float = ADAPTING,
) -> dict[str, Path]:
    """One YAML file of settings a group: camera, optics, dataset (an acquisition alike), network and training.

    ``exposure`` [ms]; ``model``, with its ``network``: what the training starts from; it is as long as this computer
    can do in ``seconds``. Gives the files by their group.
    """
    name = folder.name
    contents = {
        "camera": asdict(camera) | {"name": name},
        "optics": {"name": name, "psf_sigma": round(found.psf_sigma, 1)},
        "dataset": _dataset(name, found, exposure),
        "network": dict(network),
        "training": {
            "name": name,
            "base": str(model_path(model).with_suffix(".safetensors").absolute()),
            "learning_rate": 4e-4,
            "output": str(folder / "training"),
            "domain": _domain(found, camera),
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = {group: _written(folder / f"{group}.yaml", content) for group, content in contents.items()}
    recipe = compose([f"{group}={files[group]}" for group in ("network", "training")])
    steps = affordable_steps(recipe, seconds, *STEPS)
    _written(files["training"], contents["training"] | {"steps": steps})
    return files


def _written(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _dataset(name: str, found: Microscope, exposure: float) -> dict[str, object]:
    low, high = found.background_range
    return {
        "name": name,
        "exposure": exposure,
        "density": round(found.density, 4),
        "photons": round(found.photons, 1),
        "photons_sd": round(found.photons_sd, 1),
        "background": round(found.background, 2),
        # 5 to 95 % of a normal distribution are 3.3 standard deviations.
        "background_variation": round(min(0.5, (high - low) / 3.3 / max(found.background, 1e-6)), 3),
        "on_time": round(found.on_time * exposure, 1),
    }


def _domain(found: Microscope, camera: CameraSettings) -> dict[str, object]:
    """Ranges a little wider than what was seen: the sample of tomorrow is another one."""
    assert camera.pixel_size is not None
    emccd = camera.em_gain is not None and camera.em_gain > 1
    width, spread = found.psf_sigma / camera.pixel_size, found.photons_sd / found.photons
    low, high = found.background_range
    per_pixel = found.density * (camera.pixel_size / 1000) ** 2
    ranges = {
        "psf_sigma": (0.93 * width, 1.07 * width),
        "photons": (0.7 * found.photons, 1.4 * found.photons),
        "photons_spread": (0.7 * spread, 1.3 * spread),
        "background": (0.7 * max(low, 0.1), 1.4 * max(high, 0.2)),
        "density": (0.0, max(0.004, 2.5 * per_pixel)),
        "on_time": (max(0.3, 0.6 * found.on_time), 1.7 * found.on_time),
    }
    rounded: dict[str, object] = {name: [round(float(value), 4) for value in pair] for name, pair in ranges.items()}
    return rounded | {"emccd_fraction": float(emccd)}
