"""Words and ratios that follow from what was measured."""

from __future__ import annotations

import math

import pytest

from models.bench.facts import Cost, Peak, StageTimes, bottleneck, closeness, share_of_peak

PEAK = Peak(2, {"fp32": 100.0}, 10.0)
DENSE = Cost(flops=100.0, least=1.0, every=20.0, operations=3)
THIN = Cost(flops=1.0, least=10.0, every=20.0, operations=3)


@pytest.mark.parametrize(
    ("engine", "pixels", "cost", "peak", "words"),
    [
        (0.8, 0.9, DENSE, PEAK, "engine, at 80% of the network"),
        (0.95, 0.9, DENSE, PEAK, "network, at 90% of the matrix products' rate"),
        (0.95, 0.8, THIN, PEAK, "network, waiting for memory"),
        (0.95, 0.1, THIN, PEAK, "network, at 0% of the matrix products' rate"),
        (0.95, 0.9, DENSE, None, "network"),
    ],
)
def test_bottleneck(engine: float, pixels: float, cost: Cost, peak: Peak | None, words: str) -> None:
    """``pixels`` a second."""
    assert bottleneck(engine, share_of_peak(pixels, cost, peak, "fp32"), cost, peak, "fp32") == words


def test_no_share_without_a_peak() -> None:
    assert math.isnan(share_of_peak(1.0, DENSE, None, "fp32"))


def test_closeness_of_stages_and_whole() -> None:
    times = StageTimes("m", "fp32", 2, 64, 16, {"encode": 2.0, "detect": 1.4, "rest": 0.6})
    encode, detect, whole = closeness(times, {"encode": DENSE, "detect": THIN}, PEAK)
    assert (encode.of_products, encode.waits_for_memory) == (0.5, False)
    assert (detect.floor, detect.waits_for_memory) == (1.0, True)
    assert (whole.stage, whole.spent, whole.floor, whole.spilled) == ("whole", 4.0, 2.0, 4.0)
    assert whole.of_products == pytest.approx(1.01 / 4)
