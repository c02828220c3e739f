from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from config.errors import TableError
from engine.output.formats import convert, read_table, write_table
from engine.output.table import metadata_of, numpy_column

MakeTable = Callable[..., pa.Table]


@pytest.mark.parametrize("suffix", [".parquet", ".arrows"])
@pytest.mark.parametrize("deep", [False, True], ids=["2-D", "3-D"])
def test_our_own_formats_keep_everything(tmp_path: Path, make_table: MakeTable, suffix: str, deep: bool) -> None:
    table = make_table(300, deep)
    write_table(table, tmp_path / f"a{suffix}")
    back = read_table(tmp_path / f"a{suffix}")
    assert back.equals(table)
    assert metadata_of(back) == metadata_of(table)


@pytest.mark.parametrize("suffix", [".csv", ".hdf5", ".h5", ".parquet", ".arrows", ".CSV"])
def test_every_format_replaces_an_older_file_and_leaves_no_other(
    tmp_path: Path, make_table: MakeTable, suffix: str
) -> None:
    path = tmp_path / "deeper" / f"a{suffix}"
    write_table(make_table(20), path)
    write_table(make_table(30), path)
    assert read_table(path).num_rows == 30
    assert {file.suffix for file in path.parent.iterdir()} <= {suffix, ".yaml"}


@pytest.mark.parametrize("middle", [".csv", ".hdf5", ".parquet", ".arrows"])
def test_converting_there_and_back_keeps_positions(tmp_path: Path, make_table: MakeTable, middle: str) -> None:
    table = make_table(100)
    write_table(table, tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / f"b{middle}")
    convert(tmp_path / f"b{middle}", tmp_path / "c.parquet")
    back = read_table(tmp_path / "c.parquet")
    assert numpy_column(back, "x") == pytest.approx(numpy_column(table, "x"), abs=1e-3)
    assert numpy_column(back, "frame").tolist() == numpy_column(table, "frame").tolist()


def test_what_a_source_does_not_tell_can_be_given(tmp_path: Path, make_table: MakeTable) -> None:
    write_table(make_table(10).replace_schema_metadata(None), tmp_path / "a.csv")
    with pytest.raises(TableError, match="pixel_size_nm"):
        convert(tmp_path / "a.csv", tmp_path / "a.hdf5")
    convert(tmp_path / "a.csv", tmp_path / "a.hdf5", pixel_size=100.0, width=64, height=48, psf_sigma=130.0)
    assert metadata_of(read_table(tmp_path / "a.hdf5"))["psf_sigma_nm"] == "130.0"


def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path, make_table: MakeTable) -> None:
    with pytest.raises(TableError, match=r"'\.xls'.*\.csv"):
        write_table(make_table(1), tmp_path / "a.xls")
    with pytest.raises(TableError, match=r"'\.xls'"):
        read_table(tmp_path / "a.xls")


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no file"):
        read_table(tmp_path / "a.csv")


def test_a_parquet_file_of_something_else_names_the_missing_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"frame": [1]}), tmp_path / "a.parquet")
    with pytest.raises(TableError, match="no column 'x'"):
        read_table(tmp_path / "a.parquet")


def test_a_column_of_another_type_is_a_clear_error(tmp_path: Path, make_table: MakeTable) -> None:
    columns = {name: ["a"] for name in make_table(0).column_names}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(TableError, match="type"):
        read_table(tmp_path / "a.parquet")


def test_a_damaged_parquet_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(TableError, match="Parquet"):
        read_table(tmp_path / "a.parquet")


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path, make_table: MakeTable) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TableError, match="cannot be written"):
        write_table(make_table(1), tmp_path / "file" / "a.csv")


def test_a_failed_write_leaves_the_older_file(tmp_path: Path, make_table: MakeTable) -> None:
    path = tmp_path / "a.hdf5"
    write_table(make_table(10), path)
    with pytest.raises(TableError):
        write_table(make_table(20).replace_schema_metadata(None), path)
    assert read_table(path).num_rows == 10
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.hdf5", "a.yaml"]
