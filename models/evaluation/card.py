"""Model cards and the page of benchmarks, written from the results that an evaluation left, never by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from safetensors import safe_open

from config.errors import RunError
from engine.output.disk import replace_text
from engine.runtimes.model_file import ModelDescription
from models.evaluation.sections import markdown_table, read_results

Rows = Sequence[Mapping[str, Any]]

MODELS = "models"
"""Folder under docs: a card and a folder of results for each model."""
COMPARISONS = "comparisons"
"""Folder under docs: results of tables on the same truth."""
FIGURES = {
    "isolated": "Isolated emitters: error and the Cramér–Rao bound",
    "strata": "By photons, signal to noise and nearest neighbour",
    "sigmas": "Predicted sigmas",
    "reliability": "Probabilities",
    "pairs": "Two emitters in one frame",
    "bias": "Bias within the pixel",
    "thresholds": "Thresholds",
}
"""Name of a figure → caption, in the order of a card."""


def write_card(description: ModelDescription, model: Path, docs: Path) -> Path:
    """``docs``/models/NAME.md from the results in ``docs``/models/NAME. Raises RunError."""
    folder = docs / MODELS / description.name
    results = _results(folder)
    path = docs / MODELS / f"{description.name}.md"
    parts = [
        f"# {description.name}",
        _purpose(description),
        _domain(description),
        _figures(description.name, results),
        _making(description, model),
        f"## Made anew by\n\n```\n{results['command']}\n```\n",
        "Written from the evaluation's own results: [all figures](" + f"{description.name}/results.md), "
        f"[for programs]({description.name}/results.json).\n",
    ]
    _write(path, "\n\n".join(parts))
    return path


def write_benchmarks(docs: Path) -> Path:
    """``docs``/benchmarks.md from all results under ``docs``. Raises RunError."""
    parts = [
        "# Benchmarks",
        "Written by `liveloc card` from the results in this folder; each table names the command that makes it anew.",
    ]
    for folder in sorted(path.parent for path in (docs / MODELS).glob("*/results.json")):
        parts += list(_model_page(folder))
    for folder in sorted(path.parent for path in (docs / COMPARISONS).glob("*/results.json")):
        parts += list(_comparison_page(folder))
    _write(docs / "benchmarks.md", "\n\n".join(parts) + "\n")
    return docs / "benchmarks.md"


def _model_page(folder: Path) -> Iterator[str]:
    results = _results(folder)
    sections = results["sections"]
    yield f"## Model [{folder.name}]({MODELS}/{folder.name}.md)"
    yield f"```\n{results['command']}\n```"
    flat = all(row.get("rmse_z") is None for row in sections["benchmark"])
    rows = [{**row, "goal": GOALS.get(row["condition"]) if flat else None} for row in sections["benchmark"]]
    yield markdown_table(rows, (*_BENCHMARK[:5], "goal", *_BENCHMARK[5:]))
    if "isolated" in sections:
        yield "Isolated emitters:"
        yield markdown_table(_known(sections["isolated"]), _ISOLATED)
    yield f"![{FIGURES['isolated']}]({MODELS}/{folder.name}/figures/isolated.png)"


def _comparison_page(folder: Path) -> Iterator[str]:
    results = _results(folder)
    yield f"## {results.get('title', folder.name)}"
    yield f"```\n{results['command']}\n```"
    yield markdown_table(_known(results["sections"]["benchmark"]), _BENCHMARK)
    yield f"![{folder.name}]({COMPARISONS}/{folder.name}/figures/benchmark.png)"


GOALS = {"density_0_2": 79.5, "density_1": 76.0, "density_2": 69.0, "density_4": 58.0, "dim": 61.0}
"""Efficiency that a 2-D model of a wide domain is to reach; one trained for these conditions, 1.5 points more."""
_BENCHMARK = (
    *("condition", "density", "jaccard", "rmse", "efficiency", "jaccard_100nm", "rmse_100nm", "over_bound"),
    *("over_summed", "rmse_z", "over_summed_z", "efficiency_3d", "sigma_spread", "photon_ratio"),
)
_CONDITIONS = (
    "Simulated acquisitions that no training saw, the challenge's EMCCD, PSF 135 nm (sigma, in focus); pairs within "
    "250 nm, and in 3-D 500 nm of height; emitters under 100 photons in a frame are neither hit nor miss."
)
_ISOLATED = (
    *("photons", "lit", "recall", "rmse", "bound", "summed_bound", "over_bound", "over_summed", "sigma_spread"),
    *("rmse_z", "over_bound_z", "over_summed_z", "sigma_spread_z"),
)


def _purpose(description: ModelDescription) -> str:
    past, future = description.context
    dimensions = "3-D" if "z" in description.columns else "2-D"
    cameras = " and ".join({"emccd": "EMCCD", "scmos": "sCMOS"}.get(kind, kind) for kind in description.cameras)
    seen = f"{past} frames before and {future} after" if past or future else "no other frames"
    return (
        f"Localises single molecules in {dimensions} in frames of {cameras} cameras, live or recorded. For a frame it "
        f"also looks at {seen}, so live answers come {future} exposures late. Every localisation comes with its own "
        "uncertainty and probability."
    )


def _domain(description: ModelDescription) -> str:
    density = tuple(100 * value for value in description.density)
    rows = [
        ("PSF width (sigma)", _range(description.psf_sigma), "pixels"),
        ("photons of an emitter in a fully lit frame", _range(description.photons), "photons"),
        ("background", _range(description.background), "photons/pixel/frame"),
        ("emitters in a frame, pixels of 100 nm", _range(density), "1/µm²"),
    ]
    lines = "\n".join(f"| {name} | {values} | {unit} |" for name, values, unit in rows)
    return (
        "## What it is for\n\nTrained on simulated frames in these ranges; liveloc warns in words where data lie "
        f"outside them.\n\n| | range | unit |\n| --- | --- | --- |\n{lines}\n\n"
        "Not for spots that are no single emitters (cells, beads that saturate), nor for a PSF of another shape than "
        "the one it was trained with."
    )


def _figures(name: str, results: Mapping[str, Any]) -> str:
    sections = results["sections"]
    words = [
        "## What it reaches",
        _CONDITIONS,
        markdown_table(_known(sections["benchmark"]), _BENCHMARK),
        "\n".join(_statements(sections)),
    ]
    pictures = [f"![{caption}]({name}/figures/{figure}.png)\n\n*{caption}*" for figure, caption in FIGURES.items()]
    return "\n\n".join([*words, *pictures])


def _statements(sections: Mapping[str, Rows]) -> Iterator[str]:
    """What a reader wants to know first, in sentences."""
    isolated = sections.get("isolated", ())
    for lit, name, words in ((1, "over_bound", "in one frame"), (None, "over_summed", "in several frames")):
        rows = [row for row in isolated if (row["lit"] == 1) == (lit == 1)]
        ratios = [row[name] for row in rows if row[name] is not None]
        if ratios:
            yield (
                f"- Isolated emitters seen {words}: RMSE {min(ratios):.2f} to {max(ratios):.2f} times the Cramér–Rao "
                f"bound, {rows[0]['photons']:g} to {rows[-1]['photons']:g} photons a frame."
            )
    spreads = [row["sigma_spread"] for row in isolated if row["sigma_spread"] is not None]
    if spreads:
        low, high = min(spreads), max(spreads)
        yield f"- Errors over predicted sigmas of isolated emitters: {low:.2f} to {high:.2f} (1 is right)."
    for row in sections.get("corrections", ()):
        yield f"- Probabilities: expected calibration error {row['calibration_error']:.3f}."
    for lit in dict.fromkeys(row["lit"] for row in sections.get("pairs", ())):
        distance = half_resolved([row for row in sections["pairs"] if row["lit"] == lit])
        if distance is not None:
            together = "shining in one and the same frame" if lit == 1 else f"lit {lit} frames, one a frame later"
            yield f"- Of two emitters {together}, half are told apart at {distance:.0f} nm."


def half_resolved(rows: Rows) -> float | None:
    """Distance [nm] at which half of the pairs are resolved, between two that were tried; None where none were."""
    for before, after in pairwise(rows):
        low, high = before["resolved"], after["resolved"]
        if low < 0.5 <= high:
            share = (0.5 - low) / (high - low)
            return float(before["distance"] + share * (after["distance"] - before["distance"]))
    return None


def _making(description: ModelDescription, model: Path) -> str:
    training = description.settings.get("training", {})
    network = description.settings.get("network", {})
    rows = {
        "network": f"{network.get('kind', '?')}, {_parameters(model)}",
        "file": f"{model.name}, {model.stat().st_size / 1e6:.1f} MB",
        "recipe": f"training={training.get('name', '?')}, {description.made_by.get('steps', '?')} steps",
        "started from": training.get("base") or "fresh weights",
        "calibration": _calibration(description.calibration),
        "settings": f"SHA-256 {description.settings_hash[:16]}…, kept whole in the file",
        "made by": ", ".join(f"{name} {value}" for name, value in description.made_by.items() if name != "steps"),
    }
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"## How it was made\n\nOn frames simulated while it trained.\n\n| | |\n| --- | --- |\n{lines}"


def _calibration(made: Mapping[str, Any]) -> str:
    """How sigmas and probabilities were put right after training."""
    if not made:
        return "none: sigmas and probabilities are the network's own"
    words = (
        f"sigmas and probabilities, on {made['localisations']:,} localisations in {made['scenes']} simulated scenes of "
        "its domain"
    )
    before, after = made["error_before"], made["error_after"]
    if before is None or after is None:
        return words
    return f"{words}; expected calibration error {before:.3f} before, {after:.3f} after (scenes held back)"


def _parameters(model: Path) -> str:
    """Counted in the .safetensors beside the model, where it is."""
    weights = model.with_suffix(".safetensors")
    if not weights.is_file():
        return "parameters not counted"
    with safe_open(weights, "numpy") as file:
        count = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 # no mapping
    return f"{count / 1e6:.2f} million parameters"


def _range(values: tuple[float, ...]) -> str:
    return f"{values[0]:g} to {values[1]:g}"


def _known(rows: Rows) -> list[dict[str, Any]]:
    """Rows as they came from JSON; None stands for what is not known."""
    return [dict(row) for row in rows]


def _results(folder: Path) -> dict[str, Any]:
    try:
        return read_results(folder)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder} holds no results.json that can be read: {error}. Evaluate the model first."
        ) from error


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}. Choose another folder.") from error
