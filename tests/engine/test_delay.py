from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from engine.delay import DelayMeter


def test_nothing_finished_is_no_delay() -> None:
    meter = DelayMeter(lambda: 0.0)
    meter.add(np.empty(0))
    assert (meter.recent(), meter.whole()) == (None, None)


def test_the_last_seconds_and_the_whole_run() -> None:
    now = 0.0
    meter = DelayMeter(lambda: now, window=5.0)
    meter.add(np.full(1000, 8.0))
    now = 6.0
    assert meter.recent() is None, "too long ago"
    meter.add(np.array([0.1, 0.2, 0.3]))
    recent, whole = meter.recent(), meter.whole()
    assert recent is not None
    assert astuple(recent) == pytest.approx((0.2, 0.298, 0.3))
    assert whole is not None
    assert astuple(whole) == pytest.approx((8.0, 8.0, 8.0), rel=0.03)


def test_percentiles_of_the_run_are_right_to_a_few_percent() -> None:
    delays = np.random.default_rng(1).lognormal(-2, 1, 20_000)
    meter = DelayMeter(lambda: 0.0)
    for part in np.split(delays, 100):
        meter.add(part)
    whole = meter.whole()
    assert whole is not None
    assert whole.median == pytest.approx(np.median(delays), rel=0.025)
    assert whole.p99 == pytest.approx(np.percentile(delays, 99), rel=0.025)
    assert whole.longest == delays.max()


@pytest.mark.parametrize("delay", [0.0, -0.5, 1e-7, 1e9])
def test_delays_beyond_the_histogram_do_no_harm(delay: float) -> None:
    meter = DelayMeter(lambda: 0.0)
    meter.add(np.array([delay]))
    whole = meter.whole()
    assert whole is not None
    assert whole.median <= whole.p99 <= max(whole.longest, 0.0)
