from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from config.errors import TableError
from engine.output.formats import read_table, write_table
from engine.output.table import describe_field, metadata_of, numpy_column, table_from_columns, with_metadata

MakeTable = Callable[..., pa.Table]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table_locs.hdf5"


def write_locs(
    path: Path, info: str | None = "Width: 32\nHeight: 32\nFrames: 10\nPixelsize: 130\n", **columns: float
) -> None:
    """Picasso's table of one row."""
    row = {"frame": 2, "x": 0.0, "y": 31.0, "photons": 500.0, "lpx": 0.1, "lpy": 0.2} | columns
    types = [(name, np.uint32 if name == "frame" else np.float32) for name in row]
    with h5py.File(path, "w") as file:
        file["locs"] = np.array([tuple(row.values())], types)
    if info is not None:
        path.with_suffix(".yaml").write_text(info)


def read_locs(path: Path) -> np.ndarray:
    """The rows of the file, as any HDF5 reader sees them."""
    with h5py.File(path) as file:
        dataset = file["locs"]
        assert isinstance(dataset, h5py.Dataset)
        rows: np.ndarray = dataset[:]
        return rows


def assert_close(left: pa.Table, right: pa.Table) -> None:
    """Equal within the rounding of float32 pixels."""
    for name in left.column_names:
        absolute = 2e-3 if name in "xy" else 1e-5
        np.testing.assert_allclose(numpy_column(left, name), numpy_column(right, name), rtol=3e-7, atol=absolute)


@pytest.mark.parametrize("deep", [False, True], ids=["2-D", "3-D"])
def test_a_round_trip_changes_nothing_but_rounding(path: Path, make_table: MakeTable, deep: bool) -> None:
    table = make_table(500, deep)
    write_table(table, path)
    back = read_table(path)
    assert_close(back, table)
    assert metadata_of(back) == {key: value for key, value in metadata_of(table).items() if key != "run_id"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    x=arrays.arrays(np.float32, 20, elements=st.floats(0, 200_000, width=32)),
    frames=arrays.arrays(np.int64, 20, elements=st.integers(0, 10**7)),
    pixel_size=st.floats(20, 400),
)
def test_any_positions_survive_a_round_trip(path: Path, x: np.ndarray, frames: np.ndarray, pixel_size: float) -> None:
    columns = {"frame": frames, "x": x, "y": x[::-1]}
    table = table_from_columns(columns, describe_field(pixel_size=pixel_size, width=9999, height=9999))
    write_table(table, path)
    back = read_table(path)
    assert (numpy_column(back, "frame") == frames).all()
    np.testing.assert_allclose(numpy_column(back, "x"), x, rtol=3e-7, atol=1e-4 * pixel_size)


def test_the_centre_of_the_first_pixel_is_half_a_pixel_from_the_corner(path: Path) -> None:
    write_locs(path)
    table = read_table(path)
    assert (numpy_column(table, "x")[0], numpy_column(table, "y")[0]) == (65.0, 31.5 * 130)
    assert numpy_column(table, "sigma_x")[0] == pytest.approx(13.0)
    assert numpy_column(table, "sigma_y")[0] == pytest.approx(26.0)
    assert numpy_column(table, "frame")[0] == 2


def test_a_corner_is_written_half_a_pixel_before_the_centre(path: Path) -> None:
    columns = {"frame": np.array([0]), "x": np.array([0.0]), "y": np.array([250.0]), "sigma_x": np.array([10.0])}
    write_table(table_from_columns(columns, describe_field(pixel_size=100.0, width=10, height=10)), path)
    row = read_locs(path)[0]
    assert (row["x"], row["y"], row["lpx"]) == pytest.approx((-0.5, 2.0, 0.1))


def test_z_is_not_scaled_by_the_pixel_size(path: Path, make_table: MakeTable) -> None:
    table = make_table(20, deep=True)
    write_table(table, path)
    np.testing.assert_array_equal(read_locs(path)["z"], numpy_column(table, "z"))
    write_locs(path, z=-321.5)
    assert numpy_column(read_table(path), "z")[0] == -321.5


def test_the_yaml_holds_what_picasso_needs(path: Path, make_table: MakeTable) -> None:
    write_table(make_table(30), path)
    info = yaml.safe_load(path.with_suffix(".yaml").read_text())
    assert {key: info[key] for key in ("Width", "Height", "Frames", "Pixelsize")} == {
        "Width": 64, "Height": 48, "Frames": 30, "Pixelsize": 100.0
    }  # fmt: skip


def test_no_column_has_a_nan_as_picasso_drops_such_rows(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    columns = {name: np.ones(3) for name in ("frame", "x", "y")} | {"photons": np.array([1.0, np.nan, 2.0])}
    write_table(table_from_columns(columns, describe_field(pixel_size=100, width=9, height=9)), path)
    assert read_locs(path).dtype.names == ("frame", "x", "y")
    assert "photons" in caplog.text


@pytest.mark.parametrize("lacking", ["pixel_size_nm", "width_px", "height_px"])
def test_metadata_that_picasso_needs_is_asked_for(path: Path, make_table: MakeTable, lacking: str) -> None:
    table = make_table(3)
    rest = {key: value for key, value in metadata_of(table).items() if key != lacking}
    with pytest.raises(TableError, match=rf"needs {lacking}.*Give it with --"):
        write_table(table.replace_schema_metadata(rest), path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("value", ["0", "-1", "abc"])
def test_a_pixel_size_that_is_none_is_refused(path: Path, make_table: MakeTable, value: str) -> None:
    with pytest.raises(TableError, match="pixel_size_nm"):
        write_table(with_metadata(make_table(3), {"pixel_size_nm": value}), path)


def test_the_newest_step_of_the_yaml_speaks_first(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_locs(path, "Camera.Pixelsize: 160\nWidth: 32\n---\nPixelsize: 100\n---\nPixelsize: 130\n")
    with caplog.at_level(logging.WARNING):
        assert metadata_of(read_table(path))["pixel_size_nm"] == "130.0"
    assert "Camera.Pixelsize 160" in caplog.text
    assert numpy_column(read_table(path, 160.0), "x")[0] == 80.0


def test_without_a_yaml_the_pixel_size_must_be_given(path: Path) -> None:
    write_locs(path, info=None)
    with pytest.raises(TableError, match="--pixel-size"):
        read_table(path)
    assert numpy_column(read_table(path, 100.0), "x")[0] == 50.0


def test_other_broken_files_are_clear_errors(path: Path) -> None:
    path.write_bytes(b"no HDF5")
    path.with_suffix(".yaml").write_text("Pixelsize: 130")
    with pytest.raises(TableError, match="HDF5"):
        read_table(path)
    with h5py.File(path, "w") as file:
        file["other"] = 1
    with pytest.raises(TableError, match="'locs'"):
        read_table(path)
    with h5py.File(path, "w") as file:
        file["locs"] = np.zeros((3, 3))
    with pytest.raises(TableError, match="compound"):
        read_table(path)
    with h5py.File(path, "w") as file:
        file["locs"] = np.zeros(3, [("frame", "u4"), ("x", "f4")])
    with pytest.raises(TableError, match="no column 'y'"):
        read_table(path)
    path.with_suffix(".yaml").write_text("a: [b")
    with pytest.raises(TableError, match="YAML"):
        read_table(path)


def test_an_empty_table_is_written_and_read(path: Path, make_table: MakeTable) -> None:
    write_table(make_table(0), path)
    assert read_table(path).num_rows == 0


@pytest.mark.parametrize(("name", "rows", "size"), [("picasso_locs", 2399, 32), ("picasso_origami_locs", 60722, 128)])
def test_the_real_tables(tables: Path, name: str, rows: int, size: int) -> None:
    table = read_table(tables / f"{name}.hdf5")
    assert table.num_rows == rows
    for axis in "xy":
        assert numpy_column(table, axis).min() >= 0
        assert numpy_column(table, axis).max() <= size * 130
    assert np.median(numpy_column(table, "sigma_x")) < 20, "nm"


def test_picasso_opens_what_we_write(path: Path, make_table: MakeTable) -> None:
    picasso = pytest.importorskip("picasso.io", reason="picassosr, an independent reader, is not installed")
    table = make_table(200)
    write_table(table, path)
    locs, info = picasso.load_locs(str(path))
    there = numpy_column(table, "x") >= 50, numpy_column(table, "y") >= 50
    assert len(locs) == (there[0] & there[1]).sum(), "all but those that Picasso drops, before the first pixel's centre"
    assert info[0]["Width"] == 64
