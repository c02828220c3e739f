"""Backgrounds: their mean, their structure, their course in time."""

from __future__ import annotations

import pytest
import torch

from config.schema import DatasetSettings
from simulation.background import GROUND, KINDS, Background, cell_background, gradient_noise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def background(**settings: object) -> Background:
    dataset = DatasetSettings(height=40, width=48, exposure=100.0, **settings)  # type: ignore[arg-type]
    return Background(dataset, generator())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_mean_that_was_asked_for(kind: str) -> None:
    field = KINDS[kind](70, 50, 20.0, 0.3, generator())
    assert field.shape == (70, 50)
    assert float(field.mean()) == pytest.approx(20, rel=1e-4)
    assert float(field.min()) > 0
    assert float(field.std()) > 1


def test_gradient_noise_is_zero_at_its_lattice_and_smooth_between() -> None:
    noise = gradient_noise(64, 80, 16, generator())
    assert float(noise[::16, ::16].abs().max()) < 1e-6
    assert 0.1 < float(noise.std()) < 0.5
    assert float(noise.diff(dim=0).abs().max()) < 0.25


def test_texture_is_finer_than_smooth() -> None:
    smooth, textured = (KINDS[kind](128, 128, 1.0, 0.3, generator()).log() for kind in ("smooth", "textured"))
    rough = [float(field.diff(dim=1).std() / field.std()) for field in (smooth, textured)]
    assert rough[1] > 1.5 * rough[0]


def test_cells_are_brighter_than_their_ground() -> None:
    field = cell_background(128, 128, 20.0, 0.0, generator(2))
    assert float(field.min() / field.max()) == pytest.approx(GROUND, abs=0.02)
    share = float((field > 0.9 * field.max()).float().mean())
    assert 0.1 < share < 0.9


def test_a_steady_background_is_one_field() -> None:
    assert background().steady
    assert background().frames(7, 3).shape == (40, 48)


def test_bleaching_is_exponential() -> None:
    course = background(background_bleaching=5.0, background_variation=0.0).frames(0, 100).mean((1, 2))
    assert float(course[0]) == pytest.approx(20 * float(torch.exp(torch.tensor(-0.05 / 5))), rel=1e-4)
    assert float(course[75] / course[25]) == pytest.approx(float(torch.exp(torch.tensor(-1.0))), rel=1e-4)


def test_a_changing_background_is_the_same_in_any_order_and_keeps_its_mean() -> None:
    settings = {"background_change": 0.6, "background_time": 2.0, "background_variation": 0.4}
    whole = background(**settings).frames(0, 130)
    other = background(**settings)
    assert torch.equal(torch.cat([other.frames(90, 40), other.frames(0, 90)]), torch.cat([whole[90:], whole[:90]]))
    assert torch.allclose(whole.mean((1, 2)), torch.tensor(20.0), rtol=1e-4)
    step, far = (float((whole[k] - whole[0]).abs().mean()) for k in (1, 60))
    assert step < 0.1 * far
    assert len(other._knots) <= 4


def test_what_does_not_change_stays() -> None:
    still, half = (background(background_change=share, background_time=1.0).frames(0, 60) for share in (0.01, 0.9))
    assert float(still.std(0).mean()) < 0.1 * float(half.std(0).mean())
