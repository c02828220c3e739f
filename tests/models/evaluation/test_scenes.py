"""Planned scenes hold what was planned, and the questions asked of them have the answers that a known table gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from config.compose import compose
from engine.output.table import table_from_columns
from models.evaluation.benchmark import Movie
from models.evaluation.experiments import even, isolated_emitters, pair_row, resolving_power
from models.evaluation.scenes import CLEAR, Plan, PlannedMovie, isolated, point_pairs
from models.evaluation.strata import strata

SETTINGS = even(compose(["camera=challenge_emccd", "optics=challenge"]), background=10.0, photons=800.0)


def places(plan: Plan) -> NDArray[np.float64]:
    return np.stack([plan.x, plan.y], 1)


@pytest.mark.parametrize(("lit", "context"), [(1, (4, 4)), (3, (4, 4)), (9, (4, 4)), (2, (0, 0)), (1, (25, 24))])
def test_nobody_is_near_in_any_frame_that_the_context_reaches(lit: int, context: tuple[int, int]) -> None:
    plan = isolated(130, 500.0, lit, context, seed=2)
    for row in range(0, len(plan.frame), 7):
        seen = (plan.frame >= plan.frame[row] - context[0]) & (plan.frame <= plan.frame[row] + context[1])
        others = seen & (plan.emitter != plan.emitter[row])
        assert cdist(places(plan)[row : row + 1], places(plan)[others]).min(initial=np.inf) >= CLEAR
    assert np.bincount(plan.emitter).tolist() == [lit] * (plan.emitter.max() + 1)
    assert plan.frame.min() >= context[0]
    assert plan.frame.max() < plan.frames - context[1]
    assert min(plan.x.min(), plan.y.min()) > 0
    assert max(plan.x.max(), plan.y.max()) < plan.size


def test_all_parts_of_a_pixel_are_alike() -> None:
    plan = isolated(6000, 500.0, 1, (1, 1), seed=0)
    counts = np.histogram2d(plan.x % 1, plan.y % 1, (5, 5), ((0, 1), (0, 1)))[0]
    assert counts.min() > 180
    assert counts.max() < 300


def test_pairs_are_as_far_apart_as_they_should_be() -> None:
    plan = point_pairs(70, 500.0, 2.5, lit=3, lag=1, context=(4, 4), seed=0)
    first = {number: row for row, number in enumerate(plan.emitter.tolist())}
    for number in range(0, 128, 2):
        one, other = first[number], first[number + 1]
        assert np.hypot(plan.x[one] - plan.x[other], plan.y[one] - plan.y[other]) == pytest.approx(2.5)
        frames = [set(plan.frame[plan.emitter == which].tolist()) for which in (number, number + 1)]
        assert {frame + 1 for frame in frames[0]} == frames[1]


def test_the_movie_shows_the_plan_whatever_the_blocks() -> None:
    plan = isolated(64, 800.0, 2, (1, 1), seed=1)
    movie = PlannedMovie(plan, SETTINGS)
    whole = movie.frames(0, plan.frames)
    assert whole.shape == (plan.frames, plan.size, plan.size)
    assert np.array_equal(whole[3:5], movie.frames(3, 5))
    photons = movie.camera.to_photons(whole) - 10
    truth = movie.emitters()
    assert truth.num_rows == 128
    places = zip(*(truth[name].to_pylist() for name in ("frame", "x", "y")), strict=True)
    light = [
        photons[frame, *(slice(int(at / 100) - 4, int(at / 100) + 5) for at in (y, x))].sum() for frame, x, y in places
    ]
    assert np.mean(light) == pytest.approx(800, rel=0.03)  # 9×9 pixels hold all but a hundredth
    assert abs(photons.mean() * photons.size / (128 * 800) - 1) < 0.15


def perfect(movie: Movie, *_: object) -> pa.Table:
    """Finds everything, 10 nm off in x."""
    truth = movie.emitters()
    columns = {name: truth[name].to_numpy() for name in ("frame", "x", "y", "photons")}
    columns["x"] = columns["x"] + 10
    rows = np.ones(truth.num_rows)
    return table_from_columns({**columns, "sigma_x": 10 * rows, "sigma_y": 10 * rows, "probability": rows}, {})


def test_isolated_emitters_are_told_by_photons_and_frames() -> None:
    wanted = ["isolated_photons=[300,3000]", "isolated_frames=[1,3]", "isolated_emitters=100"]
    plan = compose([f"evaluation.{word}" for word in wanted]).evaluation
    answers = list(isolated_emitters(perfect, replace(SETTINGS, evaluation=plan), (1, 1)))
    rows = [row for row, _ in answers]
    assert [(row.lit, row.photons) for row in rows] == [(1, 300), (1, 3000), (3, 300), (3, 3000)]
    for row in rows:
        assert row.figures.recall == 1
        assert row.figures.rmse == pytest.approx(10, rel=1e-4)
        assert row.bias_x == pytest.approx(10, rel=1e-3)
        assert row.coverage.spread == pytest.approx(np.sqrt(0.5), rel=1e-3)
    assert rows[1].figures.bound < rows[0].figures.bound / 3
    # All three frames of an emitter lie within one frame of its second; its first and last see two.
    assert rows[2].figures.bound / rows[2].figures.summed_bound == pytest.approx(np.sqrt(9 / 4), rel=0.01)


def test_with_a_cylindrical_lens_emitters_stand_at_all_heights_and_z_is_judged() -> None:
    wanted = ["isolated_photons=[3000]", "isolated_frames=[1]", "isolated_emitters=300"]
    deep = compose(["camera=challenge_emccd", "optics=astigmatic", *(f"evaluation.{word}" for word in wanted)])

    def nearly(movie: Movie, *_: object) -> pa.Table:
        found, z = perfect(movie), movie.emitters()["z"].to_numpy()
        names = found.column_names
        found = found.set_column(names.index("z"), "z", pa.array(z + 30, pa.float32()))
        return found.set_column(names.index("sigma_z"), "sigma_z", pa.array(np.full(len(z), 15, np.float32)))

    ((row, emitters),) = isolated_emitters(nearly, even(deep, 10.0, 3000.0), (0, 0))
    assert emitters["z"].min() < -350
    assert emitters["z"].max() > 350
    assert row.figures.rmse_z == pytest.approx(30, rel=1e-3)
    assert row.figures.sigma_spread_z == pytest.approx(2, rel=1e-3)
    assert row.figures.over_bound_z == pytest.approx(30 / np.sqrt(np.mean(emitters["bound_z"] ** 2)), rel=1e-3)
    # Far from the focal plane less light falls into each pixel; in it both widths tell the height equally well.
    heights = np.abs(emitters["z"])
    assert emitters["bound_x"][heights > 300].mean() > emitters["bound_x"][heights < 100].mean()
    assert {part.low for part in strata(emitters, "z")} == {-400, -300, -200, -100, 0, 100, 200, 300}


def test_a_perfect_method_resolves_all_pairs() -> None:
    rows = list(resolving_power(perfect, SETTINGS, (1, 1), (100.0, 300.0), (1, 3), 60))
    assert [(row.distance, row.lit) for row in rows] == [(100, 1), (300, 1), (100, 3), (300, 3)]
    assert all(row.resolved == 1 and row.merged == 0 for row in rows)


def test_one_localisation_in_the_middle_is_a_merged_pair() -> None:
    truth = pa.table({
        "frame": [0, 0, 1], "emitter": [0, 1, 1],
        "x": [1000.0, 1200.0, 1200.0], "y": [500.0] * 3, "photons": [500.0] * 3,
    })  # fmt: skip
    middle = truth.slice(0, 1).set_column(2, "x", pa.array([1110.0]))
    row = pair_row(middle, truth, 200.0, 1)
    assert (row.pairs, row.resolved, row.merged) == (1, 0.0, 1.0)
    both = pair_row(truth, truth, 200.0, 1)
    assert (both.pairs, both.resolved, both.merged) == (1, 1.0, 0.0)
    nothing = pair_row(truth.slice(2), truth, 200.0, 1)
    assert (nothing.resolved, nothing.merged) == (0.0, 0.0)
