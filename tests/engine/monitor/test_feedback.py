"""Feedback around the controller: when the light is touched, and when it is made safe."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from config.errors import RunError
from config.schema import FeedbackSettings
from engine.monitor.feedback import Feedback, Pulse, State
from tests.engine.monitor.lights import FakeLight, quality

DEADLINE = 60.0


@dataclass
class FakeGuard:
    beats: int = 0
    closed: int = 0
    gone: bool = False

    def beat(self) -> None:
        if self.gone:
            raise RunError("the guard of the activation light ended with status 1.")
        self.beats += 1

    def close(self) -> None:
        self.closed += 1


@dataclass
class Bench:
    """Feedback without its thread, on a clock that is set by hand; the camera gives 100 frames/s."""

    settings: dict[str, Any] = field(default_factory=dict)
    light: FakeLight = field(default_factory=FakeLight)
    guard: FakeGuard = field(default_factory=FakeGuard)
    now: float = 0.0
    camera: bool = True
    frame: int = 0
    feedback: Feedback = field(init=False)

    def __post_init__(self) -> None:
        settings = FeedbackSettings(**{"enabled": True, "safe": 2.0, "slew": 1000.0, **self.settings})
        self.feedback = Feedback(
            settings, self.light, lambda: self.frame, guard=lambda: self.guard, clock=lambda: self.now
        )

    def run(self, seconds: int, density: float | None = 3.0) -> None:
        """A look a second, with figures of the last second if they come."""
        for _ in range(seconds):
            first = self.frame
            self.now += 1
            self.frame += 100 * self.camera
            if density is not None:
                self.feedback.take(quality(first + 1, density))
            self.feedback.tick()

    @property
    def note(self) -> str:
        return str(self.feedback.figures()["note"])


def test_it_is_off_unless_it_is_asked_for() -> None:
    bench = Bench({"enabled": False})
    bench.run(20)
    bench.feedback.close()
    assert (bench.light.set_to, bench.guard.beats, bench.guard.closed) == ([], 0, 0)
    assert bench.feedback.target() is None
    assert not FeedbackSettings().enabled


def test_it_leaves_the_light_alone_until_there_are_figures() -> None:
    bench = Bench()
    bench.run(60, density=None)
    assert bench.feedback.state is State.WAITING
    bench.feedback.close()
    assert bench.light.set_to == []


def test_it_moves_the_light_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    with caplog.at_level(logging.INFO):
        bench.run(4)
    assert bench.light.value == pytest.approx(40 / 3**0.5)
    assert "3 /µm² for a target of 1: activation light 40 → 23.09" in caplog.text
    assert bench.feedback.figures() == {
        "enabled": True, "state": "holding", "target": 1.0, "power": bench.light.value,
        "note": "3 /µm² for a target of 1: activation light 40 → 23.09",
    }  # fmt: skip
    assert bench.guard.beats == 3


def test_its_end_makes_the_light_safe() -> None:
    bench = Bench()
    bench.run(4)
    bench.feedback.close()
    bench.feedback.close()
    assert (bench.light.value, bench.guard.closed) == (2.0, 1)
    assert bench.feedback.state is State.ENDED
    bench.feedback.tick()
    assert bench.light.value == 2.0


def no_figures(bench: Bench) -> None:
    bench.run(7, density=None)


def no_frames(bench: Bench) -> None:
    bench.camera = False
    bench.run(7)


def stood_still(bench: Bench) -> None:
    bench.now += 30
    bench.run(1)


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        (no_figures, "no figures of quality have come for 6 s"),
        (no_frames, "the camera gives no frames for 6 s"),
        (stood_still, "this program stood still for 31 s"),
    ],
)
def test_trouble_makes_the_light_safe_until_it_is_over(happens: Callable[[Bench], None], words: str) -> None:
    bench = Bench({"slew": 5.0})
    bench.run(10)
    held = bench.light.value
    assert held < 40
    happens(bench)
    assert bench.light.value == 2.0
    assert bench.note == f"The light is at its safe value: {words}."
    bench.camera = True
    before = len(bench.light.set_to)
    bench.run(3, density=1.0)
    assert bench.feedback.state is State.HOLDING
    assert 2.0 < bench.light.value <= 12.0  # back by the slew rate
    bench.run(10, density=1.0)
    assert bench.feedback._controller is not None
    assert bench.light.value == pytest.approx(bench.feedback._controller._goal)
    assert len(bench.light.set_to) > before


def test_a_light_that_fails_ends_feedback_for_good(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.run(4)
    bench.light.broken = "no answer from the laser"
    with caplog.at_level(logging.ERROR):
        bench.run(10, density=5.0)
    assert bench.feedback.state is State.FAILED
    assert "THE ACTIVATION LIGHT CANNOT BE SET TO 2" in caplog.text
    assert bench.note == "THE ACTIVATION LIGHT COULD NOT BE MADE SAFE: no answer from the laser"
    assert bench.guard.closed == 1  # which makes the guard try
    assert bench.feedback.target() is None
    with pytest.raises(RunError, match="has ended for this run"):
        bench.feedback.handle("target", {"enabled": True})
    bench.feedback.close()


def test_a_light_that_fails_once_is_made_safe() -> None:
    bench = Bench()
    bench.run(4)

    def refuse_once(power: float) -> None:
        del bench.light.set_power
        raise OSError("bad connection")

    bench.light.set_power = refuse_once  # type: ignore[method-assign]
    bench.run(10, density=5.0)
    assert (bench.feedback.state, bench.light.value) == (State.FAILED, 2.0)
    assert bench.note == "Feedback has ended: bad connection"


def test_without_its_guard_the_light_is_made_safe() -> None:
    bench = Bench()
    bench.run(4)
    bench.guard.gone = True
    bench.run(1)
    assert (bench.feedback.state, bench.light.value) == (State.FAILED, 2.0)


def test_a_guard_that_cannot_be_started_leaves_the_light_alone() -> None:
    bench = Bench()

    def fails() -> FakeGuard:
        raise RunError("the guard cannot reach the activation light")

    bench.feedback._start_guard = fails
    bench.run(4)
    assert (bench.feedback.state, bench.light.set_to) == (State.FAILED, [])


def test_switching_off_makes_the_light_safe_once_and_lets_go() -> None:
    bench = Bench()
    bench.run(4)
    bench.feedback.handle("target", {"enabled": False})
    bench.run(1)
    assert (bench.feedback.state, bench.light.value) == (State.OFF, 2.0)
    bench.light.value = 17.0  # the user's own hand
    bench.run(20)
    assert bench.light.value == 17.0
    bench.feedback.handle("target", {"enabled": True})
    bench.run(4)
    assert bench.light.value == pytest.approx(17 / 3**0.5)


def test_it_can_be_switched_on_during_a_run() -> None:
    bench = Bench({"enabled": False})
    bench.run(5)
    bench.feedback.handle("target", {"enabled": True, "value": 2.0})
    assert bench.feedback.target() == 2.0
    bench.run(4)
    assert bench.light.value == pytest.approx(40 * (2 / 3) ** 0.5)


def test_a_new_target_is_held() -> None:
    bench = Bench({"target": 3.0})
    bench.run(10)
    assert bench.light.set_to == []
    bench.feedback.handle("target", {"value": 1.5})
    bench.run(3)
    assert bench.light.value == pytest.approx(40 * 0.5**0.5)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("target", {}), ("target", {"value": 0}), ("target", {"value": -1.0}), ("target", {"value": float("nan")}),
        ("target", {"value": float("inf")}), ("target", {"value": "1"}), ("target", {"value": True}),
        ("target", {"value": [1.0]}), ("target", {"enabled": 1}), ("target", {"enabled": "yes"}), ("stop", {}),
        ("target", {"value": 1.5, "enabled": "yes"}),
    ],
)  # fmt: skip
def test_nonsense_is_refused_and_changes_nothing(command: str, arguments: dict[str, Any]) -> None:
    bench = Bench()
    with pytest.raises(RunError):
        bench.feedback.handle(command, arguments)
    assert bench.feedback.target() == 1.0


def test_without_a_count_of_frames_the_figures_own_is_taken() -> None:
    now, light = [0.0], FakeLight()
    feedback = Feedback(FeedbackSettings(enabled=True, slew=1000.0), light, clock=lambda: now[0])
    for second in range(5):
        now[0] += 1
        feedback.take(quality(100 * second, 3.0))
        feedback.tick()
    assert light.value < 40


def test_the_thread_works_and_an_exception_makes_the_light_safe() -> None:
    light, moved, frame = FakeLight(), threading.Event(), [0]
    original = light.set_power

    def note(power: float) -> None:
        original(power)
        moved.set()

    light.set_power = note  # type: ignore[method-assign]

    def interrupted() -> None:
        settings = FeedbackSettings(enabled=True, every=0.02, slew=10_000.0, safe=1.0)
        with Feedback(settings, light, lambda: frame[0]) as feedback:
            for number in range(3000):
                frame[0] = 100 * number
                feedback.take(quality(100 * number, 3.0))
                if moved.wait(0.02):
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert moved.is_set()
    assert light.value == 1.0
    assert not [thread for thread in threading.enumerate() if thread.name == "liveloc-feedback"]


def test_a_light_that_hangs_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("engine.monitor.feedback.ENDING", 0.2)
    light, guard, hangs, go_on = FakeLight(), FakeGuard(), threading.Event(), threading.Event()

    def hang() -> float:
        hangs.set()
        go_on.wait(DEADLINE)
        return 5.0

    light.power = hang  # type: ignore[method-assign]
    with Feedback(FeedbackSettings(enabled=True, every=0.02), light, lambda: 1, guard=lambda: guard) as feedback:
        feedback.take(quality(0, 3.0))
        assert hangs.wait(DEADLINE)
    assert "does not answer" in caplog.text
    assert guard.closed == 1
    go_on.set()
    assert feedback._thread is not None
    feedback._thread.join(DEADLINE)
    assert light.set_to == []


def test_a_pulse_that_goes_on_is_no_trouble() -> None:
    pulse = Pulse(5.0, 0.0)
    for second in range(1, 50):
        pulse.figures(float(second))
        assert pulse.trouble(float(second), second) is None
