"""The activation light as a property of one of Micro-Manager's devices."""

from __future__ import annotations

from typing import Any

from acquisition.files.metadata import number
from acquisition.micromanager_core import Core, closest, connect, devices_of, names_of
from config.errors import SettingsError, SourceError
from config.schema import SourceSettings


class MicroManagerLight:
    """An ActivationLight: sets a device property."""

    def __init__(self, core: Core, device: str, name: str) -> None:
        """``name`` of the property. Raises SettingsError where the device or the property does not exist."""
        devices = devices_of(core)
        if device not in devices:
            raise SettingsError(
                f"feedback.device={device}: Micro-Manager has no such device. {closest(device, devices)}"
            )
        names = names_of(core, device)
        if name not in names:
            raise SettingsError(f"feedback.property={name}: {device} has no such property. {closest(name, names)}")
        if core.is_property_read_only(device, name):
            raise SettingsError(
                f"feedback.property={name}: {device} only tells it, and cannot be told. Choose another."
            )
        self._core, self._device, self._name = core, device, name

    def check_range(self, low: float, high: float) -> None:
        """Whether the property takes these powers. Raises SettingsError with the limits that the device tells."""
        if not self._core.has_property_limits(self._device, self._name):
            return
        least = float(self._core.get_property_lower_limit(self._device, self._name))
        most = float(self._core.get_property_upper_limit(self._device, self._name))
        if low < least or high > most:
            raise SettingsError(
                f"{self._device}-{self._name} takes {least:g} to {most:g}; feedback.minimum, feedback.maximum and "
                f"feedback.safe ask for {low:g} to {high:g}. Bring them into that range."
            )

    def power(self) -> float:
        """See ActivationLight. Raises SourceError."""
        try:
            told = self._core.get_property(self._device, self._name)
        except Exception as error:
            raise SourceError(f"{self._device}-{self._name} cannot be read: {error}. Check the device.") from error
        power = number(told)
        if power is None:
            raise SourceError(f"{self._device}-{self._name} is {told!r}, which is no number. Choose another property.")
        return power

    def set_power(self, power: float) -> None:
        """See ActivationLight. Raises SourceError."""
        try:
            self._core.set_property(self._device, self._name, f"{power:.6g}")
        except Exception as error:
            raise SourceError(
                f"{self._device}-{self._name} does not take {power:g}: {error}. Check the device and feedback's limits."
            ) from error


def light_arguments(device: str, name: str, port: int) -> dict[str, Any]:
    """What ``open_light`` takes, as plain values for another process."""
    return {"device": device, "name": name, "port": port}


def open_light(device: str, name: str, port: int) -> MicroManagerLight:
    """The light of a Micro-Manager that runs on this computer, from any process. Raises SourceError, SettingsError."""
    return MicroManagerLight(connect(SourceSettings(backend="java", port=port)), device, name)
