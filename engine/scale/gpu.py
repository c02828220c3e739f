"""Each worker process takes a graphics card of its own, wherever it was started and whoever started it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Which cards CUDA shows to a process; read when it is first used."""

_held: list[FileLock] = []
"""The lock on this process's card; the system frees it when the process ends, however it does."""


def visible_gpus() -> list[str]:
    """Names by which CUDA knows the cards that this process may use, in order."""
    given = os.environ.get(VARIABLE)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    return [str(place) for place in range(_cards())]


def claim_gpu(folder: Path | None = None) -> str | None:
    """Show CUDA one card alone: the first that no other worker of this computer holds; None where there is no choice.

    Call before anything uses CUDA. With more workers than cards, they share: the process number decides. ``folder``
    keeps the locks and must be the same for all workers of a computer.
    """
    cards = visible_gpus()
    if len(cards) < 2 or _held:
        return None
    card = _first_free(cards, folder or Path(tempfile.gettempdir())) or cards[os.getpid() % len(cards)]
    os.environ[VARIABLE] = card
    return card


def _first_free(cards: Sequence[str], folder: Path) -> str | None:
    for card in cards:
        lock = FileLock(folder / f"liveloc-gpu-{card}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        _held.append(lock)
        return card
    return None


def _cards() -> int:
    """Cards that the driver lists, none where there is no driver."""
    if shutil.which("nvidia-smi") is None:
        return 0
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())
