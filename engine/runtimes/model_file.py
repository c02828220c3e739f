"""What a model file says of itself. The description travels inside the file, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from config.errors import ModelFileInvalid

FORMAT = 1
"""Version of the description; a reader refuses a newer one."""

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
    """Versions: liveloc, git commit, torch; steps and minutes trained."""
    benchmark: dict[str, Any] = field(default_factory=dict)
    """The model's own figures: conditions → JI, RMSE, efficiency."""
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
            raise ModelFileInvalid(f"this model file's description cannot be read: {error}. Export it again.") from error
