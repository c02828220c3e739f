"""Whether a window can be opened here, and how to open the live window beside a run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

PROBE_SECONDS = 20.0
"""How long a first window may take to come up on a slow machine."""


def why_no_window() -> str | None:
    """None where a window can be opened, else the reason and the remedy in one sentence.

    A process of its own tries it, since Qt aborts the process where its plugin cannot be loaded.
    """
    if importlib.util.find_spec("PyQt5") is None:
        return "PyQt5 is not installed. Install liveloc with its viewer group: pip install liveloc[viewer]"
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no screen: DISPLAY is not set"
    try:
        probe = [sys.executable, "-m", "viewer.window", "--probe"]
        subprocess.run(probe, check=True, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return f"Qt did not come up within {PROBE_SECONDS:.0f} s"
    except subprocess.CalledProcessError as error:
        return f"Qt could not open a window: {_first_line(error.stderr)}"
    return None


def open_window(target: Path | str, stay: bool, log: Path, screenshot: Path | None = None) -> subprocess.Popen[bytes]:
    """Start the window on an engine's address, a run folder or a table, as a process of its own.

    It follows the run through the wire and its files alone, so nothing that happens to it reaches the run. With
    ``stay`` it remains open after the run until the user closes it, else it closes when the run has ended.
    ``screenshot``: where it saves a picture of itself once everything is shown; then it closes. What it complains of
    goes to ``log``.
    """
    shot = ["--screenshot", str(screenshot)] if screenshot else []
    command = [sys.executable, "-m", "viewer.window", str(target), *([] if stay else ["--close"]), *shot]
    nothing = subprocess.DEVNULL
    with log.open("ab") as output:
        # In a group of its own: Ctrl-C in the terminal is for the run; the window goes on showing what there is.
        if sys.platform == "win32":
            group = subprocess.CREATE_NEW_PROCESS_GROUP
            return subprocess.Popen(command, stdin=nothing, stdout=output, stderr=output, creationflags=group)
        return subprocess.Popen(command, stdin=nothing, stdout=output, stderr=output, start_new_session=True)


def _first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0].strip() if lines else "no reason given"
