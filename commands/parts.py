"""What several commands build from settings, and where they print."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from acquisition.camera import Camera
    from acquisition.source import FrameSource, SourceDescription
    from config.schema import Settings
    from engine.output.run_folder import RunFolder
    from engine.runtimes.runtime import Runtime


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


def conditions_of(names: Sequence[str], *overrides: str) -> list[Settings]:
    """Settings of the benchmark's acquisitions, by data set."""
    return [settings_of(*CHALLENGE, *overrides, f"dataset={name}") for name in names]


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
