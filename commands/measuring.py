"""The command that measures the computer: bench."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from commands.parts import CHALLENGE, Overrides, err, out, printed_warnings, say, settings_of
from config.schema import BenchSettings

if TYPE_CHECKING:
    from config.schema import Settings
    from models.bench.bench import Result


def bench(overrides: Overrides = None) -> None:
    """Measure what this computer can do: frames/s of each model, runtime and frame size, delay, memory, bottleneck.

    A few minutes on two cores. Its own settings go without `bench.`: models, runtimes, sizes, seconds; output=FILE.json
    for the rows, plot=FILE.png, page=FILE.md for what each stage costs and how close it comes to what the computer can
    do. A network's name, such as decode, stands for an untrained one.

    Examples: liveloc bench; liveloc bench models=[small] sizes=[512] runtimes=[torch-bf16] output=rows.json
    """
    from models.bench.bench import write_rows

    given = [_with_group(word) for word in overrides or ()]
    settings = settings_of(*CHALLENGE, "dataset=density_1", *given)
    result, wanted = _measured(settings), settings.bench
    _print_rows(result)
    written = list[Path]()
    if wanted.output is not None:
        write_rows(result.rows, Path(wanted.output))
        written.append(Path(wanted.output))
    if wanted.plot is not None:
        from models.bench.plot import write_plot

        write_plot(result, Path(wanted.plot))
        written.append(Path(wanted.plot))
    if wanted.page is not None:
        from models.bench.page import write_page

        write_page(result, settings, " ".join(["liveloc bench", *(overrides or ())]), Path(wanted.page))
        written.append(Path(wanted.page))
    for path in written:
        say(f"{path}")


def _with_group(word: str) -> str:
    """``sizes=[64]`` as ``bench.sizes=[64]``."""
    own = {entry.name for entry in fields(BenchSettings)}
    return f"bench.{word}" if word.partition("=")[0] in own else word


def _measured(settings: Settings) -> Result:
    """Measure, and show meanwhile how far it is."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from models.bench.bench import bench as measure

    columns = (BarColumn(20), TextColumn("{task.description}"), TimeElapsedColumn())
    with printed_warnings(), Progress(*columns, console=err) as progress:
        task = progress.add_task("starting")

        def told(words: str, done: int, count: int) -> None:
            progress.update(task, description=words, completed=done, total=count)

        return measure(settings, told)


def _print_rows(result: Result) -> None:
    from rich.table import Table

    from models.bench.page import machine_in_words
    from viewer.terminal import size_in_words

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("model", "runtime", "frame", "frames/s", "network", "live at", "delay", "memory"):
        table.add_column(heading, justify="left" if heading in ("model", "runtime") else "right", no_wrap=True)
    table.add_column("held up by")
    for row in result.rows:
        rates = [f"{rate:.3g}" for rate in (row.frames_per_second, row.network_frames_per_second)]
        fed = f"{row.live_frames_per_second:.3g}" + ("" if row.kept_up else " [red]behind[/]")
        delay, memory = f"{row.live_delay:.2f} s", size_in_words(row.memory + row.device_memory)
        culprit, _, _ = row.bottleneck.partition(",")  # a terminal of 80 columns has no room for the rest
        table.add_row(escape(row.model), row.runtime, f"{row.width}×{row.height}", *rates, fed, delay, memory, culprit)
    out.print(table)
    say("frames/s: the whole engine, recorded and published; network: it alone; delay: when fed at the rate before it")
    say(machine_in_words(result.machine))
    for failure in result.failures:
        err.print(f"[yellow]did not run:[/] {escape(failure)}", highlight=False, soft_wrap=True)
