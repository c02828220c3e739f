"""Commands that judge: evaluate, compare, inspect, card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.parts import (
    CONDITIONS,
    Overrides,
    conditions_for,
    err,
    runtime_of,
    say,
    settings_of,
)
from config.errors import SettingsError

if TYPE_CHECKING:
    from config.schema import Settings
    from engine.runtimes.runtime import Runtime


def evaluate(overrides: Overrides = None) -> None:
    """Score a model on simulated acquisitions of known truth: Jaccard index, RMSE, efficiency.

    Runs the benchmark's conditions, or the one data set that is given. With evaluation.output=FOLDER everything else
    too: error over the Cramér–Rao bound, by photons, signal to noise and neighbours, sigmas, probabilities, bias,
    resolving power, thresholds, as tables and figures.

    Examples: liveloc evaluate model=my_model.onnx dataset=density_2 dataset.frames=200;
    liveloc evaluate evaluation.output=report
    """
    from models.evaluation.benchmark import as_markdown, benchmark

    given = list(overrides or ())
    chosen = [name.partition("=")[2] for name in given if name.startswith("dataset=")] or CONDITIONS
    runtime = runtime_of(settings_of(*given))
    conditions = conditions_for(runtime.description.settings, chosen, *given)
    say(f"{runtime.description.name} on {runtime.name}")
    if conditions[0].evaluation.output is None:
        table = as_markdown(list(benchmark(runtime, conditions)))
        say(table)
    else:
        _report(runtime, conditions, Path(conditions[0].evaluation.output), " ".join(["liveloc evaluate", *given]))


def compare(
    truth: Annotated[
        Path,
        typer.Argument(help="A folder that `liveloc simulate` wrote, or a table of the truth.", show_default=False),
    ],
    tables: Annotated[
        list[str],
        typer.Argument(metavar="TABLE... [SETTING=VALUE]...", help="Tables or run folders.", show_default=False),
    ],
) -> None:
    """Score tables side by side on one truth: run folders, ThunderSTORM .csv, Picasso .hdf5, .parquet.

    Where the truth is a table alone, camera=NAME and optics.psf_sigma=NM give the bounds. evaluation.output=FOLDER
    writes all tables and figures.

    Example: liveloc compare simulated runs/mine picasso_locs.hdf5 evaluation.output=report
    """
    from models.evaluation.compare import compare_tables
    from models.evaluation.report import write_report

    paths, overrides = _paths_and_overrides(tables)
    settings = settings_of(*overrides)
    sections = compare_tables(truth, paths, settings)
    say(sections[0].markdown())
    if settings.evaluation.output is not None:
        words = ["liveloc compare", str(truth), *tables]
        head = {"command": " ".join(words), "title": f"On the same truth: {truth.name}"}
        write_report(sections, head, head["title"], Path(settings.evaluation.output))
        say(f"Everything: {settings.evaluation.output}")


def inspect(
    tables: Annotated[
        list[str],
        typer.Argument(metavar="TABLE... [SETTING=VALUE]...", help="Tables or run folders.", show_default=False),
    ],
) -> None:
    """Tell of localisations whose truth nobody knows: statistics, FRC resolution, precision from repeats.

    evaluation.output=FOLDER writes pictures, distributions and tables.

    Example: liveloc inspect runs/mine their_table.csv evaluation.output=report
    """
    from models.evaluation.inspection import inspect_files

    paths, overrides = _paths_and_overrides(tables)
    section = inspect_files(paths, settings_of(*overrides), " ".join(["liveloc inspect", *tables]))
    say(section.markdown())


def card(
    models: Annotated[list[str], typer.Argument(metavar="MODEL... [SETTING=VALUE]...", show_default=False)],
    docs: Annotated[Path, typer.Option(help="Folder of the documents.")] = Path("docs"),
    measure: Annotated[bool, typer.Option(help="Evaluate anew; else write from the results that are there.")] = True,
) -> None:
    """Write a model's card, docs/models/NAME.md, from a full evaluation, and docs/benchmarks.md from all results.

    Example: liveloc card default small
    """
    from models.evaluation.card import write_benchmarks, write_card
    from models.weights import model_path

    names, overrides = [name for name in models if "=" not in name], [word for word in models if "=" in word]
    for name in names:
        chosen = [word.partition("=")[2] for word in overrides if word.startswith("dataset=")] or CONDITIONS
        runtime = runtime_of(settings_of(f"model={name}", *overrides))
        conditions = conditions_for(runtime.description.settings, chosen, f"model={name}", *overrides)
        folder = docs / "models" / runtime.description.name
        if measure:
            command = " ".join(["liveloc evaluate", f"model={name}", *overrides, f"evaluation.output={folder}"])
            _report(runtime, conditions, folder, command)
        say(f"{write_card(runtime.description, model_path(name), docs)}")
    say(f"{write_benchmarks(docs)}")


def _paths_and_overrides(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Words that name files, and SETTING=VALUE words. Raises SettingsError without a file."""
    paths = [Path(word) for word in words if "=" not in word or Path(word).exists()]
    if not paths:
        raise SettingsError("expected at least one table or run folder, such as runs/mine or their_table.csv.")
    return paths, [word for word in words if Path(word) not in paths]


def _report(runtime: Runtime, conditions: Sequence[Settings], folder: Path, command: str) -> None:
    """Measure everything of a model into ``folder``; what is being measured is shown meanwhile."""
    from models.evaluation.report import report_model

    with err.status("evaluating") as status:
        sections = report_model(
            runtime, conditions, folder, command, lambda what: status.update(f"evaluating: {what.replace('_', ' ')}")
        )
    say(sections[0].markdown())
    say(f"Everything: {folder / 'results.md'}")
