"""What several commands build from settings, and where they print."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from acquisition.camera import Camera
    from acquisition.source import FrameSource, SourceDescription
    from config.schema import Settings
    from engine.output.run_folder import RunFolder
    from engine.runtimes.runtime import Runtime


def say(words: str) -> None:
    """Print a line as it is: brackets in it, as of a unit or a path, are no markup."""
    out.print(words, highlight=False, markup=False, soft_wrap=True)


BAD_INPUT, INTERRUPTED = 2, 130
"""Exit statuses: something to put right; stopped by Ctrl-C."""
PACKAGES = ("acquisition", "config", "engine", "models", "simulation", "liveloc")
"""Whose warnings are printed."""
CHALLENGE = ("camera=challenge_emccd", "optics=challenge")
"""What simulations use unless they are told otherwise."""
CONDITIONS = ("density_0_2", "density_1", "density_2", "density_4", "dim")
"""Data sets that ``evaluate`` runs."""

out, err = Console(), Console(stderr=True)
logger = logging.getLogger("liveloc")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SETTING=VALUE]...",
        help="Settings to change, such as camera=challenge_emccd run.block=8; `liveloc settings` lists all.",
        show_default=False,
    ),
]


def conditions_for(model: Mapping[str, Any], names: Sequence[str], *overrides: str) -> list[Settings]:
    """Settings of the acquisitions that a model is judged by, one for each data set that is named.

    ``model``: its settings, network and training, as its file keeps them. A 3-D model is judged at the middle four
    fifths of its domain's heights, with the lens in the domain's middle unless ``overrides`` name another one.
    """
    words = [*CHALLENGE, *_deep(model, overrides), *overrides]
    return [settings_of(*words, f"dataset={name}") for name in names]


def _deep(model: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    if model["network"].get("dimensions", 2) == 2:
        return []
    domain = model["training"]["domain"]
    heights = f"[{0.8 * domain['depth'][0]:g},{0.8 * domain['depth'][1]:g}]"
    lens = [] if any(word.startswith("optics") for word in overrides) else _lens(domain)
    return [f"dataset.depth={heights}", f"evaluation.isolated_depth={heights}", *lens]


def _lens(domain: Mapping[str, Any]) -> list[str]:
    """Optics of the middle of a domain, for the benchmark's pixels of 100 nm."""
    if domain["psf"] == "spline":
        return ["optics.psf=spline", f"optics.psf_file={domain['psf_file']}"]
    sigma, x, y, depth = (sum(domain[name]) / 2 for name in ("psf_sigma", "focus_x", "focus_y", "focal_depth"))
    curves = {"focus": [x, y], "focal_depth": [depth, depth], "third": domain["third"], "fourth": domain["fourth"]}
    words = [f"optics.{name}=[{values[0]:g},{values[1]:g}]" for name, values in curves.items()]
    return [f"optics.psf={domain['psf']}", f"optics.psf_sigma={100 * sigma:g}", *words]


def settings_of(*overrides: str) -> Settings:
    """The settings that overrides give. Raises SettingsError."""
    from config.compose import compose

    return compose(overrides)


@contextmanager
def run_folder(settings: Settings) -> Iterator[RunFolder]:
    """The run's folder, with warnings printed meanwhile."""
    from engine.output.run_folder import RunFolder

    with printed_warnings(), RunFolder.create(settings) as folder:
        yield folder


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Meanwhile, what liveloc's packages warn of is printed."""
    from viewer.terminal import WarningPrinter

    printer = WarningPrinter(err)
    for name in PACKAGES:
        logging.getLogger(name).addHandler(printer)
    try:
        yield
    finally:
        for name in PACKAGES:
            logging.getLogger(name).removeHandler(printer)


def warn(warnings: Sequence[str]) -> None:
    """Log warnings in words, so that they are printed and kept."""
    for words in warnings:
        logger.warning("%s", words)


def camera_of(settings: Settings, source: FrameSource, description: SourceDescription) -> tuple[Camera, list[str]]:
    """The calibration of a recording, and what the user should know about it."""
    from acquisition.calibration import estimated_settings
    from acquisition.camera import Camera

    known, notes = settings.camera, list[str]()
    if known.estimate:
        known, notes = estimated_settings(known, description.camera, source.blocks(settings.run.block))
    shape = description.height, description.width
    return Camera.from_settings(known, description.camera, shape, description.origin), notes


def runtime_of(settings: Settings) -> Runtime:
    """The model, ready to run."""
    from models.runtime import open_model

    return open_model(settings)[0]


def fallback_of(settings: Settings) -> Callable[[], Runtime] | None:
    """How to go on without the GPU, where the user allows it."""
    if not settings.run.cpu_fallback:
        return None
    return lambda: runtime_of(replace(settings, run=replace(settings.run, device="cpu")))
