"""SIGTERM ends a run as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from engine.pipeline import Pipeline
from engine.signals import Terminated, termination_as_interrupt
from engine.status import State, Status
from tests.engine.doubles import FakeLocaliser, FakeSink, FakeSource, assert_all_closed

posix = pytest.mark.skipif(os.name != "posix", reason="Windows ends a process at once that is sent SIGTERM")


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_request_to_end_works_off_what_came(name: str) -> None:
    source, sink = FakeSource(range(10**6)), FakeSink(delay=0.002)
    sent = threading.Event()

    def send(status: Status) -> None:
        if status.acquired and not sent.is_set():
            sent.set()
            os.kill(os.getpid(), getattr(signal, name))

    with termination_as_interrupt():
        status = Pipeline(source, FakeLocaliser(), sink, block=10).run(send)
    assert (status.state, status.end_reason) == (State.STOPPED, f"stopped: {name}")
    assert sink.frames == list(range(status.acquired))
    assert_all_closed(source, sink)


@posix
def test_handlers_are_put_back_and_what_is_ignored_stays_ignored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with termination_as_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) != before
    finally:
        signal.signal(signal.SIGHUP, old)
    assert signal.getsignal(signal.SIGTERM) == before


def test_it_acts_as_ctrl_c_wherever_that_is_handled() -> None:
    assert issubclass(Terminated, KeyboardInterrupt)


def test_on_another_thread_it_does_nothing() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with termination_as_interrupt():
                pass
        except BaseException as error:  # noqa: BLE001 (kept for the assertion)
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []
