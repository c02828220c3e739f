"""Motion of the sample: its size, and that it does not depend on what was asked for before."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from acquisition.camera import Camera
from config.schema import DatasetSettings
from simulation.live import LiveSimulator
from simulation.motion import STRETCH, Motion
from simulation.simulator import Simulator


def motion(**settings: object) -> Motion:
    return Motion(DatasetSettings(exposure=20.0, **settings))  # type: ignore[arg-type]


def test_a_sample_stays_unless_it_is_moved() -> None:
    assert motion().still
    assert not motion().path(0, 50).any()
    assert motion().blur == 0


def test_steady_drift_is_steady() -> None:
    path = motion(drift=[5.0, -2.0, 1.0]).path(100, 201)
    assert path[0] == pytest.approx([10, -4, 2])
    assert path[-1] - path[0] == pytest.approx([10, -4, 2])


def test_random_drift_grows_with_the_square_root_of_time() -> None:
    ends = np.array([motion(drift_walk=4.0, seed=seed).path(5000, 5001)[0, :2] for seed in range(300)])
    assert ends.std() == pytest.approx(4 * np.sqrt(100), rel=0.1)
    path = motion(drift_walk=4.0).path(0, 5000)
    assert path[0].tolist() == [0, 0, 0]
    assert np.diff(path[:, :2], axis=0).std() == pytest.approx(4 * np.sqrt(0.02), rel=0.05)


def test_a_path_is_the_same_in_any_pieces() -> None:
    wanted = {"drift_walk": 3.0, "drift": [1.0, 0.0, 0.0], "vibration": 4.0}
    whole = motion(**wanted).path(0, 2 * STRETCH + 100)
    other = motion(**wanted)
    late = other.path(STRETCH - 3, 2 * STRETCH + 5)
    assert np.allclose(late, whole[STRETCH - 3 : 2 * STRETCH + 5])
    assert np.allclose(other.path(10, 12), whole[10:12])


@pytest.mark.parametrize("frequency", [3.1, 24.0, 170.0])
def test_vibration_moves_frames_or_blurs_them(frequency: float) -> None:
    shaken = motion(vibration=6.0, vibration_frequency=frequency)
    moved = shaken.path(0, 5000)[:, :2]
    assert np.sqrt(moved.var() + shaken.blur**2) == pytest.approx(6, rel=0.02)
    assert (shaken.blur > 5.5) == (frequency > 100)


CAMERA = Camera("test", 100.0, 45.0, 300.0, 0.9, 100.0, 74.4)


def small(**settings: object) -> DatasetSettings:
    return DatasetSettings(frames=40, height=40, width=40, blinks=1.0, **settings)  # type: ignore[arg-type]


def test_the_truth_moves_with_the_sample() -> None:
    still, drifting = (
        Simulator(dataset, CAMERA, 135.0).emitters() for dataset in (small(), small(drift=[100.0, 0.0, 50.0]))
    )
    rows = {key: (x, z) for key, x, z in _rows(still)}
    shifts = [(x - rows[key][0], z - rows[key][1], key[0]) for key, x, z in _rows(drifting) if key in rows]
    assert len(shifts) > 50
    for x, z, frame in shifts:
        assert x == pytest.approx(100 * frame * 0.03, abs=0.01)
        assert z == pytest.approx(50 * frame * 0.03, abs=0.01)


def test_a_live_sample_moves_as_its_truth_says() -> None:
    moved = small(drift=[200.0, 0.0, 0.0])
    still, drifting = (LiveSimulator(dataset, CAMERA, 135.0) for dataset in (small(), moved))
    for simulator in (still, drifting):
        simulator.expose(10)
    rows = {key: x for key, x, _ in _rows(still.emitters())}
    shifts = [x - rows[key] - 200 * key[0] * 0.03 for key, x, _ in _rows(drifting.emitters()) if key in rows]
    assert len(shifts) > 50
    assert np.abs(shifts).max() < 0.01


def _rows(truth: pa.Table) -> list[tuple[tuple[int, int], float, float]]:
    columns = (truth[name].to_pylist() for name in ("frame", "emitter", "x", "z"))
    return [((frame, emitter), x, z) for frame, emitter, x, z in zip(*columns, strict=True)]
