"""Deadlines: frames end when they should, however late the reader comes."""

from __future__ import annotations

from acquisition.pace import Pace


class Clock:
    """Time that passes only in waits, and when told."""

    def __init__(self) -> None:
        self.now = 50.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def test_frames_end_at_their_deadlines_and_delays_do_not_add_up() -> None:
    clock = Clock()
    pace = Pace(0.1, clock, clock.wait)
    for frame in range(1000):
        assert pace.wait_for(frame) == frame + 1
        clock.now += 0.03  # the reader's own work
    assert abs(clock.now - 50 - 100.03) < 1e-6
    assert abs(clock.waits[0] - 0.1) < 1e-9
    assert all(abs(wait - 0.07) < 1e-6 for wait in clock.waits[1:])


def test_a_late_reader_is_told_how_many_frames_have_ended_and_does_not_wait() -> None:
    clock = Clock()
    pace = Pace(0.1, clock, clock.wait)
    clock.now += 1.05
    assert pace.ended() == 10
    assert pace.wait_for(3) == 10
    assert clock.waits == [0.0]


def test_a_wait_that_is_cut_short_still_counts_its_frame() -> None:
    clock = Clock()
    assert Pace(0.1, clock, lambda _: None).wait_for(4) == 5
