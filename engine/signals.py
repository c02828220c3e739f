"""A request from outside to end (SIGTERM, SIGBREAK, a terminal that closes) is made to act as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")
"""The second exists on POSIX only, the third on Windows only."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end; its text names the signal. Handled wherever Ctrl-C is."""


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Within this context such a signal raises Terminated in the main thread; Pipeline.run then works off what came.

    One that is ignored (as by nohup) stays ignored. Does nothing on a thread other than the main one, where Python
    allows no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _raise) for number in _heard()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _heard() -> list[signal.Signals]:
    there: list[Any] = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    return [number for number in there if signal.getsignal(number) is not signal.SIG_IGN]


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (what signal calls)
    raise Terminated(signal.Signals(number).name)
