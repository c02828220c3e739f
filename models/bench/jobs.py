"""What the processes of `liveloc bench` are given and what they answer. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config.schema import Settings
from engine.runtimes.choice import Candidate
from models.bench.facts import Cost, Machine


@dataclass(frozen=True)
class Model:
    """A model to measure."""

    name: str
    path: Path
    """Of its files, whatever the suffix."""
    untrained: bool
    """A network of config/network/ by that name, whose files are yet to be made."""


@dataclass(frozen=True)
class Preparation:
    """What is needed before any speed is measured."""

    settings: Settings
    models: tuple[Model, ...]
    onnx: bool
    """Whether untrained networks are exported, too."""
    frames: Path
    """Where simulated frames go, a .npy file (T, H, W) [ADU]."""


@dataclass(frozen=True)
class Prepared:
    """What was found then."""

    machine: Machine
    costs: Mapping[str, Mapping[str, Cost]]
    """By model, then by stage."""


@dataclass(frozen=True)
class Staging:
    """Whose stages are to be timed."""

    settings: Settings
    model: Model
    machine: Machine
    frames: Path


@dataclass(frozen=True)
class Job:
    """Whose speed is to be measured, on what."""

    name: str
    path: Path
    """Of the model's files."""
    candidate: Candidate
    settings: Settings
    frames: Path
    """They are laid side by side for larger ones."""
    cost: Cost
    """Of the whole network."""
    machine: Machine
