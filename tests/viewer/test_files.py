"""Feeds of files and run folders: what the window is told, and that no localisation comes twice or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from config.errors import TableError, WireError
from engine.output.formats import FORMATS, read_table, write_table
from engine.output.recorder import Recorder, read_log
from engine.output.table import describe_field
from tests.viewer.engine import engine, filaments, write_account
from viewer.client import WireFeed
from viewer.feed import Answered, Began, Feed, Link, LinkChanged, News, QualityCame, Rows, StatusCame
from viewer.files import LOG, PORTION, QUALITY_STREAM, FileFeed, RunFeed, open_feed, read_quality

PATIENCE = 60.0
TABLES = Path(__file__).parents[3] / "shared" / "data" / "tables"
Kind = TypeVar("Kind")


class Reader:
    """Collects what a feed tells."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.news: list[News] = []

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{self.links[-3:]}, {self.rows} rows"
            news = self.feed.take()
            if news is None:
                time.sleep(0.005)
            else:
                self.news.append(news)

    def until_link(self, link: Link) -> LinkChanged:
        self.until(lambda: any(change.link is link for change in self.links))
        return next(change for change in self.links if change.link is link)

    def until_rows(self, rows: int) -> None:
        self.until(lambda: self.rows == rows)

    def until_began(self, name: str) -> None:
        """Forgets what came before."""
        self.until(lambda: Began(name) in self.news)
        self.news = self.news[self.news.index(Began(name)) :]

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [news for news in self.news if isinstance(news, kind)]

    @property
    def links(self) -> list[LinkChanged]:
        return self.of(LinkChanged)

    @property
    def rows(self) -> int:
        return sum(news.batch.num_rows for news in self.of(Rows))

    @property
    def table(self) -> pa.Table:
        return pa.Table.from_batches([news.batch for news in self.of(Rows)])


@contextmanager
def reading(feed: Feed) -> Iterator[Reader]:
    feed.start()
    try:
        yield Reader(feed)
    finally:
        feed.stop()
    assert f"feed {feed.name}" not in {thread.name for thread in threading.enumerate()}


def same(one: pa.Table, other: pa.Table) -> None:
    for name in one.column_names:
        np.testing.assert_array_equal(one.column(name).to_numpy(), other.column(name).to_numpy(), err_msg=name)


@pytest.mark.parametrize("suffix", list(FORMATS))
def test_a_file_of_every_format_comes_whole(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{suffix}"
    facts = describe_field("run", 100.0, 128, 128, frames=50, psf_sigma=130.0)
    write_table(pa.Table.from_batches([filaments(2000, 1)]).replace_schema_metadata(facts), path)
    with reading(open_feed(str(path), pixel_size=100.0)) as reader:
        reader.until_link(Link.DONE)
        assert reader.rows == 2000
        same(reader.table, read_table(path, 100.0))


def test_a_large_file_comes_in_portions(tmp_path: Path) -> None:
    write_table(pa.Table.from_batches([filaments(2 * PORTION + 5, 1)]), tmp_path / "table.parquet")
    with reading(FileFeed(tmp_path / "table.parquet")) as reader:
        reader.until_link(Link.DONE)
        assert [news.batch.num_rows for news in reader.of(Rows)] == [0, PORTION, PORTION, 5]


def test_a_table_of_places_alone_is_shown(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, 2.0], "y": [3.0, 4.0]}), tmp_path / "table.parquet")
    with reading(FileFeed(tmp_path / "table.parquet")) as reader:
        reader.until_link(Link.DONE)
        assert reader.table.column("y").to_pylist() == [3.0, 4.0]
        assert np.isnan(reader.table.column("photons").to_numpy()).all()


BROKEN = {
    "empty.csv": b"",
    "no.parquet": b"no Parquet",
    "no.hdf5": b"no HDF5",
    "no.arrows": b"\x00" * 64,
    "columns.csv": b"a,b\n1,2\n",
}


@pytest.mark.parametrize(("name", "content"), BROKEN.items())
def test_what_is_no_table_is_told(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with reading(FileFeed(tmp_path / name)) as reader:
        assert Path(name).stem in reader.until_link(Link.FAILED).words


@pytest.mark.skipif(not TABLES.is_dir(), reason="the shared test data is not here")
@pytest.mark.parametrize(
    ("name", "rows"),
    [("lacy_eyfp_thunderstorm.csv", 40408), ("thunderstorm_3d.csv", 0), ("picasso_locs.hdf5", 0)],
)
def test_real_tables_open(name: str, rows: int) -> None:
    with reading(open_feed(str(TABLES / name))) as reader:
        reader.until_link(Link.DONE)
        assert reader.rows == rows or (rows == 0 and reader.rows > 100)


def test_a_finished_run(tmp_path: Path) -> None:
    with engine(tmp_path / "run") as run:
        run.write(5)
        run.end("stopped: enough")
    with reading(open_feed(str(tmp_path / "run"))) as reader:
        assert "stopped: enough" in reader.until_link(Link.ENDED).words
        same(reader.table, read_log(tmp_path / "run" / LOG))
        assert reader.of(StatusCame)[-1].status["missing"] == 2
        reader.feed.command("pause", {})
        reader.until(lambda: reader.of(Answered))
        assert reader.of(Answered)[0].refused


def test_a_crashed_run_is_shown_as_far_as_it_went(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / LOG)
    recorder.write(filaments(300, 1))
    recorder.write(filaments(300, 2))
    with (tmp_path / LOG).open("r+b") as log:
        log.truncate((tmp_path / LOG).stat().st_size - 100)
    write_account(tmp_path, "tcp://127.0.0.1:5998", "running")
    with reading(RunFeed(tmp_path)) as reader:
        assert "does not answer" in reader.until_link(Link.LOST).words
        assert reader.rows == 300
    recorder.close()


def test_a_log_is_followed_from_before_its_beginning_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with reading(RunFeed(folder)) as reader:
        reader.until_link(Link.WAITING)
        folder.mkdir()
        recorder = Recorder(folder / LOG)
        for part in range(4):
            recorder.write(filaments(100, part))
            reader.until_rows(100 * (part + 1))
        assert reader.links[-1].link is Link.LIVE
        recorder.close()
        write_account(folder, None, "finished")
        reader.until_link(Link.ENDED)
        same(reader.table, read_log(folder / LOG))


def test_a_run_that_goes_on_is_followed_by_wire_and_its_end_by_the_log(tmp_path: Path) -> None:
    with engine(tmp_path / "run") as run:
        run.write(3)
        feed = RunFeed(run.folder)
        with reading(feed) as reader:
            reader.until(lambda: reader.rows == run.rows and feed.takes_commands)
            run.write(3)
            reader.until(lambda: reader.rows == run.rows)
            feed.command("mark", {"text": "here"})
            reader.until(lambda: reader.of(Answered))
            assert run.commands == [("mark", {"text": "here"})]
            run.publisher.stop()  # as if the engine died between recording and publishing
            run.recorder.write(filaments(50, 99))
            reader.until_link(Link.LOST)
            reader.until(lambda: reader.rows == run.rows + 50)
            assert not feed.takes_commands
            run.recorder.close()
            write_account(run.folder, run.endpoint, "failed: power cut")
            reader.until_link(Link.ENDED)
            same(reader.table, read_log(run.folder / LOG))


def test_another_run_at_the_old_address_is_left_alone(tmp_path: Path) -> None:
    with engine(tmp_path / "new") as other:
        other.write(2)
        recorder = Recorder(tmp_path / "old" / LOG)
        recorder.write(filaments(70, 1))
        write_account(tmp_path / "old", other.endpoint, "running")
        with reading(RunFeed(tmp_path / "old")) as reader:
            reader.until_link(Link.LOST)
            assert reader.rows == 70
        recorder.close()


def quality_batch(seconds: float) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"time": seconds, "frc": None, "density": 1.5}], QUALITY)


QUALITY = pa.schema([("time", pa.float64()), ("frc", pa.float64()), ("density", pa.float64())])


@pytest.mark.parametrize("torn", [0, 20])
def test_figures_of_a_crashed_run_are_read_as_far_as_they_are_whole(torn: int, tmp_path: Path) -> None:
    parts = [QUALITY.serialize(), quality_batch(1.0).serialize(), quality_batch(2.0).serialize()]
    data = b"".join(part.to_pybytes() for part in parts)
    (tmp_path / QUALITY_STREAM).write_bytes(data[: len(data) - torn])
    rows = read_quality(tmp_path)
    assert [row["time"] for row in rows] == ([1.0] if torn else [1.0, 2.0])
    recorder = Recorder(tmp_path / LOG)
    recorder.close()
    write_account(tmp_path, None, "finished")
    with reading(RunFeed(tmp_path)) as reader:
        reader.until_link(Link.ENDED)
        assert reader.of(QualityCame)[0].figures == {"time": 1.0, "frc": None, "density": 1.5}


TARGETS: dict[str, tuple[str, type[Any]]] = {
    "an address": ("tcp://127.0.0.1:5601", WireFeed),
    "host and port": ("microscope:5601", WireFeed),
    "IPv6": ("tcp://[::1]:5601", WireFeed),
    "a folder": ("run", RunFeed),
    "a folder to come": ("later", RunFeed),
    "a run's log": ("run/localisations.arrows", RunFeed),
    "a file": ("table.csv", FileFeed),
}


@pytest.mark.parametrize(("target", "kind"), TARGETS.values(), ids=TARGETS.keys())
def test_what_a_target_names(target: str, kind: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOG).touch()
    write_account(tmp_path / "run", None, "finished")
    (tmp_path / "table.csv").touch()
    assert type(open_feed(target)) is kind


def test_a_file_that_is_not_there_is_no_folder_to_come(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no file"):
        open_feed(str(tmp_path / "table.csv"))


@pytest.mark.parametrize("target", ["tcp://host:port", "tcp://", "nowhere/at/all"])
def test_what_names_nothing_is_refused(target: str) -> None:
    with pytest.raises(WireError):
        open_feed(target)


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TableError, match=r"\.txt"):
        open_feed(str(tmp_path / "notes.txt"))


def test_a_feed_waits_while_the_window_is_busy_and_stops_at_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / LOG)
    write_account(tmp_path, None, "running")
    feed = RunFeed(tmp_path)
    feed.start()
    for part in range(600):
        recorder.write(filaments(1, part))
        if part % 50 == 0:
            time.sleep(0.25)
    began = time.monotonic()
    feed.stop()
    assert time.monotonic() - began < 5
    recorder.close()
