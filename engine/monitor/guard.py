"""A small process that sets the activation light to its safe value when the engine has gone, however it went.

The engine starts it with a pipe to its standard input and sends a line every second. When the pipe ends (the engine
came to its end, crashed, or was killed) or no line comes for a while (it hangs or was suspended), the guard sets the
light itself, over its own connection. So it can help only where another process can reach the light: with a
Micro-Manager that runs as a program of its own, and not with a core inside the engine, which dies with it
(docs/feedback.md).

What the guard is told stands in the first line, JSON: {"open": "package.module:function", "arguments": {…}, "safe":
power, "patience": seconds}. The function is called with the arguments and gives an ActivationLight. The guard answers
one line: ``ready``, or why not.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Self

from acquisition.light import ActivationLight
from config.errors import RunError

logger = logging.getLogger(__name__)

START = 30.0
"""Seconds that a guard has to reach the light."""
PATIENCE = 10.0
"""Seconds without a sign of life after which the engine counts as gone."""
TRIES, PAUSE = 20, 0.5
"""How often the guard tries to set the light, and seconds between."""
READY = "ready"
NO_GUARD = (
    "Feedback moves a light that no other process can reach: if this program is killed or crashes, the light stays as "
    "it is. Use a Micro-Manager that runs by itself (source.backend=java) or a hardware interlock (docs/feedback.md)."
)
"""What a user must know who runs feedback without a guard."""


@dataclass(frozen=True)
class LightPlan:
    """How a guard reaches the light, and what it sets."""

    open: str
    """``package.module:function``, which gives an ActivationLight."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Its keyword arguments, plain values."""
    safe: float = 0.0
    """In the light's own unit."""
    patience: float = PATIENCE
    """Seconds without a sign of life after which the light is made safe."""


class Guard:
    """The engine's end of it."""

    def __init__(self, plan: LightPlan, start: float = START) -> None:
        """Start the process and wait, ``start`` seconds at most, until it has reached the light. Raises RunError."""
        self._process = _spawn()
        self._answer: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=self._listen, name="liveloc-guard", daemon=True).start()
        self._send(json.dumps(asdict(plan)))
        try:
            answer = self._answer.get(timeout=start)
        except Empty:
            answer = f"it gave no answer within {start:g} s"
        if answer != READY:
            self._process.kill()
            self.close()
            raise RunError(
                f"the guard cannot reach the activation light: {answer.rstrip('.') or 'it ended'}. Feedback moves no "
                "light that is not guarded; correct feedback.device and feedback.property, or set feedback=off."
            )

    @property
    def pid(self) -> int:
        """Of the guard's process."""
        return self._process.pid

    def beat(self) -> None:
        """Give a sign of life. Raises RunError where the guard has ended."""
        if self._process.poll() is not None:
            raise RunError(f"the guard of the activation light ended with status {self._process.returncode}.")
        self._send("alive")

    def close(self, timeout: float = TRIES * PAUSE + 5) -> None:
        """Let it set the light to safe and end. May be called twice."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except OSError:
            logger.debug("the guard had ended already")
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            logger.warning("the guard of the activation light does not end; it is killed. Check the light by hand.")
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise RunError(f"the guard of the activation light cannot be reached: {error}.") from error

    def _listen(self) -> None:
        """Pass its one line on; empty where it ended without one."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            self._answer.put(lines.readline().strip())


def _spawn() -> subprocess.Popen[str]:
    """The process, out of reach of a Ctrl-C in the engine's terminal."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
    return subprocess.Popen(
        [sys.executable, "-m", "engine.monitor.guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path},
        creationflags=flags,
        start_new_session=True,
    )


# In the guard's process.


def main() -> int:
    """Guard until standard input ends. 0: the light is safe; 1: it could not be set, which stands on standard error."""
    logging.basicConfig(format="liveloc guard: %(message)s", stream=sys.stderr, level=logging.WARNING)
    for name in ("SIGINT", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    plan = LightPlan(**json.loads(sys.stdin.readline()))
    try:
        reach = partial(load(plan.open), **plan.arguments)
        light: ActivationLight | None = reach()
    except Exception as error:  # noqa: BLE001 (whatever it is, the engine is told and starts no feedback)
        _answer(str(error) or type(error).__name__)
        return 1
    _answer(READY)
    signs: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin, signs), daemon=True).start()
    while _wait(signs, plan.patience):
        logger.warning("no sign of life from liveloc for %g s: the activation light is set to safe", plan.patience)
        _make_safe(light, reach, plan.safe)
        if not signs.get():
            break
    return 0 if _make_safe(light, reach, plan.safe) else 1


def load(name: str) -> Callable[..., ActivationLight]:
    """The function that ``package.module:function`` names. Raises ImportError, AttributeError, ValueError."""
    module, _, function = name.partition(":")
    found: Callable[..., ActivationLight] = getattr(importlib.import_module(module), function)
    return found


def _answer(text: str) -> None:
    sys.stdout.write(text.replace("\n", " ") + "\n")
    sys.stdout.flush()


def _read(stream: IO[str], signs: SimpleQueue[str]) -> None:
    """Pass lines on; an empty one says that the engine has gone."""
    for line in stream:
        signs.put(line)
    signs.put("")


def _wait(signs: SimpleQueue[str], patience: float) -> bool:
    """Whether the engine fell silent; False when it has gone."""
    try:
        while signs.get(timeout=patience):
            pass
    except Empty:
        return True
    return False


def _make_safe(light: ActivationLight | None, reach: Callable[[], ActivationLight], safe: float) -> bool:
    """Set the light, over a new connection where the old one fails; whether it worked."""
    for _ in range(TRIES):
        try:
            light = light or reach()
            light.set_power(safe)
        except Exception as error:  # noqa: BLE001 (nobody is left to be told; it is tried again)
            logger.warning("the activation light cannot be set to %g: %s", safe, error)
            light = None
            time.sleep(PAUSE)
        else:
            return True
    logger.error("the activation light could not be set to %g. CHECK THE LASER BY HAND.", safe)
    return False


if __name__ == "__main__":
    sys.exit(main())
