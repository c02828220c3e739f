"""Work in a process of its own, so that its memory, its threads and its crash are its own."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from config.errors import LivelocError, RunError

Given = TypeVar("Given")
Send = Callable[[object], None]


def apart(work: Callable[[Given, Send], None], given: Given, take: Callable[[Any], None]) -> None:
    """Call ``work(given, send)`` in a fresh process, and ``take`` here with whatever it sends.

    ``work`` is a module's function; what passes is pickled. Raises RunError where it fails or the process dies.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(work, given, sender), daemon=True)
    process.start()
    sender.close()
    try:
        _receive(receiver, take)
    except EOFError as error:
        process.join()
        raise RunError(_in_words(process.exitcode)) from error
    finally:
        process.terminate()  # no effect on one that has ended
        process.join()
        receiver.close()


def _receive(receiver: Connection, take: Callable[[Any], None]) -> None:
    while True:
        kind, content = receiver.recv()
        if kind == "done":
            return
        if kind == "failed":
            raise RunError(content)
        take(content)


def _serve(work: Callable[[Given, Send], None], given: Given, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends this process
    try:
        work(given, lambda content: sender.send(("sent", content)))
    except LivelocError as error:
        sender.send(("failed", str(error)))
    except Exception as error:  # noqa: BLE001 (a runtime may raise anything; it is told in the parent)
        sender.send(("failed", f"{type(error).__name__}: {error}"))
    else:
        sender.send(("done", None))


def _in_words(status: int | None) -> str:
    if status is not None and status < 0:
        return f"its process was ended by signal {-status}. Signal 9 means that memory did not suffice."
    return f"its process ended with status {status}, without a word."
