"""What is added to training scenes, and that the truth goes with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from config.errors import SettingsError
from config.limits import check
from config.schema import DomainSettings, Settings
from simulation.augmentation import changing, flickering, flipped, outside_box, structured, widths
from simulation.domain import Domain
from simulation.truth import SceneBatch, Truth

PLAIN = DomainSettings(
    psf_sigma=[1.3, 1.3],
    photons=[4000.0, 4000.0],
    photons_spread=[0.1, 0.1],
    background=[5.0, 5.0],
    density=[0.01, 0.01],
    on_time=[3.0, 3.0],
    emccd_fraction=0.0,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(seed: int = 1, **settings: object) -> SceneBatch:
    return Domain(replace(PLAIN, **settings), 6, 32).batch(6, generator(seed))  # type: ignore[arg-type]


def some_truth(count: int) -> Truth:
    x, y = torch.rand(2, count, generator=generator()) * 32
    zeros = torch.zeros(count, dtype=torch.long)
    return Truth(zeros, zeros, x, y, torch.full((count,), 500.0))


def explained(scene: SceneBatch) -> float:
    """Correlation between the light above the background and what stands at the truth's places."""
    truth = scene.truth
    at = (truth.scene, truth.frame, truth.y.long(), truth.x.long())
    marks = torch.zeros_like(scene.photons).index_put_(at, truth.photons, accumulate=True)
    near = torch.nn.functional.avg_pool2d(marks, 5, 1, 2)
    pair = torch.stack([near.flatten(), (scene.photons - scene.background).flatten()])
    return float(torch.corrcoef(pair)[0, 1])


def test_truth_without_a_height_is_in_focus() -> None:
    truth = some_truth(5)
    assert truth.z.tolist() == [0] * 5
    assert truth.kept(truth.x > 1e9).z.shape == (0,)


def test_a_box_is_empty_and_the_rest_is_whole() -> None:
    truth = some_truth(4000)
    left = truth.kept(~outside_box(truth, 32, generator(3)))
    low, high = torch.stack([left.x, left.y]).min(1).values, torch.stack([left.x, left.y]).max(1).values
    area = float((high - low).prod()) / 32**2
    assert len(left.x) / 4000 == pytest.approx(area, abs=0.02)


def test_flicker_keeps_the_mean() -> None:
    photons = flickering(some_truth(20_000), 0.3, generator()).photons / 500
    assert float(photons.mean()) == pytest.approx(1, abs=0.01)
    assert float(photons.std()) == pytest.approx(0.3, abs=0.01)


def test_widths_and_backgrounds_vary_as_they_were_told() -> None:
    assert float(widths(20_000, 0.1, generator()).std()) == pytest.approx(0.1, rel=0.03)
    field = torch.full((4, 40, 40), 12.0)
    for seed in range(4):
        shaped = structured(field[0], generator(seed))
        assert float(shaped.mean()) == pytest.approx(12, rel=1e-4)
        assert float(shaped.std()) > 0.3
    course = changing(field, 0.5, generator(2))
    assert torch.allclose(course.mean(), torch.tensor(12.0))
    assert abs(float(course[-1, 0, 0] - course[0, 0, 0])) <= 6
    assert float((course[0] - course[-1]).abs().max()) > 0.1


def test_a_mirrored_scene_has_a_mirrored_truth() -> None:
    scene = batch()
    plain = explained(scene)
    only = scene.truth.kept(scene.truth.scene == 0)
    for seed in range(8):
        photons, background, truth = flipped(scene.photons[0], scene.background[0], only, generator(seed))
        alone = SceneBatch(photons[None], background[None], truth)
        assert explained(alone) > 0.8 * plain


@pytest.mark.parametrize(
    "settings",
    [
        {"flicker": 0.4},
        {"dropout": 1.0},
        {"width_spread": 0.2},
        {"structured_background": 1.0},
        {"background_change": 0.8},
        {"flips": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_the_truth_stays_that_of_the_frames(settings: dict[str, Any]) -> None:
    scene = batch(**settings)
    assert not torch.equal(scene.photons, batch().photons)
    assert explained(scene) > 0.85 * explained(batch())


def test_dropout_takes_light_and_truth_alike() -> None:
    full, boxed = batch(), batch(dropout=1.0)
    assert len(boxed.truth.x) < len(full.truth.x)
    light = [float((scene.photons - scene.background).sum() / scene.truth.photons.sum()) for scene in (full, boxed)]
    assert light == pytest.approx([1, 1], abs=0.12)


def test_heights_lie_in_their_range_and_shape_the_light() -> None:
    focus: dict[str, Any] = {
        "psf": "astigmatic",
        "focus_x": [-300.0, -300.0],
        "focus_y": [300.0, 300.0],
        "density": [0.003, 0.003],
    }
    low, high = (batch(depth=[z, z + 1], **focus) for z in (-300.0, 299.0))
    for scene, z in ((low, -300), (high, 299)):
        assert z <= float(scene.truth.z.min())
        assert float(scene.truth.z.max()) <= z + 1
    assert _elongation(low) > 1.15
    assert _elongation(high) < 1 / 1.15


def _elongation(scene: SceneBatch) -> float:
    """Height over width of the mean of all spots that lie well inside."""
    truth = scene.truth
    inside = truth.kept((truth.x > 8) & (truth.x < 24) & (truth.y > 8) & (truth.y < 24))
    cut = [
        (scene.photons - scene.background)[s, t, y - 7 : y + 8, x - 7 : x + 8]
        for s, t, y, x in zip(inside.scene, inside.frame, inside.y.long(), inside.x.long(), strict=True)
    ]
    mean = torch.stack(cut).mean(0).clamp(min=0).numpy()
    offsets = (np.arange(15) - 7.0) ** 2
    return float((mean.sum(1) * offsets).sum() / (mean.sum(0) * offsets).sum())


def test_a_spline_has_no_mirror_image_and_needs_its_file() -> None:
    with pytest.raises(SettingsError, match="psf_file"):
        Domain(replace(PLAIN, psf="spline"), 4, 32)


@pytest.mark.parametrize(
    ("group", "name", "value", "words"),
    [
        ("domain", "depth", [300.0, -300.0], "smallest, largest"),
        ("domain", "photons", [-1.0, 5.0], "0 or more"),
        ("domain", "third", [0.0, 0.0, 0.0], "x, y"),
        ("domain", "focal_depth", [0.0, 400.0], "above 0"),
        ("dataset", "depth", [5.0, -5.0], "Swap"),
        ("dataset", "drift", [1.0, 2.0], "x, y, z"),
        ("optics", "focus", [1.0], "x, y"),
        ("dataset", "pair_distances", [], "above 0"),
    ],
)
def test_settings_out_of_range_are_refused(group: str, name: str, value: list[float], words: str) -> None:
    settings = Settings()
    setattr(settings.training.domain if group == "domain" else getattr(settings, group), name, value)
    with pytest.raises(SettingsError, match=words):
        check(settings)
