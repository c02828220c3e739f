"""The camera: what turns ADU into photons."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from math import isclose, isfinite, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from acquisition.camera_maps import CameraMaps, load_maps
from acquisition.source import Pixels
from config.errors import CalibrationMissing, SettingsError
from config.schema import CameraSettings

log = logging.getLogger(__name__)

Map: TypeAlias = NDArray[np.float32]
"""One value a pixel, (H, W)."""

WHERE_TO_FIND = {
    "baseline": "ADU; the mean of a few dark frames (shutter closed, same settings). Typical: 100 to 500",
    "e_per_adu": "electrons per ADU; the camera's performance or data sheet, under sensitivity, conversion factor or "
    "pre-amp gain at the readout mode you used. Some vendors' figure already includes the EM gain: then set em_gain: 1",
    "em_gain": "the EM gain as set in the acquisition, in Micro-Manager a property of the camera (Gain, EMGain, "
    "MultiplierGain). For an sCMOS or a CCD set em_gain: 1",
    "quantum_efficiency": "0 to 1; the camera's data sheet, curve at the dye's emission. Typical: 0.7 to 0.95",
    "pixel_size": "nm in the sample; chip pixel x binning / magnification, or Micro-Manager's pixel size calibration",
}
"""What each necessary value is and where a microscopist finds it."""
EXAMPLES = {"baseline": "100", "e_per_adu": "0.47", "em_gain": "1", "quantum_efficiency": "0.9", "pixel_size": "100"}


@dataclass(frozen=True, eq=False)
class Camera:
    """A complete calibration. Values are scalars, or float32 arrays (H, W) where the camera is known pixel by pixel."""

    name: str
    baseline: float | Map
    """Mean signal in the dark [ADU]."""
    e_per_adu: float | Map
    """Electrons per ADU at the output [e⁻/ADU]."""
    em_gain: float
    """Mean multiplication of the EM register, 1 without one."""
    quantum_efficiency: float
    """Photoelectrons per photon, 0 to 1."""
    pixel_size: float
    """Width of a pixel in the sample [nm]."""
    read_noise: float | Map = 0.0
    """Read noise at the output [e⁻ rms]; 0 where it is not known."""
    spurious_charge: float = 0.0
    """Clock-induced charge and dark current [e⁻ / pixel / frame]; 0 where it is not known."""
    saturation: float = 65535.0
    """Largest value the camera gives out [ADU]."""

    @property
    def excess_noise_factor(self) -> float:
        """Factor on the shot noise's standard deviation: √2 behind an EM register (Robbins & Hadwen 2003), else 1."""
        return sqrt(2.0) if self.em_gain > 1.0 else 1.0

    @property
    def photons_per_adu(self) -> float | Map:
        """Photons at the detector per ADU above the baseline."""
        return self.e_per_adu / (self.em_gain * self.quantum_efficiency)

    def to_photons(self, adu: Pixels) -> NDArray[np.float32]:
        """Photons (T, H, W) of ADU (T, H, W); dark pixels scatter around 0, so some are negative."""
        photons = np.subtract(adu, np.float32(self.baseline), dtype=np.float32)
        photons *= np.float32(self.photons_per_adu)
        return photons

    @classmethod
    def from_settings(
        cls, settings: CameraSettings, known: Mapping[str, float], shape: tuple[int, int], origin: tuple[int, int]
    ) -> Camera:
        """The camera of a recording: ``settings`` first, then what the metadata ``known`` tells.

        shape: (H, W) of the frames to convert; origin: (x, y) of their corner on the recorded frame, which crops maps.
        Raises CalibrationMissing with every value that nobody gave, SettingsError for values out of range.
        """
        values = merged(settings, known)
        maps = load_maps(settings.maps, shape, origin) if settings.maps is not None else None
        _check_complete(settings, values, has_maps=maps is not None)
        _check_ranges(values)
        return _build(settings, values, maps)


def merged(settings: CameraSettings, known: Mapping[str, float]) -> dict[str, float]:
    """The scalar values somebody gave, by field name; settings win. Saturation: the smaller of the two."""
    fields = (*WHERE_TO_FIND, "read_noise", "spurious_charge")
    told = {field: getattr(settings, field) for field in fields}
    values = {field: float(known[field]) for field in fields if field in known}
    given = {field: float(value) for field, value in told.items() if value is not None}
    _warn_of_differences(given, values)
    values |= given
    return values | {"saturation": min(settings.saturation, known.get("saturation", settings.saturation))}


def _warn_of_differences(given: Mapping[str, float], known: Mapping[str, float]) -> None:
    for field in given.keys() & known.keys():
        if not isclose(given[field], known[field], rel_tol=0.02):
            log.warning(
                "camera.%s is %g in the settings but %g in the recording's metadata: the settings win",
                field,
                given[field],
                known[field],
            )


def presets() -> list[str]:
    """Names that ``camera=`` takes and that hold a calibration."""
    names = sorted(item.name.removesuffix(".yaml") for item in files("config").joinpath("camera").iterdir())
    return [name for name in names if name not in ("unknown", "estimate")]


def _build(settings: CameraSettings, values: dict[str, float], maps: CameraMaps | None) -> Camera:
    if maps is None:
        return Camera(name=settings.name, **values)
    scalars = {field: value for field, value in values.items() if field not in ("baseline", "e_per_adu", "read_noise")}
    return Camera(
        name=settings.name,
        baseline=maps.offset,
        e_per_adu=1.0 / maps.gain,
        read_noise=(np.sqrt(maps.variance) / maps.gain).astype(np.float32),
        **scalars,
    )


def _check_complete(settings: CameraSettings, values: Mapping[str, float], has_maps: bool) -> None:
    needed = [field for field in WHERE_TO_FIND if not (has_maps and field in ("baseline", "e_per_adu"))]
    missing = [field for field in needed if field not in values]
    if missing:
        raise CalibrationMissing(_missing_message(settings.name, missing))


def _missing_message(name: str, missing: list[str]) -> str:
    lines = [
        f"Photons need a calibrated camera. Neither the settings (camera: {name}) nor the recording's metadata give:",
        *(f"  {field}: {WHERE_TO_FIND[field]}" for field in missing),
        "Ways out:",
        f"  camera=NAME with one of {', '.join(presets())}; anything it leaves open can be given beside it",
        f"  the values themselves, such as camera.{missing[0]}={EXAMPLES[missing[0]]}",
        "  camera=estimate, which guesses baseline and gain from the recording; photon counts are then approximate",
    ]
    return "\n".join(lines)


def _check_ranges(values: Mapping[str, float]) -> None:
    for field, value in values.items():
        expected = _out_of_range(field, value)
        if expected:
            raise SettingsError(f"camera.{field} must be {expected}, but it is {value:g}. Correct it.")


def _out_of_range(field: str, value: float) -> str | None:
    """What the value should have been, or None where it is fine."""
    if not isfinite(value):
        return "a finite number"
    if field == "quantum_efficiency" and not 0 < value <= 1:
        return "above 0 and at most 1 (0.9 for 90 %)"
    if field == "em_gain" and value < 1:
        return "1 or more (1 for a camera without an EM register)"
    if field in ("e_per_adu", "pixel_size", "saturation") and value <= 0:
        return "above 0"
    return "0 or more" if field in ("read_noise", "spurious_charge") and value < 0 else None
