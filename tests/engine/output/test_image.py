from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.special import erf

from config.errors import TableError
from engine.output.formats import read_table
from engine.output.image import bar_length, field_size, fitting_pixel, length_text, render, white_level, write_png
from engine.output.table import describe_field, table_from_columns

MakeTable = Callable[..., pa.Table]


def table_of(
    x: ArrayLike, y: ArrayLike, sigma_x: ArrayLike = 15.0, sigma_y: ArrayLike = 15.0, size: int = 20
) -> pa.Table:
    """Localisations on a square field of ``size`` pixels of 100 nm."""
    x, y, sigma_x, sigma_y = np.broadcast_arrays(np.atleast_1d(x), y, sigma_x, sigma_y)
    columns = {"frame": np.zeros(len(x), int), "x": x, "y": y, "sigma_x": sigma_x, "sigma_y": sigma_y}
    return table_from_columns(columns, describe_field(pixel_size=100.0, width=size, height=size))


def moments(image: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Centre x, y from the outer corner and standard deviation x, y [image pixels]."""
    total = image.sum(dtype=float)
    result = []
    for axis in (0, 1):
        profile = image.sum(axis=axis, dtype=float)
        places = np.arange(len(profile)) + 0.5
        centre = (profile * places).sum() / total
        result.append((centre, np.sqrt((profile * (places - centre) ** 2).sum() / total)))
    (x, width), (y, height) = result
    return x, y, width, height


@pytest.mark.parametrize(("x", "y"), [(1003.0, 507.0), (640.0, 640.0), (1000.0, 1500.0), (319.9, 320.1)])
@pytest.mark.parametrize(("sigma_x", "sigma_y"), [(15.0, 30.0), (8.0, 8.0), (120.0, 20.0)])
def test_a_localisation_lies_where_it_is_and_is_as_wide_as_it_is(
    x: float, y: float, sigma_x: float, sigma_y: float
) -> None:
    centre_x, centre_y, width, height = moments(render(table_of(x, y, sigma_x, sigma_y), 10.0))
    if min(x, y) > 4 * max(sigma_x, sigma_y):
        assert (centre_x, centre_y) == pytest.approx((x / 10, y / 10), abs=0.01)
        # Sampling over a pixel widens a Gaussian by a twelfth of a square pixel.
        assert (width, height) == pytest.approx(
            np.sqrt([(sigma_x / 10) ** 2 + 1 / 12, (sigma_y / 10) ** 2 + 1 / 12]), rel=5e-3
        )


def test_every_pixel_holds_the_integral_of_the_gaussian_over_it() -> None:
    image = render(table_of(1004.0, 996.0, 25.0, 15.0), 10.0)
    edges = np.arange(201) * 10.0
    shares = [np.diff(erf((edges - at) / (np.sqrt(2) * sigma))) / 2 for at, sigma in ((996.0, 15.0), (1004.0, 25.0))]
    np.testing.assert_allclose(image, np.outer(*shares), atol=3e-7)


def test_nothing_is_mirrored_or_swapped() -> None:
    image = render(table_of(1700.0, 200.0), 10.0)
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert row in (19, 20)
    assert column in (169, 170)


@pytest.mark.parametrize("pixel", [5.0, 10.0, 33.0])
def test_the_sum_is_the_number_of_localisations_in_the_field(pixel: float) -> None:
    random = np.random.default_rng(3)
    x, y = random.uniform(-500, 2500, (2, 5000))
    image = render(table_of(x, y, random.gamma(2, 20, 5000), random.gamma(2, 20, 5000)), pixel)
    edge = image.shape[0] * pixel
    assert image.sum(dtype=float) == pytest.approx(((x >= 0) & (y >= 0) & (x < edge) & (y < edge)).sum(), abs=0.1)
    assert image.min() >= 0


def test_many_at_once_are_the_sum_of_each() -> None:
    random = np.random.default_rng(4)
    x, y, sigma_x, sigma_y = random.uniform((0, 0, 2, 2), (2000, 2000, 90, 90), (40, 4)).T
    each = sum(render(table_of(*values), 10.0) for values in zip(x, y, sigma_x, sigma_y, strict=True))
    np.testing.assert_allclose(render(table_of(x, y, sigma_x, sigma_y), 10.0), each, atol=2e-5)


def test_work_in_small_parts_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    table = table_of(*random.uniform(0, 2000, (2, 300)))
    whole = render(table, 10.0)
    monkeypatch.setattr("engine.output.image.CHUNK", 100)
    np.testing.assert_allclose(render(table, 10.0), whole, atol=1e-6)


def test_an_unknown_or_tiny_sigma_is_half_a_pixel() -> None:
    expected = render(table_of(1005.0, 1005.0, 5.0, 5.0), 10.0)
    for sigma in (0.0, 1.0, np.nan):
        np.testing.assert_array_equal(render(table_of(1005.0, 1005.0, sigma, sigma), 10.0), expected)


def test_a_sigma_beyond_all_bounds_is_spread_over_the_field() -> None:
    assert render(table_of(1000.0, 1000.0, np.inf, 1e9), 10.0).sum(dtype=float) == pytest.approx(1, abs=1e-3)


def test_a_localisation_without_a_position_is_not_drawn() -> None:
    assert render(table_of([np.nan, 500.0], [500.0, 500.0]), 10.0).sum(dtype=float) == pytest.approx(1, abs=1e-4)


def test_the_field_is_the_recorded_one_or_as_far_as_the_localisations_reach() -> None:
    table = table_of([250.4, 1.0], [99.0, 1.0])
    assert field_size(table) == (2000, 2000)
    assert field_size(table.replace_schema_metadata(None)) == (251, 100)
    assert render(table, 30.0).shape == (67, 67)


def test_a_field_that_is_too_large_is_refused_with_a_pixel_that_fits(caplog: pytest.LogCaptureFixture) -> None:
    table = table_of(1.0, 1.0, size=2048)
    with pytest.raises(TableError, match=r"204800 by 204800 pixels.*run.image_pixel=21\."):
        render(table, 1.0)
    assert fitting_pixel(table, 1.0) == 21
    assert "21 nm" in caplog.text
    assert fitting_pixel(table, 30.0) == 30


@pytest.mark.parametrize("metadata", [True, False])
def test_an_empty_table_gives_a_dark_picture(tmp_path: Path, make_table: MakeTable, metadata: bool) -> None:
    table = make_table(0) if metadata else make_table(0).replace_schema_metadata(None)
    image = render(table, 10.0)
    assert image.sum() == 0
    write_png(tmp_path / "image.png", image, 10.0)
    assert Image.open(tmp_path / "image.png").size == ((640, 480) if metadata else (1, 1))


def test_the_picture_has_its_pixels_where_the_image_has_them(tmp_path: Path) -> None:
    image = render(table_of([200.0, 300.0], [500.0, 500.0], 10, 10), 10.0)
    write_png(tmp_path / "image.png", image, 10.0)
    with Image.open(tmp_path / "image.png") as picture:
        red = np.asarray(picture.convert("RGB"))[:, :, 0].astype(int)
    assert red.shape == image.shape
    assert (red[48:52, 19:21] > 150).all()
    assert (red[19:21, 48:52] < 20).all()


def test_single_molecules_are_seen_beside_a_bright_spot(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    x, y = random.uniform(0, 4800, (2, 800))  # clear of the scale bar
    bead = np.full(20_000, 6200.0)
    image = render(table_of(np.r_[x, bead], np.r_[y, bead], size=64), 10.0)
    write_png(tmp_path / "image.png", image, 10.0)
    with Image.open(tmp_path / "image.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels[(y // 10).astype(int), (x // 10).astype(int)].min() > 40


def test_white_is_the_percentile_of_the_lit_pixels() -> None:
    image = np.zeros((100, 100), np.float32)
    assert white_level(image) == 0
    image[:10, :10] = np.arange(1, 101).reshape(10, 10)
    image[50:] = 1e-6
    assert white_level(image, 90) == pytest.approx(1e-6), "what is nearly everywhere is no tail"
    image[50:] = 0
    assert white_level(image, 90) == pytest.approx(91, abs=1.5)


def test_the_scale_bar_has_its_length(tmp_path: Path) -> None:
    write_png(tmp_path / "image.png", np.zeros((400, 640), np.float32), 10.0)
    with Image.open(tmp_path / "image.png") as picture:
        white = (np.asarray(picture.convert("RGB")) > 250).all(axis=2)
    assert white.sum(axis=1).max() == 100, "1 µm at 10 nm"


@pytest.mark.parametrize(("width", "length"), [(6400, 1000), (12_800, 2000), (3000, 500), (51_200, 10_000), (999, 100)])
def test_the_scale_bar_is_round_and_at_most_a_fifth(width: float, length: float) -> None:
    assert bar_length(width) == length


def test_lengths_are_told_in_the_unit_that_suits() -> None:
    assert [length_text(length) for length in (50, 500, 1000, 20_000)] == ["50 nm", "500 nm", "1 µm", "20 µm"]


def test_a_disk_that_refuses_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot be written"):
        write_png(tmp_path / "nowhere" / "image.png", np.zeros((4, 4), np.float32), 10.0)


def test_real_localisations_keep_their_number(tables: Path) -> None:
    table = read_table(tables / "picasso_origami_locs.hdf5")
    assert render(table, 20.0).sum(dtype=float) == pytest.approx(table.num_rows, rel=1e-5)
