"""What every reader asks of a recording before it is taken for camera frames."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from config.errors import SourceUnreadable

log = logging.getLogger(__name__)


def check_pixels(dtype: np.dtype[Any], name: str) -> None:
    """Camera frames are unsigned 8- or 16-bit integers; anything else has been processed. Raises SourceUnreadable."""
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return
    kinds = {"f": "floating-point", "i": "signed", "u": "unsigned", "c": "complex", "b": "one-bit"}
    raise SourceUnreadable(
        f"{name} holds {kinds.get(dtype.kind, dtype.name)} pixels ({dtype.name}); camera frames are unsigned 8- or "
        "16-bit integers as the camera gave them. Use the original recording, or save it as 16-bit without scaling."
    )


def rgb_error(name: str) -> SourceUnreadable:
    """The error for colour images."""
    return SourceUnreadable(
        f"{name} holds RGB colour images; camera frames with one value a pixel are needed. "
        "Use the original recording, not a rendered or exported picture."
    )


def sizes_error(name: str, place: int, found: tuple[int, ...], expected: tuple[int, ...]) -> SourceUnreadable:
    """The error for frames of different sizes."""
    return SourceUnreadable(
        f"{name} holds frames of different sizes: frame {place} has shape {found}, the first has {expected}. "
        "Give a stack that holds one recording only."
    )


def check_axes(sizes: Mapping[str, int], name: str) -> None:
    """A recording may have one axis beside time; its images are then frames in the order of acquisition.

    ``sizes``: length of each axis beside rows and columns, by name. A single long axis is time, whatever its name
    (ImageJ calls it slices). Time and one more axis are flattened, time outermost, with a warning in the log. Anything
    longer has no order that an analysis over time could use: raises SourceUnreadable.
    """
    others = [axis for axis, size in sizes.items() if size > 1 and axis != "time"]
    described = " × ".join(f"{size} {axis}" for axis, size in sizes.items() if size > 1)
    if len(others) > 1:
        raise SourceUnreadable(
            f"{name} has several axes ({described}); frames in the order of one axis are needed. "
            "Save the channel, slice or position to analyse as a stack of its own."
        )
    if others and sizes.get("time", 1) > 1:
        log.warning("%s has %s: all are analysed as successive frames, time outermost", name, described)
