"""What the window remembers from one time to the next, in one JSON file. No Qt."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from engine.output.disk import replace_text

logger = logging.getLogger(__name__)

Some = TypeVar("Some")


@dataclass
class PictureSettings:
    """How localisations become a picture."""

    colours: str = "hot"
    """Name of the colour map, as the cmap library has it."""
    by: str = "density"
    """What the colour tells: density, frame, z, photons, precision or probability."""
    gamma: float = 0.7
    """Exponent of brightness; below 1 it lifts single molecules out of the dark."""
    automatic: bool = True
    """White follows the picture's own content."""
    low: float = 0.0
    """Density shown black [localisations/µm²], where the contrast is not automatic."""
    high: float = 1000.0
    """Density shown at full brightness [localisations/µm²], where the contrast is not automatic."""
    mode: str = "precision"
    """precision, fixed or histogram: what a localisation is drawn as."""
    width: float = 15.0
    """Standard deviation of the fixed Gaussian, or width of the histogram's pixel [nm]."""
    scale_bar: bool = True
    """Whether the scale bar is drawn."""


@dataclass
class ExportSettings:
    """The last export of a picture."""

    whole: bool = True
    """The whole field, not the view."""
    pixel: float = 10.0
    """[nm]."""
    scale_bar: bool = True
    """Burnt into the picture."""
    kind: str = ""
    """One of dialogs.KINDS; empty for the first."""


@dataclass
class ViewerSettings:
    """Everything that is remembered."""

    picture: PictureSettings = field(default_factory=PictureSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    filters: dict[str, list[float | None]] = field(default_factory=dict)
    """Column → [low, high] in its unit; None where that side is open."""
    folder: str = ""
    """Where the last file was opened or saved."""
    recent: list[str] = field(default_factory=list)
    """What was opened, newest first."""
    geometry: str = ""
    """The window's place and size, as Qt writes it, base64."""
    layout: str = ""
    """The panels' places, as Qt writes it, base64."""
    closed: list[str] = field(default_factory=lambda: ["measure", "feedback"])
    """Panels that are folded up."""

    def remember(self, what: str) -> None:
        """``what`` was opened."""
        self.recent = [what, *(old for old in self.recent if old != what)][:RECENT]


RECENT = 8
"""How many things that were opened are remembered."""


def settings_path() -> Path:
    """The file, in the place where this system keeps a user's settings."""
    home = Path.home()
    if sys.platform == "win32":
        root = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        root = home / "Library" / "Application Support"
    else:
        root = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return root / "liveloc" / "viewer.json"


def load(path: Path) -> ViewerSettings:
    """The settings; what is missing, damaged or of another version is as at the first start, and it is said."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ViewerSettings()
    except (OSError, ValueError) as error:
        logger.warning("the viewer's settings %s cannot be read and start afresh: %s", path, error)
        return ViewerSettings()
    settings = _filled(ViewerSettings(), found)
    settings.filters = {str(name): pair for name, pair in settings.filters.items() if _is_pair(pair)}
    return settings


def save(settings: ViewerSettings, path: Path) -> None:
    """Write the settings. A disk that refuses is told in the log, nothing more: they are not worth an error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(asdict(settings), indent=1) + "\n")
    except OSError as error:
        logger.warning("the viewer's settings cannot be kept in %s: %s", path, error)


def _filled(defaults: Some, found: Any) -> Some:
    """``defaults``, a dataclass, with every value of ``found`` that has a known name and the right type."""
    if not isinstance(found, dict):
        return defaults
    for entry in fields(defaults):  # type: ignore[arg-type]
        present = getattr(defaults, entry.name)
        value = found.get(entry.name)
        if hasattr(present, "__dataclass_fields__"):
            _filled(present, value)
        elif _alike(value, present):
            setattr(defaults, entry.name, value)
    return defaults


def _alike(value: Any, present: Any) -> bool:
    if isinstance(present, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(present, list):
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return type(value) is type(present)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(side is None or _alike(side, 0.0) for side in pair)
