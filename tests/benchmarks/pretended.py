"""A model that takes the time of a graphics card and finds a fixed number of emitters, without computing anything."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from config.schema import Settings
from engine.runtimes.model_file import ROW_COLUMNS, ModelDescription
from engine.runtimes.runtime import Runtime

RATE = 560.0
"""Frames a second of one card: 512×512 at ten times 56 frames/s, what we ask of one."""
ROWS = 100
"""Localisations a frame."""
PAST, FUTURE = 4, 4


class PretendedCard:
    """Sleeps as long as a card would compute."""

    def __init__(self) -> None:
        self.name = "onnx pretended"
        self.description = ModelDescription(
            "pretended", "1", (PAST, FUTURE), (1, 1), (0.1, 9), (0, 1e9), (0, 1e9), (0, 1), ("emccd", "scmos")
        )

    def blank_state(self, height: int, width: int) -> NDArray[np.float32]:
        return np.zeros((PAST + FUTURE, 1, 1), np.float32)

    def step(
        self, photons: NDArray[np.float32], state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        time.sleep(len(photons) / RATE)
        answered = np.flatnonzero(valid[PAST : PAST + len(photons)])
        rows = np.random.default_rng(len(answered)).random((len(answered) * ROWS, len(ROW_COLUMNS)), np.float32) + 1
        rows[:, ROW_COLUMNS.index("frame")] = np.repeat(answered, ROWS)
        return rows, state


def open_pretended(settings: Settings) -> tuple[Runtime, Path]:
    """The pretended card; its file is this one."""
    return PretendedCard(), Path(settings.model)
