"""What publishing costs, how fast a late client catches up, and fifty engines killed while they publish.

`pytest -m benchmark tests/benchmarks/test_wire.py`. Figures go to the terminal.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from config.schema import WireSettings
from engine.output.publisher import Publisher
from engine.output.recorder import Recorder
from engine.output.subscriber import Subscriber
from tests.engine.output.live_wire import live_run, numbered_batch, reading
from tests.engine.output.test_subscriber import kill_while_publishing

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

Report = Callable[[str], None]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Writes a line to the terminal, though output is captured."""

    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")

    return write


class Listeners:
    """Subscribers that read as fast as they can, on threads of their own."""

    def __init__(self, endpoint: str, count: int) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(endpoint,)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _read(self, endpoint: str) -> None:
        with Subscriber(endpoint) as subscriber:
            while not self._stop.is_set():
                subscriber.poll(0.05)

    def __enter__(self) -> Listeners:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Stopwatch:
    """Times of one kind of call [µs]."""

    def __init__(self) -> None:
        self._taken: list[float] = []

    def time(self, work: Callable[[], None]) -> None:
        began = time.perf_counter()
        work()
        self._taken.append((time.perf_counter() - began) * 1e6)

    @property
    def median(self) -> float:
        return statistics.median(self._taken)

    def __str__(self) -> str:
        return f"{self.median:.0f} µs (99 %: {np.percentile(self._taken, 99):.0f})"


@pytest.mark.parametrize("listeners", [0, 1, 5])
@pytest.mark.parametrize("rows", [50, 1000])
def test_cost_of_publishing_a_batch(tmp_path: Path, report: Report, listeners: int, rows: int) -> None:
    batch, record, publish = numbered_batch(0, rows), Stopwatch(), Stopwatch()
    with live_run(tmp_path / "log.arrows") as run, Listeners(run.endpoint, listeners):
        for _ in range(300):
            record.time(partial(run.recorder.write, batch))
            publish.time(partial(run.publisher.write, batch))
            time.sleep(0.005)
    report(f"{rows} rows, {listeners} listeners: publish {publish}, record {record}")
    assert publish.median < 5000


def test_cost_of_a_preview(tmp_path: Path, report: Report) -> None:
    pixels, rows, cost = np.zeros((512, 512), np.uint16), numbered_batch(0, 50), Stopwatch()
    with live_run(tmp_path / "log.arrows") as run, Listeners(run.endpoint, 1):
        run.write()
        for _ in range(100):
            cost.time(partial(run.publisher.send_preview, 0, pixels, rows))
            time.sleep(0.02)
    report(f"a preview of 512×512: {cost}")
    assert cost.median < 50_000


def test_a_run_with_and_without_a_publisher(tmp_path: Path, report: Report) -> None:
    """The same batches as fast as they can be recorded: what publishing adds to the time of a whole run."""
    batches = [numbered_batch(number, 200) for number in range(1000)]
    seconds = []
    for listeners in (None, 0, 3):
        path = tmp_path / f"{listeners}.arrows"
        with ExitStack() as stack:
            recorder = Recorder(path)
            stack.callback(recorder.close)
            publisher = None
            if listeners is not None:
                publisher = stack.enter_context(Publisher(path, "run", WireSettings(port=0), dict))
                stack.enter_context(Listeners(publisher.endpoint, listeners))
            began = time.perf_counter()
            for batch in batches:
                recorder.write(batch)
                if publisher is not None:
                    publisher.write(batch)
            seconds.append(time.perf_counter() - began)
    logs = [(tmp_path / f"{listeners}.arrows").read_bytes() for listeners in (None, 0, 3)]
    assert logs[0] == logs[1] == logs[2]
    report("1000 batches of 200 rows: {:.2f} s alone, {:.2f} s published, {:.2f} s with 3 listeners".format(*seconds))


def test_speed_of_catching_up(tmp_path: Path, report: Report) -> None:
    with live_run(tmp_path / "log.arrows") as run:
        run.write(1000, rows=1000)
        began = time.perf_counter()
        with reading(run.endpoint) as reader:
            reader.until_batches(1000)
        report(f"a late client had 1,000,000 localisations after {time.perf_counter() - began:.2f} s")


def test_fifty_killed_engines(tmp_path: Path, report: Report, pytestconfig: pytest.Config) -> None:
    found = [kill_while_publishing(tmp_path, pytestconfig.rootpath, seed) for seed in range(50)]
    received, recorded = (sum(rows) for rows in zip(*found, strict=True))
    report(f"50 engines killed: {received:,} localisations received, every one of them among {recorded:,} in the logs")
    assert received > 0


VANISHING = """
import sys
import threading
import time
from pathlib import Path
from tests.engine.output.live_wire import live_run, reading
end, count = time.monotonic() + 120, 0
while time.monotonic() < end:
    with live_run(Path(sys.argv[1]) / f"{count}.arrows") as run, reading(run.endpoint) as reader:
        run.write(60, rows=2000)
        reader.until(lambda: reader.batches)
        ending = threading.Thread(target=run.publisher.stop)
        ending.start()
        reader.until_batches(60)
        ending.join()
    count += 1
sys.stdout.write(str(count))
"""


def test_a_client_survives_engines_that_go_while_it_reads(
    tmp_path: Path, report: Report, pytestconfig: pytest.Config
) -> None:
    """In a process of its own: libzmq aborts the process where it is led into a message that was cut in two."""
    child = [sys.executable, "-c", VANISHING, str(tmp_path)]
    done = subprocess.run(child, cwd=pytestconfig.rootpath, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    report(f"a client outlived {done.stdout} engines")
    assert int(done.stdout) > 10
