"""The figures of a report, drawn from its sections alone, so that they can be drawn again from results.json."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

Rows = Sequence[Mapping[str, Any]]

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.2,
    "legend.frameon": False,
    "lines.markersize": 4,
    "svg.fonttype": "none",
    "svg.hashsalt": "liveloc",
}
WIDTH, HEIGHT = 3.6, 3.0
"""Of a panel [inch]."""
COLOURS = ("#0b6fa4", "#d1495b", "#2f9e6e", "#e0a030", "#6d4c9f", "#5b5b5b")
BY = {
    "photons": "photons in the frame",
    "snr": "signal to noise",
    "neighbour": "nearest neighbour [nm]",
    "z": "height z [nm]",
}


def write_figures(sections: Mapping[str, Rows], folder: Path) -> list[Path]:
    """Draw whatever the sections allow, as PNG and SVG; gives the PNGs. Raises OSError."""
    written = []
    with rc_context(STYLE):
        for name, figure in _figures(sections):
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            figure.savefig(folder / f"{name}.png", dpi=130)
            written.append(folder / f"{name}.png")
    return written


def _figures(sections: Mapping[str, Rows]) -> Iterator[tuple[str, Figure]]:
    drawings = {
        "benchmark": draw_benchmark,
        "isolated": draw_isolated,
        "reliability": draw_reliability,
        "bias": draw_bias,
        "pairs": draw_pairs,
        "thresholds": draw_thresholds,
    }
    for name, draw in drawings.items():
        if sections.get(name):
            yield name, draw(sections[name])
    strata = {by: sections[f"by_{by}"] for by in BY if sections.get(f"by_{by}")}
    if strata:
        yield "strata", draw_strata(strata)
    if sections.get("sigmas"):
        yield "sigmas", draw_sigmas(sections["sigmas"], sections.get("isolated", ()))


def draw_benchmark(rows: Rows) -> Figure:
    """Jaccard index, RMSE and efficiency of each condition or table, beside each other."""
    figure, panels = _panels(3)
    names = [str(row["condition"]).replace("_", " ") for row in rows]
    marks: list[tuple[str, str, str]] = [
        ("Jaccard index", "jaccard", ".2f"),
        ("RMSE [nm]", "rmse", ".1f"),
        ("efficiency", "efficiency", ".1f"),
    ]
    for axes, (title, name, shown) in zip(panels, marks, strict=True):
        values = [_number(row.get(name)) for row in rows]
        bars = axes.bar(range(len(rows)), values, color=COLOURS[0], width=0.7)
        axes.bar_label(bars, [format(value, shown) for value in values], fontsize=8, padding=2)
        axes.set_xticks(range(len(rows)), names, rotation=30, ha="right")
        axes.set_title(title)
        axes.grid(axis="x", visible=False)
    return figure


def draw_isolated(rows: Rows) -> Figure:
    """RMSE and bounds by photons; RMSE over the bound that fits; spread of the sigmas; in 3-D the axial ratio too."""
    deep = any(row.get("over_bound_z") is not None and math.isfinite(row["over_bound_z"]) for row in rows)
    figure, (size, ratio, spread, *axial) = _panels(4 if deep else 3)
    for colour, (lit, part) in zip(COLOURS, _groups(rows, "lit"), strict=False):
        photons = _values(part, "photons")
        over = "over_bound" if lit == 1 else "over_summed"
        label = f"{lit} frame" if lit == 1 else f"{lit} frames"
        size.plot(photons, _values(part, "rmse"), "o", color=colour, label=label)
        size.plot(photons, _values(part, "bound" if lit == 1 else "summed_bound"), "-", color=colour, alpha=0.6)
        ratio.plot(photons, _values(part, over), "o-", color=colour, label=label)
        spread.plot(photons, _values(part, "sigma_spread"), "o-", color=colour, label=label)
        for axes in axial:
            axes.plot(photons, _values(part, f"{over}_z"), "o-", color=colour, label=label)
            axes.set(title="axial RMSE over bound")
    size.set(title="RMSE (points) and bound (lines)", ylabel="nm")
    ratio.set(title="RMSE over the bound of the light seen")
    spread.set(title="errors over predicted sigmas")
    _logarithmic(size, "y")
    ratio.axhline(1, color="black", lw=0.8)
    _band(spread)
    for axes in (size, ratio, spread, *axial):
        axes.set_xlabel("photons in a frame")
        _logarithmic(axes)
        axes.legend(title="lit in")
    return figure


def draw_strata(strata: Mapping[str, Rows]) -> Figure:
    """Recall, RMSE and RMSE over bound, a row of panels for each way of sorting emitters."""
    figure = Figure(figsize=(3 * WIDTH, len(strata) * HEIGHT), layout="constrained")
    grid = figure.subplots(len(strata), 3, squeeze=False)
    for line, (by, rows) in zip(grid, strata.items(), strict=True):
        for colour, (label, part) in zip(_colours(rows, "of"), _groups(rows, "of"), strict=False):
            middle = _middles(part)
            for axes, name in zip(line, ("recall", "rmse", "over_bound"), strict=True):
                axes.plot(middle, _values(part, name), "o-", color=colour, label=label)
            line[2].plot(middle, _values(part, "over_summed"), "s--", color=colour, alpha=0.6)
        for axes, title in zip(line, ("recall", "RMSE [nm]", "RMSE / bound (dashed: summed)"), strict=True):
            axes.set(title=title, xlabel=BY[by])
            if by != "z":
                _logarithmic(axes)
        line[0].set_ylim(0, 1.02)
        line[2].axhline(1, color="black", lw=0.8)
        if len({row["of"] for row in rows}) > 1:
            line[0].legend()
    return figure


def draw_sigmas(rows: Rows, isolated: Rows) -> Figure:
    """Spread of error over sigma by photons, true and found, and by the sigma itself."""
    titles = {"photons": "true photons", "found_photons": "found photons", "sigma_x": "predicted sigma [nm]"}
    figure, panels = _panels(len(titles))
    for axes, (by, title) in zip(panels, titles.items(), strict=True):
        chosen = [row for row in rows if row["by"] == by]
        for colour, (label, part) in zip(_colours(rows, "of"), _groups(chosen, "of"), strict=False):
            axes.plot(_middles(part), _values(part, "sigma_spread"), "o-", color=colour, label=label)
        axes.set(title="errors over predicted sigmas", xlabel=title)
        _logarithmic(axes)
        _band(axes)
    for marker, (lit, part) in zip("^vD", _groups(isolated, "lit"), strict=False):
        words = f"isolated, {lit} frame{'s' * (lit > 1)}"
        panels[0].plot(_values(part, "photons"), _values(part, "sigma_spread"), f"{marker}:", color="grey", label=words)
    panels[0].legend()
    return figure


def draw_reliability(rows: Rows) -> Figure:
    """Share of right localisations over their probability, and how many there are."""
    figure, (curve, counts) = _panels(2)
    curve.plot([0, 1], [0, 1], color="black", lw=0.8)
    for colour, (label, part) in zip(_colours(rows, "of"), _groups(rows, "of"), strict=False):
        curve.plot(_values(part, "claimed"), _values(part, "right"), "o-", color=colour, label=label)
        counts.step(_values(part, "low"), _values(part, "count"), where="post", color=colour, label=label)
    curve.set(title="reliability", xlabel="probability", ylabel="share that is an emitter", xlim=(0, 1), ylim=(0, 1))
    counts.set(title="localisations", xlabel="probability", yscale="log", xlim=(0, 1))
    if len({row["of"] for row in rows}) > 1:
        curve.legend()
    return figure


def draw_bias(rows: Rows) -> Figure:
    """Mean errors over the place within a pixel, as maps of x and y."""
    figure, panels = _panels(2)
    side = round(math.sqrt(len(rows)))
    maps = [np.array(_values(rows, name)).reshape(side, side) for name in ("bias_x", "bias_y")]
    finite = np.abs(np.concatenate([values[np.isfinite(values)] for values in maps]))
    limit = max(1.0, float(finite.max(initial=0.0)))
    for axes, values, axis in zip(panels, maps, "xy", strict=True):
        picture = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=(0, 1, 1, 0))
        axes.set(title=f"bias in {axis} [nm]", xlabel="x in the pixel", ylabel="y in the pixel")
        axes.grid(visible=False)
        for (row, column), value in np.ndenumerate(values):
            place = (column + 0.5) / side, (row + 0.5) / side
            axes.text(*place, f"{value:.1f}", ha="center", va="center", fontsize=7)
        figure.colorbar(picture, ax=axes, shrink=0.8)
    return figure


def draw_pairs(rows: Rows) -> Figure:
    """Share of pairs that are told apart over their distance."""
    figure, (axes,) = _panels(1, 1.3)
    for colour, (lit, part) in zip(COLOURS, _groups(rows, "lit"), strict=False):
        words = "together, one frame" if lit == 1 else f"{lit} frames each, one a frame later"
        axes.plot(_values(part, "distance"), _values(part, "resolved"), "o-", color=colour, label=f"resolved: {words}")
        axes.plot(_values(part, "distance"), _values(part, "merged"), ":", color=colour, label="merged")
    axes.set(title="two emitters in one frame", xlabel="distance [nm]", ylim=(0, 1.02))
    axes.legend(fontsize=7)
    return figure


def draw_thresholds(rows: Rows) -> Figure:
    """Jaccard index, RMSE and efficiency over the smallest probability."""
    figure, panels = _panels(3)
    for axes, (title, name) in zip(
        panels, (("Jaccard index", "jaccard"), ("RMSE [nm]", "rmse"), ("efficiency", "efficiency")), strict=True
    ):
        for colour, (label, part) in zip(COLOURS * 3, _groups(rows, "condition"), strict=False):
            words = str(label).replace("_", " ")
            axes.plot(_values(part, "threshold"), _values(part, name), "o-", color=colour, label=words)
        axes.set(title=title, xlabel="smallest probability")
    panels[0].legend(fontsize=7)
    return figure


def _panels(count: int, wider: float = 1.0) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(count * WIDTH * wider, HEIGHT), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _logarithmic(axes: Axes, which: Literal["x", "y"] = "x") -> None:
    """A scale with ticks at 1, 2 and 5 times a power of ten, as plain numbers."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _band(axes: Axes) -> None:
    """Where a spread is as it should be."""
    axes.axhspan(0.9, 1.1, color="black", alpha=0.08)
    axes.axhline(1, color="black", lw=0.8)


def _groups(rows: Rows, name: str) -> Iterator[tuple[Any, list[Mapping[str, Any]]]]:
    for value, part in groupby(rows, key=lambda row: row[name]):
        yield value, list(part)


def _colours(rows: Rows, name: str) -> Iterable[str]:
    return COLOURS * (len({row[name] for row in rows}) // len(COLOURS) + 1)


def _values(rows: Rows, name: str) -> list[float]:
    return [_number(row.get(name)) for row in rows]


def _middles(rows: Rows) -> list[float]:
    """Where to draw each bin: its geometric middle, for heights its middle; one open at an end, a bit inside."""
    bounds = zip(_values(rows, "low"), _values(rows, "high"), strict=True)
    if rows and rows[0].get("by") == "z":
        return [(low + high) / 2 for low, high in bounds]
    return [_middle(low, high) for low, high in bounds]


def _middle(low: float, high: float) -> float:
    if not math.isfinite(high):
        return low * 1.3
    return math.sqrt(low * high) if low > 0 else high / 1.5


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def write_distributions(
    columns: Mapping[str, NDArray[np.float64]], rings: tuple[NDArray[Any], NDArray[Any]] | None, stem: Path
) -> None:
    """Histograms of a table's columns, localisations over time and the FRC curve (frequency [1/nm], correlation), as
    ``stem``.png and .svg. Raises OSError.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(3 * WIDTH, 2 * HEIGHT), layout="constrained")
        panels = list(figure.subplots(2, 3).flat)
        named = {"photons": "photons", "background": "background [photons/pixel]", "sigma_x": "sigma x [nm]"}
        for axes, (name, title) in zip(panels, {**named, "probability": "probability"}.items(), strict=False):
            _draw_histogram(axes, columns[name], title)
        frames, counts = np.unique(columns["frame"], return_counts=True)
        panels[4].plot(frames, counts, lw=0.6, color=COLOURS[0])
        panels[4].set(title="localisations a frame", xlabel="frame")
        _draw_frc(panels[5], rings)
        figure.savefig(f"{stem}.svg", metadata={"Date": None})
        figure.savefig(f"{stem}.png", dpi=130)


def _draw_histogram(axes: Axes, values: NDArray[np.float64], title: str) -> None:
    """All but the largest hundredth, which would squeeze the rest into a line."""
    finite = values[np.isfinite(values)]
    if len(finite):
        axes.hist(finite, bins=80, range=tuple(np.percentile(finite, (0, 99)).tolist()), color=COLOURS[0])
    axes.set(title=title if len(finite) else f"{title}: not known")


def _draw_frc(axes: Axes, rings: tuple[NDArray[Any], NDArray[Any]] | None) -> None:
    axes.set(title="Fourier ring correlation" if rings else "Fourier ring correlation: too few", xlabel="1/nm")
    if rings is not None:
        axes.plot(*rings, color=COLOURS[0])
        axes.axhline(1 / 7, color="black", lw=0.8)
        axes.set_ylim(-0.1, 1.05)
