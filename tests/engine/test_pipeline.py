from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acquisition.source import Frames
from config.errors import RecorderFailed, RunError, SourceStopped
from engine.output.recorder import Recorder, read_log
from engine.pipeline import Pipeline
from engine.status import State, Status
from tests.engine.doubles import FakeLocaliser, FakeSink, FakeSource, assert_all_closed

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("block", [1, 7, 50, 1000])
@pytest.mark.parametrize("queue", [1, 8])
def test_every_frame_is_analysed_once_and_in_order(block: int, queue: int) -> None:
    source, sink = FakeSource(range(3, 203), expected=200), FakeSink()
    status = Pipeline(source, FakeLocaliser(), sink, block=block, queue=queue).run()
    assert sink.frames == list(range(3, 203))
    assert sink.pixels == sink.frames, "no frame was swapped for another"
    assert status.state is State.FINISHED
    assert (status.acquired, status.analysed, status.localisations, status.lag) == (200, 200, 200, 0)
    assert (status.missing, status.pending, status.expected, status.error) == ((), (), 200, None)
    assert source.opened == 1
    assert_all_closed(source, sink)


@pytest.mark.parametrize("block", [1, 4, 100])
def test_lost_frames_are_listed_and_the_others_analysed(block: int) -> None:
    numbers = [*range(10), *range(13, 30), 31, *range(40, 60)]
    sink = FakeSink()
    status = Pipeline(FakeSource(numbers), FakeLocaliser(), sink, block=block).run()
    assert sink.frames == numbers
    assert status.missing == (range(10, 13), range(30, 31), range(32, 40))
    assert status.not_analysed() == [10, 11, 12, 30, *range(32, 40)]


def test_an_empty_source_is_an_empty_run() -> None:
    status = Pipeline(FakeSource([]), FakeLocaliser(), FakeSink()).run()
    assert (status.state, status.acquired, status.missing) == (State.FINISHED, 0, ())


def test_a_source_that_is_open_already_is_not_opened_again() -> None:
    source, sink = FakeSource(range(5)), FakeSink()
    Pipeline(source, FakeLocaliser(), sink, description=source.open()).run()
    assert source.opened == 1
    assert_all_closed(source, sink)


def fail(error: Exception) -> Callable[[], object]:
    def event() -> None:
        raise error

    return event


def test_a_source_that_fails_loses_no_frame_that_came() -> None:
    source, sink = FakeSource(range(100), {57: fail(SourceStopped("the camera vanished"))}), FakeSink()
    pipeline = Pipeline(source, FakeLocaliser(), sink, block=5)
    with pytest.raises(SourceStopped, match="vanished"):
        pipeline.run()
    assert sink.frames == list(range(55)), "every block that was handed over"
    assert pipeline.status().state is State.FAILED
    assert pipeline.status().end_reason == "failed: the camera vanished"
    assert pipeline.status().pending == ()
    assert_all_closed(source, sink)


def test_a_source_that_cannot_be_opened_ends_the_run() -> None:
    source, sink = FakeSource(range(5)), FakeSink()
    source.open = fail(SourceStopped("no camera"))  # type: ignore[assignment,method-assign]
    with pytest.raises(SourceStopped, match="no camera"):
        Pipeline(source, FakeLocaliser(), sink).run()
    assert_all_closed(source, sink)


@pytest.mark.parametrize(("numbers", "analysed"), [([0, 1, 2, 2, 3], [0, 1, 2]), ([0, 1, 5, 4, 6], [0, 1, 5])])
@pytest.mark.parametrize("block", [1, 2, 10])
def test_frames_out_of_order_end_the_run_after_those_before(
    numbers: list[int], analysed: list[int], block: int
) -> None:
    source, sink = FakeSource(numbers), FakeSink()
    with pytest.raises(RunError, match="must increase"):
        Pipeline(source, FakeLocaliser(), sink, block=block).run()
    assert sink.frames == analysed
    assert_all_closed(source, sink)


def test_a_block_with_too_few_numbers_is_a_fault_of_the_source() -> None:
    source = FakeSource([])
    source.blocks = lambda size: iter([Frames(np.zeros((3, 4, 6), np.uint16), np.arange(2), np.zeros(2))])  # type: ignore[method-assign]
    with pytest.raises(RunError, match="3 frames with 2 numbers"):
        Pipeline(source, FakeLocaliser(), FakeSink()).run()


def test_a_localiser_that_fails_leaves_what_was_decided_and_lists_the_rest() -> None:
    source, sink = FakeSource(range(10_000)), FakeSink(delay=0.01)
    pipeline = Pipeline(source, FakeLocaliser(fails_at=42), sink, block=10, queue=2)
    with pytest.raises(ValueError, match="fell over"):
        pipeline.run()
    status = pipeline.status()
    assert sink.frames == list(range(38)), "all that was decided before; two frames wait for their future"
    assert status.pending[0].start == 38
    assert status.analysed + sum(map(len, status.pending)) == status.acquired
    assert source.stopped.is_set()
    assert_all_closed(source, sink)


def test_a_recorder_that_fails_stops_the_camera_and_the_run() -> None:
    source, recorder, other = FakeSource(range(100_000)), FakeSink(fails_at=500), FakeSink()
    pipeline = Pipeline(source, FakeLocaliser(), recorder, [other], block=10, queue=2)
    with pytest.raises(RecorderFailed, match="no space"):
        pipeline.run()
    status = pipeline.status()
    assert source.stopped.is_set()
    assert other.frames == recorder.frames, "nothing is published that is not on disk"
    assert status.localisations == len(recorder.frames)
    assert status.pending[0].start == status.analysed
    assert_all_closed(source, recorder, other)


def test_another_sink_that_fails_is_dropped_and_the_run_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    recorder, bad, good = FakeSink(), FakeSink(fails_at=50, error=OSError("no network")), FakeSink()
    source = FakeSource(range(100))
    status = Pipeline(source, FakeLocaliser(), recorder, [bad, good], block=10).run()
    assert recorder.frames == good.frames == list(range(100))
    assert bad.frames == list(range(bad.frames[-1] + 1))
    assert bad.frames[-1] < 50
    assert status.dropped_sinks == ("FakeSink: no network",)
    assert "no network" in caplog.text
    assert_all_closed(source, recorder, bad, good)


def test_a_sink_that_cannot_be_closed_does_not_fail_the_run(caplog: pytest.LogCaptureFixture) -> None:
    bad = FakeSink()
    bad.close = fail(OSError("stuck"))  # type: ignore[assignment,method-assign]
    assert Pipeline(FakeSource(range(5)), FakeLocaliser(), FakeSink(), [bad]).run().state is State.FINISHED
    assert "stuck" in caplog.text


def test_stop_analyses_what_came_and_ends() -> None:
    source, sink = FakeSource(range(10**6)), FakeSink()
    pipeline = Pipeline(source, FakeLocaliser(), sink, block=10)
    source.events[333] = pipeline.stop
    status = pipeline.run()
    assert status.state is State.STOPPED
    assert sink.frames == list(range(333)), "the flush brought the last ones"
    assert (status.lag, status.pending) == (0, ())
    assert_all_closed(source, sink)


def test_a_live_run_is_started_watched_stopped_and_joined() -> None:
    source, sink = FakeSource(range(10**6)), FakeSink(delay=0.005)
    pipeline = Pipeline(source, FakeLocaliser(), sink, block=10, queue=2)
    assert pipeline.status().state is State.IDLE
    pipeline.start()
    while (status := pipeline.status()).analysed < 100:
        assert status.state is State.RUNNING
        assert status.lag >= 0
        assert max(status.waiting) <= 2, "memory stays bounded"
    assert status.lag < 10 * 8, "a slow sink holds the source up"
    assert pipeline.join(timeout=0.0).state is State.RUNNING
    pipeline.stop()
    status = pipeline.join()
    assert status.state is State.STOPPED
    assert sink.frames == list(range(status.acquired))
    assert_all_closed(source, sink)


def test_a_slow_network_holds_the_source_up_and_loses_nothing() -> None:
    lags = []
    sink = FakeSink()
    pipeline = Pipeline(FakeSource(range(200)), FakeLocaliser(delay=0.01), sink, block=5, queue=2)
    status = pipeline.run(lambda status: lags.append(status.lag))
    assert sink.frames == list(range(200))
    assert max(lags) <= 5 * 7
    assert status.rate_in >= 0


def test_a_context_stops_and_waits() -> None:
    source, sink = FakeSource(range(10**6)), FakeSink()
    with Pipeline(source, FakeLocaliser(), sink) as pipeline:
        while pipeline.status().analysed < 50:
            time.sleep(0.001)
    assert pipeline.status().state is State.STOPPED
    assert_all_closed(source, sink)


def test_a_pipeline_runs_once() -> None:
    pipeline = Pipeline(FakeSource(range(5)), FakeLocaliser(), FakeSink())
    pipeline.run()
    with pytest.raises(RunError, match="runs once"):
        pipeline.start()


def test_ctrl_c_analyses_what_came() -> None:
    sink = FakeSink(delay=0.002)

    def interrupt(status: Status) -> None:
        if status.state is State.RUNNING:
            raise KeyboardInterrupt

    status = Pipeline(FakeSource(range(10**6)), FakeLocaliser(), sink, block=10).run(interrupt)
    assert status.state is State.STOPPED
    assert sink.frames == list(range(status.acquired))


def test_a_source_that_hangs_is_given_up_and_what_came_is_kept() -> None:
    release, hanging, sink = threading.Event(), threading.Event(), FakeSink()

    def hang() -> None:
        hanging.set()
        release.wait(50)

    source = FakeSource(range(100), {30: hang}, ignores_stop=True)
    pipeline = Pipeline(source, FakeLocaliser(), sink, block=10, patience=0.3)
    pipeline.start()
    assert hanging.wait(20)
    pipeline.stop()
    with pytest.raises(SourceStopped, match=r"did not stop within 0\.3 s"):
        pipeline.join()
    assert sink.frames == list(range(30))
    assert sink.closed == 1
    release.set()


def test_a_source_that_waits_for_a_slow_network_is_not_given_up() -> None:
    sink = FakeSink()
    pipeline = Pipeline(FakeSource(range(10**6)), FakeLocaliser(delay=0.4), sink, block=10, queue=1, patience=0.1)
    pipeline.start()
    while pipeline.status().acquired < 30:
        time.sleep(0.01)
    pipeline.stop()
    status = pipeline.join()
    assert status.state is State.STOPPED
    assert sink.frames == list(range(status.acquired))


def test_a_recorder_that_fails_while_the_source_hangs_ends_the_run_with_its_own_error() -> None:
    release = threading.Event()
    source = FakeSource(range(100), {40: lambda: release.wait(50)}, ignores_stop=True)
    pipeline = Pipeline(source, FakeLocaliser(), FakeSink(fails_at=5), block=10, patience=0.2)
    with pytest.raises(RecorderFailed, match="no space"):
        pipeline.run()
    release.set()


def test_a_source_that_ends_early_is_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    Pipeline(FakeSource([0, 1, 4, 5], expected=10), FakeLocaliser(), FakeSink()).run()
    assert "announced 10 frames and ended after 6" in caplog.text


def test_frames_are_decided_only_with_their_future() -> None:
    gate, sink = threading.Event(), FakeSink()
    source = FakeSource(range(25), {20: lambda: gate.wait(20)})
    with Pipeline(source, FakeLocaliser(future=3), sink, block=10) as pipeline:
        while len(sink.frames) < 17 or pipeline.status().analysed < 17:
            time.sleep(0.001)
        assert pipeline.status().pending == (range(17, 20),)
        gate.set()


def test_elapsed_time_and_rates_come_from_the_clock() -> None:
    ticks = iter(range(10**6))
    status = Pipeline(FakeSource(range(50)), FakeLocaliser(), FakeSink(), clock=lambda: float(next(ticks))).run()
    assert status.elapsed >= 1
    assert status.frames_per_second == 50 / status.elapsed


def test_with_a_real_recorder_the_log_holds_every_frame(tmp_path: Path) -> None:
    log = tmp_path / "localisations.arrows"
    status = Pipeline(FakeSource(range(300)), FakeLocaliser(), Recorder(log), block=16).run()
    table = read_log(log)
    assert table.column("frame").to_pylist() == list(range(300))
    assert table.num_rows == status.localisations
