"""From settings to a model that is ready to run. Workers on other computers import this, too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.runtimes import load_runtime
from models.weights import model_path, shipped

if TYPE_CHECKING:
    from config.schema import Settings
    from engine.runtimes.runtime import Runtime


def open_model(settings: Settings) -> tuple[Runtime, Path]:
    """The model that settings name, on the runtime and device that they ask for, and its file.

    Raises SettingsError, ModelFileInvalid, RuntimeUnavailable.
    """
    path, run = model_path(settings.model), settings.run
    return load_runtime(path, run.runtime, run.device, run.threads, _build), path


def model_anywhere(model: str) -> str:
    """The setting ``model`` as it holds in every folder, and for a shipped model on every computer."""
    return model if model in shipped() else str(Path(model).resolve())


def _build(path: Path) -> Any:
    from models.export import build_step  # loads torch

    return build_step(path)
