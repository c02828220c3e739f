"""From settings to a model that is ready to run. Workers on other computers import this, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.runtimes import settle
from engine.runtimes.choice import Wanted
from models.weights import model_path, shipped

if TYPE_CHECKING:
    from config.schema import Settings
    from engine.runtimes.runtime import Runtime


def open_model(settings: Settings) -> tuple[Runtime, Path]:
    """The model that settings name, on the runtime and device that they ask for, and its file.

    Raises SettingsError, ModelFileInvalid, RuntimeUnavailable.
    """
    path = model_path(settings.model)
    return settle(path, _wanted(settings), build_module)[1], path


def settled(settings: Settings) -> Settings:
    """The same with what runs the model decided, so that other processes take the same. Raises as ``open_model``."""
    chosen, _ = settle(model_path(settings.model), _wanted(settings), build_module)
    return replace(settings, run=replace(settings.run, runtime=chosen.runtime, precision=chosen.precision))


def model_anywhere(model: str) -> str:
    """The setting ``model`` as it holds in every folder, and for a shipped model on every computer."""
    return model if model in shipped() else str(Path(model).resolve())


def _wanted(settings: Settings) -> Wanted:
    run = settings.run
    return Wanted(run.runtime, run.device, run.precision, run.threads, run.compile, run.tile)


def build_module(path: Path) -> Any:
    """The torch module of a .safetensors model file, and its description. Raises ModelFileInvalid."""
    from models.export import build_step  # loads torch

    return build_step(path)
