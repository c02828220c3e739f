"""The models that come with liveloc."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def shipped() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


def model_path(model: str) -> Path:
    """Path of the setting ``model``: a shipped model's name or a path. Whether it exists, the runtime will say."""
    return FOLDER / f"{model}.onnx" if model in shipped() else Path(model)
