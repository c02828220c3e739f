"""The recorded source: what it reads is what lies in the file, and what it cannot read it says."""

from __future__ import annotations

import os
import struct
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ndstorage import Dataset, NDTiffDataset
from numpy.typing import NDArray

from acquisition.recorded import RecordedSource
from acquisition.source import Frames, FrameSource, SourceDescription
from config.errors import SettingsError, SourceError, SourceUnreadable

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def movie(frames: int = 20, height: int = 12, width: int = 16, dtype: Any = np.uint16) -> NDArray[Any]:
    """Noise whose first pixel is the frame number, so that a lost or swapped frame shows."""
    pixels = np.random.default_rng(7).integers(0, 250, (frames, height, width)).astype(dtype)
    pixels[:, 0, 0] = np.arange(frames)
    return pixels


def replay(path: Path, size: int = 7, **options: Any) -> tuple[SourceDescription, Frames]:
    with RecordedSource(path, **options) as source:
        description = source.open()
        blocks = list(source.blocks(size))
    assert all(0 < len(block) <= size for block in blocks)
    return description, Frames(
        np.concatenate([block.pixels for block in blocks]),
        np.concatenate([block.numbers for block in blocks]),
        np.concatenate([block.times for block in blocks]),
    )


def unreadable(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(SourceUnreadable, match=message):
        replay(path, **options)


def complete_frames(path: Path) -> int:
    """Where the error says that a truncated recording ends; all its frames where there is none."""
    try:
        return len(replay(path)[1])
    except SourceUnreadable as error:
        return int(str(error).split("run.stop=")[1].rstrip("."))


def write(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    tifffile.imwrite(path, pixels, **options)
    return path


def cut(path: Path, keep: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


# --- formats ---------------------------------------------------------------------------------------------------------

FORMATS: dict[str, dict[str, Any]] = {
    "plain": {"metadata": None},
    "shaped": {},
    "bigtiff": {"bigtiff": True},
    "imagej": {"imagej": True},
    "ome": {"ome": True},
    "big-endian": {"byteorder": ">"},
    "big-endian ome": {"byteorder": ">", "ome": True},
    "zlib": {"compression": "zlib"},
    "zlib with predictor": {"compression": "zlib", "predictor": True, "metadata": None},
    "zlib ome": {"compression": "zlib", "ome": True},
    "zlib big-endian": {"compression": "zlib", "byteorder": ">"},
    "strips": {"rowsperstrip": 5},
    "tiles": {"tile": (16, 16), "metadata": None},
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
def test_every_tiff_dialect_gives_its_pixels_and_native_order(
    tmp_path: Path, options: dict[str, Any], dtype: Any
) -> None:
    pixels = movie(dtype=dtype)
    description, frames = replay(write(tmp_path / "a.tif", pixels, **options))
    np.testing.assert_array_equal(frames.pixels, pixels)
    np.testing.assert_array_equal(frames.numbers, np.arange(20))
    assert frames.pixels.dtype == description.dtype == np.dtype(dtype)
    assert frames.pixels.dtype.isnative
    assert (description.height, description.width, description.frames) == (12, 16, 20)


@pytest.mark.parametrize("options", [{}, {"ome": True}, {"compression": "zlib"}, {"imagej": True}], ids=str)
def test_a_single_page_is_a_recording_of_one_frame(tmp_path: Path, options: dict[str, Any]) -> None:
    _, frames = replay(write(tmp_path / "a.tif", movie(1)[0], **options))
    np.testing.assert_array_equal(frames.pixels, movie(1))


def test_pages_written_one_by_one(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for frame in movie():
            writer.write(frame, contiguous=False, software="x" * int(frame[0, 0]))
    _, frames = replay(tmp_path / "a.tif")
    np.testing.assert_array_equal(frames.pixels, movie())


def test_the_content_counts_not_the_suffix(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", movie()).rename(tmp_path / "a.dat")
    np.testing.assert_array_equal(replay(tmp_path / "a.dat")[1].pixels, movie())


def test_imagej_stack_beyond_4_gb_has_one_page_only(tmp_path: Path) -> None:
    """ImageJ then writes one page and all pixels behind it; here on a small scale, and with a small page chain."""
    path = imagej_one_page(tmp_path / "a.tif", movie())
    assert len(tifffile.TiffFile(path).pages) == 1
    np.testing.assert_array_equal(replay(path)[1].pixels, movie())


def imagej_one_page(path: Path, pixels: NDArray[Any]) -> Path:
    count, height, width = pixels.shape
    path.write_bytes(imagej_header(count, height, width) + pixels.astype(">u2").tobytes())
    return path


def imagej_header(count: int, height: int, width: int) -> bytes:
    text = f"ImageJ=1.54f\nimages={count}\nslices={count}\n".encode() + b"\0"
    start = 8 + 2 + 12 * 9 + 4
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 16 << 16),
        (262, 3, 1, 1 << 16),
        (270, 2, len(text), start),
        (273, 4, 1, start + len(text)),
        (277, 3, 1, 1 << 16),
        (278, 4, 1, height),
        (279, 4, 1, height * width * 2),
    ]
    ifd = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", *tag) for tag in tags) + struct.pack(">I", 0)
    return b"MM\0*" + struct.pack(">I", 8) + ifd + text


def split_ome(folder: Path, pixels: NDArray[Any], present: list[int]) -> list[Path]:
    """One OME-TIFF file for each half of the recording, each with the whole description; only ``present`` planes."""
    names = ["rec.ome.tif", "rec_1.ome.tif"]
    half = len(pixels) // 2
    halves = [[place for place in present if place // half == file] for file in (0, 1)]
    planes = "".join(
        f'<TiffData FirstT="{place}" IFD="{ifd}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{file}</UUID></TiffData>'
        for file, name in enumerate(names)
        for ifd, place in enumerate(halves[file])
    )
    times = "".join(f'<Plane TheZ="0" TheC="0" TheT="{t}" DeltaT="{t * 30}" DeltaTUnit="ms"/>' for t in present)
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{}">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="{pixels.shape[2]}" '
        f'SizeY="{pixels.shape[1]}" SizeC="1" SizeZ="1" SizeT="{len(pixels)}" PhysicalSizeX="0.108" '
        f'SignificantBits="12"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}{times}</Pixels></Image></OME>'
    )
    for file, name in enumerate(names):
        with tifffile.TiffWriter(folder / name) as writer:
            for place in halves[file]:
                writer.write(pixels[place], description=xml.format(file), metadata=None, contiguous=False)
    return [folder / name for name in names]


@pytest.mark.parametrize("member", [0, 1])
def test_any_file_of_a_split_ome_tiff_opens_all_of_it(tmp_path: Path, member: int) -> None:
    description, frames = replay(split_ome(tmp_path, movie(), list(range(20)))[member])
    np.testing.assert_array_equal(frames.pixels, movie())
    np.testing.assert_allclose(frames.times, np.arange(20) * 0.03)
    assert description.camera == {"pixel_size": 108.0, "saturation": 4095.0}


def test_missing_time_points_are_gaps(tmp_path: Path) -> None:
    present = [0, 1, 2, 5, 6, 11, 12, 19]
    description, frames = replay(split_ome(tmp_path, movie(), present)[0])
    np.testing.assert_array_equal(frames.numbers, present)
    np.testing.assert_array_equal(frames.pixels, movie()[present])
    np.testing.assert_allclose(frames.times, np.array(present) * 0.03)
    assert description.frames == len(present)


def test_start_and_stop_count_missing_frames(tmp_path: Path) -> None:
    _, frames = replay(split_ome(tmp_path, movie(), [0, 1, 2, 5, 6, 11, 12, 19])[0], start=4, stop=12)
    np.testing.assert_array_equal(frames.numbers, [5, 6, 11])


def test_a_missing_file_of_a_split_ome_tiff_is_told_and_is_a_gap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = split_ome(tmp_path, movie(), list(range(20)))
    first.unlink()
    _, frames = replay(second)
    np.testing.assert_array_equal(frames.numbers, np.arange(10, 20))
    np.testing.assert_array_equal(frames.pixels, movie()[10:])
    assert "10 are not in its files" in caplog.text


def test_ome_member_that_only_names_its_main_file(tmp_path: Path) -> None:
    write(tmp_path / "main.ome.tif", movie(), ome=True)
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><BinaryOnly MetadataFile="{}" UUID="u"/></OME>'
    )
    for name, main in (("part.tif", "main.ome.tif"), ("lost.tif", "gone.ome.tif")):
        write(tmp_path / name, movie(1)[0], description=xml.format(main), metadata=None)
    np.testing.assert_array_equal(replay(tmp_path / "part.tif")[1].pixels, movie())
    unreadable(tmp_path / "lost.tif", r"gone\.ome\.tif, which is not beside it")


def ndtiff(folder: Path, times: list[int], dtype: Any = np.uint16, **axes: list[Any]) -> Path:
    dataset = NDTiffDataset(str(folder), name="rec", writable=True, summary_metadata={"PixelSize_um": 0.1})
    combinations: list[dict[str, Any]] = [{}]
    for axis, values in axes.items():
        combinations = [{**others, axis: value} for others in combinations for value in values]
    for time in times:
        for place, others in enumerate(combinations):
            tags = {"ElapsedTime-ms": 100 + time * 25, "Exposure": 20, "Core-Camera": "Cam", "Cam-EMGain": "150"}
            frame = movie(20, dtype=dtype)[time] + place
            dataset.put_image({"time": time, **others}, frame.astype(dtype), tags)
    dataset.finish()
    return folder / "rec_1"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ndtiff_folder_and_file_in_it(tmp_path: Path, dtype: Any) -> None:
    folder = ndtiff(tmp_path, list(range(20)), dtype)
    for path in (folder, folder / "rec_NDTiffStack.tif", folder / "NDTiff.index"):
        description, frames = replay(path)
        np.testing.assert_array_equal(frames.pixels, movie(dtype=dtype))
        np.testing.assert_allclose(frames.times, np.arange(20) * 0.025)
        assert frames.pixels.dtype == dtype
        assert description.exposure == 20.0
        assert description.camera == {
            "pixel_size": 100.0,
            "em_gain": 150.0,
            "saturation": 255.0 if dtype is np.uint8 else 65535.0,
        }


def test_ndtiff_is_ordered_by_time_and_lost_time_points_are_gaps(tmp_path: Path) -> None:
    _, frames = replay(ndtiff(tmp_path, [7, 2, 3, 9, 4]))
    np.testing.assert_array_equal(frames.numbers, [2, 3, 4, 7, 9])
    np.testing.assert_array_equal(frames.pixels, movie()[[2, 3, 4, 7, 9]])


def test_ndtiff_with_one_more_axis_is_flattened_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, frames = replay(ndtiff(tmp_path, [0, 1, 3], channel=["red", "blue"]))
    np.testing.assert_array_equal(frames.numbers, [0, 1, 2, 3, 6, 7])
    expected = np.stack([movie()[time] + place for time in (0, 1, 3) for place in (0, 1)])
    np.testing.assert_array_equal(frames.pixels, expected)
    assert "4 time × 2 channel" in caplog.text


def test_ndtiff_with_two_more_axes_is_refused(tmp_path: Path) -> None:
    unreadable(
        ndtiff(tmp_path, [0, 1], channel=["red", "blue"], z=[0, 1, 2]), "several axes .*2 time × 2 channel × 3 z"
    )


def test_ndtiff_that_is_still_written_or_was_cut(tmp_path: Path) -> None:
    index = ndtiff(tmp_path, list(range(20))) / "NDTiff.index"
    index.write_bytes(index.read_bytes()[:-10])
    np.testing.assert_array_equal(replay(index.parent)[1].numbers, np.arange(19))
    cut(index.parent / "rec_NDTiffStack.tif", 0.6)
    stop = complete_frames(index.parent)
    assert 5 < stop < 19
    np.testing.assert_array_equal(replay(index.parent, stop=stop)[1].pixels, movie()[:stop])


def test_ndtiff_without_one_of_its_files_or_images(tmp_path: Path) -> None:
    folder = ndtiff(tmp_path, [0, 1])
    (folder / "rec_NDTiffStack.tif").unlink()
    unreadable(folder, r"rec_NDTiffStack\.tif, which the index names, is not there")
    (folder / "NDTiff.index").write_bytes(b"")
    unreadable(folder, "without images")


def raw(path: Path, pixels: NDArray[Any], **changes: Any) -> Path:
    pixels.tofile(path)
    count, height, width = pixels.shape
    told = {
        "Byte Order": ">" if pixels.dtype.byteorder == ">" else "<",
        "Data Type": pixels.dtype.name,
        "Frames": count,
        "Height": height,
        "Width": width,
    } | changes
    text = yaml.safe_dump({key: value for key, value in told.items() if value is not None})
    path.with_suffix(".yaml").write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "u1"])
def test_picasso_raw(tmp_path: Path, dtype: str) -> None:
    fields = {"Pixelsize": 130, "Baseline": 100, "Sensitivity": 0.5, "Gain": 1, "Camera.Integration Time": 50}
    description, frames = replay(raw(tmp_path / "a.raw", movie().astype(dtype), **fields))
    np.testing.assert_array_equal(frames.pixels, movie())
    assert frames.pixels.dtype.isnative
    np.testing.assert_allclose(frames.times, np.arange(20) * 0.05)
    told = {name: description.camera[name] for name in ("pixel_size", "baseline", "e_per_adu", "em_gain")}
    assert told == {"pixel_size": 130.0, "baseline": 100.0, "e_per_adu": 0.5, "em_gain": 1.0}


def test_picasso_raw_errors(tmp_path: Path) -> None:
    unreadable(cut(raw(tmp_path / "cut.raw", movie()), 0.52), r"up to frame 9 are complete.*run\.stop=10")
    unreadable(raw(tmp_path / "float.raw", movie(dtype=np.float32)), "floating-point")
    unreadable(raw(tmp_path / "width.raw", movie(), Width=None), "must say Width")
    unreadable(raw(tmp_path / "kind.raw", movie(), **{"Data Type": "pixels"}), "uint8 or uint16 is needed")
    raw(tmp_path / "alone.raw", movie()).with_suffix(".yaml").unlink()
    unreadable(tmp_path / "alone.raw", r"alone\.yaml with Width, Height, Frames and Data Type must lie beside it")
    raw(tmp_path / "list.raw", movie()).with_suffix(".yaml").write_text("- 1\n")
    unreadable(tmp_path / "list.raw", "must list Width")
    raw(tmp_path / "bad.raw", movie()).with_suffix(".yaml").write_text("a: [\n")
    unreadable(tmp_path / "bad.raw", "cannot be read")


# --- start, stop, region, blocks -------------------------------------------------------------------------------------


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), compressed=st.booleans())
def test_any_window_and_region_and_block_size(tmp_path: Path, data: st.DataObject, compressed: bool) -> None:
    path = tmp_path / f"{compressed}.tif"
    if not path.exists():
        write(path, movie(), compression="zlib" if compressed else None, byteorder=">")
    start = data.draw(st.integers(0, 19))
    stop = data.draw(st.none() | st.integers(start + 1, 30))
    x, y = data.draw(st.integers(0, 15)), data.draw(st.integers(0, 11))
    width, height = data.draw(st.integers(1, 16 - x)), data.draw(st.integers(1, 12 - y))
    size = data.draw(st.integers(1, 25))
    description, frames = replay(path, size, start=start, stop=stop, roi=(x, y, width, height))
    np.testing.assert_array_equal(frames.pixels, movie()[start:stop, y : y + height, x : x + width])
    np.testing.assert_array_equal(frames.numbers, np.arange(20)[start:stop])
    assert description.frames == len(frames)
    assert description.origin == (x, y)
    assert (description.height, description.width) == (height, width)


@pytest.mark.parametrize(
    "roi", [(-1, 0, 4, 4), (0, 0, 17, 4), (10, 0, 7, 4), (0, 9, 4, 4), (0, 0, 0, 4), (0, 0, 4, -1)]
)
def test_a_region_outside_the_frame_is_refused(tmp_path: Path, roi: tuple[int, int, int, int]) -> None:
    with pytest.raises(SettingsError, match=r"run\.roi .* 16 pixels wide and 12 high"):
        replay(write(tmp_path / "a.tif", movie()), roi=roi)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"start": 20}, r"run\.start must be a frame of a\.tif, 0 to 19; it is 20"),
        ({"start": -1}, r"run\.start must be"),
        ({"start": 5, "stop": 5}, r"run\.stop .* above run\.start=5"),
        ({"stop": 0}, r"run\.stop"),
    ],
)
def test_impossible_windows_are_refused(tmp_path: Path, window: dict[str, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replay(write(tmp_path / "a.tif", movie()), **window)


def test_stop_ends_before_the_next_block_and_close_may_come_twice(tmp_path: Path) -> None:
    source: FrameSource = RecordedSource(write(tmp_path / "a.tif", movie()))
    source.open()
    taken = []
    for block in source.blocks(3):
        taken.append(len(block))
        source.stop()
    source.close()
    source.close()
    assert taken == [3]


def test_blocks_before_open_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="before open"):
        next(RecordedSource(tmp_path / "a.tif").blocks(1))


# --- at the rate of the recording -------------------------------------------------------------------------------------


class Clock:
    """Time that passes only in waits."""

    def __init__(self) -> None:
        self.now = 70.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False


def paced(path: Path, clock: Clock, **options: Any) -> RecordedSource:
    return RecordedSource(path, paced=True, clock=clock, wait=clock.wait, **options)


def test_paced_frames_come_when_their_exposure_ends_and_gaps_take_their_time(tmp_path: Path) -> None:
    clock = Clock()
    with paced(ndtiff(tmp_path, [0, 1, 2, 6, 7]), clock) as source:
        assert source.open().exposure == 20.0
        arrivals = [(block.numbers.tolist(), clock.now - 70) for block in source.blocks(8)]
    assert [number for numbers, _ in arrivals for number in numbers] == [0, 1, 2, 6, 7]
    assert all(when == pytest.approx((numbers[-1] + 1) * 0.02) for numbers, when in arrivals)


def test_a_late_reader_of_a_paced_recording_gets_every_frame_in_larger_blocks(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "a.tif", movie(), metadata=None)
    with paced(path, clock, exposure=10.0, start=3) as source:
        assert source.open().exposure == 10.0
        blocks = source.blocks(8)
        assert next(blocks).numbers.tolist() == [3]
        clock.now += 0.055
        assert next(blocks).numbers.tolist() == [4, 5, 6, 7, 8]
        clock.now += 10
        rest = list(blocks)
    assert [block.numbers.tolist() for block in rest] == [list(range(9, 17)), [17, 18, 19]]
    np.testing.assert_array_equal(np.concatenate([block.pixels for block in rest]), movie()[9:])


def test_a_paced_recording_of_unknown_rate_asks_for_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", movie(), metadata=None)
    with pytest.raises(SourceError, match=r"source\.exposure"):
        RecordedSource(path, paced=True).open()
    assert RecordedSource(path).open().exposure is None


def test_stop_ends_the_wait_for_a_paced_frame(tmp_path: Path) -> None:
    source = RecordedSource(write(tmp_path / "a.tif", movie(), metadata=None), paced=True, exposure=60_000.0)
    source.open()
    blocks: list[Frames] = []
    reader = threading.Thread(target=lambda: blocks.extend(source.blocks(4)))
    reader.start()
    source.stop()
    reader.join(10)
    assert not reader.is_alive()
    assert blocks == []
    source.close()


# --- files that hold no frames ---------------------------------------------------------------------------------------


def test_a_missing_file_names_what_is_similar(tmp_path: Path) -> None:
    write(tmp_path / "frames_01.tif", movie())
    unreadable(tmp_path / "frames_1.tif", r"does not exist\. Did you mean frames_01\.tif\?")
    unreadable(tmp_path / "zzzzzzzzzz", "Check the path")
    unreadable(tmp_path / "nowhere" / "frames.tif", "nor does its folder")


def test_a_folder_without_a_dataset(tmp_path: Path) -> None:
    unreadable(tmp_path, "holds no stack either")
    write(tmp_path / "frames.tif", movie())
    unreadable(tmp_path, r"not an NDTiff dataset .*frames\.tif: give one of these")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\x89PNG\r\n\x1a\n", "is a PNG picture, not a stack .* whatever its name says"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        (b"frame,x,y\n", "is of an unknown kind.* Give TIFF"),
        (b"II*\0", "begins like a TIFF but"),
        (b"II*\0\x08\0\0\0\xff\xff", "begins like a TIFF but|not even its first frame"),
        (b"MM\0*\xff\xff\xff\xff", "begins like a TIFF but|not even its first frame"),
    ],
)
def test_files_that_are_no_stack(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    unreadable(tmp_path / "a.tif", message)


@pytest.mark.parametrize("options", [{}, {"ome": True}, {"compression": "zlib"}], ids=str)
@pytest.mark.parametrize(
    ("dtype", "message"),
    [(np.float32, "floating-point .*float32"), (np.int16, "signed"), (np.uint32, "unsigned 8- or 16-bit")],
)
def test_pixels_that_no_camera_gives(tmp_path: Path, options: dict[str, Any], dtype: Any, message: str) -> None:
    unreadable(write(tmp_path / "a.tif", movie(dtype=dtype), **options), message)


@pytest.mark.parametrize("options", [{}, {"ome": True}, {"planarconfig": "separate"}], ids=str)
def test_rgb(tmp_path: Path, options: dict[str, Any]) -> None:
    shape = (4, 3, 12, 16) if "planarconfig" in options else (4, 12, 16, 3)
    path = write(tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric="rgb", **options)
    unreadable(path, "RGB colour images")


def write_pages(path: Path, pages: list[NDArray[Any]], **options: Any) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, metadata=None, contiguous=False, **options)
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("odd", [1, 6, 19])
def test_frames_of_different_sizes(tmp_path: Path, compression: str | None, odd: int) -> None:
    pages = list(movie())
    pages[odd] = pages[odd][:, :-1].copy()
    path = write_pages(tmp_path / "a.tif", pages, compression=compression)
    unreadable(path, rf"different sizes: frame {odd} has shape \(12, 15\), the first has \(12, 16\)")


def test_axes_without_one_order(tmp_path: Path) -> None:
    pixels = np.zeros((3, 2, 4, 12, 16), np.uint16)
    unreadable(write(tmp_path / "a.tif", pixels, ome=True, metadata={"axes": "TCZYX"}), "several axes .*3 time")
    unreadable(write(tmp_path / "b.tif", pixels, imagej=True, metadata={"axes": "TZCYX"}), "several axes .*3 time")
    with tifffile.TiffWriter(tmp_path / "c.ome.tif", ome=True) as writer:
        writer.write(movie())
        writer.write(movie())
    unreadable(tmp_path / "c.ome.tif", "holds 2 images")


def test_imagej_channels_beside_time_are_flattened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = movie().reshape(10, 2, 12, 16)
    _, frames = replay(write(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "TCYX"}))
    np.testing.assert_array_equal(frames.pixels, movie())
    assert "10 time × 2 channel" in caplog.text


# --- truncated files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imagej": True},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"compression": "zlib", "ome": True},
        {"ome": True},
        {"metadata": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("keep", [0.9, 0.55, 0.999])
def test_a_truncated_stack_says_how_far_it_is_good_and_is_good_that_far(
    tmp_path: Path, options: dict[str, Any], keep: float
) -> None:
    path = cut(write(tmp_path / "a.tif", movie(height=40, width=50), **options), keep)
    stop = complete_frames(path)
    assert 0 < stop < 20 or keep == 0.999
    np.testing.assert_array_equal(replay(path, stop=stop)[1].pixels, movie(height=40, width=50)[:stop])


@pytest.mark.parametrize("keep", [0.9, 0.5])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_truncated_pages_written_one_by_one(tmp_path: Path, keep: float, compression: str | None) -> None:
    path = cut(write_pages(tmp_path / "a.tif", list(movie(height=40, width=50)), compression=compression), keep)
    stop = complete_frames(path)
    assert int(20 * keep) - 1 <= stop < 20
    np.testing.assert_array_equal(replay(path, stop=stop)[1].pixels, movie(height=40, width=50)[:stop])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_no_cut_loses_a_frame_without_a_word(tmp_path: Path, compression: str | None) -> None:
    whole = write_pages(tmp_path / "whole.tif", list(movie(6)), compression=compression).read_bytes()
    path = tmp_path / "cut.tif"
    for keep in range(700, len(whole), 13):
        path.write_bytes(whole[:keep])
        stop = complete_frames(path)
        assert stop < 6 or keep > len(whole) - 8
        np.testing.assert_array_equal(replay(path, stop=stop)[1].pixels, movie(6)[:stop])


def test_not_even_one_frame_left(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", movie(height=100, width=100))
    path.write_bytes(path.read_bytes()[:2000])
    unreadable(path, "not even its first frame is complete")


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", movie(height=100, width=100))
    with RecordedSource(path) as source:
        source.open()
        blocks = source.blocks(5)
        next(blocks)
        cut(path, 0.5)
        with pytest.raises(SourceUnreadable, match=r"up to frame 9 are complete"):
            list(blocks)


def test_a_chain_that_breaks_at_the_last_page_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", movie(), metadata=None)
    with tifffile.TiffFile(path) as tiff:
        last = tiff.pages[19].offset
    path.write_bytes(path.read_bytes()[: last + 20])
    unreadable(path, r"up to frame 18 are complete")
    np.testing.assert_array_equal(replay(path, stop=19)[1].pixels, movie()[:19])


@pytest.mark.parametrize("codec", ["lzw", "zstd", "packbits"])
def test_common_codecs_are_read(tmp_path: Path, codec: str) -> None:
    path = write(tmp_path / "a.tif", movie(), compression=codec)
    np.testing.assert_array_equal(replay(path)[1].pixels, movie())


def test_a_codec_that_nothing_reads(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", movie(), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            assert isinstance(page, tifffile.TiffPage)
            page.tags["Compression"].overwrite(32809)  # ThunderScan
    unreadable(path, "cannot be decoded")


def test_a_damaged_compressed_frame_is_named(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.tif", list(movie()), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[8].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = bytes(40)
    path.write_bytes(data)
    unreadable(path, r"frame 8 cannot be decoded .*run\.stop=8")
    np.testing.assert_array_equal(replay(path, stop=8)[1].pixels, movie()[:8])


# --- metadata --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("micron", {"pixel_size": 160.0}), ("\\u00B5m", {"pixel_size": 160.0}), ("pixel", {}), ("inch", {})],
)
def test_imagej_pixel_size_and_frame_interval(tmp_path: Path, unit: str, expected: dict[str, float]) -> None:
    told = {"unit": unit, "finterval": 0.02, "axes": "TYX"}
    path = write(tmp_path / "a.tif", movie(), imagej=True, resolution=(6.25, 6.25), metadata=told)
    description, frames = replay(path, start=3)
    assert description.camera == pytest.approx(expected)
    assert description.exposure == pytest.approx(20.0)
    np.testing.assert_allclose(frames.times, np.arange(3, 20) * 0.02)


def test_ome_metadata(tmp_path: Path) -> None:
    told = {"axes": "TYX", "PhysicalSizeX": 130.0, "PhysicalSizeXUnit": "nm", "TimeIncrement": 50.0}
    path = write(tmp_path / "a.tif", movie(), ome=True, metadata=told | {"TimeIncrementUnit": "ms"})
    description, frames = replay(path)
    assert description.camera == {"pixel_size": 130.0}
    assert description.exposure == pytest.approx(50.0)
    np.testing.assert_allclose(frames.times, np.arange(20) * 0.05)


def test_a_plain_tiff_knows_nothing_of_camera_and_time(tmp_path: Path) -> None:
    description, frames = replay(write(tmp_path / "a.tif", movie(), metadata=None, resolution=(300, 300)))
    assert description.camera == {}
    assert description.exposure is None
    assert np.isnan(frames.times).all()


# --- size ------------------------------------------------------------------------------------------------------------

sparse = pytest.mark.skipif(os.name == "nt", reason="Windows fills the holes of a sparse file: 4 GB would be written")
SIDE = 1024
COUNT = 2200
FRAME_BYTES = SIDE * SIDE * 2
MEMORY = 128 * 2**20


def sparse_file(path: Path, header: bytes, offsets: NDArray[np.int64], order: str) -> Path:
    """A header and frames of zeros that take no disk space, each with its number in the first pixel."""
    with path.open("wb") as file:
        file.write(header)
        for number, offset in enumerate(offsets):
            file.seek(int(offset))
            file.write(struct.pack(f"{order}H", number))
        file.truncate(int(offsets[-1]) + FRAME_BYTES)
    assert path.stat().st_size > 4 * 2**30
    assert path.stat().st_blocks * 512 < 2**28
    return path


def big_tiff_pages(path: Path) -> Path:
    """A BigTIFF as a camera program writes it: each frame behind a page of its own."""
    page = 8 + 20 * 9 + 8
    starts = 16 + np.arange(COUNT, dtype=np.int64) * (page + FRAME_BYTES)
    sparse_file(path, b"II+\0\x08\0\0\0" + struct.pack("<Q", 16), starts + page, "<")
    with path.open("r+b") as file:
        for number, start in enumerate(starts.tolist()):
            file.seek(start)
            following = 0 if number == COUNT - 1 else int(starts[number + 1])
            file.write(big_tiff_ifd(start + page, following))
    return path


def big_tiff_ifd(data: int, following: int) -> bytes:
    tags = [(256, SIDE), (257, SIDE), (258, 16), (259, 1), (262, 1), (273, data), (277, 1), (278, SIDE)]
    entries = [struct.pack("<HHQQ", tag, 16, 1, value) for tag, value in [*tags, (279, FRAME_BYTES)]]
    return struct.pack("<Q", len(entries)) + b"".join(entries) + struct.pack("<Q", following)


def imagej_pages(path: Path) -> Path:
    header = imagej_header(COUNT, SIDE, SIDE)
    return sparse_file(path, header, len(header) + np.arange(COUNT, dtype=np.int64) * FRAME_BYTES, ">")


def tifffile_pages(path: Path) -> Path:
    tifffile.memmap(path, shape=(COUNT, SIDE, SIDE), dtype=np.uint16, bigtiff=True)
    with tifffile.TiffFile(path) as tiff:
        offsets = tiff.pages[0].dataoffsets[0] + np.arange(COUNT, dtype=np.int64) * FRAME_BYTES
    with path.open("r+b") as file:
        for number, offset in enumerate(offsets.tolist()):
            file.seek(offset)
            file.write(struct.pack("<H", number))
    assert path.stat().st_blocks * 512 < 2**28
    return path


@sparse
@pytest.mark.parametrize("make", [tifffile_pages, imagej_pages, big_tiff_pages])
def test_more_than_4_gb_replay_in_little_memory(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path / "big.tif")
    tracemalloc.start()
    try:
        _, corner = replay(path, 64, roi=(0, 0, 8, 8), start=COUNT - 100)
        description, last = replay(path, 64, start=COUNT - 3)
        with RecordedSource(path) as source:
            source.open()
            first = next(source.blocks(64))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        path.unlink()
    np.testing.assert_array_equal(corner.pixels[:, 0, 0], np.arange(COUNT - 100, COUNT))
    np.testing.assert_array_equal(last.pixels[:, 0, 0], np.arange(COUNT - 3, COUNT))
    np.testing.assert_array_equal(first.pixels[:, 0, 0], first.numbers)
    assert description.frames == 3
    assert last.pixels.shape == (3, SIDE, SIDE)
    assert peak < MEMORY


# --- real recordings -------------------------------------------------------------------------------------------------

TIFFS = [
    ("pmhc_af647", (10, 128, 128), {}),
    ("storm_scmos", (11, 256, 256), {}),
    ("spt_nucleus", (50, 178, 144), {"pixel_size": 160.0}),
    ("simulated_microtubules", (361, 64, 64), {"pixel_size": 100.0}),
]


def data(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


@pytest.mark.parametrize(("folder", "shape", "camera"), TIFFS)
def test_real_tiffs(folder: str, shape: tuple[int, ...], camera: dict[str, float]) -> None:
    path = data(f"{folder}/frames.tif")
    description, frames = replay(path, 16)
    assert frames.pixels.shape == shape
    assert frames.pixels.dtype == np.uint16
    np.testing.assert_array_equal(frames.pixels, tifffile.imread(path))
    assert description.camera == pytest.approx(camera)


def test_real_interval_of_the_nucleus() -> None:
    assert replay(data("spt_nucleus/frames.tif"))[0].exposure == pytest.approx(10.68385, abs=1e-4)


def test_real_picasso_raw() -> None:
    path = data("picasso_paint/testdata.raw")
    description, frames = replay(path)
    np.testing.assert_array_equal(frames.pixels, np.fromfile(path, "<u2").reshape(100, 32, 32))
    assert (description.camera["pixel_size"], description.exposure) == (160.0, 300.0)


@pytest.mark.parametrize(
    ("folder", "axis", "bits"), [("12_bit_pycromanager_mda", "channel", 12), ("ndtiff3.2_monochrome", "z", 16)]
)
def test_real_ndtiff(folder: str, axis: str, bits: int) -> None:
    path = data(f"ndtiff/{folder}")
    description, frames = replay(path)
    reader = Dataset(str(path))
    others = sorted(reader.axes[axis])
    expected = [reader.read_image(**{"time": time, axis: other}) for time in reader.axes["time"] for other in others]
    np.testing.assert_array_equal(frames.pixels, np.stack(expected))
    np.testing.assert_array_equal(frames.numbers, np.arange(len(expected)))
    assert description.camera == {"pixel_size": 1000.0, "saturation": 2.0**bits - 1}
    assert np.all(np.diff(frames.times) > 0)


@pytest.mark.parametrize(("start", "stop"), [(0, None), (3, 19)])
def test_some_blocks_are_those_of_the_whole(tmp_path: Path, start: int, stop: int | None) -> None:
    with RecordedSource(write(tmp_path / "a.tif", movie()), start, stop) as source:
        source.open()
        whole = list(source.blocks(6))
        assert source.block_frames(6) == len(whole[0])
        for first in range(len(whole)):
            part = list(source.some_blocks(6, first, first + 2))
            expected = whole[first : first + 2]
            assert [block.numbers.tolist() for block in part] == [block.numbers.tolist() for block in expected]
            assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(part, expected, strict=True))
