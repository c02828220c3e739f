"""The torch form of a model file: weights as safetensors, the description in the file's metadata."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from config.errors import ModelFileInvalid
from engine.runtimes.model_file import METADATA_KEY, ModelDescription


def rounded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The nearest weights that half precision can hold; they take half the room in a file."""
    return {name: _half(weight).to(weight.dtype) for name, weight in weights.items()}


def write_weights(weights: dict[str, Tensor], description: ModelDescription, path: Path) -> None:
    """Write a network's state, exactly: in half precision where that holds it."""
    plain = {name: _exact(weight).contiguous() for name, weight in weights.items()}  # channels-last cannot be saved
    path.write_bytes(save(plain, {METADATA_KEY: description.to_json()}))


def read_weights(path: Path) -> tuple[dict[str, Tensor], ModelDescription]:
    """The state and what the file says of itself. Raises ModelFileInvalid."""
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise ModelFileInvalid(f"{path} cannot be read as safetensors: {error}. Export the model again.") from error
    if text is None:
        raise ModelFileInvalid(f"{path} is a safetensors file, but not one of liveloc's: it has no description inside.")
    weights = {name: weight.float() if weight.dtype == torch.float16 else weight for name, weight in stored.items()}
    return weights, ModelDescription.from_json(text)


def _exact(weight: Tensor) -> Tensor:
    half = _half(weight)
    return half if torch.equal(half.to(weight.dtype), weight) else weight


def _half(weight: Tensor) -> Tensor:
    """In half precision, where that has room for it: a norm's spread may be larger than its 65,504."""
    half = weight.half() if weight.dtype == torch.float32 else weight
    return half if torch.isfinite(half).all() else weight
