"""OpenGL 3.3 without a window: EGL, which needs no screen, where there is one; else a hidden surface of Qt's."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from config.errors import RuntimeUnavailable

MAJOR, MINOR = 3, 3
"""Version of OpenGL, core profile."""

_OPENGL_API = 0x30A2
_NONE = 0x3038
_CONFIGURATION = (0x3040, 0x0008, 0x3033, 0x0000, _NONE)
"""EGL_RENDERABLE_TYPE = EGL_OPENGL_BIT, EGL_SURFACE_TYPE = none: everything is drawn into textures."""
_CONTEXT = (0x3098, MAJOR, 0x30FB, MINOR, 0x30FD, 0x0001, _NONE)
"""Version, and EGL_CONTEXT_OPENGL_PROFILE_MASK = core."""
_DEVICE, _SURFACELESS = 0x313F, 0x31DD
"""EGL_PLATFORM_DEVICE_EXT: a graphics card without a screen. EGL_PLATFORM_SURFACELESS_MESA: Mesa, in software too."""
_MOST_DEVICES = 16


@contextmanager
def offscreen() -> Iterator[None]:
    """A current OpenGL context for the block, on this thread. Raises RuntimeUnavailable where none can be had.

    Where Qt runs already, it is asked, since the two do not share a thread.
    """
    if not _qt_runs() and (library := _egl()):
        with _egl_context(library):
            yield
    else:
        with _qt_context():
            yield


def _qt_runs() -> bool:
    gui = sys.modules.get("PyQt5.QtGui")
    return gui is not None and gui.QGuiApplication.instance() is not None


def _has_screen() -> bool:
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _egl() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("EGL")
    if sys.platform != "linux" or name is None:
        return None
    library = ctypes.CDLL(name)
    for function, result in (("eglGetProcAddress", ctypes.c_void_p), ("eglGetDisplay", ctypes.c_void_p),
                             ("eglCreateContext", ctypes.c_void_p)):  # fmt: skip
        getattr(library, function).restype = result
    if "OpenGL" not in sys.modules:  # a machine without a screen may lack GLX, where PyOpenGL looks first
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    return library


@contextmanager
def _egl_context(egl: ctypes.CDLL) -> Iterator[None]:
    for display in _displays(egl):
        context = _current(egl, display)
        if context:
            break
    else:
        raise RuntimeUnavailable(
            f"EGL gives no OpenGL {MAJOR}.{MINOR} here. Install a graphics driver, or Mesa for drawing in software "
            "(apt-get install libegl1 libgl1-mesa-dri)."
        )
    try:
        yield
    finally:
        egl.eglMakeCurrent(ctypes.c_void_p(display), None, None, None)
        egl.eglDestroyContext(ctypes.c_void_p(display), ctypes.c_void_p(context))


def _displays(egl: ctypes.CDLL) -> Iterator[int]:
    """Displays to try: graphics cards, Mesa without a surface, whatever EGL thinks best."""
    pointer = ctypes.c_void_p
    platform = _function(egl, b"eglGetPlatformDisplayEXT", pointer, ctypes.c_uint, pointer, pointer)
    if platform is not None:
        for device in _devices(egl):
            yield platform(_DEVICE, device, None)
        yield platform(_SURFACELESS, None, None)
    yield egl.eglGetDisplay(None)


def _devices(egl: ctypes.CDLL) -> list[int | None]:
    query = _function(egl, b"eglQueryDevicesEXT", ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    found, count = (ctypes.c_void_p * _MOST_DEVICES)(), ctypes.c_int()
    if query is None or not query(_MOST_DEVICES, found, ctypes.byref(count)):
        return []
    return list(found[: count.value])


def _function(egl: ctypes.CDLL, name: bytes, result: Any, *arguments: Any) -> Any:
    """An extension's function, None where EGL lacks it."""
    address = egl.eglGetProcAddress(name)
    return ctypes.CFUNCTYPE(result, *arguments)(address) if address else None


def _current(egl: ctypes.CDLL, display: int | None) -> int | None:
    """A context of ``display`` that has been made current; None where the display gives none."""
    if not display or not egl.eglInitialize(ctypes.c_void_p(display), None, None):
        return None
    here, configuration, count = ctypes.c_void_p(display), ctypes.c_void_p(), ctypes.c_int()
    wanted = (ctypes.c_int * len(_CONFIGURATION))(*_CONFIGURATION)
    if not egl.eglBindAPI(_OPENGL_API) or not egl.eglChooseConfig(
        here, wanted, ctypes.byref(configuration), 1, ctypes.byref(count)
    ):
        return None
    attributes = (ctypes.c_int * len(_CONTEXT))(*_CONTEXT)
    context: int | None = egl.eglCreateContext(here, configuration, None, attributes) if count.value else None
    if not context:
        return None
    if egl.eglMakeCurrent(here, None, None, ctypes.c_void_p(context)):
        return context
    egl.eglDestroyContext(here, ctypes.c_void_p(context))
    return None


@contextmanager
def _qt_context() -> Iterator[None]:
    try:
        from PyQt5.QtGui import QGuiApplication, QOffscreenSurface, QOpenGLContext, QSurfaceFormat
    except ImportError as error:
        raise RuntimeUnavailable(
            "OpenGL can be had neither from EGL nor from Qt. Install the viewer group: pip install liveloc[viewer]."
        ) from error
    if not (_qt_runs() or _has_screen()):  # Qt would end the process
        raise RuntimeUnavailable("there is neither a screen nor EGL, which needs none. Install libegl1.")
    application = QGuiApplication.instance() or QGuiApplication([])
    kind = QSurfaceFormat()
    kind.setVersion(MAJOR, MINOR)
    kind.setProfile(QSurfaceFormat.OpenGLContextProfile.CoreProfile)
    surface, context = QOffscreenSurface(), QOpenGLContext()
    for part in (surface, context):
        part.setFormat(kind)
    surface.create()
    if not (context.create() and context.makeCurrent(surface)):
        raise RuntimeUnavailable(f"Qt gives no OpenGL {MAJOR}.{MINOR} here. Install a graphics driver.")
    try:
        yield
    finally:
        context.doneCurrent()
        surface.destroy()
        del application
