from __future__ import annotations

import json

import pytest

from engine.delay import Delay
from engine.status import RateMeter, State, Status


def status_of(**changes: object) -> Status:
    facts: dict[str, object] = {
        "state": State.RUNNING,
        "acquired": 30,
        "analysed": 20,
        "localisations": 7,
        "expected": None,
        "waiting": (1, 0),
        "rate_in": 0.0,
        "rate_out": 0.0,
        "elapsed": 4.0,
        "missing": (range(3, 5),),
        "pending": (range(20, 22),),
        "dropped_sinks": (),
        "error": None,
    }
    return Status(**(facts | changes))  # type: ignore[arg-type]


def test_lag_and_mean_rate() -> None:
    assert (status_of().lag, status_of().frames_per_second) == (10, 5.0)
    assert status_of(elapsed=0.0).frames_per_second == 0


def test_skipped_frames_are_no_lag_and_nothing_that_is_owed() -> None:
    status = status_of(skipped_behind=(range(5, 7),), skipped_paused=(range(7, 8), range(10, 13)))
    assert status.skipped == (range(5, 8), range(10, 13))
    assert status.lag == 4
    assert status.not_analysed() == [3, 4, 20, 21]


def test_figures_are_plain_values() -> None:
    figures = status_of(delay=Delay(0.1, 0.2, 0.3), skipped_paused=(range(9),)).figures()
    assert json.loads(json.dumps(figures)) == figures
    assert (figures["state"], figures["lag"], figures["missing"], figures["skipped"]) == ("running", 1, 2, 9)
    assert (figures["delay_median"], figures["delay_p99"]) == (0.1, 0.2)
    assert status_of().figures()["delay_median"] is None


def test_what_ended_a_run_stands_behind_its_end() -> None:
    assert status_of(state=State.STOPPED, ended_by="SIGTERM").end_reason == "stopped: SIGTERM"
    assert status_of(state=State.FINISHED, ended_by="5 frames").end_reason == "finished: 5 frames"
    assert status_of(state=State.STOPPING, ended_by="SIGTERM").end_reason == "running"


def test_what_is_owed_is_what_never_came_and_what_is_pending() -> None:
    assert status_of().not_analysed() == [3, 4, 20, 21]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.IDLE, "running"),
        (State.RUNNING, "running"),
        (State.STOPPING, "running"),
        (State.FINISHED, "finished"),
        (State.STOPPED, "stopped"),
        (State.FAILED, "failed: boom"),
    ],
)
def test_the_end_reason_is_that_of_the_state(state: State, reason: str) -> None:
    assert status_of(state=state, error=ValueError("boom")).end_reason == reason


def test_a_rate_is_that_of_the_last_seconds() -> None:
    now = 0.0
    meter = RateMeter(lambda: now, window=2.0)
    assert meter.rate() == 0
    for second in range(10):
        now = float(second)
        meter.count(second * 10)
    assert meter.rate() == pytest.approx(10)
    for second in range(10, 14):
        now = float(second)
        meter.count(90 + (second - 9) * 50)
    assert meter.rate() == pytest.approx(50)
    now = 20.0
    assert meter.rate() == 0, "nothing came for a whole window"
