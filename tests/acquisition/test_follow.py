"""The following source: every frame once, in order, whole, soon; its end, and what goes wrong meanwhile."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tifffile

from acquisition.camera import Camera
from acquisition.follow import FollowSource
from acquisition.recorded import RecordedSource
from acquisition.source import Frames, FrameSource
from config.compose import compose
from config.errors import SettingsError, SourceStopped, SourceUnreadable
from engine.runtimes import load_runtime
from engine.runtimes.choice import Wanted
from engine.streaming import StreamingLocaliser
from models.export import build_step
from models.weights import model_path
from simulation.dataset import make_simulator
from tests.acquisition import growing_writers as writers

PROGRAM = Path(__file__).with_name("growing_writers.py")
SECONDS = 60.0
"""Longest that anything here may take on a busy machine."""


class Following(threading.Thread):
    """A source that is read by a thread of its own."""

    def __init__(self, source: FrameSource, size: int = 8) -> None:
        super().__init__(daemon=True)
        self.source, self._size = source, size
        self.blocks: list[Frames] = []
        self.error: Exception | None = None
        self.opened = threading.Event()
        self._news = threading.Condition()
        self.start()

    def run(self) -> None:
        try:
            with self.source:
                self.description = self.source.open()
                self.opened.set()
                for block in self.source.blocks(self._size):
                    with self._news:
                        self.blocks.append(block)
                        self._news.notify_all()
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            self.error = error
        with self._news:
            self._news.notify_all()

    @property
    def numbers(self) -> list[int]:
        return [number for block in list(self.blocks) for number in block.numbers.tolist()]

    @property
    def pixels(self) -> np.ndarray:
        return np.concatenate([block.pixels for block in self.blocks])

    def wait_for(self, frames: int) -> None:
        """Until so many frames have come."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.numbers) >= frames or not self.is_alive(), SECONDS)
        assert len(self.numbers) >= frames, self.error

    def finish(self) -> None:
        self.join(SECONDS)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


@pytest.fixture
def follow() -> Iterator[Callable[..., Following]]:
    started: list[Following] = []

    def begin(path: Path, **options: Any) -> Following:
        started.append(Following(FollowSource(path, **options)))
        return started[-1]

    yield begin
    for following in started:
        following.source.stop()
        following.join(SECONDS)
        assert not following.is_alive()


def path_in(folder: Path, kind: str) -> Path:
    return folder / writers.PATHS.get(kind, "rec.tif")


def expected(frames: list[int]) -> np.ndarray:
    return np.stack([writers.frame(number) for number in frames])


def check(following: Following, frames: list[int]) -> None:
    assert following.numbers == frames
    np.testing.assert_array_equal(following.pixels, expected(frames))


def started(kind: str, folder: Path, frames: int, rate: float, source: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(PROGRAM), kind, str(folder), str(frames), str(rate), source])


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", writers.WRITERS)
def test_what_another_process_writes_comes_once_in_order_and_soon(
    tmp_path: Path, kind: str, follow: Callable[..., Following]
) -> None:
    following = follow(path_in(tmp_path, kind), silence=5.0)
    arrived: dict[int, float] = {}
    program = started(kind, tmp_path, 60, 40)
    while following.is_alive() and len(arrived) < 60:
        following.wait_for(min(60, len(arrived) + 1))
        arrived |= {number: arrived.get(number, time.time()) for number in following.numbers}
    assert program.wait(SECONDS) == 0
    following.finish()
    check(following, list(range(60)))
    written = json.loads((tmp_path / "times.json").read_text())
    delays = np.array([arrived[number] - written[number] for number in range(60)])
    assert np.median(delays) < 0.5


@pytest.mark.parametrize("kind", writers.WRITERS)
def test_a_complete_recording_is_followed_as_it_is_replayed(
    tmp_path: Path, kind: str, follow: Callable[..., Following]
) -> None:
    writer, path = writers.WRITERS[kind](tmp_path, 25), path_in(tmp_path, kind)
    for number in range(25):
        writer.write(number)
    writer.finish()
    following = follow(path, silence=0.5)
    following.finish()
    check(following, list(range(25)))
    with RecordedSource(path) as recorded:
        description = recorded.open()
        (block,) = recorded.blocks(25)
    told = following.description
    assert (told.name, told.camera, told.exposure) == (description.name, description.camera, description.exposure)
    assert told.frames is None
    times = np.concatenate([block.times for block in following.blocks])
    if kind.startswith("ndtiff"):
        np.testing.assert_allclose(times, block.times)


def test_following_gives_the_same_table_as_replaying_afterwards(
    tmp_path: Path, follow: Callable[..., Following]
) -> None:
    settings = compose(["camera=challenge_emccd", "optics=challenge", "dataset.frames=40", "dataset.height=40"])
    stack = make_simulator(settings).frames(0, 40)
    np.save(tmp_path / "stack.npy", stack)
    following = follow(tmp_path / "rec_1")
    program = started("ndtiff", tmp_path, 40, 50, str(tmp_path / "stack.npy"))
    following.finish()
    assert program.wait(SECONDS) == 0
    np.testing.assert_array_equal(following.pixels, stack)
    with RecordedSource(tmp_path / "rec_1") as recorded:
        recorded.open()
        replayed = localised(list(recorded.blocks(8)))
    live = localised(following.blocks)
    assert replayed.num_rows > 100
    assert live["frame"].equals(replayed["frame"])
    for name in ("x", "y", "photons", "sigma_x", "probability"):
        np.testing.assert_allclose(live[name].to_numpy(), replayed[name].to_numpy(), rtol=1e-3, atol=1e-2)


def localised(blocks: list[Frames]) -> pa.Table:
    settings = compose(["camera=challenge_emccd"])
    camera = Camera.from_settings(settings.camera, {}, blocks[0].pixels.shape[1:], (0, 0))
    localiser = StreamingLocaliser(runtime(), camera)
    return pa.Table.from_batches([*(localiser.push(block) for block in blocks), localiser.flush()])


@cache
def runtime() -> Any:
    return load_runtime(model_path("default"), Wanted("onnx", "cpu", "fp32", 1), build_step)


# --- the beginning ---------------------------------------------------------------------------------------------------


def test_it_may_be_opened_before_the_recording_exists_and_says_that_it_waits(
    tmp_path: Path, follow: Callable[..., Following], caplog: pytest.LogCaptureFixture
) -> None:
    following = follow(tmp_path / "later" / "rec_1")
    until(lambda: "waiting for" in caplog.text)
    assert "not there yet, nor is its folder" in caplog.text
    writer = writers.NDTiffWriter(tmp_path / "later")
    assert not following.opened.is_set()
    for number in range(3):
        writer.write(number)
    following.wait_for(3)
    writer.finish()
    following.finish()
    check(following, [0, 1, 2])
    assert caplog.text.count("waiting for") == 1


def test_stop_ends_the_wait_for_a_recording(tmp_path: Path, follow: Callable[..., Following]) -> None:
    following = follow(tmp_path / "never")
    following.source.stop()
    following.join(5)
    assert isinstance(following.error, SourceStopped)
    assert "before" in str(following.error)


@pytest.mark.parametrize("kind", ["ndtiff", "micromanager", "tiff"])
def test_stop_ends_a_recording_that_goes_on(tmp_path: Path, kind: str, follow: Callable[..., Following]) -> None:
    writer = writers.WRITERS[kind](tmp_path, 50)
    for number in range(5):
        writer.write(number)
    following = follow(writer.path)
    following.wait_for(5)
    following.source.stop()
    following.join(5)
    following.finish()
    check(following, list(range(5)))
    writer.finish()


def test_the_folder_of_a_micro_manager_stack_is_enough(tmp_path: Path, follow: Callable[..., Following]) -> None:
    following = follow(tmp_path)
    writer = writers.MicroManagerTiff(tmp_path / "rec_MMStack_Pos0.ome.tif", 10)
    (tmp_path / "rec_MMStack_Pos0_1.ome.tif").touch()  # a continuation is no position of its own
    writer.write(0)
    following.wait_for(1)
    writer.finish()
    following.finish()
    check(following, [0])


def test_a_folder_with_several_positions_asks_for_one(tmp_path: Path) -> None:
    for position in range(2):
        (tmp_path / f"rec_MMStack_Pos{position}.ome.tif").touch()
    with pytest.raises(SourceUnreadable, match=r"several positions: rec_MMStack_Pos0.*Pos1"):
        FollowSource(tmp_path).open()


# --- half of something ------------------------------------------------------------------------------------------------


def test_a_half_written_entry_of_the_index_is_not_given(tmp_path: Path, follow: Callable[..., Following]) -> None:
    """The index arrives in pieces, in reserved space and without."""
    writer = writers.NDTiffWriter(tmp_path / "made", reserve=False)
    for number in range(4):
        writer.write(number)
    writer.finish()
    index = (writer.path / "NDTiff.index").read_bytes()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(writer.path / "rec_NDTiffStack.tif", copy)
    with (copy / "NDTiff.index").open("wb", buffering=0) as file:
        file.truncate(len(index) * 2)
        following = follow(copy)
        entry = len(index) // 4
        for byte in range(0, len(index), 7):
            file.write(index[byte : byte + 7])
            assert len(following.numbers) <= (byte + 7) // entry
        following.wait_for(4)
        file.truncate(len(index))
    following.finish()
    check(following, [0, 1, 2, 3])


@pytest.mark.parametrize("parts", range(4))
def test_a_half_written_page_of_micro_manager_is_not_given(
    tmp_path: Path, parts: int, follow: Callable[..., Following]
) -> None:
    """Space is reserved, so only what stands behind the pixels tells that they are there."""
    writer = writers.MicroManagerTiff(tmp_path / "rec.ome.tif", 10)
    writer.write(0)
    pieces = writer.parts(1)
    at, data = pieces[parts]
    for where, piece in pieces[:parts]:
        writer.put(where, piece)
    writer.put(at, data[: len(data) // 2])
    following = follow(writer.path)
    following.wait_for(1)
    looks(following)
    assert following.numbers == [0]
    for where, piece in pieces[parts:]:
        writer.put(where, piece)
    writer.done()
    following.wait_for(2)
    writer.finish()
    following.finish()
    check(following, [0, 1])


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 5}, {"compression": "zlib"}], ids=str)
def test_a_page_that_arrives_in_pieces_is_given_whole(
    tmp_path: Path, options: dict[str, Any], follow: Callable[..., Following]
) -> None:
    writer = writers.PageWriter(tmp_path / "made.tif", **options)
    for number in range(3):
        writer.write(number)
    writer.finish()
    data = (tmp_path / "made.tif").read_bytes()
    following = follow(tmp_path / "rec.tif", silence=1.0)
    with (tmp_path / "rec.tif").open("wb", buffering=0) as file:
        for begin in range(0, len(data), 97):
            file.write(data[begin : begin + 97])
            time.sleep(0.002)
    following.finish()
    check(following, [0, 1, 2])


# --- the end ---------------------------------------------------------------------------------------------------------


def test_the_end_marker_ends_it_at_once_and_silence_alone_does_not(
    tmp_path: Path, follow: Callable[..., Following]
) -> None:
    writer = writers.NDTiffWriter(tmp_path)
    writer.write(0)
    following = follow(writer.path, silence=SECONDS)
    following.wait_for(1)
    looks(following)
    assert following.is_alive()
    writer.finish()
    following.finish()
    check(following, [0])


def test_a_dataset_goes_on_in_the_next_file(tmp_path: Path, follow: Callable[..., Following]) -> None:
    """A full file is cut like the last one, before the next one is there: that must not be taken for the end."""
    writer = writers.NDTiffWriter(tmp_path, reserve=False)
    for number in range(3):
        writer.write(number)
    following = follow(writer.path)
    following.wait_for(3)
    full = writer._dataset.current_writer
    cut = full.finished_writing

    def cut_and_linger() -> None:
        cut()
        looks(following, 0.2)

    full.finished_writing, full.has_space_to_write = cut_and_linger, lambda *_: False
    for number in range(3, 6):
        writer.write(number)
    following.wait_for(6)
    assert len(list(writer.path.glob("*.tif"))) == 2
    writer.finish()
    following.finish()
    check(following, list(range(6)))


def test_a_stack_that_micro_manager_splits_goes_on_in_the_next_file(
    tmp_path: Path, follow: Callable[..., Following]
) -> None:
    names = [f"rec_MMStack_Pos0{part}.ome.tif" for part in ("", "_1", "_2")]
    files = [writers.MicroManagerTiff(tmp_path / names[0], 4)]
    following = follow(tmp_path / names[0])
    for number in range(12):
        if number in (4, 8):
            files[-1].end_chain()
            following.wait_for(number)
            files.append(writers.MicroManagerTiff(tmp_path / names[len(files)], 4))
        files[-1].write(number)
    following.wait_for(12)
    for file in reversed(files):
        file.finish([(name, 4) for name in names])
    following.finish()
    check(following, list(range(12)))
    with RecordedSource(tmp_path / names[0]) as recorded:
        recorded.open()
        (block,) = recorded.blocks(20)
    np.testing.assert_array_equal(block.pixels, following.pixels)


def test_a_tiff_ends_with_a_silence_that_is_named(
    tmp_path: Path, follow: Callable[..., Following], caplog: pytest.LogCaptureFixture
) -> None:
    writer = writers.PageWriter(tmp_path / "rec.tif")
    writer.write(0)
    following = follow(writer.path, silence=0.4)
    following.finish()
    check(following, [0])
    assert "nothing was written for 0.4 s: taken for its end (source.silence)" in caplog.text
    writer.finish()


def test_a_dataset_whose_writer_died_is_an_error_after_a_silence(
    tmp_path: Path, follow: Callable[..., Following]
) -> None:
    program = started("ndtiff", tmp_path, 10_000, 50)
    following = follow(tmp_path / "rec_1", silence=0.5)
    following.wait_for(10)
    program.kill()
    program.wait(SECONDS)
    following.join(SECONDS)
    check(following, list(range(len(following.numbers))))
    assert isinstance(following.error, SourceStopped)
    assert "end marker is missing" in str(following.error)
    assert "source.silence" in str(following.error)


def test_images_that_are_not_in_the_index_yet_are_no_silence(tmp_path: Path, follow: Callable[..., Following]) -> None:
    writer = writers.NDTiffWriter(tmp_path, reserve=False, flush=False)
    writer.write(0)
    following = follow(writer.path, silence=2.0)
    following.wait_for(1)
    for number in range(1, 16):
        looks(following, 0.2)
        writer.write(number)
    assert following.is_alive()
    assert following.numbers == [0]
    writer.finish()
    following.finish()
    check(following, list(range(16)))


# --- gaps, axes, windows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ndtiff", "micromanager"])
def test_a_time_point_that_was_left_out_is_a_gap(tmp_path: Path, kind: str, follow: Callable[..., Following]) -> None:
    writer = writers.WRITERS[kind](tmp_path, 10)
    for number in (0, 1, 4, 5, 9):
        writer.write(number)
    following = follow(writer.path)
    following.wait_for(5)
    writer.finish()
    following.finish()
    check(following, [0, 1, 4, 5, 9])
    times = np.concatenate([block.times for block in following.blocks])
    np.testing.assert_allclose(times, np.array([0, 1, 4, 5, 9]) * 0.025)


def test_another_axis_of_one_place_is_no_matter_and_a_second_place_is_refused(
    tmp_path: Path, follow: Callable[..., Following]
) -> None:
    writer = writers.NDTiffWriter(tmp_path)
    for number in range(3):
        writer.write(number, channel="red")
    following = follow(writer.path)
    following.wait_for(3)
    writer.write(3, channel="blue")
    following.join(SECONDS)
    check(following, [0, 1, 2])
    assert isinstance(following.error, SourceUnreadable)
    assert "only one axis, time" in str(following.error)
    writer.finish()


def test_channels_of_a_micro_manager_stack_are_refused(tmp_path: Path, follow: Callable[..., Following]) -> None:
    writer = writers.MicroManagerTiff(tmp_path / "rec.ome.tif", 10)
    writer.write(0)
    writer.write(0, ChannelIndex=1)
    following = follow(writer.path)
    following.join(SECONDS)
    assert isinstance(following.error, SourceUnreadable)
    assert "time, Channel" in str(following.error)
    writer.finish()


def test_frames_out_of_order_end_it(tmp_path: Path, follow: Callable[..., Following]) -> None:
    writer = writers.NDTiffWriter(tmp_path)
    for number in (0, 2, 1):
        writer.write(number)
    following = follow(writer.path)
    following.join(SECONDS)
    assert isinstance(following.error, SourceStopped)
    assert "time point 1 was written after 2" in str(following.error)
    writer.finish()


def test_frames_of_another_size_end_it(tmp_path: Path, follow: Callable[..., Following]) -> None:
    writer = writers.PageWriter(tmp_path / "rec.tif")
    writer.write(0)
    writer.write(1, writers.frame(1, height=14))
    following = follow(writer.path)
    following.join(SECONDS)
    assert isinstance(following.error, SourceUnreadable)
    assert "different sizes" in str(following.error)
    writer.finish()


def test_window_and_region(tmp_path: Path, follow: Callable[..., Following]) -> None:
    writer = writers.NDTiffWriter(tmp_path)
    for number in range(10):
        writer.write(number)
    following = follow(writer.path, start=3, stop=8, roi=(2, 1, 9, 7))
    following.finish()  # without the end marker: frame 8 needs nothing more
    assert following.numbers == [3, 4, 5, 6, 7]
    np.testing.assert_array_equal(following.pixels, expected([3, 4, 5, 6, 7])[:, 1:8, 2:11])
    assert following.description.origin == (2, 1)
    times = np.concatenate([block.times for block in following.blocks])
    np.testing.assert_allclose(times, np.arange(3, 8) * 0.025)
    writer.finish()


def test_impossible_windows_and_regions_are_refused(tmp_path: Path) -> None:
    writer = writers.NDTiffWriter(tmp_path)
    writer.write(0)
    with pytest.raises(SettingsError, match=r"run\.stop"):
        FollowSource(writer.path, 5, 5).open()
    with pytest.raises(SettingsError, match=r"run\.start"):
        FollowSource(writer.path, -1).open()
    with pytest.raises(SettingsError, match=r"run\.roi"):
        FollowSource(writer.path, roi=(10, 0, 10, 4)).open()
    writer.finish()


# --- what cannot be followed, and what goes away ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"), [(b"\x89PNG\r\n\x1a\n", "a PNG picture"), (b"frame,x,y\n", "of an unknown kind")]
)
def test_files_that_are_no_stack_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(SourceUnreadable, match=f"cannot be followed: it is {message}"):
        FollowSource(tmp_path / "a.tif").open()


def test_colour_floats_and_imagej_stacks_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((3, 8, 8), np.float32), photometric="minisblack")
    tifffile.imwrite(tmp_path / "imagej.tif", np.zeros((3, 8, 8), np.uint16), imagej=True)
    tifffile.imwrite(tmp_path / "two.ome.tif", np.zeros((3, 2, 8, 8), np.uint16), metadata={"axes": "TCYX"}, ome=True)
    for name, message in (
        ("rgb.tif", "RGB"),
        ("float.tif", "floating-point"),
        ("imagej.tif", "written in one go|writes in one go"),
        ("two.ome.tif", "2 channel"),
    ):
        with pytest.raises(SourceUnreadable, match=message):
            FollowSource(tmp_path / name).open()


@pytest.mark.skipif(os.name == "nt", reason="Windows deletes and replaces no file that is open")
@pytest.mark.parametrize("kind", ["ndtiff", "micromanager", "tiff"])
@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_a_recording_that_is_deleted_or_replaced_ends_the_run_with_its_name(
    tmp_path: Path, kind: str, fate: str, follow: Callable[..., Following]
) -> None:
    (tmp_path / "other").mkdir()
    writer, other = (writers.WRITERS[kind](folder, 10) for folder in (tmp_path, tmp_path / "other"))
    for number in range(3):
        writer.write(number)
        other.write(number)
    following = follow(writer.path, silence=SECONDS)
    following.wait_for(3)
    writer.path.rename(tmp_path / "gone")
    if fate == "replaced":
        other.path.rename(writer.path)
    following.join(SECONDS)
    check(following, [0, 1, 2])
    assert isinstance(following.error, SourceStopped)
    assert fate in str(following.error) or "deleted" in str(following.error)
    assert writer.path.name in str(following.error)


def test_a_stack_that_is_cut_short_ends_the_run(tmp_path: Path, follow: Callable[..., Following]) -> None:
    writer = writers.PageWriter(tmp_path / "rec.tif")
    for number in range(5):
        writer.write(number)
    following = follow(writer.path, silence=SECONDS)
    following.wait_for(5)
    os.truncate(writer.path, writer.path.stat().st_size // 2)
    following.join(SECONDS)
    assert isinstance(following.error, SourceStopped)
    assert "cut short" in str(following.error)


def test_blocks_before_open_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="before open"):
        next(FollowSource(tmp_path).blocks(1))


def test_waiting_costs_next_to_nothing(tmp_path: Path, follow: Callable[..., Following]) -> None:
    costs = []
    for kind in ("ndtiff", "micromanager", "tiff"):
        writer = writers.WRITERS[kind](tmp_path, 10)
        writer.write(0)
        following = follow(writer.path, silence=SECONDS)
        following.wait_for(1)
        began = time.thread_time(), time.process_time(), time.monotonic()
        following.join(1.0)
        costs.append((time.process_time() - began[1]) / (time.monotonic() - began[2]))
        following.source.stop()
        following.finish()
        writer.finish()
    assert max(costs) < 0.1


def looks(following: Following, seconds: float = 0.4) -> None:
    """Let the source look a few times at what has not changed; it must neither end nor give anything."""
    following.join(seconds)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
