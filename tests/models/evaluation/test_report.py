"""From a model, from tables of any format and from real localisations to folders of figures."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from config.compose import compose
from config.errors import RunError, SettingsError, TableError
from config.schema import Settings
from engine.output.formats import write_table
from engine.output.table import describe_field, table_from_columns, with_metadata
from engine.runtimes import load_runtime
from engine.runtimes.choice import Wanted
from engine.runtimes.runtime import Runtime
from models.evaluation.benchmark import as_markdown, benchmark
from models.evaluation.card import half_resolved, write_benchmarks, write_card
from models.evaluation.compare import compare_tables, names_of
from models.evaluation.inspection import inspect_files, inspect_table, repeat_precision
from models.evaluation.report import report_model, write_report
from models.evaluation.sections import Section, flat, markdown_table, read_results
from models.export import build_step
from models.weights import model_path
from simulation.dataset import make_simulator, write_dataset

TINY = (
    "camera=challenge_emccd",
    "optics=challenge",
    "dataset=density_1",
    "dataset.frames=24",
    "dataset.height=32",
    "dataset.width=32",
    "evaluation=short",
    "evaluation.isolated_photons=[1000]",
    "evaluation.isolated_frames=[1]",
    "evaluation.isolated_emitters=64",
    "evaluation.pair_distances=[200,500]",
    "evaluation.pair_frames=[1]",
    "evaluation.pairs=64",
)


@cache
def runtime() -> Runtime:
    return load_runtime(model_path("default"), Wanted("onnx", "cpu", "fp32", 1), build_step)


def settings(*more: str) -> Settings:
    return compose([*TINY, *more])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "models" / "default"
    told = list[str]()
    report_model(runtime(), [settings()], folder, "liveloc evaluate", told.append)
    assert told == ["density_1", "isolated emitters", "point pairs", "figures"]
    return folder


def test_a_report_has_every_section_as_json_csv_markdown_and_figures(report: Path) -> None:
    results = read_results(report)
    assert results["model"] == "default"
    strata = {"by_photons", "by_snr", "by_neighbour"}
    rest = {"benchmark", "sigmas", "reliability", "thresholds", "isolated", "bias", "pairs", "corrections"}
    assert set(results["sections"]) == strata | rest
    for name, rows in results["sections"].items():
        lines = (report / f"{name}.csv").read_text(encoding="utf-8").splitlines()
        assert len(lines) == len(rows) + 1 > 1
    drawn = {path.stem for path in (report / "figures").glob("*.png")}
    assert drawn == {path.stem for path in (report / "figures").glob("*.svg")}
    assert drawn == {"benchmark", "isolated", "reliability", "bias", "pairs", "thresholds", "strata", "sigmas"}
    text = (report / "results.md").read_text(encoding="utf-8")
    assert "RMSE / bound" in text
    assert all(f"figures/{name}.png" in text for name in drawn)


def test_its_table_is_the_short_one(report: Path) -> None:
    (row,) = benchmark(runtime(), [settings()])
    told = read_results(report)["sections"]["benchmark"][0]
    assert {name: told[name] for name in ("jaccard", "rmse", "efficiency", "sigma_spread")} == pytest.approx(
        {"jaccard": row.jaccard, "rmse": row.rmse, "efficiency": row.efficiency, "sigma_spread": row.sigma_spread}
    )
    assert "density_1" in as_markdown([row])


def test_the_shipped_model_stands_near_the_bound(report: Path) -> None:
    (row,) = read_results(report)["sections"]["isolated"]
    assert row["recall"] > 0.95
    assert 0.8 < row["over_bound"] < 1.6


def test_a_card_and_the_page_of_benchmarks_follow_from_it(report: Path) -> None:
    docs = report.parents[1]
    card = write_card(runtime().description, model_path("default"), docs).read_text(encoding="utf-8")
    assert card.startswith("# default\n")
    assert "million parameters" in card
    assert "0.8 to 1.8" in card
    assert "liveloc evaluate" in card
    assert all((docs / "models" / link).is_file() for link in linked(card))
    page = write_benchmarks(docs).read_text(encoding="utf-8")
    assert "models/default.md" in page
    assert all((docs / link).exists() for link in linked(page))


def linked(text: str) -> list[str]:
    """Where the links and pictures of a page lead."""
    return [part.split(")")[0] for part in text.split("](")[1:]]


def test_a_card_without_results_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Evaluate the model first"):
        write_card(runtime().description, model_path("default"), tmp_path)


def test_a_report_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"evaluation\.output=FOLDER"):
        write_report([Section("one", "One", "", [{"jaccard": 1.0}])], {}, "x", tmp_path / "file" / "folder")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated data set with its truth and its settings."""
    folder = tmp_path_factory.mktemp("compared") / "simulated"
    write_dataset(settings(), folder)
    return folder


def near(truth: pa.Table, error: float) -> pa.Table:
    """A table of the truth's emitters with normal errors [nm]."""
    rng = np.random.default_rng(0)
    columns = {name: truth[name].to_numpy() for name in ("frame", "x", "y", "photons")}
    for axis in "xy":
        columns[axis] = np.clip(columns[axis] + error * rng.standard_normal(truth.num_rows), 0, 3199)
    facts = describe_field(pixel_size=100.0, width=32, height=32, frames=24, psf_sigma=135.0)
    sigma = {name: np.full(truth.num_rows, error) for name in ("sigma_x", "sigma_y", "background")}
    return table_from_columns({**columns, **sigma}, facts)


def test_tables_of_every_format_score_alike(simulated: Path, tmp_path: Path) -> None:
    truth = make_simulator(settings()).emitters()
    paths = [tmp_path / f"{kind}.{kind}" for kind in ("csv", "hdf5", "parquet", "arrows")]
    for path in paths:
        write_table(near(truth, 20.0), path)
    rows = compare_tables(simulated, paths, compose())[0].rows
    assert [row["condition"] for row in rows] == ["csv", "hdf5", "parquet", "arrows"]
    for row in rows:
        assert row["jaccard"] > 0.97
        assert row["rmse"] == pytest.approx(rows[0]["rmse"], rel=1e-3)
        assert row["rmse"] == pytest.approx(20 * math.sqrt(2), rel=0.15)
        assert row["over_bound"] == pytest.approx(rows[0]["over_bound"], rel=1e-3)


def test_the_better_table_is_told_from_the_worse(simulated: Path, tmp_path: Path) -> None:
    truth = make_simulator(settings()).emitters()
    run = tmp_path / "run"
    run.mkdir()
    write_table(near(truth, 10.0), run / "localisations.arrows")
    write_table(near(truth.slice(0, truth.num_rows // 2), 40.0), tmp_path / "rival.csv")
    sections = compare_tables(simulated, [run, tmp_path / "rival.csv"], compose())
    ours, theirs = sections[0].rows
    assert (ours["condition"], theirs["condition"]) == ("run", "rival")
    assert ours["efficiency"] > theirs["efficiency"] + 20
    assert {row["of"] for row in next(part for part in sections if part.name == "by_photons").rows} == {"run", "rival"}
    write_report(sections, {"command": "liveloc compare"}, "Compared", tmp_path / "docs" / "comparisons" / "here")
    assert "rival" in write_benchmarks(tmp_path / "docs").read_text(encoding="utf-8")


def test_a_truth_that_is_a_table_alone_gives_the_score_without_bounds(tmp_path: Path) -> None:
    truth = make_simulator(settings()).emitters()
    facts = describe_field(pixel_size=100.0, width=32, height=32, frames=24)
    write_table(with_metadata(near(truth, 0.0), facts), tmp_path / "truth.csv")
    write_table(near(truth, 20.0), tmp_path / "found.csv")
    (row,) = compare_tables(tmp_path / "truth.csv", [tmp_path / "found.csv"], compose())[0].rows
    assert row["rmse"] == pytest.approx(20 * math.sqrt(2), rel=0.15)
    assert math.isnan(row["over_bound"])
    known = compose(["camera=challenge_emccd", "optics=challenge", "dataset.background=20"])
    (row,) = compare_tables(tmp_path / "truth.csv", [tmp_path / "found.csv"], known)[0].rows
    assert 0.3 < row["over_bound"] < 3


def test_what_cannot_be_compared_is_refused_in_words(simulated: Path, tmp_path: Path) -> None:
    truth = make_simulator(settings()).emitters()
    late = near(truth, 1.0)
    late = late.set_column(0, late.schema.field(0), pa.array(late["frame"].to_numpy() + 1000))
    write_table(late, tmp_path / "late.parquet")
    with pytest.raises(TableError, match="frames 0 to 23; the table's begin at 10"):
        compare_tables(simulated, [tmp_path / "late.parquet"], compose())
    with pytest.raises(TableError, match="holds no localisations"):
        compare_tables(simulated, [tmp_path], compose())
    pq.write_table(truth.drop_columns(["photons"]), tmp_path / "truth.parquet")
    with pytest.raises(TableError, match="no column 'photons'"):
        compare_tables(tmp_path / "truth.parquet", [tmp_path / "late.parquet"], compose())
    (tmp_path / "truth.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(TableError, match="cannot be read as Parquet"):
        compare_tables(tmp_path / "truth.parquet", [tmp_path / "late.parquet"], compose())
    (tmp_path / "settings.yaml").write_text("camera: {nonsense: 1}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="cannot be read as settings"):
        compare_tables(tmp_path / "truth.parquet", [tmp_path / "late.parquet"], compose())


def test_tables_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    paths = [tmp_path / name / "locs.csv" for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    assert names_of(paths) == ["a/locs", "b/locs"]


def repeating(sigma: float, molecules: int, frames: int, seed: int = 0) -> pa.Table:
    """Molecules that each shine in two consecutive frames."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, frames - 1, molecules)
    place = rng.uniform(0, 20_000, (2, molecules))
    x, y = (np.concatenate([axis, axis]) + sigma * rng.standard_normal(2 * molecules) for axis in place)
    columns = {"frame": np.concatenate([first, first + 1]), "x": x, "y": y, "photons": np.full(2 * molecules, 500.0)}
    return table_from_columns(columns, describe_field(pixel_size=100.0, width=200, height=200, frames=frames))


@pytest.mark.parametrize("sigma", [8.0, 25.0])
def test_precision_is_found_from_molecules_seen_twice(sigma: float) -> None:
    assert repeat_precision(repeating(sigma, 6000, 400)) == pytest.approx(sigma, rel=0.08)


def test_precision_is_not_told_where_molecules_do_not_last() -> None:
    table = repeating(10.0, 6000, 400)
    once = table.filter(pa.array(table["frame"].to_numpy() % 2 == 0))
    assert repeat_precision(once) is None


def test_statistics_of_real_tables(tmp_path: Path) -> None:
    write_table(repeating(15.0, 4000, 300), tmp_path / "locs.parquet")
    given = compose([f"evaluation.output={tmp_path / 'out'}"])
    (row,) = inspect_files([tmp_path / "locs.parquet"], given, "liveloc inspect").rows
    assert row["localisations"] == 8000
    assert row["photons"] == 500
    assert math.isnan(row["probability"])
    assert row["repeats [nm]"] == pytest.approx(15, rel=0.1)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"locs.png", "locs_distributions.png", "locs_distributions.svg", "results.json", "statistics.csv"} <= written
    assert json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["sections"]["statistics"]


def test_an_empty_table_has_few_statistics() -> None:
    empty = inspect_table("none", repeating(1.0, 10, 20).slice(0, 0), 100)
    assert (empty.localisations, empty.frames, empty.frc, empty.repeat_precision) == (0, 0, None, None)


def test_rows_for_people_leave_out_what_nobody_knows() -> None:
    text = markdown_table([{"jaccard": 0.5, "rmse": math.nan, "high": math.inf}, {"jaccard": None, "high": 2.0}])
    assert text.splitlines() == ["| JI | to |", "| --- | --- |", "| 0.500 | ∞ |", "| – | 2 |"]
    assert markdown_table([]) == "*Nothing to show.*"


def test_the_first_to_name_a_column_wins() -> None:
    assert flat({"a": 1}, {"a": 2, "b": 3}) == {"a": 1, "b": 3}


def test_half_of_the_pairs_is_found_between_two_distances() -> None:
    rows = [
        {"distance": 100.0, "resolved": 0.0},
        {"distance": 200.0, "resolved": 0.25},
        {"distance": 300.0, "resolved": 0.75},
    ]
    assert half_resolved(rows) == pytest.approx(250)
    assert half_resolved(rows[:2]) is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("evaluation.thresholds=[0.5,1.5]", "above 0 and at most 1"),
        ("evaluation.isolated_frames=[]", "one or more numbers above 0"),
        ("evaluation.pair_distances=[-100]", "above 0"),
    ],
)
def test_plans_that_make_no_sense_are_refused(override: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        compose([override])
