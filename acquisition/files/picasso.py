"""Picasso's .raw: bare pixels, described in a .yaml of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from acquisition.files import metadata
from acquisition.files.checks import check_pixels
from acquisition.files.stack import PlainStack, StackInfo, times_every
from config.errors import SourceUnreadable


def open_raw(path: Path) -> PlainStack:
    """Open a .raw with its .yaml. Raises SourceUnreadable."""
    told = _description(path)
    dtype = _dtype(told, path)
    height, width, frames = (_count(told, key, path) for key in ("Height", "Width", "Frames"))
    numbers = np.arange(frames, dtype=np.int64)
    size = height * width * dtype.itemsize
    exposure = metadata.first_positive(told, ("Camera.Integration Time", "Integration Time"))
    info = StackInfo(
        name=path.name,
        height=height,
        width=width,
        dtype=dtype,
        numbers=numbers,
        readable=min(frames, path.stat().st_size // size),
        exposure=exposure,
        camera=metadata.picasso_camera(told),
    )
    return PlainStack(info, times_every(numbers, exposure), [path], np.zeros_like(numbers), numbers * size)


def _description(path: Path) -> Mapping[str, Any]:
    beside = path.with_suffix(".yaml")
    try:
        told = next(yaml.safe_load_all(beside.read_text(encoding="utf-8")), None)
    except FileNotFoundError as error:
        raise SourceUnreadable(
            f"{path.name} holds bare pixels; {beside.name} with Width, Height, Frames and Data Type must lie "
            "beside it, but it is not there. Copy it too, or write it."
        ) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SourceUnreadable(f"{beside.name}, which describes {path.name}, cannot be read: {error}") from error
    if not isinstance(told, Mapping):
        raise SourceUnreadable(f"{beside.name} must list Width, Height, Frames and Data Type of {path.name}.")
    return told


def _dtype(told: Mapping[str, Any], path: Path) -> np.dtype[Any]:
    try:
        dtype = np.dtype(str(told.get("Data Type", "uint16")))
    except TypeError as error:
        raise SourceUnreadable(
            f"{path.with_suffix('.yaml').name} says Data Type: {told['Data Type']}; uint8 or uint16 is needed."
        ) from error
    check_pixels(dtype, path.name)
    return dtype.newbyteorder(">" if told.get("Byte Order") == ">" else "<")


def _count(told: Mapping[str, Any], key: str, path: Path) -> int:
    value = metadata.positive(told.get(key))
    if value is None:
        raise SourceUnreadable(
            f"{path.with_suffix('.yaml').name} must say {key} of {path.name}, a whole number above 0; "
            f"it says {told.get(key)}."
        )
    return int(value)
