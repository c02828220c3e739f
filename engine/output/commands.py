"""Commands from clients, carried out on a thread of their own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any, Protocol

from config.errors import LivelocError

logger = logging.getLogger(__name__)

MOST_WAITING = 8
"""Commands that wait while one is carried out; more are refused."""
Answer = Callable[[str | None], None]
"""Takes why a command was refused, or None when it was carried out."""


class CommandHandler(Protocol):
    """Carries out what clients ask for: Pipeline.handle, or something around it."""

    def handle(self, command: str, arguments: Mapping[str, Any]) -> None:
        """``command`` is one of wire.COMMANDS; ``arguments`` may hold ``text`` or ``value``, unchecked.

        Called by a thread that does nothing else, one command after the other. Raises RunError to refuse; its text
        reaches the client.
        """
        ...


class CommandThread(threading.Thread):
    """Carries out one command at a time: a camera may take its time to stop, and publishing shall not wait for it."""

    def __init__(self, handler: CommandHandler) -> None:
        super().__init__(name="liveloc-commands", daemon=True)
        self._handler = handler
        self._waiting: SimpleQueue[tuple[str, Mapping[str, Any], Answer] | None] = SimpleQueue()

    def put(self, command: str, arguments: Mapping[str, Any], answer: Answer) -> bool:
        """Carry out a command when those before it are done; False where too many wait. ``answer`` is called here."""
        if self._waiting.qsize() >= MOST_WAITING:
            return False
        self._waiting.put((command, arguments, answer))
        return True

    def run(self) -> None:
        """Called by the thread."""
        while (item := self._waiting.get()) is not None:
            command, arguments, answer = item
            answer(self._refusal(command, arguments))

    def stop(self, timeout: float) -> None:
        """End after the command at hand; one that hangs for ``timeout`` seconds is left to itself."""
        self._waiting.put(None)
        self.join(timeout)
        if self.is_alive():
            logger.warning("a command still runs at the end of the run, and is left to itself")

    def _refusal(self, command: str, arguments: Mapping[str, Any]) -> str | None:
        logger.info("a client asks for %s %s", command, dict(arguments))
        try:
            self._handler.handle(command, arguments)
        except LivelocError as error:
            return str(error)
        except Exception as error:
            logger.exception("the command %s failed", command)
            return f"{command} failed: {error}"
        return None
