"""What a value may be, beyond its type. Units are those of config/schema.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, cast

from config.errors import SettingsError

if TYPE_CHECKING:
    from config.schema import DomainSettings, Settings

POSITIVE = math.ulp(0.0)
"""The smallest float above zero: a lower limit that shuts out zero itself."""

LIMITS: dict[str, tuple[float, float]] = {
    "camera.e_per_adu": (POSITIVE, math.inf),
    "camera.em_gain": (POSITIVE, math.inf),
    "camera.quantum_efficiency": (POSITIVE, 1),
    "camera.read_noise": (0, math.inf),
    "camera.spurious_charge": (0, math.inf),
    "camera.pixel_size": (POSITIVE, math.inf),
    "camera.saturation": (1, math.inf),
    "optics.psf_sigma": (POSITIVE, math.inf),
    "optics.sigma_spread": (0, 0.5),
    "network.past": (0, math.inf),
    "network.future": (0, math.inf),
    "network.features": (1, math.inf),
    "network.heads": (1, math.inf),
    "training.steps": (1, math.inf),
    "training.batch_size": (1, math.inf),
    "training.sequence": (1, math.inf),
    "training.size": (8, math.inf),
    "training.learning_rate": (POSITIVE, math.inf),
    "training.warmup": (0, math.inf),
    "training.weight_decay": (0, math.inf),
    "training.gradient_clip": (POSITIVE, math.inf),
    "training.ema": (0, 1),
    "training.threads": (1, math.inf),
    "training.checkpoint_every": (1, math.inf),
    "training.domain.emccd_fraction": (0, 1),
    "training.domain.width_spread": (0, 0.5),
    "training.domain.flicker": (0, 1),
    "training.domain.dropout": (0, 1),
    "training.domain.structured_background": (0, 1),
    "training.domain.background_change": (0, 1),
    "training.domain.often_share": (0, 1),
    "dataset.frames": (1, math.inf),
    "dataset.height": (1, math.inf),
    "dataset.width": (1, math.inf),
    "dataset.exposure": (POSITIVE, math.inf),
    "dataset.density": (0, math.inf),
    "dataset.photons": (POSITIVE, math.inf),
    "dataset.photons_sd": (0, math.inf),
    "dataset.background": (0, math.inf),
    "dataset.background_variation": (0, math.inf),
    "dataset.on_time": (POSITIVE, math.inf),
    "dataset.off_time": (POSITIVE, math.inf),
    "dataset.blinks": (1, math.inf),
    "dataset.labels": (1, math.inf),
    "dataset.labelling": (POSITIVE, 1),
    "dataset.linkage": (0, math.inf),
    "dataset.background_change": (0, 1),
    "dataset.background_time": (POSITIVE, math.inf),
    "dataset.background_bleaching": (POSITIVE, math.inf),
    "dataset.drift_walk": (0, math.inf),
    "dataset.vibration": (0, math.inf),
    "dataset.vibration_frequency": (POSITIVE, math.inf),
    "run.start": (0, math.inf),
    "run.stop": (1, math.inf),
    "run.threads": (1, math.inf),
    "run.block": (1, math.inf),
    "run.queue": (1, math.inf),
    "run.threshold": (0, 1),
    "run.image_pixel": (POSITIVE, math.inf),
    "run.memory": (1, math.inf),
    "run.seconds": (POSITIVE, math.inf),
    "run.frames": (1, math.inf),
    "source.port": (1, 65535),
    "source.exposure": (POSITIVE, math.inf),
    "source.binning": (1, math.inf),
    "source.buffer": (POSITIVE, math.inf),
    "source.silence": (POSITIVE, math.inf),
    "wire.port": (0, 65534),
    "wire.preview_rate": (0, math.inf),
    "monitor.every": (POSITIVE, math.inf),
    "monitor.frc_every": (POSITIVE, math.inf),
    "monitor.frc_block": (1, math.inf),
    "monitor.plateau": (0, 1),
    "monitor.stop_after": (1, math.inf),
    "feedback.target": (POSITIVE, math.inf),
    "feedback.minimum": (0, math.inf),
    "feedback.maximum": (0, math.inf),
    "feedback.safe": (0, math.inf),
    "feedback.start": (0, math.inf),
    "feedback.slew": (POSITIVE, math.inf),
    "feedback.every": (POSITIVE, math.inf),
    "feedback.gain": (POSITIVE, 1),
    "cluster.workers": (1, math.inf),
    "cluster.threads": (1, math.inf),
    "cluster.chunk": (1, math.inf),
    "cluster.retries": (0, math.inf),
    "cluster.patience": (POSITIVE, math.inf),
    "evaluation.isolated_background": (0, math.inf),
    "evaluation.isolated_emitters": (1, math.inf),
    "evaluation.pairs": (1, math.inf),
}
"""Smallest and largest value, both allowed. A setting that is None is not checked."""

CHOICES: dict[str, tuple[str, ...]] = {
    "training.precision": ("auto", "fp32", "bf16", "fp16"),
    "training.device": ("auto", "cpu", "cuda"),
    "optics.psf": ("gaussian", "astigmatic", "spline"),
    "training.domain.psf": ("gaussian", "astigmatic", "spline"),
    "dataset.structure": (
        *("random", "lines", "ring", "image", "approaching", "microtubules", "pores", "star", "pairs"),
    ),
    "dataset.background_kind": ("smooth", "textured", "cells"),
    "photophysics.kind": ("two_state", "states"),
    "run.runtime": ("auto", "onnx", "torch"),
    "run.precision": ("auto", "fp32", "bf16", "fp16"),
    "run.device": ("auto", "cpu", "cuda"),
    "run.policy": ("every", "newest"),
    "source.kind": ("simulated", "micromanager", "micromanager_acquisition", "follow", "recorded"),
    "source.backend": ("java", "python"),
    "cluster.kind": ("off", "local", "address"),
}
"""Values a setting may have, where there are few."""

FORMATS = ("csv", "parquet", "hdf5")
"""Tables that ``run.formats`` may name."""


def leaves(settings: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting as (dotted key, value), groups unfolded, in the order of the schema."""
    assert is_dataclass(settings)
    for entry in fields(settings):
        key, value = f"{prefix}{entry.name}", getattr(settings, entry.name)
        if is_dataclass(value):
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def check(settings: Settings) -> None:
    """Raise SettingsError for the first value that is out of range."""
    for key, value in leaves(settings):
        if value is not None:
            _check_range(key, value)
            _check_choice(key, value)
    _check_domain(settings)
    _check_simulation(settings)
    _check_run(settings)
    _check_feedback(settings)
    _check_evaluation(settings)


def _check_range(key: str, value: Any) -> None:
    low, high = LIMITS.get(key, (-math.inf, math.inf))
    if key in LIMITS and not low <= value <= high:
        raise SettingsError(f"{key}: expected {_range_in_words(low, high)}, found {value}. Change {key}.")


def _range_in_words(low: float, high: float) -> str:
    lower = "a number above 0" if low == POSITIVE else f"a number of {low:g} or more"
    return lower if math.isinf(high) else f"{lower} and at most {high:g}"


def _check_choice(key: str, value: Any) -> None:
    if key in CHOICES and value not in CHOICES[key]:
        raise SettingsError(f"{key}: expected one of {', '.join(CHOICES[key])}; found {value!r}.")


SIGNED = ("depth", "focus_x", "focus_y")
"""Ranges of a domain that may lie below 0."""
BY_AXIS = ("third", "fourth")
"""Values of a domain that are no range but one value along x and one along y."""


def _check_domain(settings: Settings) -> None:
    for key, value in leaves(settings.training.domain, "training.domain."):
        name = key.rpartition(".")[2]
        if not isinstance(value, list):
            continue
        bounds = cast("list[float]", value)
        if name in BY_AXIS:
            _check_length(key, bounds, "x, y")
        elif not (len(bounds) == 2 and (bounds[0] >= 0 or name in SIGNED) and bounds[0] <= bounds[1]):
            at_least = "" if name in SIGNED else ", 0 or more"
            raise SettingsError(f"{key}: expected [smallest, largest]{at_least}, found {value}.")
    _check_often(settings.training.domain)


def _check_often(domain: DomainSettings) -> None:
    wide = {
        name: cast("list[float]", value)
        for name, value in vars(domain).items()
        if isinstance(value, list) and name not in BY_AXIS
    }
    for name, narrow in domain.often.items():
        if name not in wide:
            raise SettingsError(f"training.domain.often: expected names among {', '.join(wide)}; found {name!r}.")
        low, high = wide[name]
        if not (len(narrow) == 2 and low <= narrow[0] <= narrow[1] <= high):
            raise SettingsError(
                f"training.domain.often.{name}: expected [smallest, largest] within [{low:g}, {high:g}], the range of "
                f"training.domain.{name}; found {narrow}."
            )


def _check_simulation(settings: Settings) -> None:
    optics, dataset = settings.optics, settings.dataset
    for name in ("focus", "focal_depth", "third", "fourth"):
        _check_length(f"optics.{name}", getattr(optics, name), "x, y")
    _check_length("dataset.drift", dataset.drift, "x, y, z")
    _check_length("dataset.depth", dataset.depth, "lowest, highest")
    if dataset.depth[0] > dataset.depth[1]:
        raise SettingsError(f"dataset.depth: expected [lowest, highest], found {dataset.depth}. Swap them.")
    focal = {"optics": optics.focal_depth, "training.domain": settings.training.domain.focal_depth}
    for group, depths in focal.items():
        if min(depths) <= 0:
            raise SettingsError(f"{group}.focal_depth: expected numbers above 0, found {depths}.")
    if not dataset.pair_distances or min(dataset.pair_distances) <= 0:
        raise SettingsError(f"dataset.pair_distances: expected numbers above 0, found {dataset.pair_distances}.")


def _check_length(key: str, values: list[float], names: str) -> None:
    if len(values) != len(names.split(",")):
        raise SettingsError(f"{key}: expected [{names}], found {values}.")


def _check_run(settings: Settings) -> None:
    run = settings.run
    if run.roi is not None and not (len(run.roi) == 4 and min(run.roi[:2]) >= 0 and min(run.roi[2:]) >= 1):
        raise SettingsError(f"run.roi: expected [x, y, width, height] in pixels, found {run.roi}.")
    if run.stop is not None and run.stop <= run.start:
        raise SettingsError(f"run.stop: expected a frame after run.start ({run.start}), found {run.stop}.")
    if run.tile not in ("auto", "none") and not (run.tile.isdecimal() and int(run.tile) > 0):
        raise SettingsError(
            f"run.tile: expected auto, none or a number of pixels, found {run.tile!r}. Change run.tile."
        )
    unknown = [name for name in run.formats if name not in FORMATS]
    if unknown:
        raise SettingsError(f"run.formats: expected some of {', '.join(FORMATS)}; found {', '.join(unknown)}.")


def _check_feedback(settings: Settings) -> None:
    feedback = settings.feedback
    if not feedback.minimum <= feedback.maximum:
        raise SettingsError(
            f"feedback.minimum ({feedback.minimum:g}) is more than feedback.maximum ({feedback.maximum:g}). Swap them."
        )


def _check_evaluation(settings: Settings) -> None:
    plan = settings.evaluation
    if len(plan.isolated_depth) != 2 or plan.isolated_depth[0] > plan.isolated_depth[1]:
        raise SettingsError(f"evaluation.isolated_depth: expected [lowest, highest], found {plan.isolated_depth}.")
    lists: dict[str, tuple[list[float], float]] = {
        "thresholds": (plan.thresholds, 1),
        "isolated_photons": (plan.isolated_photons, math.inf),
        "isolated_frames": ([float(lit) for lit in plan.isolated_frames], math.inf),
        "pair_distances": (plan.pair_distances, math.inf),
        "pair_frames": ([float(lit) for lit in plan.pair_frames], math.inf),
    }
    for name, (values, most) in lists.items():
        if not values or not all(0 < value <= most for value in values):
            limit = "" if math.isinf(most) else f" and at most {most:g}"
            raise SettingsError(f"evaluation.{name}: expected one or more numbers above 0{limit}, found {values}.")
