"""What the tests run in processes of their own."""

from __future__ import annotations

import os

import numpy as np

from config.errors import SettingsError
from models.bench.apart import Send
from models.bench.memory import peak_memory


def answer(given: int, send: Send) -> None:
    send("asked")
    send((given + 1, os.getpid()))


def refuse(given: str, send: Send) -> None:
    raise SettingsError(given)


def stumble(given: str, send: Send) -> None:
    raise ValueError(given)


def vanish(status: int, send: Send) -> None:
    send("before")
    os._exit(status)


def fill(size: int, send: Send) -> None:
    """Send the peak before and after ``size`` bytes were taken, and after they were given back."""
    send(peak_memory())
    taken = np.ones(size, np.uint8)
    send(peak_memory())
    del taken
    send(peak_memory())
