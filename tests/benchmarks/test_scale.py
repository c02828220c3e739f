"""What a second worker brings, what context costs, and how fast a scheduler hands out and rows come back.

`pytest -m benchmark tests/benchmarks/test_scale.py`. Figures go to the terminal; docs/scale.md cites them.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from acquisition.recorded import RecordedSource
from config.compose import compose
from config.schema import Settings
from engine.facts import model_used
from engine.scale.archive import Archive
from engine.scale.cluster import Cluster, connected
from engine.scale.plan import Plan
from engine.scale.stacks import places
from engine.scale.worker import Job, Localised, localise
from models.runtime import open_model
from tests.benchmarks.pretended import RATE, open_pretended

pytest.importorskip("distributed", reason="distributed is not installed (extra cluster)")
pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

SIZE, FRAMES = 64, 2400
ROUNDS = 3
Report = Callable[[str], None]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Writes a line to the terminal, though output is captured."""

    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")

    return write


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated acquisition at density 1."""
    from simulation.dataset import write_dataset

    sizes = (f"dataset.frames={FRAMES}", f"dataset.height={SIZE}", f"dataset.width={SIZE}", "dataset.seed=3")
    folder = tmp_path_factory.mktemp("set")
    return write_dataset(settings("dataset=density_1", *sizes), folder, lambda done: None)


def settings(*overrides: str) -> Settings:
    return compose(["camera=challenge_emccd", "optics=challenge", "run.threads=1", "run.formats=[]", *overrides])


def replay(cluster: Cluster, stack: Path, output: Path) -> tuple[float, float]:
    """Frames a second, from the first chunk handed out to the last one recorded, and workers' processor seconds."""
    chosen = settings("cluster=local", f"run.output={output}")
    (outcome,) = Archive(cluster, chosen, places([stack], str(output)), open_model).run(lambda status, words: None)
    assert outcome.status is not None
    assert outcome.done, outcome.words
    account = json.loads((output / "run.json").read_text(encoding="utf-8"))
    return outcome.status.frames_per_second, sum(one["processor_seconds"] for one in account["cluster"]["workers"])


def test_two_workers_of_one_core_against_one(stack: Path, tmp_path: Path, report: Report) -> None:
    """Alternating rounds, both clusters warm; the ratio of each round's pair, so that a slow minute strikes both."""
    one, two = (settings("cluster=local", f"cluster.workers={workers}") for workers in (1, 2))
    ratios, work = list[float](), 0.0
    with connected(one) as first, connected(two) as second:
        second.client.wait_for_workers(2, timeout=60)
        for number, cluster in enumerate((first, second)):
            replay(cluster, stack, tmp_path / f"warm {number}" / "run")
        for number in range(ROUNDS):
            (alone, work), (together, more) = (
                replay(cluster, stack, tmp_path / f"{number} {name}" / "run")
                for cluster, name in ((first, "one"), (second, "two"))
            )
            ratios.append(together / alone)
            rates = f"one worker {alone:.1f} frames/s, two {together:.1f}"
            report(f"{rates}: × {together / alone:.2f}; processor time × {more / work:.2f}")
    report(f"processor time of one frame of {SIZE}×{SIZE}: {work / FRAMES * 1e3:.2f} ms")
    logs = {path.read_bytes() for path in tmp_path.glob("*/run/localisations.arrows")}
    report(f"two workers against one: × {statistics.median(ratios):.2f} (median of {ROUNDS}); logs: {len(logs)} kind")
    assert len(logs) == 1
    assert statistics.median(ratios) >= 1.7


def test_what_context_costs(stack: Path, report: Report) -> None:
    """Processor time of a stack in chunks over that of the whole, and what the plan says of the frames read."""
    frames = 800
    chosen = settings(f"run.stop={frames}")
    runtime, file = open_model(chosen)
    with RecordedSource(stack, stop=frames) as source:
        source.open()
        block = source.block_frames(chosen.run.block)
    context = runtime.description.context
    job = Job("job", "", stack, chosen, open_model, model_used(runtime, file).sha256)

    def seconds(plan: Plan) -> float:
        done = [localise(job, chunk) for chunk in plan]
        return sum(one.processor_seconds for one in done if isinstance(one, Localised))

    whole = Plan.of(frames, block, context, SIZE**2, chunk=frames)
    seconds(whole)
    for halos in (1, 2, 5, 10, 25):
        cut = Plan.of(frames, block, context, SIZE**2, chunk=halos * whole.warm * block)
        ratio = seconds(cut) / seconds(whole)
        report(f"chunks of {halos} × {whole.warm * block} frames: read × {cut.read / frames:.3f}, time × {ratio:.3f}")


def test_what_a_task_and_its_rows_cost(tmp_path: Path, report: Report) -> None:
    """Chunks that do nothing but come back: tasks a second through the scheduler, and MB/s of rows to the client."""
    with connected(settings("cluster=local", "cluster.workers=2")) as cluster:
        cluster.client.wait_for_workers(2, timeout=60)
        count = 2000
        begun = time.perf_counter()
        cluster.client.gather(cluster.client.map(_nothing, range(count), pure=False))
        each = (time.perf_counter() - begun) / count
        report(f"a task: {each * 1e3:.2f} ms, {1 / each:.0f} tasks/s")
        for megabytes in (1, 16):
            begun = time.perf_counter()
            for future in cluster.client.map(_rows, [megabytes] * 8, pure=False):
                future.result()
            report(f"rows in pieces of {megabytes} MB: {8 * megabytes / (time.perf_counter() - begun):.0f} MB/s")


def test_how_fast_rows_are_recorded(tmp_path: Path, report: Report) -> None:
    """One thread of the client: chunks of 800 frames with 40 rows each, unpacked, appended and synced."""
    import pyarrow as pa

    from engine.localisations import LOCALISATION_SCHEMA
    from engine.output.recorder import Recorder

    blank = np.zeros(640, np.float32)
    columns = [pa.array(blank.astype(np.int64) if field.name == "frame" else blank) for field in LOCALISATION_SCHEMA]
    batch = pa.RecordBatch.from_arrays(columns, schema=LOCALISATION_SCHEMA).serialize().to_pybytes()
    recorder = Recorder(tmp_path / "log.arrows")
    begun, chunks = time.perf_counter(), 40
    for _ in range(chunks):
        got = [pa.ipc.read_record_batch(pa.py_buffer(batch), LOCALISATION_SCHEMA) for _ in range(50)]
        recorder.write_together(got)
    seconds = time.perf_counter() - begun
    recorder.close()
    size = (tmp_path / "log.arrows").stat().st_size
    report(
        f"recorded {recorder.rows / seconds / 1e6:.2f} M rows/s, {size / seconds / 1e6:.0f} MB/s, "
        f"{size / recorder.rows:.1f} B a row"
    )


@pytest.mark.parametrize("workers", [1, 4, 12])
def test_many_workers_that_pretend_a_card_each(tmp_path: Path, workers: int, report: Report) -> None:
    """A simulation: what one client, one scheduler and TLS keep up with, where localising costs no processor."""
    frames = 4000 * workers
    stack, file = tmp_path / "stack.tif", tmp_path / "pretended.onnx"
    file.touch()
    with tifffile.TiffWriter(stack) as writer:
        writer.write(np.full((frames, 16, 16), 120, np.uint16), metadata={"axes": "TYX"})
    chosen = settings("cluster=local", f"cluster.workers={workers}", f"model={file}", "cluster.chunk=800")
    with connected(chosen) as cluster:
        cluster.client.wait_for_workers(workers, timeout=300)
        for name in ("warm", "run"):
            output = tmp_path / name
            archive = Archive(cluster, chosen, places([stack], str(output)), open_pretended)
            (outcome,) = archive.run(lambda status, words: None)
    assert outcome.status is not None
    rate = outcome.status.frames_per_second
    size = (output / "localisations.arrows").stat().st_size / outcome.status.elapsed / 1e6
    report(
        f"{workers} cards of {RATE:.0f} frames/s: {rate:.0f} frames/s, {rate / workers / RATE:.0%} of them; "
        f"rows {size:.1f} MB/s"
    )


@pytest.mark.parametrize(("size", "frames", "how"), [(64, 20_000, "plain"), (512, 800, "plain"), (512, 400, "zlib")])
def test_how_fast_stacks_are_read(tmp_path: Path, size: int, frames: int, how: str, report: Report) -> None:
    """One process, from the system's cache: the decoder's limit, not the disk's."""
    pixels = np.random.default_rng(1).poisson(120, (frames, size, size)).astype(np.uint16)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, pixels, compression=None if how == "plain" else how, metadata={"axes": "TYX"})
    with RecordedSource(path) as source:
        begun = time.perf_counter()
        source.open()
        opened = time.perf_counter() - begun
        begun = time.perf_counter()
        count = sum(len(block) for block in source.blocks(16) if block.pixels.max())  # mapped files are read by this
        seconds = time.perf_counter() - begun
    assert count == frames
    report(
        f"{how} TIFF {size}×{size}: {count / seconds:.0f} frames/s, {pixels.nbytes / seconds / 1e6:.0f} MB/s, "
        f"opened in {opened * 1e3:.0f} ms"
    )


def _nothing(number: int) -> int:
    return number


def _rows(megabytes: int) -> list[bytes]:
    return [bytes(1 << 16)] * (megabytes * 16)
