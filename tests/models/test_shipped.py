"""The shipped default model, on simulated acquisitions and on real frames."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from acquisition.calibration import estimated_settings
from acquisition.camera import Camera
from acquisition.recorded import RecordedSource
from acquisition.source import Frames
from config.compose import compose
from config.schema import CameraSettings, RunSettings, Settings
from engine.runtimes import load_runtime
from engine.runtimes.choice import Wanted
from engine.runtimes.runtime import Runtime
from engine.streaming import StreamingLocaliser
from models.evaluation.benchmark import BenchmarkRow, benchmark, localise
from models.evaluation.metrics import match
from models.export import build_step
from models.weights import FOLDER, model_path, shipped
from simulation.dataset import make_simulator
from tests.precisions import PRECISIONS

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
THRESHOLD = RunSettings().threshold
"""What a user gets who changes nothing."""
SEED = 20_261_122
"""Of acquisitions that no training saw: training draws scenes, not acquisitions, from seeds of its own."""


@cache
def runtime(kind: str) -> Runtime:
    return load_runtime(model_path("default"), Wanted(kind, "cpu", "fp32", None), build_step)


def condition(name: str, frames: int) -> Settings:
    size = [f"dataset.frames={frames}", f"dataset.seed={SEED}", "dataset.height=48", "dataset.width=48"]
    return compose(["camera=challenge_emccd", "optics=challenge", f"dataset={name}", *size])


def reached(name: str, frames: int) -> BenchmarkRow:
    (row,) = benchmark(runtime("onnx"), [condition(name, frames)])
    return row


def test_all_shipped_files_together_are_small() -> None:
    assert "default" in shipped()
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 10_000_000


def test_it_says_what_it_is_and_how_it_was_made() -> None:
    description = runtime("onnx").description
    assert description == runtime("torch").description
    assert description.context == (4, 4)
    assert description.psf_sigma == (0.8, 1.8)
    assert list(description.photons) == [100, 8000]
    assert list(description.background) == [1, 200]
    assert description.density[1] >= 0.04
    assert set(description.cameras) == {"emccd", "scmos"}
    assert set(description.benchmark) >= {"density_0_2", "density_1", "density_2", "density_4", "dim"}


@pytest.mark.parametrize(
    ("name", "frames", "jaccard", "rmse"),
    # A little below what the whole benchmark shows (README), as few frames scatter.
    [
        ("density_0_2", 150, 0.89, 21.0),
        ("density_1", 60, 0.84, 29.0),
        ("density_4", 30, 0.68, 54.0),
        ("dim", 150, 0.8, 45.0),
    ],
)
def test_it_localises(name: str, frames: int, jaccard: float, rmse: float) -> None:
    row = reached(name, frames)
    assert row.jaccard > jaccard
    assert row.rmse < rmse
    assert abs(row.offset_x) < 2.5
    assert abs(row.offset_y) < 2.5
    assert row.photon_ratio == pytest.approx(1, abs=0.1)


def table(kind: str, size: int) -> pa.Table:
    simulator = make_simulator(condition("density_2", 60))
    localiser = StreamingLocaliser(runtime(kind), simulator.camera)
    pixels = simulator.frames(0, 60)
    parts = [slice(start, start + size) for start in range(0, 60, size)]
    blocks = [Frames(pixels[part], np.arange(60)[part], np.zeros(60)[part]) for part in parts]
    return pa.Table.from_batches([*map(localiser.push, blocks), localiser.flush()])


@pytest.mark.parametrize("size", [1, 7, 50])
def test_blocks_leave_no_seam(size: int) -> None:
    whole, cut = table("torch", 60), table("torch", size)
    assert whole["frame"].equals(cut["frame"])
    for axis in ("x", "y"):
        assert np.abs(whole[axis].to_numpy() - cut[axis].to_numpy()).max() < 1e-3


def test_onnx_agrees_with_torch() -> None:
    simulator = make_simulator(condition("density_2", 100))
    first, second = (
        localise(simulator, StreamingLocaliser(runtime(kind), simulator.camera)) for kind in ("torch", "onnx")
    )
    assert len(match(second, first, radius=0.1).found) >= 0.999 * max(first.num_rows, second.num_rows)


def replayed(path: Path, settings: CameraSettings) -> tuple[NDArray[np.float64], float]:
    """(frame, x, y) of all localisations, in pixels with the centre of a pixel at a whole number."""
    if not path.exists():
        pytest.skip(f"{path.parent.name} is not here")
    with RecordedSource(path) as source:
        description = source.open()
        if settings.estimate:
            settings, _ = estimated_settings(settings, description.camera, source.blocks(16))
    with RecordedSource(path) as source:
        description = source.open()
        shape = (description.height, description.width)
        camera = Camera.from_settings(settings, description.camera, shape, (0, 0))
        localiser = StreamingLocaliser(runtime("onnx"), camera, THRESHOLD)
        found = pa.Table.from_batches([*(localiser.push(block) for block in source.blocks(16)), localiser.flush()])
    x, y = (found[axis].to_numpy() / camera.pixel_size - 0.5 for axis in ("x", "y"))
    return np.stack([found["frame"].to_numpy(), x, y], 1), camera.pixel_size


def matched(ours: NDArray[np.float64], peer: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Offsets (N, 2) of the peer's localisations to our nearest one in the same frame, where within ``radius``."""
    offsets = []
    for frame, x, y in peer:
        near = ours[ours[:, 0] == frame][:, 1:] - (x, y)
        if len(near) and np.hypot(*near.T).min() < radius:
            offsets.append(near[np.hypot(*near.T).argmin()])
    return np.array(offsets)


def test_real_single_molecules_are_where_another_program_finds_them() -> None:
    folder = DATA / "pmhc_af647"
    ours, _ = replayed(folder / "frames.tif", compose(["camera=estimate"]).camera)
    with (folder / "peer_localisations.csv").open(encoding="utf-8") as file:
        peer = np.array([[float(value) for value in row[:3]] for row in list(csv.reader(file))[1:]])
    offsets = matched(ours, peer, 0.5)
    assert len(peer) == 76
    assert len(offsets) >= 62
    assert np.abs(np.median(offsets, 0)).max() < 0.1
    assert len(ours) <= 3 * len(peer)


def test_simulated_paint_is_where_picasso_finds_it() -> None:
    folder = DATA / "picasso_paint"
    truth = CameraSettings(baseline=0.0, e_per_adu=1.0, em_gain=1.0, quantum_efficiency=1.0, pixel_size=160.0)
    ours, _ = replayed(folder / "testdata.raw", truth)
    with h5py.File(folder / "testdata_locs.hdf5") as file:
        rows: NDArray[np.void] = np.asarray(file["locs"])
    peer = np.stack([rows[name] for name in ("frame", "x", "y")], 1).astype(float)
    peer = peer[peer[:, 0] < 100]  # the table is of a longer movie than the frames that come with it
    assert len(matched(ours, peer, 1.0)) >= 0.8 * len(peer) > 20


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_number_of_threads_changes_no_row(precision: str) -> None:
    simulator = make_simulator(condition("density_1", 12))
    tables = []
    for threads in (1, 2, 3):
        runtime = load_runtime(model_path("small"), Wanted("torch", "cpu", precision, threads), build_step)
        tables.append(localise(simulator, StreamingLocaliser(runtime, simulator.camera, THRESHOLD)))
    assert len(tables[0]) > 100
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])
