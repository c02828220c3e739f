"""A screen for the window tests: the user's own, else a virtual one that lives as long as the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def screen() -> Iterator[None]:
    """A display that windows can open on. Skips where there is none and none can be made."""
    if sys.platform != "linux" or os.environ.get("DISPLAY"):
        yield
        return
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("no screen and no Xvfb: `apt-get install xvfb`, or run `python bootstrap.py test` as root")
    with pytest.MonkeyPatch.context() as patch:
        yield from _virtual_screen(program, patch)


@pytest.fixture(scope="session")
def qapp_cls(screen: None) -> type:
    """pytest-qt makes its application of this; asking for the screen here puts the screen first."""
    widgets = pytest.importorskip("PyQt5.QtWidgets", reason="PyQt5 is not installed (group viewer)")
    application: type = widgets.QApplication
    return application


def _virtual_screen(program: str, patch: pytest.MonkeyPatch) -> Iterator[None]:
    reading, writing = os.pipe()
    command = [program, "-displayfd", str(writing), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as number:
            patch.setenv("DISPLAY", f":{number.readline().strip()}")
        yield
    finally:
        _close_application()
        server.terminate()
        server.wait(10)


def _close_application() -> None:
    """Qt ends the process when its screen goes away, so it has to go first."""
    widgets = sys.modules.get("PyQt5.QtWidgets")
    if widgets and (application := widgets.QApplication.instance()):
        from PyQt5 import sip

        sip.delete(application)
