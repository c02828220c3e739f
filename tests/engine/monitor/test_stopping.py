"""The plateau of the resolution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.monitor.stopping import Plateau


def stopped_at(
    resolution: Callable[[float], float], noise: float = 0.01, least: float = 0.02, last: int = 200
) -> int | None:
    """Estimate, of ``last``, at which a plateau is told."""
    random, plateau = np.random.default_rng(0), Plateau(least)
    for count in range(1, last + 1):
        if plateau.add(1000 * count, resolution(count) * (1 + random.normal(0, noise))):
            return count
    return None


def test_a_resolution_that_settles_is_a_plateau_soon_after_but_not_before() -> None:
    at = stopped_at(lambda count: 40 + 60 * np.exp(-count / 10))
    assert at is not None
    assert 25 <= at <= 90


def test_one_that_goes_on_improving_is_none() -> None:
    assert stopped_at(lambda count: 100 * count**-0.25) is None


def test_one_that_gets_worse_is_a_plateau() -> None:
    assert stopped_at(lambda count: 40 + 0.2 * count) == 10


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_first_estimates_never_stop_a_run(noise: float) -> None:
    at = stopped_at(lambda _: 50.0, noise, 0.05)
    assert at is not None
    assert at >= 10


def test_the_words_tell_both_resolutions() -> None:
    plateau, words = Plateau(0.02), None
    for count in range(1, 12):
        words = words or plateau.add(100 * count, 42.0)
    assert words == "the FRC resolution has reached a plateau: 42 nm, 42 nm with half of the frames"
