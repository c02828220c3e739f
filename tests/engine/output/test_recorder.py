from __future__ import annotations

import errno
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest

from config.errors import RecorderFailed, TableError
from engine.localisations import LOCALISATION_SCHEMA, empty_batch
from engine.output import recorder as recorder_module
from engine.output.recorder import LogTail, Recorder, read_log
from engine.output.table import metadata_of

MakeBatch = Callable[..., pa.RecordBatch]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "localisations.arrows"


@pytest.fixture
def filled(log: Path, make_batch: MakeBatch) -> list[int]:
    """A log of three small batches; gives its size after the header and after each batch."""
    recorder = Recorder(log, {"run_id": "r1"})
    sizes = [log.stat().st_size]
    for number in range(3):
        recorder.write(make_batch(3 + number, number * 10))
        sizes.append(log.stat().st_size)
    recorder.close()
    return sizes


def test_what_is_written_is_read_back_with_its_metadata(log: Path, make_batch: MakeBatch) -> None:
    batches = [make_batch(5, 0), make_batch(7, 10)]
    recorder = Recorder(log, {"run_id": "r1", "pixel_size_nm": "100.0"})
    for batch in batches:
        recorder.write(batch)
    recorder.close()
    table = read_log(log)
    assert recorder.rows == 12
    assert table.equals(pa.Table.from_batches(batches))
    assert metadata_of(table) == {"run_id": "r1", "pixel_size_nm": "100.0"}


def test_any_arrow_reader_opens_a_closed_log(log: Path, filled: list[int]) -> None:
    with pa.ipc.open_stream(log.read_bytes()) as stream:
        assert stream.read_all().num_rows == 3 + 4 + 5


def test_a_batch_is_on_disk_when_write_returns(log: Path, make_batch: MakeBatch) -> None:
    recorder = Recorder(log)
    recorder.write(make_batch(5))
    assert read_log(log).num_rows == 5
    recorder.close()


def test_every_write_is_synced(log: Path, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    recorder = Recorder(log)
    monkeypatch.setattr("os.fsync", lambda _: sizes.append(log.stat().st_size))
    recorder.write(make_batch(5))
    assert sizes == [log.stat().st_size]


def test_an_empty_batch_writes_nothing(log: Path) -> None:
    recorder = Recorder(log)
    before = log.stat().st_size
    recorder.write(empty_batch())
    assert log.stat().st_size == before
    recorder.close()
    assert read_log(log).num_rows == 0


def test_a_part_of_a_batch_is_recorded_as_that_part(log: Path, make_batch: MakeBatch) -> None:
    batch = make_batch(10)
    recorder = Recorder(log)
    recorder.write(batch.slice(3, 4))
    recorder.close()
    assert read_log(log).equals(pa.Table.from_batches([batch.slice(3, 4)]))


def test_an_existing_log_is_not_overwritten(log: Path, filled: list[int]) -> None:
    before = log.read_bytes()
    with pytest.raises(RecorderFailed, match="never overwritten"):
        Recorder(log)
    assert log.read_bytes() == before


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecorderFailed, match=r"run\.output"):
        Recorder(tmp_path / "file" / "localisations.arrows")


def test_a_batch_with_other_columns_is_refused(log: Path) -> None:
    with pytest.raises(RecorderFailed, match="LOCALISATION_SCHEMA"):
        Recorder(log).write(pa.record_batch({"x": [1.0]}))


def test_nothing_is_taken_after_close(log: Path, make_batch: MakeBatch) -> None:
    recorder = Recorder(log)
    recorder.close()
    recorder.close()
    with pytest.raises(RecorderFailed, match="closed"):
        recorder.write(make_batch(1))


def test_a_log_torn_at_any_byte_gives_every_whole_batch(log: Path, filled: list[int]) -> None:
    whole, table = log.read_bytes(), read_log(log)
    rows_at = [0, 3, 7, 12]
    header = range(0, filled[0], 37)  # a torn header has no rows to lose: now and then suffices
    for length in (*header, *range(filled[1] - 9, len(whole))):
        log.write_bytes(whole[:length])
        if length < filled[0]:
            with pytest.raises(TableError, match="header"):
                read_log(log)
            continue
        batches = sum(size <= length for size in filled) - 1
        assert read_log(log).equals(table.slice(0, rows_at[batches])), length


def test_a_tail_of_noughts_as_power_cuts_leave_is_ignored(log: Path, filled: list[int]) -> None:
    log.write_bytes(log.read_bytes()[: filled[2]] + bytes(500))
    assert read_log(log).num_rows == 7


@pytest.mark.parametrize(
    "content", [b"", b"id,frame,x [nm]\n1,2,3\n" * 50, bytes(1000)], ids=["empty", "csv", "noughts"]
)
def test_what_is_no_log_is_a_clear_error(log: Path, content: bytes) -> None:
    log.write_bytes(content)
    with pytest.raises(TableError, match="no liveloc log"):
        read_log(log)


def test_an_arrow_stream_of_something_else_names_the_missing_column(log: Path) -> None:
    log.write_bytes(pa.schema([("frame", pa.int64())]).serialize().to_pybytes())
    with pytest.raises(TableError, match="'x'"):
        read_log(log)


def test_a_missing_log_is_a_clear_error(log: Path) -> None:
    with pytest.raises(TableError, match="cannot be read"):
        read_log(log)


class HalfDisk(io.FileIO):
    """A file on a disk that has room for ``room`` bytes more."""

    room = 0

    def write(self, data: object) -> int:
        part = bytes(cast("memoryview", data))[: self.room]
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(part)
        return super().write(part)


@pytest.mark.parametrize("room", [0, 1, 8, 100, 300])
def test_a_full_disk_is_an_error_and_harms_nothing(
    log: Path, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(recorder_module, "FileIO", HalfDisk)
    monkeypatch.setattr(HalfDisk, "room", 10**6)
    recorder = Recorder(log)
    recorder.write(make_batch(6))
    recorder._file.room = room  # type: ignore[attr-defined]
    with pytest.raises(RecorderFailed, match=r"No space left.*The 6 before are safe"):
        recorder.write(make_batch(9))
    recorder.close()
    assert recorder.rows == 6
    assert pa.ipc.open_stream(log.read_bytes()).read_all().num_rows == 6, "no torn tail is left"


def test_a_disk_full_from_the_start_leaves_no_log(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "FileIO", HalfDisk)
    with pytest.raises(RecorderFailed):
        Recorder(log)
    assert not log.exists()


LIMITED = """
import resource, signal, sys
from pathlib import Path
import pyarrow as pa
from config.errors import RecorderFailed
from engine.localisations import LOCALISATION_SCHEMA
from engine.output.recorder import Recorder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
row = {name: 1 for name in LOCALISATION_SCHEMA.names}
recorder = Recorder(Path(sys.argv[1]))
try:
    while True:
        recorder.write(pa.RecordBatch.from_pylist([row] * 20, LOCALISATION_SCHEMA))
except RecorderFailed as error:
    print(recorder.rows, error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of file size are POSIX's")
def test_a_real_limit_of_the_system_is_met_as_a_full_disk_is(log: Path, pytestconfig: pytest.Config) -> None:
    child = [sys.executable, "-c", LIMITED, str(log)]
    done = subprocess.run(child, cwd=pytestconfig.rootpath, capture_output=True, text=True, timeout=60, check=True)
    rows, message = done.stdout.split(maxsplit=1)
    assert "File too large" in message
    assert int(rows) > 100
    assert pa.ipc.open_stream(log.read_bytes()).read_all().num_rows == int(rows)


WRITER = """
import sys
from pathlib import Path
import pyarrow as pa
from engine.localisations import LOCALISATION_SCHEMA
from engine.output.recorder import Recorder
row = {name: 1 for name in LOCALISATION_SCHEMA.names}
batch = pa.RecordBatch.from_pylist([row] * 400, LOCALISATION_SCHEMA)
recorder = Recorder(Path(sys.argv[1]))
while True:
    recorder.write(batch)
    sys.stdout.write(f"{recorder.rows}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_process_leaves_every_row_it_reported(log: Path, seed: int, pytestconfig: pytest.Config) -> None:
    child = [sys.executable, "-c", WRITER, str(log)]
    with subprocess.Popen(child, cwd=pytestconfig.rootpath, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "400\n"
        time.sleep(random.Random(seed).uniform(0, 0.2))
        process.kill()
        reported = [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    promised = int(reported[-1]) if reported else 400
    assert read_log(log).num_rows >= promised


def test_a_tail_gives_each_batch_once_as_it_comes(log: Path, make_batch: MakeBatch) -> None:
    recorder, tail = Recorder(log, {"run_id": "r1"}), LogTail(log)
    assert tail.read_new() == []
    assert tail.schema is not None
    assert tail.schema.metadata == {b"run_id": b"r1"}
    recorder.write(make_batch(2, 0))
    recorder.write(make_batch(3, 10))
    assert [batch.num_rows for batch in tail.read_new()] == [2, 3]
    assert tail.read_new() == []
    recorder.write(make_batch(4, 20))
    assert [batch.num_rows for batch in tail.read_new()] == [4]
    recorder.close()
    assert tail.read_new() == []


def test_a_tail_read_after_every_few_bytes_gives_every_batch_once(log: Path, filled: list[int], tmp_path: Path) -> None:
    whole, growing = log.read_bytes(), tmp_path / "growing.arrows"
    growing.touch()
    tail, rows = LogTail(growing), []
    for length in (*range(0, len(whole), 29), len(whole)):
        growing.write_bytes(whole[:length])
        rows += [batch.num_rows for batch in tail.read_new()]
    assert rows == [3, 4, 5]


def test_a_tail_notices_that_its_log_was_replaced(log: Path, filled: list[int]) -> None:
    tail = LogTail(log)
    tail.read_new()
    log.write_bytes(log.read_bytes()[: filled[0]])
    with pytest.raises(TableError, match="shorter"):
        tail.read_new()


def test_the_schema_of_the_log_is_the_schema_of_localisations(log: Path, filled: list[int]) -> None:
    assert read_log(log).schema.equals(LOCALISATION_SCHEMA)


def test_batches_that_are_written_together_are_the_same_log_with_one_sync(
    log: Path, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [make_batch(5, 0), empty_batch(), make_batch(7, 10)]
    apart = Recorder(log.with_name("apart.arrows"))
    for batch in batches:
        apart.write(batch)
    apart.close()
    together, synced = Recorder(log), list[int]()
    monkeypatch.setattr(os, "fsync", synced.append)
    together.write_together(batches)
    assert len(synced) == 1
    together.close()
    assert together.rows == apart.rows == 12
    assert log.read_bytes() == apart.path.read_bytes()
