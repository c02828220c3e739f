"""How many steps a training is given follows from how long they take."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from config.schema import DomainSettings, NetworkSettings, Settings, TrainingSettings
from models import pace

SECONDS = 0.25


def trains_at(monkeypatch: pytest.MonkeyPatch, start: float, step: float) -> None:
    """A training that takes ``start`` seconds, and ``step`` more for each step, by a clock of its own."""
    clock = [0.0]

    def train(settings: Settings) -> None:
        clock[0] += start + step * settings.training.steps

    monkeypatch.setattr(pace, "train", train)
    monkeypatch.setattr("models.pace.time.perf_counter", lambda: clock[0])


def test_the_start_of_a_training_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    trains_at(monkeypatch, start=9.0, step=SECONDS)
    assert pace.seconds_a_step(Settings()) == pytest.approx(SECONDS)


@pytest.mark.parametrize(("seconds", "steps"), [(100.0, 400), (1.0, 300), (1000.0, 1500)])
def test_steps_within_limits(seconds: float, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trains_at(monkeypatch, start=9.0, step=SECONDS)
    assert pace.affordable_steps(Settings(), seconds, 300, 1500) == steps


def test_a_real_training_is_timed_and_leaves_nothing(tmp_path: Path) -> None:
    network = NetworkSettings(past=1, future=1, encoder=[8, 8], features=8, heads=2, decoder=[8, 8])
    easy = DomainSettings(photons=[1000.0, 1000.0], psf_sigma=[1.2, 1.2])
    training = TrainingSettings(batch_size=1, sequence=3, size=16, device="cpu", output=str(tmp_path), domain=easy)
    began = time.perf_counter()
    taken = pace.seconds_a_step(Settings(network=network, training=training))
    assert 0 < taken < time.perf_counter() - began
    assert not list(tmp_path.iterdir())
