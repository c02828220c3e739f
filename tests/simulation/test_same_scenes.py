"""Scenes of a seed stay what they are: recipes of shipped models and figures of benchmarks refer to them.

Figures and no hashes: the last bit of an exponential is the processor's own affair. A random number drawn once more or
in another order changes all of them.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from config.compose import compose
from config.schema import DomainSettings
from simulation.dataset import make_live_simulator, make_simulator
from simulation.domain import Domain

DOMAINS = {
    "default": (DomainSettings(), 7),
    "validation, dense": (DomainSettings(density=[0.0, 0.06]), (1 << 62) + 3),
    "one microscope": (DomainSettings(psf_sigma=[1.3, 1.4], emccd_fraction=0.0), 2),
}
SCENES = {
    "default": """
        918 4515358.2 8169.1382 3685448.1 101.45968 5196 59.197564 14534.56 249.61439 14685.443 111.06594
        814893.51 -9643.7301
        """,
    "validation, dense": """
        1341 2013987 -2896.1007 1620367.5 167.85134 7490 -36.842181 21735.932 -252.24455 21486.657 -342.3616
        376543.94 1490.6918
        """,
    "one microscope": """
        745 2812198.8 6378.1863 2466439.5 275.19458 4055 47.264269 11738.536 -266.50539 11911.974 -57.670498
        375391.01 9675.5072
        """,
}
ACQUISITIONS = {
    "random": (
        ["dataset.frames=30", "dataset.height=40", "dataset.width=48"],
        """
        897 10665745 -5115.0496 13194 -31.834565 2074428 11180.017 2237094.5 20404.213 1743901.5 -15061.028
        574400.78 -3659.4562 307 6293063 -6239.989 1513 -9.7398403 163229 3693.1494 810811.73 31027.275
        553673.28 184.45363 208320.19 5399.4673
        """,
    ),
    "lines": (
        ["dataset.frames=30", "dataset.height=40", "dataset.width=48", "dataset.structure=lines"],
        """
        826 10553839 -8049.9871 11980 22.662847 1212019 -2717.1361 1897150.5 6237.1044 1539650.6 -7866.614
        539540.33 -11938.319 354 6385398 -5092.9248 1843 9.9307457 147460 -426.02739 802578.01 -7552.4303
        690319.68 20650.175 227822.03 -2381.0113
        """,
    ),
    "ring that bleaches": (
        ["dataset.frames=30", "dataset.height=40", "dataset.width=48", "dataset.structure=ring", "dataset.blinks=1"],
        """
        889 10739895 5696.0562 12633 17.765982 1409737 -482.88188 2143785.9 -14803.826 1769454.8 31570.62
        560984.82 -1805.4621 371 6493551 -202.76205 1999 -3.4456607 25238 27.615623 869335.14 20488.353
        711619.44 14895.302 238627.5 -3052.4558
        """,
    ),
    "dense benchmark": (
        ["dataset=density_4", "dataset.frames=20"],
        """
        3191 30486649 15532.507 29016 -23.537794 36849726 75907.014 10403441 30164.217 10908464 -107881.62
        2084246.9 -7350.4335 1942 18363061 17072.966 10660 -2.4855302 5562713 -31671.19 6292133 -55064.941
        6218024.4 -46322.93 1270650.7 16165.147
        """,
    ),
}


def figures(frames: Tensor, *columns: Tensor) -> list[float]:
    """Their number, and for each its sum and one in which every place counts differently."""
    told = [float(len(columns[-1]))]
    for values in (frames, *columns):
        flat = values.flatten().double()
        told += [float(flat.sum()), float((flat * torch.cos(torch.arange(len(flat)).double())).sum())]
    return told


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]


def scene_figures(name: str) -> list[float]:
    settings, seed = DOMAINS[name]
    batch = Domain(settings, 12, 32).batch(6, torch.Generator().manual_seed(seed))
    truth = batch.truth
    return figures(batch.photons, batch.background, truth.frame, truth.x, truth.y, truth.photons)


def acquisition_figures(name: str) -> list[float]:
    overrides, _ = ACQUISITIONS[name]
    settings = compose(["camera=challenge_emccd", "optics=challenge", *overrides])
    simulator, live = make_simulator(settings), make_live_simulator(settings)
    frames = torch.from_numpy(simulator.frames(0, 20).astype("f8"))
    exposed = torch.from_numpy(live.expose(12).astype("f8"))
    names = ("frame", "emitter", "x", "y", "photons")
    drawn, seen = (
        [torch.from_numpy(truth[name].to_numpy().copy()) for name in names]
        for truth in (simulator.emitters(), live.emitters())
    )
    return figures(frames, *drawn) + figures(exposed, *seen)


@pytest.mark.parametrize("name", DOMAINS)
def test_training_scenes_of_a_seed_stay(name: str) -> None:
    assert scene_figures(name) == pytest.approx(numbers(SCENES[name]), rel=1e-5)


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_acquisitions_of_a_seed_stay(name: str) -> None:
    assert acquisition_figures(name) == pytest.approx(numbers(ACQUISITIONS[name][1]), rel=1e-5)
