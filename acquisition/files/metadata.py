"""Camera values and times out of the metadata that Micro-Manager, ImageJ and Picasso write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

NM_PER_UNIT = {
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "\\u00b5m": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
}
"""Nanometres of the units that ImageJ and OME spell in so many ways (two different µ among them), in lower case."""

EM_GAIN_PROPERTIES = ("EMGain", "EM Gain", "EM-Gain", "MultiplierGain", "Multiplier")
"""Camera properties of Micro-Manager that can only be an EM gain. Plain "Gain" often is something else."""

PICASSO_FIELDS = {
    "Baseline": "baseline",
    "Sensitivity": "e_per_adu",
    "Gain": "em_gain",
    "Qe": "quantum_efficiency",
    "Pixelsize": "pixel_size",
    "Camera.Pixelsize": "pixel_size",
}
"""Keys of Picasso's .yaml and the fields of CameraSettings that they fill."""


def number(value: object) -> float | None:
    """A finite number, or None. Micro-Manager writes numbers as text as often as not."""
    try:
        found = float(str(value).strip())
    except ValueError:
        return None
    return found if isfinite(found) else None


def positive(value: object) -> float | None:
    """A number above 0, or None: metadata says 0 where it does not know."""
    found = number(value)
    return found if found is not None and found > 0 else None


def first_positive(tags: Mapping[str, Any], names: Iterable[str]) -> float | None:
    """The first of these tags that holds a number above 0."""
    return next((found for name in names if (found := positive(tags.get(name))) is not None), None)


def length_nm(value: object, unit: str) -> float | None:
    """A length in nanometres, or None where the value or its unit is of no use."""
    size, factor = positive(value), NM_PER_UNIT.get(unit.strip().lower())
    return None if size is None or factor is None else size * factor


def micromanager_camera(tags: Mapping[str, Any]) -> dict[str, float]:
    """Fields of CameraSettings in one image's tags (with the summary's merged in)."""
    microns = first_positive(tags, ("PixelSizeUm", "PixelSize_um"))
    bits = first_positive(tags, ("BitDepth",))
    fields = {
        "pixel_size": None if microns is None else microns * 1000.0,
        "em_gain": micromanager_em_gain(tags),
        "saturation": None if bits is None else 2.0**bits - 1.0,
    }
    return {name: value for name, value in fields.items() if value is not None}


def micromanager_em_gain(tags: Mapping[str, Any]) -> float | None:
    """The EM gain, only where its property cannot mean anything else.

    Andor's adapter calls it "Gain", so that name counts only beside Andor's switch of the EM output.
    """
    camera = str(tags.get("Core-Camera") or tags.get("Camera") or "")
    properties = {
        name.removeprefix(f"{camera}-"): value for name, value in tags.items() if name.startswith(f"{camera}-")
    }
    switch = str(properties.get("EMSwitch", properties.get("Output_Amplifier", ""))).lower()
    if switch in ("off", "conventional"):
        return 1.0
    names = (*EM_GAIN_PROPERTIES, "Gain") if switch in ("on", "electron multiplying") else EM_GAIN_PROPERTIES
    gain = first_positive(properties, names)
    return gain if gain is not None and gain >= 1 else None


def micromanager_interval(tags: Mapping[str, Any]) -> float | None:
    """Time between frames [ms]: the acquisition's interval, or the exposure where frames follow without a pause."""
    exposure = first_positive(tags, ("Exposure-ms", "Exposure"))
    interval = first_positive(tags, ("Interval_ms",))
    return max(found) if (found := [value for value in (exposure, interval) if value is not None]) else None


def micromanager_seconds(tags: Mapping[str, Any]) -> float | None:
    """When an image was taken [s], from an arbitrary zero; None where the tags do not tell.

    The core's own time stamp comes first, because some acquisition engines write ElapsedTime-ms as 0 on every image.
    """
    try:
        return datetime.fromisoformat(str(tags["TimeReceivedByCore"])).timestamp()
    except (KeyError, ValueError):
        elapsed = number(tags.get("ElapsedTime-ms"))
        return None if elapsed is None else elapsed / 1000.0


def micromanager_times(tags: Callable[[int], Mapping[str, Any]], places: range) -> NDArray[np.float64]:
    """Seconds of images since the first one, by a function that gives an image's tags; NaN where unknown."""
    zero = micromanager_seconds(tags(0))
    times = [micromanager_seconds(tags(place)) for place in places]
    since = [np.nan if time is None or zero is None else time - zero for time in times]
    # An image later than the first one cannot have the same time: then the clock was never read.
    return np.array([np.nan if place and not time else time for place, time in zip(places, since, strict=True)])


def picasso_camera(info: Mapping[str, Any]) -> dict[str, float]:
    """Fields of CameraSettings in Picasso's .yaml, the Micro-Manager metadata in it included."""
    nested = info.get("Micro-Manager Metadata")
    fields = micromanager_camera(nested) if isinstance(nested, Mapping) else {}
    fields |= {field: value for key, field in PICASSO_FIELDS.items() if (value := positive(info.get(key))) is not None}
    return fields
