"""OpenGL without a window and without a screen, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from viewer import offscreen as module

pytest.importorskip("OpenGL", reason="PyOpenGL is not installed (group viewer)")

ASK = """
import sys
from viewer.offscreen import offscreen
{before}
for _ in range(2):
    with offscreen():
        from OpenGL import GL
        major, minor = GL.glGetIntegerv(GL.GL_MAJOR_VERSION), GL.glGetIntegerv(GL.GL_MINOR_VERSION)
        assert (major, minor) >= (3, 3), (major, minor)
        assert GL.glGetIntegerv(GL.GL_CONTEXT_PROFILE_MASK) == GL.GL_CONTEXT_CORE_PROFILE_BIT
{after}
print("PyQt5.QtGui" in sys.modules)
"""


def ask(before: str = "", after: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Two contexts, one after the other, without a screen unless one is given."""
    kept = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    script = ASK.format(before=before, after=after)
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**kept, **environment})


@pytest.mark.skipif(sys.platform != "linux", reason="EGL is asked on Linux alone")
def test_no_screen_and_no_qt_is_needed() -> None:
    if module._egl() is None:
        pytest.skip("there is no libEGL: apt-get install libegl1")
    done = ask()
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a Windows session has a screen")
def test_without_egl_and_screen_it_is_said_and_the_process_lives() -> None:
    done = ask("from viewer import offscreen as module; module._egl = lambda: None")
    assert "neither a screen nor EGL" in done.stderr
    assert "RuntimeUnavailable" in done.stderr


def test_where_qt_runs_it_is_asked(screen: None) -> None:
    if sys.platform != "linux":
        pytest.skip("DISPLAY is what a screen is called on Linux")
    start = "from PyQt5.QtWidgets import QApplication; application = QApplication([])"
    done = ask(start, "assert application is not None", DISPLAY=os.environ["DISPLAY"])
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="EGL is asked on Linux alone")
def test_a_machine_without_a_driver_is_told_what_to_install() -> None:
    if module._egl() is None:
        pytest.skip("there is no libEGL: apt-get install libegl1")
    done = ask("from viewer import offscreen as module; module._displays = lambda egl: iter([None])")
    assert "EGL gives no OpenGL 3.3" in done.stderr
    assert "libegl1" in done.stderr
