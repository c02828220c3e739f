"""A folder with everything: what was measured, by which command, on what, as tables and figures."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from config.errors import RunError
from config.schema import Settings
from engine.runtimes.runtime import Runtime
from models.evaluation.assessment import Progress, assess
from models.evaluation.sections import Section, write_sections


def report_model(
    runtime: Runtime, conditions: Sequence[Settings], folder: Path, command: str, progress: Progress
) -> list[Section]:
    """Measure everything of a model under the conditions and write it into ``folder``. Raises RunError."""
    sections = list(assess(runtime, conditions, progress))
    description = runtime.description
    head = {
        "command": command,
        "model": description.name,
        "settings_hash": description.settings_hash,
        "runtime": runtime.name,
        "versions": versions(),
    }
    progress("figures")
    write_report(sections, head, f"{description.name}: what it reaches", folder)
    return sections


def write_report(sections: Sequence[Section], head: dict[str, Any], title: str, folder: Path) -> None:
    """results.json, results.md, a CSV a section, and figures/ with PNG and SVG. Raises RunError where it cannot."""
    from models.evaluation.figures import write_figures

    try:
        pictures = write_figures({part.name: part.rows for part in sections}, folder / "figures")
        write_sections(sections, head, title, folder, pictures)
    except OSError as error:
        raise RunError(
            f"the report cannot be written to {folder}: {error.strerror or error}. "
            "Give a folder that can be written with evaluation.output=FOLDER."
        ) from error


def versions() -> dict[str, str]:
    """Of what may change a figure."""
    names = ("liveloc", "numpy", "scipy", "torch")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
