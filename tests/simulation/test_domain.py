"""Training scenes."""

from __future__ import annotations

import torch

from config.schema import DomainSettings
from simulation.domain import FAINTEST, Domain


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_batch_follows_from_its_generator() -> None:
    domain = Domain(DomainSettings(), 5, 24)
    first, again = domain.batch(3, generator(7)), domain.batch(3, generator(7))
    assert torch.equal(first.photons, again.photons)
    assert first.photons.shape == first.background.shape == (3, 5, 24, 24)


def test_measured_light_is_background_plus_emitters() -> None:
    settings = DomainSettings(
        psf_sigma=[1.0, 1.0], photons=[2000.0, 2000.0], background=[5.0, 5.0], density=[0.02, 0.02]
    )
    batch = Domain(settings, 8, 40).batch(12, generator())
    excess = (batch.photons - batch.background).sum()
    # Light of emitters outside comes in about as much as that of those inside goes out.
    assert abs(float(excess / batch.truth.photons.sum()) - 1) < 0.08


def test_truth_lies_inside_and_is_bright_enough_to_mean_something() -> None:
    truth = Domain(DomainSettings(density=[0.03, 0.03]), 6, 32).batch(4, generator()).truth
    assert len(truth.x) > 100
    for axis in (truth.x, truth.y):
        assert axis.min() > 0
        assert axis.max() < 32
    assert truth.photons.min() >= FAINTEST
    assert int(truth.scene.max()) == 3
    assert int(truth.frame.max()) == 5


def test_an_empty_domain_is_only_background() -> None:
    batch = Domain(DomainSettings(density=[0.0, 0.0], background=[10.0, 10.0]), 4, 32).batch(4, generator())
    assert len(batch.truth.x) == 0
    assert abs(float(batch.photons.mean()) - 10) < 0.5


def test_a_share_of_the_scenes_is_what_is_seen_most_often() -> None:
    settings = DomainSettings(density=[0.0, 0.0], background=[1.0, 100.0], often={"background": [9.0, 11.0]})
    settings.often_share = 0.4
    means = Domain(settings, 1, 8).batch(400, generator()).background.mean(dim=(1, 2, 3))
    narrow = ((means > 8.9) & (means < 11.1)).float().mean()
    # Of the others, 4.8 % fall between these bounds by chance: log(11.1 / 8.9) / log(100).
    assert abs(float(narrow) - (0.4 + 0.6 * 0.048)) < 0.08
