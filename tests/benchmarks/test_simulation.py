"""How much faster frames are drawn than by a loop over emitters.

python -m pytest -s -m benchmark tests/benchmarks/test_simulation.py
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf

from config.compose import compose
from simulation.dataset import make_simulator
from simulation.psf import REACH
from simulation.simulator import Simulator

pytestmark = pytest.mark.benchmark
FRAMES = 200
SIGMA = 1.35


def shares(centre: float, places: NDArray[np.int64]) -> NDArray[np.float64]:
    edges = np.append(places, places[-1] + 1)
    cumulated: NDArray[np.float64] = 0.5 * erf((edges - centre) / (math.sqrt(2) * SIGMA))
    return np.diff(cumulated)


def looped(simulator: Simulator, *, patch: bool) -> NDArray[np.float64]:
    """One emitter after another, each on the pixels it reaches (``patch``) or on the whole frame."""
    height, width = simulator.shape
    image = np.zeros((FRAMES, height, width))
    columns = (simulator._frame, simulator._x, simulator._y, simulator._photons)
    reach = math.ceil(REACH * SIGMA)
    for frame, x, y, photons in zip(*(column.tolist() for column in columns), strict=True):
        top, left = (max(0, math.floor(at) - reach) if patch else 0 for at in (y, x))
        down, right = (
            min(size, math.floor(at) + reach + 1) if patch else size for at, size in ((y, height), (x, width))
        )
        if top < down and left < right:
            light = np.outer(shares(y, np.arange(top, down)), shares(x, np.arange(left, right)))
            image[frame, top:down, left:right] += photons * light
    return image


def seconds(work: Callable[[], object]) -> float:
    """The best of three."""
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return min(spent)


@pytest.mark.parametrize("density", [0.2, 1.0, 4.0])
def test_frames_are_drawn_at_least_five_times_faster_than_by_a_loop(density: float) -> None:
    torch.set_num_threads(1)
    overrides = (f"dataset.density={density}", f"dataset.frames={FRAMES}")
    simulator = make_simulator(compose(["camera=challenge_emccd", "optics=challenge", *overrides]))
    drawn = simulator.photons(0, FRAMES).numpy()
    assert np.allclose(drawn, looped(simulator, patch=True), atol=0.05)
    ours = seconds(lambda: [simulator.photons(start, start + 50) for start in range(0, FRAMES, 50)])
    patches, whole = (seconds(lambda patch=patch: looped(simulator, patch=patch)) for patch in (True, False))
    exposed = seconds(lambda: simulator.frames(0, FRAMES))
    print(  # noqa: T201
        f"\ndensity {density:g}, {len(simulator._frame) / FRAMES:.0f} emitters a frame of 64×64, one thread: drawn "
        f"{FRAMES / ours:,.0f} frames/s, a loop over patches {FRAMES / patches:,.0f} ({patches / ours:.1f} times "
        f"slower), a loop over whole frames {FRAMES / whole:,.0f} ({whole / ours:.1f} times); with background, EMCCD "
        f"noise and ADU {FRAMES / exposed:,.0f} frames/s"
    )
    assert patches / ours > 5
