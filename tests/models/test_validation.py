"""Validation scores a training's maps by the challenge's rules, on scenes that stay the same."""

from __future__ import annotations

import torch

from config.schema import DomainSettings, TrainingSettings
from models.network import EmitterMap
from models.validation import Tally, ValidationScenes
from simulation.truth import SceneBatch

RECIPE = TrainingSettings(
    batch_size=2, sequence=3, size=24, validation_batches=3,
    domain=DomainSettings(density=[0.004, 0.004], photons=[2000.0, 2000.0], photons_spread=[0.0, 0.0]),
)  # fmt: skip


def perfect(batch: SceneBatch, shift: float = 0.0) -> EmitterMap:
    """Maps that say the truth, ``shift`` pixels to the right. Emitters that share a pixel cannot all be said."""
    shape = batch.photons.shape
    zero, tight = torch.zeros(shape), torch.full(shape, 0.1)
    logit, dx, dy = torch.full(shape, -20.0), torch.zeros(shape), torch.zeros(shape)
    t = batch.truth
    row, column = t.y.long(), t.x.long()
    logit[t.scene, t.frame, row, column] = 20.0
    dx[t.scene, t.frame, row, column] = t.x - column - 0.5 + shift
    dy[t.scene, t.frame, row, column] = t.y - row - 0.5
    return EmitterMap(logit, dx, dy, zero + 1000, tight, tight, tight, zero)


def test_the_truth_scores_full_marks() -> None:
    tally = Tally()
    scenes = ValidationScenes(RECIPE)
    for index in range(len(scenes)):
        tally.add(perfect(scenes[index], 0.1), scenes[index])
    figures = tally.figures()
    assert tally.pairs > 20
    assert figures["jaccard"] > 0.9  # the rest shares a pixel with a brighter neighbour
    assert 9.9 < figures["rmse"] < 20  # a tenth of a pixel of 100 nm


def test_a_network_that_finds_nothing_scores_nothing() -> None:
    tally = Tally()
    batch = ValidationScenes(RECIPE)[0]
    maps = perfect(batch)
    maps.logit.fill_(-20.0)
    tally.add(maps, batch)
    assert tally.figures()["jaccard"] == 0
    assert tally.figures()["efficiency"] < -100


def test_scenes_are_the_same_every_time() -> None:
    one, other = ValidationScenes(RECIPE), ValidationScenes(RECIPE)
    assert torch.equal(one[1].photons, other[1].photons)
    assert not torch.equal(one[0].photons, one[1].photons)
