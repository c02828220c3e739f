"""The shipped model and Picasso (gaussmle, its best threshold) on the same frames.

`PATH=…/bin:$PATH pytest -s -m benchmark tests/benchmarks/test_picasso.py`, with Picasso's own environment on the path:
its dependencies are not ours. Writes docs/comparisons/picasso, which docs/benchmarks.md shows (`liveloc card`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from config.compose import compose
from models.evaluation.compare import compare_tables
from models.evaluation.report import write_report
from models.evaluation.sections import Section, markdown_table

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
CONDITIONS = ("density_0_2", "density_1", "density_2", "density_4", "dim")
FRAMES = 300
GRADIENTS = (400, 700, 1000, 1400, 2000, 2800, 4000, 5600)
"""Picasso's threshold, the smallest net gradient of a spot, in steps of about √2; the best is taken each time."""
CAMERA = ("-bl", "100", "-s", "45", "-ga", "300", "-qe", "0.9", "-px", "100")
SHOWN = ("condition", "jaccard", "rmse", "efficiency", "jaccard_100nm", "rmse_100nm", "over_bound", "photon_ratio")
Row = Mapping[str, Any]


def liveloc(*words: object, cwd: Path) -> None:
    command = [sys.executable, str(ROOT / "liveloc.py"), *map(str, words)]
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=600)


def best_of_picasso(picasso: str, simulated: Path) -> tuple[Row, int]:
    """The row of the best efficiency, and the gradient that gave it."""
    answers = []
    for gradient in GRADIENTS:
        suffix = f"_{gradient}"
        command = [picasso, "localize", "frames.ome.tif", "-a", "mle", "-g", str(gradient), "-d", "0", "-b", "7"]
        subprocess.run([*command, *CAMERA, "-sf", suffix], cwd=simulated, check=True, capture_output=True, timeout=600)
        (table,) = simulated.glob(f"*{suffix}*.hdf5")
        answers.append((compare_tables(simulated, [table], compose())[0].rows[0], gradient))
    return max(answers, key=lambda answer: float(answer[0]["efficiency"]))


def test_ahead_of_picasso_under_every_condition(tmp_path: Path) -> None:
    picasso = shutil.which("picasso")
    if picasso is None:
        pytest.skip("picasso is not on the path")
    rows = list[Row]()
    for name in CONDITIONS:
        simulated, run = tmp_path / name, tmp_path / f"{name}_run"
        liveloc("simulate", f"dataset={name}", f"dataset.frames={FRAMES}", f"dataset.output={simulated}", cwd=tmp_path)
        known = ("camera=challenge_emccd", "optics=challenge", f"run.output={run}")
        liveloc("replay", simulated / "frames.ome.tif", *known, cwd=tmp_path)
        ours = compare_tables(simulated, [run], compose())[0].rows[0]
        theirs, gradient = best_of_picasso(picasso, simulated)
        rows += [{**ours, "condition": f"{name}, liveloc"}, {**theirs, "condition": f"{name}, Picasso ({gradient})"}]
        print(f"\n{markdown_table(rows[-2:], SHOWN)}")  # noqa: T201
    _write(rows)
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        assert ours["jaccard"] > theirs["jaccard"]
        assert ours["rmse"] < theirs["rmse"]


def _write(rows: list[Row]) -> None:
    title = "Against Picasso"
    note = (
        f"The shipped model and Picasso's maximum-likelihood fit (box 7) on the same {FRAMES} frames, at the best of "
        f"{len(GRADIENTS)} thresholds for each condition (smallest net gradient, in brackets). Picasso fits one "
        "emitter a spot."
    )
    head = {"title": title, "command": "pytest -s -m benchmark tests/benchmarks/test_picasso.py"}
    write_report(
        [Section("benchmark", title, note, rows, SHOWN)], head, title, ROOT / "docs" / "comparisons" / "picasso"
    )
