"""The metrics against values worked out by hand and published."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from models.evaluation.metrics import efficiency, match, score


def table(*rows: tuple[int, float, float, float]) -> pa.Table:
    frame, x, y, photons = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table({"frame": pa.array(frame, pa.int64()), "x": pa.array(x, pa.float32()),
                     "y": pa.array(y, pa.float32()), "photons": pa.array(photons, pa.float32())})  # fmt: skip


def test_efficiency_gives_the_published_check_value() -> None:
    assert efficiency(0.91204, 32.077) == pytest.approx(66.739, abs=1e-3)


def test_counts_and_distance_by_hand() -> None:
    truth = table((0, 1000, 1000, 500), (0, 3000, 3000, 500), (2, 1000, 1000, 500))
    found = table((0, 1030, 1040, 0), (0, 5000, 5000, 0), (1, 1000, 1000, 0))
    result = score(found, truth)
    assert (result.true_positives, result.false_positives, result.false_negatives) == (1, 2, 2)
    assert result.rmse == pytest.approx(50)
    assert result.jaccard == pytest.approx(0.2)


def test_misses_in_frames_without_localisations_count() -> None:
    assert score(table(), table((0, 1, 1, 500), (7, 1, 1, 500))).false_negatives == 2


def test_nearest_pairs_come_first() -> None:
    truth = table((0, 0, 0, 500), (0, 200, 0, 500))
    pairs = match(table((0, 150, 0, 0)), truth, 250)
    assert pairs.true.tolist() == [1]
    assert pairs.distance == pytest.approx([50])


def test_an_emitter_is_found_once() -> None:
    result = score(table((0, 0, 0, 0), (0, 10, 0, 0)), table((0, 0, 0, 500)))
    assert (result.true_positives, result.false_positives) == (1, 1)


def test_dim_truth_is_neither_hit_nor_miss() -> None:
    truth = table((0, 0, 0, 500), (0, 1000, 0, 40), (0, 5000, 0, 40))
    result = score(table((0, 0, 0, 0), (0, 1000, 0, 0), (0, 9000, 0, 0)), truth, floor=100)
    assert (result.true_positives, result.false_positives, result.false_negatives) == (1, 1, 0)


def test_dim_truth_does_not_take_the_localisation_of_a_bright_one() -> None:
    truth = table((0, 0, 0, 500), (0, 100, 0, 40))
    assert score(table((0, 90, 0, 0)), truth, floor=100).true_positives == 1


def test_the_radius_is_a_limit() -> None:
    truth = table((0, 0, 0, 500))
    assert score(table((0, 249, 0, 0)), truth, 250).true_positives == 1
    assert score(table((0, 251, 0, 0)), truth, 250).true_positives == 0
    assert score(table((0, 249, 0, 0)), truth, 100).true_positives == 0


def test_nothing_of_nothing_has_no_score() -> None:
    result = score(table(), table())
    assert math.isnan(result.jaccard)
    assert math.isnan(result.rmse)


def test_many_frames_at_once_equal_frame_by_frame() -> None:
    rng = np.random.default_rng(0)
    truth = table(*[(int(f), *rng.uniform(0, 3000, 2), 500.0) for f in rng.integers(0, 40, 400)])
    found = table(*[(int(f), *rng.uniform(0, 3000, 2), 500.0) for f in rng.integers(0, 40, 400)])
    together = score(found, truth).true_positives
    apart = 0
    for frame in range(40):
        here, there = (t.filter(t["frame"].to_numpy() == frame) for t in (found, truth))
        apart += score(here, there).true_positives
    assert together == apart
    assert apart > 50
