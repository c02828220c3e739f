"""The rows of figures on disk."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from config.errors import TableError
from engine.monitor.figures import QUALITY_SCHEMA, Quality
from engine.monitor.quality_log import STREAM, TABLE, QualityLog, read_quality

ROOT = Path(__file__).parents[3]


def row(number: int) -> Quality:
    return Quality(
        number + 1.0, 100 * number, 100 * number + 99, 100, 500, 24.0, 5.0, 0.2, None, 900.0, None, 12.0, 140.0, -1.0,
        2.0, None, [[0.25, 0.5], [0.75, 1.0]], ["too dim"],
    )  # fmt: skip


def test_rows_become_a_table_at_the_end(tmp_path: Path) -> None:
    log = QualityLog(tmp_path)
    for number in range(5):
        log.write(row(number))
    assert read_quality(tmp_path / STREAM).num_rows == 5
    log.close()
    log.close()
    table = pq.read_table(tmp_path / TABLE)
    assert table.schema.equals(QUALITY_SCHEMA)
    assert table.to_pylist() == [row(number).figures() for number in range(5)]
    assert read_quality(tmp_path / TABLE).equals(table)
    assert [path.name for path in tmp_path.iterdir()] == [TABLE]


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    QualityLog(tmp_path).close()
    assert read_quality(tmp_path / TABLE).num_rows == 0


@pytest.mark.parametrize("cut", [1, 100, 400])
def test_a_torn_end_leaves_the_rows_before(tmp_path: Path, cut: int) -> None:
    log = QualityLog(tmp_path)
    sizes = []
    for number in range(4):
        log.write(row(number))
        sizes.append((tmp_path / STREAM).stat().st_size)
    torn = tmp_path / "torn.arrows"
    torn.write_bytes((tmp_path / STREAM).read_bytes()[: sizes[3] - cut])
    assert read_quality(torn)["frame"].to_pylist() == [99, 199, 299]
    log.close()


def test_kill_leaves_every_row_that_was_written(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from engine.monitor.quality_log import QualityLog;"
        "from tests.engine.monitor.test_quality_log import row; log = QualityLog(Path(sys.argv[1]));"
        "[log.write(row(n)) for n in range(7)]; sys.stdout.write('written\\n'); sys.stdout.flush(); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"written"
        process.kill()
    assert process.returncode in (-getattr(signal, "SIGKILL", 9), 1)
    assert read_quality(tmp_path / STREAM).num_rows == 7


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_once_and_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = QualityLog(tmp_path)
    log.write(row(0))
    assert log._file is not None
    log._file.close()
    log._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115, PTH123 (the log closes it)
    with caplog.at_level(logging.WARNING):
        log.write(row(1))
        log.write(row(2))
        log.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"the figures of quality cannot be written to {tmp_path / STREAM}: No space left on device"
    ]
    assert read_quality(tmp_path / STREAM).num_rows == 1


def test_a_folder_that_cannot_be_written_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = QualityLog(tmp_path / "nowhere")
    log.write(row(0))
    log.close()
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"\xff" * 64])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("a.arrows", "a.parquet"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TableError, match="holds no figures"):
            read_quality(tmp_path / name)
    with pytest.raises(TableError):
        read_quality(tmp_path / "missing.arrows")
