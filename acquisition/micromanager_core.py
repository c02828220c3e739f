"""Micro-Manager's core: how to reach it, what its camera is, and its images in one shape, whichever backend runs it.

Backend java is a Micro-Manager that runs on this computer, reached over its ZMQ server; python is the same core inside
this process, without the program. pycromanager gives both nearly the same methods; what differs is levelled out here.
"""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acquisition.files.metadata import micromanager_camera, number
from acquisition.source import SourceDescription
from config.errors import SettingsError, SourceError, SourceStopped
from config.schema import SourceSettings

Core: TypeAlias = Any
"""pycromanager's Core. Its methods are made at run time, from Java's or C++'s."""

DEMO = "MMConfig_demo.cfg"
"""The configuration of Micro-Manager's demo camera, beside the device adapters of mm-test-adapters."""
SERVER_PATIENCE = 2.0
"""Seconds that a running Micro-Manager's port has to answer."""
LEAST_BUFFER = 64
"""Micro-Manager's buffer for frames [MB]."""
MOST_BUFFER = 768
"""What liveloc asks for at most: the core goes round its whole buffer, so all of it is memory in use [MB]."""

START_MICROMANAGER = (
    "Start Micro-Manager, open Tools > Options and tick 'Run pycro-manager server on port 4827', then try again. "
    "Without Micro-Manager: source.backend=python source.config=YOUR.cfg source.adapters=FOLDER, or source.config=demo "
    "for a demo camera"
)


@dataclass(frozen=True, eq=False)
class Image:
    """One image from the core's buffer."""

    pixels: NDArray[np.unsignedinteger[Any]]
    """(H, W) in ADU."""
    number: int
    """Counted at the camera from 0 since its sequence began."""
    seconds: float
    """Since the sequence began; NaN where the core does not tell."""


def connect(settings: SourceSettings) -> Core:
    """The core that the settings name. Raises SourceError, SettingsError with what to start or install."""
    if importlib.util.find_spec("mmpycorex") is None:
        raise SourceError("pycromanager is not installed. Install liveloc with it: pip install 'liveloc[micromanager]'")
    return _start_core(settings) if settings.backend == "python" else _remote_core(settings.port)


def is_listening(port: int) -> bool:
    """Whether anything on this computer answers there."""
    try:
        socket.create_connection(("127.0.0.1", port), SERVER_PATIENCE).close()
    except OSError:
        return False
    return True


def _remote_core(port: int) -> Core:
    from mmpycorex import Core as RemoteCore

    if not is_listening(port):
        raise SourceError(f"no Micro-Manager answers on port {port}. {START_MICROMANAGER}.")
    try:
        return RemoteCore(port=port)
    except Exception as error:
        raise SourceError(
            f"something answers on port {port}, but not as Micro-Manager: {error}. {START_MICROMANAGER}; or set "
            "source.port to its server's port."
        ) from error


def _start_core(settings: SourceSettings) -> Core:
    """A core in this process with the configuration's devices. One a process: a second start is not reliable."""
    from mmpycorex import Core as LocalCore
    from mmpycorex import create_core_instance, is_pymmcore_active

    if is_pymmcore_active():
        return LocalCore()
    adapters = _adapters(settings)
    config = adapters / DEMO if settings.config == "demo" else Path(settings.config or "")
    if not config.is_file():
        raise SettingsError(
            f"source.config={settings.config}: source.backend=python needs a Micro-Manager configuration file, or "
            "source.config=demo. Micro-Manager's Hardware Configuration Wizard writes them."
        )
    try:
        create_core_instance(str(adapters), str(config.resolve()), python_backend=True, buffer_size_mb=LEAST_BUFFER)
    except Exception as error:
        raise SourceError(
            f"Micro-Manager's core cannot load {config}: {error}. Check that source.adapters={adapters} holds the "
            "device adapters that it names, and that the devices are switched on and not in use by another program."
        ) from error
    return LocalCore()


def _adapters(settings: SourceSettings) -> Path:
    if settings.adapters is not None:
        if not Path(settings.adapters).is_dir():
            raise SettingsError(f"source.adapters={settings.adapters} is no folder. Give Micro-Manager's own folder.")
        return Path(settings.adapters)
    if importlib.util.find_spec("mm_test_adapters") is None:
        raise SettingsError("source.adapters is not set. Give the folder of Micro-Manager's device adapters.")
    from mm_test_adapters import device_adapter_path

    return Path(device_adapter_path())


def set_up(core: Core, settings: SourceSettings, roi: list[int] | None) -> None:
    """Set exposure, binning and region on the camera, and size the buffer. Raises SourceError for what it refuses."""
    camera = camera_label(core)
    if core.is_sequence_running():
        raise SourceError(
            f"the camera {camera} is running already. Stop Micro-Manager's Live or acquisition first; to look at an "
            "acquisition that Micro-Manager saves itself, use source=follow source.path=FOLDER."
        )
    with _refused(f"the camera {camera}"):
        if settings.binning is not None:
            core.set_property(camera, "Binning", str(settings.binning))
        if settings.exposure is not None:
            core.set_exposure(float(settings.exposure))
        if roi is not None:
            core.clear_roi()
            core.set_roi(*(int(value) for value in roi))
        core.set_auto_shutter(True)
        core.set_circular_buffer_memory_footprint(_buffer_megabytes(core, settings.buffer))


def _buffer_megabytes(core: Core, seconds: float) -> int:
    """Room for ``seconds`` of frames at the fastest that the exposure allows, never less than there is [MB]."""
    frame = core.get_image_width() * core.get_image_height() * core.get_bytes_per_pixel()
    frames = seconds * 1000 / max(1.0, core.get_exposure())
    wanted = min(MOST_BUFFER, max(LEAST_BUFFER, frames * frame / 1e6))
    return max(int(wanted), int(core.get_circular_buffer_memory_footprint()))


def camera_label(core: Core) -> str:
    """The label of the core's camera. Raises SourceError where there is none."""
    label = str(core.get_camera_device())
    if not label:
        raise SourceError("Micro-Manager has no camera. Load a configuration with one in Micro-Manager.")
    return label


def describe(core: Core, frames: int | None) -> SourceDescription:
    """What the core knows of its camera now. Raises SourceError for pixels that are no single grey value."""
    camera = camera_label(core)
    size, components = int(core.get_bytes_per_pixel()), int(core.get_number_of_components())
    if components != 1 or size not in (1, 2):
        raise SourceError(
            f"the camera {camera} gives {components} components of {size} bytes a pixel; liveloc needs grey values of "
            "8 or 16 bits. Set the camera's pixel type in Micro-Manager's device property browser."
        )
    return SourceDescription(
        name=f"{camera} in Micro-Manager",
        height=int(core.get_image_height()),
        width=int(core.get_image_width()),
        dtype=np.dtype(np.uint8 if size == 1 else np.uint16),
        frames=frames,
        exposure=float(core.get_exposure()),
        origin=_origin(core),
        camera=micromanager_camera(_tags(core, camera)),
    )


def _origin(core: Core) -> tuple[int, int]:
    """Corner of the region that is read out, liveloc's or one that was set in Micro-Manager [pixels]."""
    region = core.get_roi()
    return (int(region.x), int(region.y)) if hasattr(region, "x") else (int(region[0]), int(region[1]))


def _tags(core: Core, camera: str) -> Mapping[str, Any]:
    """Calibration as the tags of an image would give it."""
    properties = {f"{camera}-{name}": core.get_property(camera, name) for name in names_of(core, camera)}
    told = {"PixelSizeUm": core.get_pixel_size_um(), "BitDepth": core.get_image_bit_depth(), "Core-Camera": camera}
    return {**properties, **told}


def names_of(core: Core, device: str) -> list[str]:
    """Names of a device's properties."""
    return list(_strings(core.get_device_property_names(device)))


def devices_of(core: Core) -> list[str]:
    """Labels of all devices."""
    return list(_strings(core.get_loaded_devices()))


def _strings(vector: Any) -> Iterable[str]:
    """A list of text, which over the bridge is a Java object with ``size`` and ``get``."""
    if hasattr(vector, "get"):
        return [str(vector.get(place)) for place in range(int(vector.size()))]
    return [str(item) for item in vector]


def closest(name: str, known: Iterable[str]) -> str:
    """A sentence that names what was meant, or everything there is."""
    names = list(known)
    found = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {found[0]}?" if found else f"There are {', '.join(names) or 'none'}."


def pop_image(core: Core) -> Image:
    """The oldest image in the core's buffer. The buffer must not be empty.

    Pixels and tags are taken once each: over the bridge every access is a transfer.
    """
    with _no_exit_callbacks():
        tagged = core.pop_next_tagged_image()
    pixels, tags = np.asarray(tagged.pix), tagged.tags
    if pixels.dtype.kind == "i":  # Java knows no unsigned numbers
        pixels = pixels.view(np.dtype(f"u{pixels.dtype.itemsize}"))
    counted = number(tags.get("ImageNumber"))
    if counted is None:
        raise SourceStopped(
            "Micro-Manager gave an image without ImageNumber, so that a lost one would not show. Update Micro-Manager."
        )
    elapsed = number(tags.get("ElapsedTime-ms"))
    shape = (int(tags["Height"]), int(tags["Width"]))
    return Image(pixels.reshape(shape), int(counted), np.nan if elapsed is None else elapsed / 1000)


def abandon(core: Core, caller: threading.Thread) -> None:
    """Free a thread that waits for the answer of a Micro-Manager that has died, so that this program can end.

    pyjavaz would wait for ever, with a lock that it needs at the program's end.
    """
    if not hasattr(core, "_bridge"):
        return
    from pyjavaz import server_terminated

    server_terminated(core._bridge.port)  # noqa: SLF001 (pyjavaz has no other way)
    deadline = time.monotonic() + SERVER_PATIENCE
    while caller.is_alive() and time.monotonic() < deadline:
        core._bridge._response_queue.put({"type": "exception", "value": "Micro-Manager is gone"})  # noqa: SLF001
        caller.join(0.1)


@contextmanager
def _no_exit_callbacks() -> Iterator[None]:
    """Pyjavaz keeps a callback until the program exits for every Java object, and every image is one: hours of frames
    would fill the memory. The object itself is released when Python lets go of it, so none is needed for images.
    """
    bridge: Any = sys.modules.get("pyjavaz.bridge")
    if bridge is None:  # this core is no Java object
        yield
        return
    registry = bridge.atexit
    bridge.atexit = _NO_REGISTRY
    try:
        yield
    finally:
        bridge.atexit = registry


def _ignore(callback: Callable[[], None]) -> Callable[[], None]:
    return callback


_NO_REGISTRY = SimpleNamespace(register=_ignore)


@contextmanager
def _refused(who: str) -> Iterator[None]:
    """Whatever the core raises, in words."""
    try:
        yield
    except Exception as error:
        raise SourceError(
            f"{who} refuses a setting: {error}. Check source.exposure, source.binning, run.roi."
        ) from error
