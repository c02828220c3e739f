"""A pipeline behind a camera that cannot wait: nothing lost, nothing in the way, memory bounded."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from acquisition.source import Frames
from config.errors import RunError, SettingsError, SourceStopped
from engine.ledger import numbers_of
from engine.output.recorder import read_log
from engine.pipeline import Pipeline
from engine.spool import FrameSpool
from engine.status import State
from tests.engine.doubles import (
    DecodingLocaliser,
    EncodingCamera,
    FakeLocaliser,
    FakeSink,
    FakeSource,
    assert_all_closed,
    frames_of,
)

pytestmark = pytest.mark.timeout(120)

NO_MEMORY = 1e-6
"""Memory for frames that wait [MB]: less than one frame."""
posix = pytest.mark.skipif(sys.platform == "win32", reason="limits and figures of a process as POSIX has them")


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread's work; the test's timeout ends it."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.002)


def test_inference_never_holds_the_camera_up(tmp_path: Path) -> None:
    gate, camera, sink = threading.Event(), EncodingCamera(np.arange(3000)), FakeSink()
    localiser = DecodingLocaliser(gate)
    pipeline = Pipeline(camera, localiser, sink, live=True, memory=2.0, spool=tmp_path)
    pipeline.start()
    assert camera.gave_all.wait(60), "with not one frame analysed, the camera gave them all"
    until(lambda: pipeline.status().acquired == 3000)
    status = pipeline.status()
    assert status.analysed == 0
    assert status.spooled_frames > 3000 - 16 - 2_000_000 // 8192 - 16
    assert status.spooled_bytes > status.spooled_frames * 8192
    assert status.lag == 3000
    gate.set()
    status = pipeline.join()
    assert sink.frames == sink.pixels == list(range(3000))
    assert (status.state, status.lag, status.pending, status.skipped) == (State.FINISHED, 0, (), ())
    assert (status.spooled_frames, status.spooled_bytes) == (0, 0)
    assert localiser.largest == 16
    assert list(tmp_path.iterdir()) == [], "the spool is gone"


@pytest.mark.parametrize("largest", [16, 1])
def test_60000_frames_at_full_speed_are_all_analysed(tmp_path: Path, largest: int) -> None:
    numbers = np.delete(np.arange(60_000 if largest > 1 else 10_000), [5, 6, 7, 4000, 9998])
    camera, sink = EncodingCamera(numbers, largest=largest), FakeSink()
    status = Pipeline(camera, DecodingLocaliser(), sink, live=True, memory=20.0, spool=tmp_path).run()
    assert sink.frames == sink.pixels == numbers.tolist()
    assert status.missing == (range(5, 8), range(4000, 4001), range(9998, 9999))
    overhead = (camera.thread_time - camera.own_time) / len(numbers)
    assert overhead < 500e-6, "the engine's own share of the acquisition thread leaves room for thousands of frames/s"


def test_newest_skips_to_stay_live_and_lists_every_number(tmp_path: Path) -> None:
    camera, sink = EncodingCamera(np.delete(np.arange(2000), 50)), FakeSink()
    gate = threading.Event()
    pipeline = Pipeline(camera, DecodingLocaliser(gate), sink, live=True, policy="newest", block=8, spool=tmp_path)
    pipeline.start()
    assert camera.gave_all.wait(60)
    until(lambda: pipeline.status().acquired == 1999)
    assert pipeline.status().lag <= 3 * 8, "in the network's hands, and two blocks that wait"
    gate.set()
    status = pipeline.join()
    assert status.skipped == status.skipped_behind != ()
    assert sorted([*sink.frames, *numbers_of(status.skipped)]) == numbers_of((range(50), range(51, 2000)))
    assert sink.frames[-15:] == list(range(1985, 2000)), "the newest were kept: 7 and 8 frames, as they came"
    assert (status.missing, status.pending, status.lag) == ((range(50, 51),), (), 0)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(SettingsError, match="every or newest"):
        Pipeline(FakeSource([]), FakeLocaliser(), FakeSink(), policy="latest")


def test_frames_of_a_pause_are_listed_and_marks_are_kept(tmp_path: Path) -> None:
    sink = FakeSink()
    source = FakeSource(range(100))
    pipeline = Pipeline(source, FakeLocaliser(future=1), sink, block=1, live=True, spool=tmp_path)
    source.events = {
        30: lambda: pipeline.handle("pause", {}),
        40: lambda: pipeline.handle("mark", {"text": "buffer changed"}),
        60: lambda: pipeline.handle("start", {}),
    }
    status = pipeline.run()
    assert sink.frames == [*range(30), *range(60, 100)]
    assert (status.skipped_paused, status.skipped, status.missing) == ((range(30, 60),), (range(30, 60),), ())
    assert (status.acquired, status.analysed, status.lag, status.paused) == (100, 70, 0, False)
    (mark,) = status.marks
    assert (mark.text, mark.frame) == ("buffer changed", 39)
    assert 0 <= mark.seconds <= status.elapsed
    assert_all_closed(source, sink)


def test_a_client_may_stop_the_run() -> None:
    source, sink = FakeSource(range(10**6)), FakeSink()
    pipeline = Pipeline(source, FakeLocaliser(), sink, live=True)
    source.events = {
        50: lambda: pipeline.handle("stop", {"text": "cell left"}),
        51: lambda: pipeline.stop("too late to say why"),
    }
    status = pipeline.run()
    assert (status.state, status.end_reason) == (State.STOPPED, "stopped: cell left")
    assert sink.frames == list(range(status.acquired))


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown": ("explode", {}, "start, pause, stop, mark"),
    "not ours": ("target", {"value": 1.0}, "start, pause, stop, mark"),
    "mark without words": ("mark", {}, "1 to 1000 characters"),
    "mark with a number": ("mark", {"text": 7}, "1 to 1000 characters"),
    "mark with a novel": ("mark", {"text": "x" * 5000}, "1 to 1000 characters"),
}


@pytest.mark.parametrize(("command", "arguments", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_commands_that_make_no_sense_are_refused(command: str, arguments: dict[str, Any], words: str) -> None:
    with Pipeline(FakeSource(range(10**6)), FakeLocaliser(), FakeSink()) as pipeline:
        with pytest.raises(RunError, match=words):
            pipeline.handle(command, arguments)
        assert pipeline.status().marks == ()


def test_commands_after_the_end_are_refused() -> None:
    pipeline = Pipeline(FakeSource(range(5)), FakeLocaliser(), FakeSink())
    pipeline.run()
    with pytest.raises(RunError, match="finished"):
        pipeline.handle("pause", {})


@pytest.mark.parametrize("live", [True, False])
def test_a_run_of_so_many_frames(live: bool, tmp_path: Path) -> None:
    source, sink = FakeSource(range(3, 10**6)), FakeSink()
    status = Pipeline(source, FakeLocaliser(), sink, block=16, live=live, frames=50, spool=tmp_path).run()
    assert sink.frames == list(range(3, 53))
    assert (status.state, status.end_reason) == (State.FINISHED, "finished: 50 frames (run.frames)")
    assert status.pending == ()
    assert source.stopped.is_set()


def test_a_run_of_so_many_seconds() -> None:
    ticks, sink = iter(range(10**6)), FakeSink()
    status = Pipeline(
        FakeSource(range(10**6)), FakeLocaliser(), sink, clock=lambda: float(next(ticks)), seconds=500.0
    ).run()
    assert (status.state, status.end_reason) == (State.FINISHED, "finished: 500 s (run.seconds)")
    assert sink.frames == list(range(status.acquired))
    assert status.acquired > 0


def test_time_ends_a_run_whose_camera_gives_no_frames() -> None:
    source, sink = FakeSource(range(100)), FakeSink()
    source.events = {32: lambda: source.stopped.wait(20)}
    status = Pipeline(source, FakeLocaliser(), sink, live=True, seconds=0.3).run()
    assert status.end_reason == "finished: 0.3 s (run.seconds)"
    assert sink.frames == list(range(32))


def test_time_ends_a_run_whose_camera_hangs_and_names_it() -> None:
    source, sink, release = FakeSource(range(100), ignores_stop=True), FakeSink(), threading.Event()
    source.events = {32: lambda: release.wait(50)}
    pipeline = Pipeline(source, FakeLocaliser(), sink, live=True, seconds=0.2, patience=0.2)
    with pytest.raises(SourceStopped, match="did not stop within"):
        pipeline.run()
    assert sink.frames == list(range(32))
    release.set()
    assert pipeline._acquiring.ended.wait(20)


def test_a_region_of_interest_changed_in_the_middle_ends_the_run_after_those_before() -> None:
    def blocks(size: int) -> Iterator[Frames]:
        yield frames_of(list(range(10)))
        yield Frames(np.zeros((3, 8, 8), np.uint16), np.arange(10, 13), np.full(3, np.nan))

    source, sink = FakeSource([]), FakeSink()
    source.blocks = blocks  # type: ignore[method-assign]
    pipeline = Pipeline(source, FakeLocaliser(), sink, live=True)
    with pytest.raises(RunError, match="from frame 10 on they are 8×8"):
        pipeline.run()
    assert sink.frames == list(range(10))
    assert pipeline.status().end_reason.startswith("failed: frames must be 6×4 pixels")
    assert_all_closed(source, sink)


def test_a_full_spool_ends_the_run_and_everything_that_came_is_recorded(tmp_path: Path) -> None:
    gate, camera, sink = threading.Event(), EncodingCamera(np.arange(3000)), FakeSink()
    pipeline = Pipeline(camera, DecodingLocaliser(gate), sink, live=True, memory=2.0, spool=tmp_path)
    assert isinstance(pipeline._queue, FrameSpool)
    pipeline._queue._reserve = 10**18
    pipeline.start()
    assert camera.stopped.wait(60), "the camera is stopped"
    gate.set()
    with pytest.raises(RunError, match=r"cannot be written.*run\.spool"):
        pipeline.join()
    status = pipeline.status()
    assert sink.frames == list(range(status.acquired))
    assert 240 < status.acquired < 300
    assert (status.pending, status.lag) == ((), 0)


@given(
    gaps=st.lists(st.integers(0, 3), min_size=1, max_size=150),
    largest=st.integers(1, 9),
    policy=st.sampled_from(["every", "newest"]),
    live=st.booleans(),
    memory=st.sampled_from([NO_MEMORY, 5e-4, 1.0]),
    toggles=st.lists(st.integers(0, 150), max_size=4),
    future=st.integers(0, 3),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_every_number_is_analysed_once_in_order_or_listed(
    tmp_path: Path,
    gaps: list[int],
    largest: int,
    policy: str,
    live: bool,
    memory: float,
    toggles: list[int],
    future: int,
) -> None:
    numbers = (np.cumsum(np.array(gaps) + 1) - 1).tolist()
    source, sink = FakeSource(numbers), FakeSink()
    pipeline = Pipeline(
        source, FakeLocaliser(future), sink, block=largest, queue=2, live=live, policy=policy, memory=memory,
        spool=tmp_path,
    )  # fmt: skip
    source.events = dict.fromkeys(toggles, lambda: pipeline.resume() if pipeline.status().paused else pipeline.pause())
    status = pipeline.run()
    assert sink.pixels == sink.frames == sorted(set(sink.frames))
    skipped = numbers_of(status.skipped)
    assert sorted([*sink.frames, *skipped]) == numbers
    assert sorted([*numbers, *numbers_of(status.missing)]) == list(range(numbers[0], numbers[-1] + 1))
    assert (status.acquired, status.analysed) == (len(numbers), len(sink.frames))
    assert (status.lag, status.pending) == (0, ())
    assert list(tmp_path.iterdir()) == []


def test_delays_are_measured_from_frame_to_record(tmp_path: Path) -> None:
    status = Pipeline(
        EncodingCamera(np.arange(300)), DecodingLocaliser(), FakeSink(delay=0.05), live=True, spool=tmp_path
    ).run()
    assert status.delay_run is not None
    assert 0.05 <= status.delay_run.median <= status.delay_run.p99 <= status.delay_run.longest <= status.elapsed


@pytest.mark.parametrize("live", [True, False])
def test_a_live_run_records_together_what_waits_and_a_recorded_one_always_the_same(live: bool, tmp_path: Path) -> None:
    written: list[int] = []

    class Slow(FakeSink):
        def write(self, batch: pa.RecordBatch) -> None:
            super().write(batch)
            written.append(batch.num_rows)

    sink = Slow(delay=0.02)
    source = EncodingCamera(np.arange(160))
    Pipeline(source, DecodingLocaliser(), sink, block=4, live=live, spool=tmp_path).run()
    assert sink.frames == list(range(160))
    if live:
        assert max(written) > 4
    else:
        assert written == [4] * 40 + [0]


def child(script: str, *arguments: object) -> dict[str, Any]:
    """What a process of its own prints as JSON at its end."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


PEAK = """
import json, resource, sys, threading
from pathlib import Path
import numpy as np
from engine.pipeline import Pipeline
from tests.engine.doubles import DecodingLocaliser, EncodingCamera, FakeSink

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)

gate, camera, sink = threading.Event(), EncodingCamera(np.arange(int(sys.argv[2])), size=512), FakeSink()
before = peak()
pipeline = Pipeline(camera, DecodingLocaliser(gate), sink, live=True, memory=50.0, spool=Path(sys.argv[1]))
pipeline.start()
camera.gave_all.wait(80)
gate.set()
status = pipeline.join()
print(json.dumps({"grown": peak() - before, "all": sink.frames == sink.pixels == list(range(status.acquired))}))
"""


@posix
@pytest.mark.parametrize("frames", [1000, pytest.param(5000, marks=pytest.mark.benchmark)])
def test_memory_is_bounded_whatever_the_lag(tmp_path: Path, frames: int) -> None:
    told = child(PEAK, tmp_path, frames)
    assert told["all"]
    assert told["grown"] < 200, f"MB, for {frames * 0.524:.0f} MB of frames that waited"


FULL_DISK = """
import json, resource, sys
from pathlib import Path
import numpy as np
from config.errors import RunError
from engine.output.recorder import Recorder
from engine.pipeline import Pipeline
from tests.engine.doubles import DecodingLocaliser, EncodingCamera

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
recorder = Recorder(Path(sys.argv[1]) / "localisations.arrows")
camera = EncodingCamera(np.arange(100_000), size=int(sys.argv[3]))
memory, folder = float(sys.argv[4]), Path(sys.argv[1])
pipeline = Pipeline(camera, DecodingLocaliser(), recorder, live=True, memory=memory, spool=folder)
try:
    pipeline.run()
    error = ""
except RunError as raised:
    error = f"{type(raised).__name__}: {raised}"
status = pipeline.status()
print(json.dumps({"error": error, "rows": status.localisations, "analysed": status.analysed,
                  "acquired": status.acquired, "pending": status.pending and status.pending[0].start}))
"""


@posix
def test_a_disk_that_fills_up_ends_the_run_and_what_was_recorded_stays_readable(tmp_path: Path) -> None:
    told = child(FULL_DISK, tmp_path, 60_000, 8, 500.0)
    assert told["error"].startswith("RecorderFailed: localisations cannot be written")
    table = read_log(tmp_path / "localisations.arrows")
    assert table["frame"].to_pylist() == list(range(told["rows"]))
    assert 0 < told["rows"] == told["analysed"] == told["pending"] < told["acquired"]


@posix
def test_a_spool_that_fills_its_disk_ends_the_run_and_everything_that_came_is_recorded(tmp_path: Path) -> None:
    told = child(FULL_DISK, tmp_path, 2_000_000, 256, NO_MEMORY)
    assert told["error"].startswith("RunError: frames that wait for inference cannot be written")
    table = read_log(tmp_path / "localisations.arrows")
    assert table["frame"].to_pylist() == list(range(told["acquired"]))
    assert [path.name for path in tmp_path.iterdir()] == ["localisations.arrows"]
