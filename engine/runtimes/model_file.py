"""What a model file says of itself. The description travels inside the file, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from config.errors import ModelFileInvalid

FORMAT = 2
"""Version of the description; a reader refuses a newer one. From 2 on a file may hold a calibration."""

METADATA_KEY = "liveloc"
"""Under this key the description stands in a file's own metadata."""

ROW_COLUMNS = (
    "frame",
    "x",
    "y",
    "photons",
    "background",
    "sigma_x",
    "sigma_y",
    "sigma_photons",
    "probability",
)
"""Columns of the rows that a 2-D model gives: frame index in the call's output, pixels from the corner, photons."""


def row_columns(dimensions: int) -> tuple[str, ...]:
    """Columns of the rows of a model of 2 or 3 dimensions; z and its sigma are in nm."""
    return ROW_COLUMNS if dimensions == 2 else (*ROW_COLUMNS, "z", "sigma_z")


@dataclass(frozen=True)
class ModelDescription:
    """What a model is, what it was made for, and how it was made."""

    name: str
    version: str
    context: tuple[int, int]
    """(past, future) [frames]."""
    state_shape: tuple[int, int]
    """Channels of a frame's kept features, and how many times smaller than the frame they are."""
    psf_sigma: tuple[float, float]
    """Range of PSF widths in training, standard deviation [pixels]."""
    photons: tuple[float, float]
    """Range of mean photons per emitter and fully lit frame in training."""
    background: tuple[float, float]
    """Range of background in training [photons / pixel / frame]."""
    density: tuple[float, float]
    """Range of active emitters in training [1 / pixel²]."""
    cameras: tuple[str, ...]
    """Kinds of camera in training: emccd, scmos."""
    columns: tuple[str, ...] = ROW_COLUMNS
    input: str = "photons"
    """Unit of the input; any scaling happens inside the graph."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Resolved settings of the training."""
    settings_hash: str = ""
    """SHA-256 of them as canonical JSON."""
    made_by: dict[str, str] = field(default_factory=dict)
    """Versions of liveloc and torch, and the steps trained."""
    benchmark: dict[str, Any] = field(default_factory=dict)
    """The model's own figures: conditions → JI, RMSE, efficiency."""
    calibration: dict[str, Any] = field(default_factory=dict)
    """How sigmas and probabilities were put right after training, as models/evaluation/recalibration.py says it; empty:
    they are the network's own."""
    format: int = FORMAT

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelDescription:
        """Read ``to_json``'s text. Raises ModelFileInvalid."""
        try:
            raw = json.loads(text)
            if raw["format"] > FORMAT:
                raise ModelFileInvalid(
                    f"this model file has description format {raw['format']}, this liveloc reads up to {FORMAT}. "
                    "Update liveloc."
                )
            tuples = {name: tuple(value) for name, value in raw.items() if isinstance(value, list)}
            return cls(**{**raw, **tuples})
        except (KeyError, TypeError, ValueError) as error:
            message = f"this model file's description cannot be read: {error}. Export it again."
            raise ModelFileInvalid(message) from error


def blank_shape(description: ModelDescription, height: int, width: int) -> tuple[int, int, int, int]:
    """Shape (S, C, h, w) of the state for frames of (height, width) pixels."""
    channels, shrink = description.state_shape
    return sum(description.context), channels, -(-height // shrink), -(-width // shrink)


def domain_warnings(
    description: ModelDescription, *, pixel_size: float, psf_sigma: float | None, em_gain: float
) -> list[str]:
    """What of an acquisition lies outside what the model was trained for, in words.

    ``pixel_size`` and ``psf_sigma`` in nm.
    """
    warnings = []
    kind = "emccd" if em_gain > 1 else "scmos"
    if kind not in description.cameras:
        known = ", ".join(description.cameras)
        warnings.append(f"The model {description.name} was trained for {known}, not for {kind}.")
    low, high = description.psf_sigma
    if psf_sigma is not None and not low <= psf_sigma / pixel_size <= high:
        warnings.append(
            f"The PSF is {psf_sigma / pixel_size:.2f} pixels wide (sigma); the model {description.name} was trained "
            f"for {low} to {high}. Positions and photons may be biased."
        )
    return warnings


def photon_warnings(description: ModelDescription, photons: float, background: float) -> list[str]:
    """The same for the medians that a run found [photons], [photons / pixel]."""
    pairs = (
        ("photons per localisation", photons, description.photons),
        ("background", background, description.background),
    )
    return [
        f"The median {name} is {value:.3g}; the model {description.name} was trained for {low:g} to {high:g}. "
        "Check the camera's baseline and gain."
        for name, value, (low, high) in pairs
        if not low <= value <= high
    ]
