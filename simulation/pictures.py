"""Pictures of structures, and the preview of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from cmap import Colormap
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from config.errors import SettingsError
from engine.output.disk import replacing
from engine.output.image import draw_scale_bar, render

LARGEST = 4096
"""Pictures are made smaller to this many pixels a side."""
PANEL = 384
"""Longer side of each of the preview's three panels [pixels]."""
GAP = 8
"""Between them [pixels]."""


def structure_mask(path: str | None) -> Tensor:
    """Where a picture's structure is, bool (H, W): the smaller one of its dark and its bright part, as Otsu parts them.

    What is transparent belongs to the ground. Raises SettingsError where there is no picture or nothing on it.
    """
    if path is None:
        raise SettingsError("dataset.structure=image needs dataset.structure_file: a picture of the structure.")
    grey = _grey(Path(path))
    if grey.min() == grey.max():
        raise SettingsError(f"dataset.structure_file={path} is blank: expected a structure that is darker or brighter.")
    bright = grey > otsu(grey)
    mask = bright if bright.mean() <= 0.5 else ~bright
    return torch.from_numpy(mask)


def otsu(grey: NDArray[np.uint8]) -> int:
    """The level that parts an image in two with the largest variance between them (Otsu 1979)."""
    share = np.bincount(grey.ravel(), minlength=256) / grey.size
    below, level = np.cumsum(share), np.cumsum(share * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (level[-1] * below - level) ** 2 / (below * (1 - below))
    return int(np.nanargmax(np.where(np.isfinite(between), between, np.nan)))


def _grey(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            picture.thumbnail((LARGEST, LARGEST))
            whole = picture.convert("RGBA")
    except FileNotFoundError as error:
        raise SettingsError(f"dataset.structure_file={path}: there is no such file. Check the path.") from error
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise SettingsError(f"dataset.structure_file={path} cannot be read as a picture ({error}).") from error
    alpha = np.asarray(whole.getchannel("A"))
    grey: NDArray[np.uint8] = np.asarray(whole.convert("L")).copy()
    if alpha.min() == 255:
        return grey
    shown = alpha > 127
    ground = 255 if not shown.any() or grey[shown].mean() < 128 else 0
    return np.where(shown, grey, np.uint8(ground))


def write_preview(path: Path, frame: NDArray[Any], mean: NDArray[Any], truth: pa.Table, pixel_size: float) -> None:
    """Three panels: a frame (H, W), the mean of all (H, W), and the truth (LOCALISATION_SCHEMA). Raises OSError."""
    height, width = frame.shape
    zoom = PANEL / max(height, width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    panels = [_shown(image, "gray").resize(size, Image.Resampling.NEAREST) for image in (frame, mean)]
    panels.append(_shown(render(truth, pixel_size / zoom) ** 0.5, "hot").resize(size, Image.Resampling.BILINEAR))
    sheet = Image.new("RGB", (3 * size[0] + 2 * GAP, size[1]), "white")
    for number, panel in enumerate(panels):
        draw_scale_bar(panel, pixel_size / zoom)
        sheet.paste(panel, (number * (size[0] + GAP), 0))
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def _shown(image: NDArray[Any], colours: str) -> Image.Image:
    """From the image's darkest to nearly its brightest value."""
    low, high = float(image.min()), float(np.percentile(image, 99.9))
    scaled = np.clip((image - low) / max(high - low, 1e-9), 0, 1)
    table = (Colormap(colours).lut(256)[:, :3] * 255).round().astype(np.uint8)
    return Image.fromarray(table[(scaled * 255).astype(np.uint8)])
