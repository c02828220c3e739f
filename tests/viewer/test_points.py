from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import TableError
from engine.localisations import LOCALISATION_SCHEMA, empty_batch
from tests.viewer.localisations import batch_of, scattered, store_of
from viewer.codes import SCALES, TOP, UNKNOWN
from viewer.points import CHUNK_ROWS, FILTERABLE, MEASURES, PointStore, Rectangle
from viewer.tally import FRAME_BINS, FrameTally

INF = math.inf


def column(store: PointStore, name: str) -> np.ndarray:
    return np.concatenate([chunk.column(name) for chunk in store.chunks])


def test_the_table_comes_back_as_it_came() -> None:
    batches = [scattered(1000, seed) for seed in range(3)]
    expected = pa.Table.from_batches(batches)
    found = store_of(*batches).table({"run_id": "a"})
    assert found.schema.metadata == {b"run_id": b"a"}
    assert found.replace_schema_metadata(None).equals(expected.replace_schema_metadata(None))


def test_a_flat_table_comes_back_without_depth() -> None:
    found = store_of(scattered(100, deep=False)).table({})
    assert found.column("z").null_count == found.column("sigma_z").null_count == 100
    assert found.schema.equals(LOCALISATION_SCHEMA)


def test_batches_of_any_size_fill_chunks_without_a_seam() -> None:
    whole = scattered(CHUNK_ROWS + 5000)
    store, start = PointStore(), 0
    for rows in (1, 0, 70_000, CHUNK_ROWS - 70_002, 1, 2, 4998):
        store.append(whole.slice(start, rows))
        start += rows
    assert start == whole.num_rows
    assert [chunk.rows for chunk in store.chunks] == [CHUNK_ROWS, 5000]
    for name in ("x", "frame", "z", "probability"):
        np.testing.assert_array_equal(column(store, name), whole.column(name).to_numpy())


def test_columns_that_nobody_knows_take_no_memory() -> None:
    flat, deep = store_of(scattered(1000, deep=False)), store_of(scattered(1000))
    assert deep.nbytes / deep.count == 42
    assert flat.nbytes / flat.count == 34


def test_a_column_may_become_known_within_a_chunk() -> None:
    store = store_of(batch_of([1.0, 2.0], [0.0, 0.0]), batch_of([3.0], [0.0], z=[7.0]))
    np.testing.assert_array_equal(column(store, "z"), [np.nan, np.nan, 7.0])
    assert store.table({}).column("z").to_pylist() == [None, None, 7.0]


@pytest.mark.parametrize(
    "frames",
    [[5, 6, 7], [70_000, 5, 100_000], [0, 65_535], [0, 65_536], [3_000_000_000, 3_000_000_001], [-4, 2]],
)
def test_frames_are_kept_exactly_in_any_order(frames: list[int]) -> None:
    one_by_one = store_of(*(batch_of([1.0], [1.0], frame=frame) for frame in frames))
    at_once = store_of(batch_of([1.0] * len(frames), [1.0] * len(frames), frame=frames))
    assert column(one_by_one, "frame").tolist() == column(at_once, "frame").tolist() == frames
    assert at_once.chunks[0].frame_span == one_by_one.chunks[0].frame_span == max(frames) - min(frames)


def test_frames_that_cannot_be_are_refused() -> None:
    with pytest.raises(TableError, match="cannot be numbers of one recording"):
        store_of(batch_of([1.0, 1.0], [1.0, 1.0], frame=[0, 2**40]))


def test_rows_without_a_place_are_counted_and_left_out() -> None:
    store = store_of(batch_of([1.0, np.nan, np.inf], [1.0, 2.0, 3.0]))
    assert (store.count, store.unplaced) == (1, 2)


def test_an_empty_store_answers() -> None:
    store = store_of(empty_batch())
    assert store.count == store.shown == store.nbytes == 0
    assert store.field is None
    assert math.isnan(store.extent("photons")[0])
    assert math.isnan(store.extent("frame")[1])
    assert store.histogram("photons").counts.sum() == store.histogram("frame").counts.sum() == 0
    assert store.measure(Rectangle(0, 0, 1, 1)).count == 0
    assert store.table({}).num_rows == 0


def test_clear_forgets_the_points_and_keeps_the_filters() -> None:
    store = store_of(scattered(100))
    store.set_filter("photons", 500, INF)
    store.clear()
    assert (store.count, store.version, store.chunks) == (0, 1, [])
    assert store.filters == {"photons": (500, INF)}
    store.append(batch_of([1.0, 1.0], [1.0, 1.0], photons=[100.0, 900.0]))
    assert store.shown == 1


@pytest.mark.parametrize("name", FILTERABLE)
def test_a_filter_shows_what_lies_between_its_limits(name: str) -> None:
    store = store_of(scattered(5000))
    values = column(store, name)
    low, high = np.quantile(values, [0.2, 0.7])
    store.set_filter(name, low, high)
    expected = np.count_nonzero((values >= np.float32(low)) & (values <= np.float32(high)))
    assert 1000 < expected < 4000
    assert store.shown == store.table({}).num_rows == expected
    store.set_filter(name, -INF, INF)
    assert store.shown == 5000
    assert store.filters == {}


def test_filters_count_new_points_too() -> None:
    store = store_of(batch_of([1.0] * 4, [1.0] * 4, photons=[1.0, 2.0, 3.0, 4.0]))
    store.set_filter("photons", 2, 3)
    assert store.shown == 2
    store.append(batch_of([1.0] * 2, [1.0] * 2, photons=[2.5, 9.0]))
    assert store.shown == 3
    store.set_filter("frame", 1, INF)
    assert store.shown == 0


def test_unknown_values_pass_an_open_filter_alone() -> None:
    store = store_of(batch_of([1.0, 2.0], [1.0, 1.0], probability=[np.nan, 0.5]))
    assert store.shown == 2
    store.set_filter("probability", 0, INF)
    assert store.shown == 1


def test_the_filter_version_changes_only_with_the_filters() -> None:
    store = PointStore()
    store.set_filter("x", 0, 5)
    store.set_filter("x", 0, 5)
    store.set_filter("y", -INF, INF)
    assert store.filter_version == 1
    with pytest.raises(TableError, match="no filter for 'colour'"):
        store.set_filter("colour", 0, 1)


def test_a_rectangle_is_measured() -> None:
    store = store_of(
        batch_of([10.0, 20.0, 30.0, 90.0], [10.0] * 4, sigma_x=[3.0, 6.0, 9.0, 99.0], sigma_y=[3.0, 6.0, 9.0, 99.0])
    )
    found = store.measure(Rectangle(0, 0, 30, 20))
    assert (found.count, found.photons) == (3, 1000.0)
    assert found.precision == pytest.approx(6.0)
    store.set_filter("precision", 5, INF)
    assert store.measure(Rectangle(0, 0, 30, 20)).count == 2
    assert math.isnan(store.measure(Rectangle(500, 500, 600, 600)).precision)


def test_precision_is_the_root_mean_square_of_both_axes() -> None:
    store = store_of(batch_of([1.0], [1.0], sigma_x=6.0, sigma_y=8.0))
    assert column(store, "precision")[0] == pytest.approx(math.sqrt(50))


@pytest.mark.parametrize("name", MEASURES)
def test_histograms_agree_with_numpy(name: str) -> None:
    store = store_of(scattered(20_000), scattered(20_000, seed=1))
    low, high = store.extent(name)
    high += name == "frame"
    found = store.histogram(name, 40, (low, high))
    expected, _ = np.histogram(column(store, name), 40, (low, high))
    assert found.counts.sum() == pytest.approx(expected.sum(), rel=2e-3)
    np.testing.assert_allclose(found.counts, expected, atol=0.06 * expected.max() + 30)


def test_an_extent_leaves_outliers_out() -> None:
    x = np.linspace(1000, 2000, 10_001)
    x[0] = 1e8
    low, high = store_of(batch_of(x, x)).extent("x")
    assert 990 < low < 1010
    assert 1990 < high < 2010


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=30), st.integers(1, 4))
def test_no_frame_is_lost_from_the_tally(frames: list[int], pieces: int) -> None:
    tally = FrameTally()
    for part in np.array_split(np.array(frames, np.int64), pieces):
        tally.add(part)
    low, high = tally.extent()
    assert (low, high) == (min(frames), max(frames))
    everything = tally.histogram(1, low - 4 * FRAME_BINS * 512, high + 4 * FRAME_BINS * 512)
    assert everything.counts[0] == pytest.approx(len(frames))


@pytest.mark.parametrize("name", SCALES)
@given(st.lists(st.floats(-1e5, 1e5, width=32), min_size=2, max_size=20))
def test_codes_grow_with_values_and_come_back(name: str, numbers: list[float]) -> None:
    scale = SCALES[name]
    values = np.sort(np.clip(np.array(numbers), -scale.limit, scale.limit))
    codes = scale.encode(values)
    assert np.all(np.diff(codes.astype(int)) >= 0)
    assert codes.min() >= 1
    tolerance = scale.step * np.hypot(values, scale.unit)
    assert np.all(np.abs(scale.decode(codes) - values) <= tolerance)


def test_codes_of_the_unknown_and_the_endless() -> None:
    scale = SCALES["photons"]
    assert scale.encode(np.array([np.nan, -np.inf, np.inf])).tolist() == [UNKNOWN, 1, TOP]
    assert math.isnan(scale.decode(np.array([UNKNOWN]))[0])
    assert scale.limits(-INF, INF) == (UNKNOWN, TOP)
    assert scale.limits(-INF, 5.0)[0] == 1
