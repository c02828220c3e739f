"""Loaded by every worker process of a local cluster when it starts (Dask's preload)."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:  # noqa: ARG001 (what Dask calls)
    """Leave Ctrl-C to the front door: a terminal sends it to all processes, and chunks in work are to be finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
