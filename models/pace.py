"""How fast this computer trains, so that a training can be made to end in time."""

from __future__ import annotations

import time
from dataclasses import replace
from tempfile import TemporaryDirectory

from config.schema import Settings
from models.training import train

SHORT, LONG = 2, 6
"""Steps of two trainings that are thrown away; what they differ in time is that of the steps alone."""


def affordable_steps(settings: Settings, seconds: float, fewest: int, most: int) -> int:
    """How many steps of the training that the settings describe this computer does in so many seconds.

    Never fewer than ``fewest``, with which it would teach nothing, nor more than ``most``. Raises as ``train``.
    """
    return round(min(most, max(fewest, seconds / seconds_a_step(settings))))


def seconds_a_step(settings: Settings) -> float:
    """Time of one step of it here. Raises as ``train``."""
    short, long = (_seconds_of(settings, steps) for steps in (SHORT, LONG))
    return max(1e-3, (long - short) / (LONG - SHORT))


def _seconds_of(settings: Settings, steps: int) -> float:
    with TemporaryDirectory() as folder:
        recipe = replace(settings.training, steps=steps, output=folder, base=None, validation_batches=0)
        began = time.perf_counter()
        train(replace(settings, training=recipe))
        return time.perf_counter() - began
