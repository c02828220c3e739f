"""The simulated EMCCD as a camera inside a Micro-Manager core, with the light that makes its sample blink.

So the whole Micro-Manager path runs on blinking data. The devices are Python's (pymmcore-plus), the core is
Micro-Manager's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pymmcore
from numpy.typing import DTypeLike, NDArray
from pymmcore_plus.experimental.unicore import CameraDevice, GenericDevice, UniMMCore, pymm_property

from config.schema import Settings
from simulation.dataset import make_live_simulator
from simulation.live import LiveSimulator

CAMERA, LIGHT, POWER = "EMCCD", "Activation", "Power"
"""Labels of the two devices, and the light's property [1 gives the settings' density]."""
LARGEST_POWER = 10.0
SHORTEST_EXPOSURE = 1.0
"""[ms]"""


class SimulatedEmccd(CameraDevice):
    """A camera that looks at a blinking sample. Every sequence begins with a fresh sample."""

    def __init__(self, settings: Settings, light: ActivationLightDevice) -> None:
        super().__init__()
        self._settings, self._light = settings, light
        self._exposure = settings.source.exposure or settings.dataset.exposure

    def get_exposure(self) -> float:
        """Exposure [ms]."""
        return self._exposure

    def set_exposure(self, exposure: float) -> None:
        """Exposure [ms]."""
        self._exposure = max(SHORTEST_EXPOSURE, exposure)

    def get_em_gain(self) -> float:
        """The calibration's own."""
        return self._settings.camera.em_gain or 1.0

    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self._settings.dataset.height, self._settings.dataset.width

    def dtype(self) -> DTypeLike:
        """Of the pixels."""
        return np.uint16

    def start_sequence(
        self, n: int | None, get_buffer: Callable[[Sequence[int], DTypeLike], NDArray[Any]]
    ) -> Iterator[Mapping[str, Any]]:
        """Frames by deadlines, until the core wants no more."""
        simulator, begin, count = self._simulator(), time.perf_counter(), 0
        while n is None or count < n:
            time.sleep(max(0.0, begin + (count + 1) * self._exposure / 1000 - time.perf_counter()))
            simulator.light.set_power(self._light.level)
            pixels = simulator.expose(1)[0]
            get_buffer(pixels.shape, pixels.dtype)[:] = pixels
            count += 1
            yield {}

    def _simulator(self) -> LiveSimulator:
        dataset = replace(self._settings.dataset, exposure=self._exposure)
        return make_live_simulator(replace(self._settings, dataset=dataset))


class ActivationLightDevice(GenericDevice):
    """A light with one property."""

    def __init__(self) -> None:
        super().__init__()
        self.level = 1.0
        """Relative: 1 gives the settings' density."""

    @pymm_property(name=POWER, limits=(0.0, LARGEST_POWER))
    def power(self) -> float:
        """Relative."""
        return self.level

    @power.setter
    def _set_power(self, value: float) -> None:
        self.level = value


def blinking_core(settings: Settings) -> PycromanagerCore:
    """A Micro-Manager core with the simulated EMCCD as its camera. Raises CalibrationMissing, SettingsError."""
    make_live_simulator(settings)  # what is missing shows here, and not in the camera's thread
    light = ActivationLightDevice()
    return core_with({LIGHT: light, CAMERA: SimulatedEmccd(settings, light)})


def core_with(devices: Mapping[str, Any]) -> PycromanagerCore:
    """A core with Python's devices by label; the last one is the camera."""
    core = UniMMCore()
    for label, device in devices.items():
        core.loadPyDevice(label, device)
        core.initializeDevice(label)
    core.setCameraDevice(list(devices)[-1])
    return PycromanagerCore(core)


class PycromanagerCore:
    """A core under the names that pycromanager gives its methods: ``popNextImage`` is ``pop_next_image``."""

    def __init__(self, core: pymmcore.CMMCore) -> None:
        self.core = core
        self._names = {name.lower(): name for name in dir(core) if not name.startswith("_")}

    def __getattr__(self, name: str) -> Any:
        # getXYStageDevice is get_xy_stage_device: which letters are capitals, only the core's own names tell.
        return getattr(self.core, self._names.get(name.replace("_", ""), name))

    @property
    def TaggedImage(self) -> type:  # noqa: N802 (Java's name)
        """What pycromanager's acquisitions make of images."""
        from mmpycorex.launcher import TaggedImage

        made: type = TaggedImage
        return made

    def get_tagged_image(self, *where: Any) -> Any:
        """The image that was snapped last, as pycromanager's own core gives it."""
        from mmpycorex.launcher import get_tagged_image

        return get_tagged_image(self, *where)

    def pop_next_tagged_image(self) -> SimpleNamespace:
        """The oldest image of the buffer with its tags, as pycromanager's own core gives it."""
        metadata = pymmcore.Metadata()
        pixels = self.core.popNextImageMD(metadata)
        tags = {key: metadata.GetSingleTag(key).GetValue() for key in metadata.GetKeys()}
        return SimpleNamespace(pix=pixels, tags=tags)
