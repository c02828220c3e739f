from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from config.errors import TableError
from engine.localisations import LOCALISATION_SCHEMA
from engine.output.formats import read_table, write_table
from engine.output.table import describe_field, metadata_of, numpy_column, table_from_columns

MakeTable = Callable[..., pa.Table]
HEADER = '"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]","offset [photon]","bkgstd [photon]"'


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def row(table: pa.Table, index: int = 0) -> dict[str, object]:
    return table.slice(index, 1).to_pylist()[0]


@pytest.mark.parametrize("deep", [False, True], ids=["2-D", "3-D"])
def test_a_round_trip_changes_nothing(csv: Path, make_table: MakeTable, deep: bool) -> None:
    table = make_table(500, deep)
    write_table(table, csv)
    assert read_table(csv).equals(table)


floats = st.floats(0, 300_000, width=32)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=arrays.arrays(np.float32, (20, 8), elements=floats),
    frames=arrays.arrays(np.int64, 20, elements=st.integers(0, 10**7)),
)
def test_any_numbers_survive_a_round_trip(csv: Path, values: np.ndarray, frames: np.ndarray) -> None:
    names = [name for name in LOCALISATION_SCHEMA.names if name not in ("frame", "z", "sigma_z")]
    table = table_from_columns({"frame": frames, **dict(zip(names, values.T, strict=True))}, {})
    write_table(table, csv)
    assert read_table(csv).equals(table)


def test_frames_are_written_from_one_and_ids_too(csv: Path, make_table: MakeTable) -> None:
    write_table(make_table(4), csv)
    lines = csv.read_text().splitlines()
    assert lines[0].startswith('"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]","offset [photon]"')
    assert [line.split(",")[:2] for line in lines[1:]] == [["1", "1"], ["2", "1"], ["3", "1"], ["4", "2"]]


def test_the_lateral_uncertainty_is_the_root_mean_square(csv: Path) -> None:
    columns = {"frame": [0], "x": [1.0], "y": [1.0], "sigma_x": [30.0], "sigma_y": [40.0]}
    write_table(table_from_columns({name: np.array(value) for name, value in columns.items()}, {}), csv)
    header, values = (line.split(",") for line in csv.read_text().splitlines())
    assert float(values[header.index('"uncertainty_xy [nm]"')]) == pytest.approx(35.3553, abs=1e-4)


def test_what_is_not_known_is_not_written(csv: Path) -> None:
    columns = {name: np.ones(3) for name in ("frame", "x", "y", "photons")}
    write_table(table_from_columns(columns, {}), csv)
    assert csv.read_text().splitlines()[0] == '"id","frame","x [nm]","y [nm]","intensity [photon]"'
    assert np.isnan(numpy_column(read_table(csv), "probability")).all()


def test_the_newer_2d_header(csv: Path) -> None:
    csv.write_text(
        f'{HEADER},"chi2","uncertainty_xy [nm]"\n1,1,7400.238,10637.589,156.075,4086.983,2,9.706,31.4,7.139\n'
    )
    first = row(read_table(csv))
    expected = {"frame": 0, "x": 7400.238, "y": 10637.589, "photons": 4086.983, "background": 2.0}
    assert {name: first[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert (first["sigma_x"], first["sigma_y"]) == pytest.approx((7.139, 7.139))
    assert first["z"] is None


def test_the_older_header_a_byte_order_mark_and_no_quotes(csv: Path) -> None:
    header = HEADER.replace('"', "")
    csv.write_text(
        f"\ufeff{header},uncertainty [nm]\n1,5.0,100,200,130,900,3,1,12\n2,6.0,1e3,200,130,900,3,1,12\n", "utf-8"
    )
    table = read_table(csv)
    assert numpy_column(table, "frame").tolist() == [4, 5]
    assert numpy_column(table, "x").tolist() == [100, 1000]
    assert metadata_of(table) == {"psf_sigma_nm": "130"}


def test_the_3d_header(csv: Path) -> None:
    csv.write_text(
        '"frame","x [nm]","y [nm]","z [nm]","sigma1 [nm]","sigma2 [nm]","intensity [photon]","uncertainty_xy [nm]",'
        '"uncertainty_z [nm]"\n3,10,20,-21.5,141,153,4086,5.08,10.16\n'
    )
    first = row(read_table(csv))
    assert (first["frame"], first["z"]) == (2, -21.5)
    assert first["sigma_z"] == pytest.approx(10.16)


@pytest.mark.parametrize(
    ("unit", "pixel_size", "x"), [("um", None, 1500.0), ("µm", None, 1500.0), ("px", 100.0, 150.0)]
)
def test_other_units_of_length(csv: Path, unit: str, pixel_size: float | None, x: float) -> None:
    csv.write_text(f"frame,x [{unit}],y [{unit}]\n1,1.5,2\n", "utf-8")
    assert row(read_table(csv, pixel_size))["x"] == pytest.approx(x)


def test_a_header_alone_is_an_empty_table(csv: Path) -> None:
    csv.write_text(HEADER + "\n")
    assert read_table(csv).num_rows == 0


def test_an_empty_table_is_a_header_alone(csv: Path, make_table: MakeTable) -> None:
    write_table(make_table(0), csv)
    assert len(csv.read_text().splitlines()) == 1
    assert read_table(csv).num_rows == 0


WRONG = {
    "empty": ("", "empty"),
    "no frame": ("x [nm],y [nm]\n1,2\n", r"no column 'frame'.*found x \[nm\], y \[nm\]"),
    "no y": ("frame,x [nm]\n1,2\n", r"no column 'y \[nm\]'"),
    "pixels": ("frame,x [px],y [px]\n1,2,3\n", r"'x \[px\]' is in camera pixels"),
    "furlongs": ("frame,x [furlong],y [nm]\n1,2,3\n", r"'x \[furlong\]' must be in \[nm\]"),
    "no unit": ("frame,x,y\n1,2,3\n", "'x' must be in"),
    "ADU": ("frame,x [nm],y [nm],intensity [ADU]\n1,2,3,4\n", r"'intensity \[ADU\]' must be in \[photon\]"),
    "text": ("frame,x [nm],y [nm]\n1,2,here\n", "here"),
    "short row": ("frame,x [nm],y [nm]\n1,2\n", "cannot be read as numbers"),
    "frame 0": ("frame,x [nm],y [nm]\n0,2,3\n", "'frame' counts from 1.*found 0"),
    "half a frame": ("frame,x [nm],y [nm]\n1.5,2,3\n", "'frame' must hold whole numbers"),
    "no frame number": ("frame,x [nm],y [nm]\n,2,3\n", "'frame' must hold whole numbers"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_right_is_a_clear_error(csv: Path, content: str, message: str) -> None:
    csv.write_text(content)
    with pytest.raises(TableError, match=message):
        read_table(csv)


def test_the_real_2d_table(tables: Path) -> None:
    table = read_table(tables / "lacy_eyfp_thunderstorm.csv")
    assert table.num_rows == 40408
    assert numpy_column(table, "frame").min() == 0
    assert np.median(numpy_column(table, "sigma_x")) == pytest.approx(13, abs=6)
    assert 20_000 < numpy_column(table, "x").max() < 60_000, "nm over a camera's field"


def test_the_real_3d_table(tables: Path) -> None:
    table = read_table(tables / "thunderstorm_3d.csv")
    assert table.num_rows == 11195
    assert np.abs(numpy_column(table, "z")).max() < 2000, "nm"


def test_locan_opens_what_we_write(csv: Path, make_table: MakeTable) -> None:
    locan = pytest.importorskip("locan", reason="locan, an independent reader, is not installed")
    table = make_table(200)
    write_table(table, csv)
    data = locan.load_thunderstorm_file(csv).data
    for theirs, ours in {
        "position_x": "x",
        "position_y": "y",
        "intensity": "photons",
        "local_background": "background",
    }.items():
        np.testing.assert_allclose(data[theirs], numpy_column(table, ours), rtol=1e-6)
    assert (data["frame"] == numpy_column(table, "frame") + 1).all()
    assert (data["psf_sigma"] == 135).all()


def test_a_fitted_width_does_not_become_the_optics(csv: Path) -> None:
    csv.write_text(f"{HEADER}\n1,1,10,20,120,900,3,1\n2,1,10,20,140,900,3,1\n")
    assert metadata_of(read_table(csv)) == {}


def test_the_pixel_size_that_was_given_is_kept(csv: Path, make_table: MakeTable) -> None:
    write_table(make_table(3), csv)
    assert metadata_of(read_table(csv, 160.0)) == describe_field(pixel_size=160.0) | {"psf_sigma_nm": "135"}
