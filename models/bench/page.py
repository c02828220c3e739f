"""docs/performance.md: what the networks cost, what a computer can do, and how close they come to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from config.schema import Settings
from engine.output.disk import replace_text
from models.bench.bench import Result
from models.bench.facts import (
    COUNTED_AT,
    HALF,
    NEAR,
    WHOLE,
    Closeness,
    Cost,
    Machine,
    Peak,
    Row,
    StageTimes,
    closeness,
    whole,
)
from models.evaluation.sections import markdown_table

NOT_MEASURED = """- **No graphics card was here.** Nothing on this page says how fast one is: ONNX Runtime with CUDA and
  TensorRT, torch in fp16, CUDA graphs (run.compile), transfers. On a computer with one the same command measures it.
- Frames travel to a card from pinned memory, as the camera's integers, but not while it still computes the call before.
  To let them would save what the way takes: some hundredths of the time at 420 Mpx/s, that is 0.84 GB/s, by reckoning.
"""
NEVER_MEASURED = """- Stages are timed on torch alone: ONNX Runtime runs a model as one graph.
- What really crosses the memory bus: that needs the processor's counters. The two counts of bytes bracket it.
"""


def write_page(result: Result, settings: Settings, command: str, path: Path) -> None:
    """Write the page. Raises OSError."""
    plot = settings.bench.plot
    picture = Path(os.path.relpath(plot, path.parent)).as_posix() if plot else None
    replace_text(path, "\n".join(_parts(result, settings, command, picture)))


def machine_in_words(machine: Machine) -> str:
    """``AMD EPYC, 2 cores: matrix products at 190 GFLOP/s in fp32 …, memory copied at 23 GB/s``."""
    peak, many = machine.peak, "" if machine.device == "cuda" else f", {_cores(machine.cores)}"
    products = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in peak.products.items())
    return f"{machine.name}{many}: matrix products at {products}; memory copied at {peak.copy / 1e9:.0f} GB/s"


def verdicts(result: Result) -> Iterator[str]:
    """A sentence for each network, precision and number of cores: how close it comes, and what holds it up if not."""
    for times in result.stages:
        *stages, network = closeness(times, result.costs[times.model], _peak_of(result.machine, times))
        reached = network.of_products >= HALF
        words = f"{times.model}, {_where(times)}: {network.of_products:.2f} of the matrix products' rate in "
        words += f"{times.precision}, {'reached' if reached else '**missed**'}."
        yield words if reached else " ".join([words, *map(_reason, stages), _rest(times)])


def _parts(result: Result, settings: Settings, command: str, picture: str | None) -> Iterator[str]:
    yield "# Performance\n"
    yield f"Written by\n\n```\n{command}\n```\n"
    yield (
        "which anybody can repeat. Count first: what a network must compute and move gives the time below which it "
        "cannot go on a computer; what was measured is compared with that.\n"
    )
    yield "## The computer\n"
    yield (
        f"{result.machine.name}, {_cores(result.machine.cores)}; torch {result.machine.torch}. Large matrix products, "
        "and memory copied (bytes read and written together), the best of several measurements.\n"
    )
    yield markdown_table([_peak_row(peak) for peak in result.machine.peaks]) + "\n"
    yield from _costs(result, settings.run.block)
    if result.stages:
        yield from _closeness(result)
    yield from _speeds(result, picture)
    yield "## Not measured\n"
    yield (NOT_MEASURED if result.machine.device == "cpu" else "") + NEVER_MEASURED
    if result.failures:
        yield "".join(f"- {failure}\n" for failure in result.failures)


def _costs(result: Result, block: int) -> Iterator[str]:
    yield "## What the networks cost\n"
    yield (
        f"For a pixel of a frame, in fp32, in calls of {block} frames of {COUNTED_AT} × {COUNTED_AT} pixels. FLOP: "
        "multiplications and additions of convolutions, matrix products and attention, as computed: attention sees "
        "blocks of frames with their neighbours and masks what lies outside the window. Least bytes: a stage's input, "
        "output and weights, once a call, if everything in between stays in cache. Every byte: each operation reads "
        "its inputs from memory and writes its result there. Half of both in bf16.\n"
    )
    yield markdown_table([row for name, costs in result.costs.items() for row in _cost_rows(name, costs)]) + "\n"


def _cost_rows(name: str, costs: Mapping[str, Cost]) -> Iterator[dict[str, str]]:
    for stage, cost in {**costs, "whole": whole(costs)}.items():
        yield {
            "network": name,
            "stage": stage,
            "kFLOP": f"{cost.flops / 1e3:.1f}",
            "least bytes": f"{cost.least:.0f}",
            "every byte": f"{cost.every:,.0f}",
            "FLOP / least byte": f"{cost.flops / cost.least:.0f}",
            "operations a call": f"{cost.operations}",
        }


def _closeness(result: Result) -> Iterator[str]:
    yield "## How close they come\n"
    yield (
        "Time for a pixel of a frame while streaming on torch, of the median call. The floor of a stage is the time of "
        "its arithmetic at the rate of the matrix products of that precision, or of its least bytes at the rate of the "
        "copy, whichever is longer. Spilled: the time of every byte at the rate of the copy; a stage below it "
        "keeps what it can in cache. Rest: joining parts, threads that wait, Python.\n"
    )
    for model in result.costs:
        rows = [row for times in result.stages if times.model == model for row in _stage_rows(times, result)]
        yield f"### {model}\n\n{markdown_table(rows)}\n"
    yield f"The aim: a network at {HALF} of the matrix products' rate or more, or a stage that waits for memory alone "
    yield f"(within {NEAR} of the copy of its least bytes).\n"
    yield "".join(f"- {words}\n" for words in verdicts(result))


def _stage_rows(times: StageTimes, result: Result) -> Iterator[dict[str, str | None]]:
    on = {"on": _where(times), "in": times.precision}
    for part in closeness(times, result.costs[times.model], _peak_of(result.machine, times)):
        if part.stage == "whole":
            yield {**on, "stage": "rest", "ns": f"{1e9 * times.seconds['rest']:.1f}"}
        yield {
            **on,
            "stage": part.stage,
            "ns": f"{1e9 * part.spent:.1f}",
            "floor [ns]": f"{1e9 * part.floor:.1f}",
            "over floor": f"{part.spent / part.floor:.1f}",
            "of products": f"{part.of_products:.2f}" if part.arithmetic else None,
            "spilled [ns]": f"{1e9 * part.spilled:.1f}",
        }


def _reason(part: Closeness) -> str:
    """Why a stage takes as long as it does."""
    if part.of_products >= HALF:
        return f"{part.stage}: {part.of_products:.2f} of the products' rate."
    if part.waits_for_memory:
        return f"{part.stage} waits for memory: {part.spent / part.memory:.1f} times the copy of its least bytes."
    spilled = f"{part.spent / part.spilled:.1f} times what every operation's bytes take"
    return f"{part.stage}: {part.spent / part.floor:.1f} times its floor, {spilled}."


def _rest(times: StageTimes) -> str:
    return f"Beside the stages: {times.seconds['rest'] / sum(times.seconds.values()):.0%} of the time."


def _speeds(result: Result, picture: str | None) -> Iterator[str]:
    yield "## Frames a second\n"
    yield (
        "The bare network; the whole engine, from frames in memory to rows recorded and published, in a live run that "
        "always has frames waiting; and the delay of a live run that is fed at 0.8 of that, from the end of a frame's "
        "exposure to its rows on disk. Memory: the most that the process had taken so far, from the smallest frames "
        "on, frames to work on included. Simulated frames of one emitter in a µm².\n"
    )
    if picture is not None:
        yield f"![Frames a second, delay, stages]({picture})\n"
    yield markdown_table([_speed_row(row) for row in result.rows]) + "\n"
    least = min(result.rows, key=lambda row: row.frames_per_second / row.network_frames_per_second)
    ratio = least.frames_per_second / least.network_frames_per_second
    yield (
        f"The engine keeps {ratio:.2f} of the bare network's speed or more (the least: {least.model}, {least.runtime}, "
        f"{least.width} × {least.height}); the aim is {WHOLE}.\n"
    )


def _speed_row(row: Row) -> dict[str, str]:
    return {
        "model": row.model,
        "runtime": f"{row.runtime} {row.device}",
        "frame": f"{row.width} × {row.height}",
        "network [frames/s]": f"{row.network_frames_per_second:.3g}",
        "engine [frames/s]": f"{row.frames_per_second:.3g}",
        "Mpx/s": f"{row.frames_per_second * row.height * row.width / 1e6:.2f}",
        "fed live at": f"{row.live_frames_per_second:.3g}" + ("" if row.kept_up else ", fell behind"),
        "delay, median [s]": f"{row.live_delay:.2f}",
        "99 % [s]": f"{row.live_delay_99:.2f}",
        "memory [MB]": f"{(row.memory + row.device_memory) / 1e6:.0f}",
        "held up by": row.bottleneck,
    }


def _peak_row(peak: Peak) -> dict[str, str]:
    products = {f"products in {name} [GFLOP/s]": f"{rate / 1e9:.0f}" for name, rate in peak.products.items()}
    return {"on": _cores(peak.cores), **products, "copy [GB/s]": f"{peak.copy / 1e9:.1f}"}


def _peak_of(machine: Machine, times: StageTimes) -> Peak:
    return next(peak for peak in machine.peaks if peak.cores == times.cores)


def _where(times: StageTimes) -> str:
    return _cores(times.cores)


def _cores(count: int) -> str:
    return f"{count} core{'s' * (count > 1)}" if count else "the card"
