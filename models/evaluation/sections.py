"""Tables of figures: one list of rows, as JSON for programs, CSV for spreadsheets and Markdown for people."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from engine.output.disk import replace_text

HEADINGS: dict[str, tuple[str, str]] = {
    "of": ("", "s"),
    "condition": ("condition", "s"),
    "density": ("emitters/µm²", ".2g"),
    "photons": ("photons", ".0f"),
    "frames": ("frames", "d"),
    "jaccard": ("JI", ".3f"),
    "rmse": ("RMSE [nm]", ".1f"),
    "efficiency": ("E", ".1f"),
    "goal": ("goal", ".1f"),
    "jaccard_100nm": ("JI (100 nm)", ".3f"),
    "rmse_100nm": ("RMSE (100 nm)", ".1f"),
    "rmse_z": ("axial RMSE [nm]", ".1f"),
    "efficiency_3d": ("E (3-D)", ".1f"),
    "precision": ("precision", ".3f"),
    "recall": ("recall", ".3f"),
    "over_bound": ("RMSE / bound", ".2f"),
    "over_summed": ("RMSE / summed bound", ".2f"),
    "over_bound_z": ("axial RMSE / bound", ".2f"),
    "over_summed_z": ("axial RMSE / summed bound", ".2f"),
    "bound": ("bound [nm]", ".1f"),
    "summed_bound": ("summed bound [nm]", ".1f"),
    "sigma_spread": ("sigma spread", ".2f"),
    "sigma_spread_z": ("axial sigma spread", ".2f"),
    "photon_ratio": ("photons found / true", ".2f"),
    "within_1": ("within 1 σ", ".3f"),
    "within_2": ("within 2 σ", ".3f"),
    "offset_x": ("offset x [nm]", ".2f"),
    "offset_y": ("offset y [nm]", ".2f"),
    "bias_x": ("bias x [nm]", ".2f"),
    "bias_y": ("bias y [nm]", ".2f"),
    "by": ("by", "s"),
    "low": ("from", "g"),
    "high": ("to", "g"),
    "emitters": ("emitters", "d"),
    "lit": ("frames lit", "d"),
    "claimed": ("claimed", ".3f"),
    "right": ("right", ".3f"),
    "count": ("count", "d"),
    "threshold": ("threshold", ".2f"),
    "distance": ("distance [nm]", ".0f"),
    "pairs": ("pairs", "d"),
    "resolved": ("resolved", ".3f"),
    "merged": ("merged", ".3f"),
    "calibration_error": ("calibration error", ".3f"),
}
"""Column → heading and format for people; other columns go by their name, with three digits."""


@dataclass(frozen=True)
class Section:
    """One table with what it says."""

    name: str
    """Names its files."""
    title: str
    note: str
    """What was done, in a sentence or two."""
    rows: Sequence[Mapping[str, Any]]
    show: Sequence[str] = field(default_factory=tuple)
    """Columns for people; empty: all. Programs get all."""

    def markdown(self) -> str:
        """Heading, note and table."""
        return f"## {self.title}\n\n{self.note}\n\n{markdown_table(self.rows, self.show)}\n"


def flat(*parts: Any) -> dict[str, Any]:
    """One row of dataclasses and mappings, those within them included; the first to name a column wins."""
    row = dict[str, Any]()
    for part in parts:
        for name, value in (part if isinstance(part, Mapping) else vars(part)).items():
            inner = flat(value) if is_dataclass(value) else {name: value}
            row |= {key: content for key, content in inner.items() if key not in row}
    return row


def markdown_table(rows: Sequence[Mapping[str, Any]], show: Sequence[str] = ()) -> str:
    """Rows for people: the columns ``show``, without those of which nothing is known."""
    if not rows:
        return "*Nothing to show.*"
    names = [name for name in show or rows[0] if any(not _unknown(row.get(name)) for row in rows)]
    header = [_line([HEADINGS.get(name, (name, ""))[0] for name in names]), _line(["---"] * len(names))]
    return "\n".join([*header, *(_line([_cell(name, row.get(name)) for name in names]) for row in rows)])


def write_sections(
    sections: Iterable[Section], head: Mapping[str, Any], title: str, folder: Path, pictures: Sequence[Path] = ()
) -> None:
    """``results.json`` with everything, ``results.md`` for people, with ``pictures`` that lie in the folder, and a CSV
    for each section. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sections = list(sections)
    content = {**head, "sections": {part.name: [dict(row) for row in part.rows] for part in sections}}
    replace_text(folder / "results.json", json.dumps(_plain(content), indent=1, ensure_ascii=False) + "\n")
    figures = [f"![{path.stem}]({path.relative_to(folder).as_posix()})\n" for path in pictures]
    begin = [f"# {title}\n", *([f"```\n{head['command']}\n```\n"] if "command" in head else [])]
    text = [*begin, *(part.markdown() for part in sections), *(["## Figures\n", *figures] if figures else [])]
    replace_text(folder / "results.md", "\n".join(text))
    for part in sections:
        _write_csv(part.rows, folder / f"{part.name}.csv")


def read_results(folder: Path) -> dict[str, Any]:
    """What ``write_sections`` wrote as JSON; what is not known is None. Raises OSError, ValueError."""
    content: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return content


def _write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], restval="")
        writer.writeheader()
        writer.writerows({name: "" if _unknown(value) else value for name, value in row.items()} for row in rows)


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(name: str, value: Any) -> str:
    if _unknown(value):
        return "–"
    if isinstance(value, float) and math.isinf(value):
        return "∞"
    shown = HEADINGS.get(name, ("", "s" if isinstance(value, str) else ".3g"))[1]
    return format(value, shown)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(value: Any) -> Any:
    """The same with what JSON can hold: not-a-number and infinity become null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(content) for content in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
