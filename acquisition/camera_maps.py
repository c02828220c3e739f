"""Per-pixel calibration of an sCMOS: offset, gain and variance (Huang et al. 2013, Nature Methods 10:653)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from config.errors import SettingsError

log = logging.getLogger(__name__)

NAMES = ("offset", "gain", "variance")
BAD_PIXELS_ALLOWED = 0.01
"""Share of pixels without a usable calibration above which the file is refused."""


@dataclass(frozen=True, eq=False)
class CameraMaps:
    """Maps of the analysed rectangle, each float32 (H, W)."""

    offset: NDArray[np.float32]
    """Mean signal in the dark [ADU]."""
    gain: NDArray[np.float32]
    """ADU per electron [ADU/e⁻], above 0."""
    variance: NDArray[np.float32]
    """Variance in the dark [ADU²]."""


def load_maps(path: str, shape: tuple[int, int], origin: tuple[int, int]) -> CameraMaps:
    """Maps from an .npz for frames of ``shape`` (H, W) whose corner lies at ``origin`` (x, y) of the recorded frame.

    Maps of exactly ``shape`` are taken as they are; larger ones are cropped. A pixel without a usable value (dead, not
    finite) gets the median of the others, and the log says how many did. Raises SettingsError.
    """
    arrays = {name: _crop(array, shape, origin, path) for name, array in _read(Path(path)).items()}
    good = np.logical_and.reduce([np.isfinite(array) for array in arrays.values()])
    good &= (arrays["gain"] > 0) & (arrays["variance"] >= 0)
    _report_bad(good, path)
    return CameraMaps(**{name: np.where(good, array, np.median(array[good])) for name, array in arrays.items()})


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in NAMES if name not in archive]
            if missing:
                raise SettingsError(
                    f"camera.maps={path} must hold the arrays offset [ADU], gain [ADU/e⁻] and variance [ADU²]; "
                    f"it holds {', '.join(archive) or 'nothing'}. Add {', '.join(missing)}."
                )
            return {name: np.asarray(archive[name], dtype=np.float32) for name in NAMES}
    except FileNotFoundError as error:
        raise SettingsError(f"camera.maps={path}: there is no such file. Check the path.") from error
    except (OSError, ValueError, TypeError, AttributeError, BadZipFile) as error:
        raise SettingsError(
            f"camera.maps={path} cannot be read as an .npz of numbers ({error}). "
            "Save it with numpy.savez(path, offset=…, gain=…, variance=…)."
        ) from error


def _crop(
    array: NDArray[np.float32], shape: tuple[int, int], origin: tuple[int, int], path: str
) -> NDArray[np.float32]:
    if array.shape == shape:
        return array
    (height, width), (x, y) = shape, origin
    cropped = array[y : y + height, x : x + width] if array.ndim == 2 else array
    if cropped.shape != shape:
        raise SettingsError(
            f"the maps in {path} have shape {array.shape}; the frames to analyse are {height} rows by {width} columns "
            f"with their corner at column {x}, row {y}. Give maps of the recorded frame or of exactly this rectangle."
        )
    return cropped


def _report_bad(good: NDArray[np.bool_], path: str) -> None:
    bad = int(good.size - np.count_nonzero(good))
    if bad > BAD_PIXELS_ALLOWED * good.size:
        raise SettingsError(
            f"the maps in {path} have no usable value (finite, gain above 0, variance 0 or more) at {bad} of "
            f"{good.size} pixels. Check that gain is in ADU/e⁻ and calibrate again."
        )
    if bad:
        log.warning("%s: %d pixels without a usable calibration get the median of the others", path, bad)
