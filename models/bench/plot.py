"""The picture of a bench: frames a second and delay over the size of frames, and each stage's time over its floor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from models.bench.bench import Result
from models.bench.facts import STAGES, Row
from models.evaluation.figures import COLOURS, STYLE

CAMERAS = (("EMCCD", 128, 697), ("EMCCD", 512, 56), ("EMCCD", 1024, 26), ("sCMOS", 2048, 100))
"""Cameras, the height and width of their frames [pixels] and how many they take a second."""
DASHES = ("-", "--", ":", "-.")
PANEL = (4.6, 3.6)
"""Width and height [inch]."""


def write_plot(result: Result, path: Path) -> None:
    """Draw what was measured. Raises OSError."""
    panels = 3 if result.stages else 2
    with rc_context(STYLE):
        figure = Figure(figsize=(panels * PANEL[0], PANEL[1]), layout="constrained")
        speed, delay, *stages = figure.subplots(1, panels)
        draw_speed(speed, result.rows)
        draw_delay(delay, result.rows)
        for axes in stages:
            draw_stages(axes, result)
        figure.savefig(path, dpi=130)


def draw_speed(axes: Axes, rows: Sequence[Row]) -> None:
    """Of the engine, with the bare network as thin lines, beside what cameras give."""
    for colour, dash, label, part in _lines(rows):
        sizes = [row.width for row in part]
        axes.plot(sizes, [row.frames_per_second for row in part], "o", ls=dash, color=colour, label=label)
        axes.plot(sizes, [row.network_frames_per_second for row in part], ls=dash, color=colour, lw=0.6)
    largest = max(row.width for row in rows)
    for name, size, rate in CAMERAS:
        if size <= 2 * largest:
            axes.plot(size, rate, "x", color="grey")
            axes.annotate(f"{name} {size}²", (size, rate), (4, 4), textcoords="offset points", color="grey", fontsize=7)
    axes.set(title="engine (thin: network alone; ×: cameras)", ylabel="frames/s", xscale="log", yscale="log")
    axes.legend(fontsize=7)
    _sizes(axes, rows)


def draw_delay(axes: Axes, rows: Sequence[Row]) -> None:
    """Median of a live run fed at 0.8 of the engine's speed; hollow where it fell behind."""
    for colour, dash, label, part in _lines(rows):
        axes.plot([row.width for row in part], [row.live_delay for row in part], ls=dash, color=colour, label=label)
        for row in part:
            axes.plot(row.width, row.live_delay, "o", color=colour, mfc=colour if row.kept_up else "white")
    axes.set(title="delay of a live run at 0.8 of that (hollow: fell behind)", ylabel="s", xscale="log", yscale="log")
    _sizes(axes, rows)


def draw_stages(axes: Axes, result: Result) -> None:
    """Time of each stage on all cores, beside its floor (black line)."""
    peak = result.machine.peak
    whole = [times for times in result.stages if times.cores == peak.cores]
    for place, times in enumerate(whole):
        left = 0.0
        for colour, stage in zip(COLOURS, (*STAGES, "rest"), strict=False):
            spent = 1e9 * times.seconds[stage]
            axes.barh(place, spent, 0.6, left, color=colour, label=stage if place == 0 else None)
            left += spent
        floor = 1e9 * sum(cost.floor(peak, times.precision) for cost in result.costs[times.model].values())
        axes.plot([floor, floor], [place - 0.4, place + 0.4], color="black", lw=1.5)
    axes.set_yticks(range(len(whole)), [f"{times.model}\n{times.precision}" for times in whole])
    axes.set(title="stages (line: floor)", xlabel="ns a pixel and frame")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.legend(fontsize=7)


def _lines(rows: Sequence[Row]) -> Iterator[tuple[str, str, str, list[Row]]]:
    """Colour by model, dash by runtime, label and rows of each line."""
    models, runtimes = (list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("model", "runtime"))
    for row in {(row.model, row.runtime): row for row in rows}.values():
        part = [other for other in rows if (other.model, other.runtime) == (row.model, row.runtime)]
        colour = COLOURS[models.index(row.model) % len(COLOURS)]
        yield colour, DASHES[runtimes.index(row.runtime) % len(DASHES)], f"{row.model}, {row.runtime}", part


def _sizes(axes: Axes, rows: Sequence[Row]) -> None:
    sizes = sorted({row.width for row in rows})
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("height and width [pixels]")
