"""Programs that write recordings, as processes of their own or step by step. Run: python growing_writers.py KIND …"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INDEX_SPACE = 25 * 2**20


def frame(number: int, height: int = 12, width: int = 16, dtype: Any = np.uint16) -> NDArray[Any]:
    """Noise whose first pixel is the frame number, so that a lost, swapped or half frame shows."""
    pixels = np.random.default_rng(number).integers(0, 250, (height, width)).astype(dtype)
    pixels[0, 0] = number
    return pixels


class NDTiffWriter:
    """ndstorage's writer, its index handled as Micro-Manager does: written at once, into space that is reserved."""

    def __init__(self, folder: Path, reserve: bool = True, flush: bool = True) -> None:
        from ndstorage import NDTiffDataset  # slow to load, and most writers do without

        self._dataset: Any = NDTiffDataset(
            str(folder), name="rec", writable=True, summary_metadata={"PixelSize_um": 0.1}
        )
        self.path = folder / "rec_1"
        self._reserve, self._flush = reserve, flush

    def write(self, number: int, pixels: NDArray[Any] | None = None, **axes: Any) -> None:
        tags = {"ElapsedTime-ms": 100 + number * 25, "Exposure": 20, "Core-Camera": "Cam", "Cam-EMGain": "150"}
        began = self._dataset.current_writer is not None
        self._dataset.put_image({"time": number} | axes, frame(number) if pixels is None else pixels, tags)
        if self._flush or not began:
            self._dataset._index_file.flush()
        if self._reserve and not began:
            self._dataset._index_file.truncate(INDEX_SPACE)

    def finish(self) -> None:
        if self._reserve:
            self._dataset._index_file.truncate(self._dataset._index_file.tell())
        self._dataset.finish()


class MicroManagerTiff:
    """Micro-Manager's OME-TIFF: space reserved, an index of pages, metadata behind the pixels, OME-XML at the end."""

    PAGES = 1000

    def __init__(self, path: Path, planned: int, height: int = 12, width: int = 16) -> None:
        self.path, self._planned, self._shape = path, planned, (height, width)
        summary = json.dumps({"Frames": planned, "PixelSize_um": 0.1, "Interval_ms": 0}).encode()
        self._index = 40 + len(summary)
        self._at = self._index + 8 + 20 * self.PAGES
        self._file = path.open("w+b", buffering=0)
        self._file.truncate(self._at + planned * (height * width * 2 + 2000) + 2_000_000)
        self._put(40, summary)
        self._put(self._index, struct.pack("<II", 3453623, self.PAGES))
        header = struct.pack(
            "<HHI II II II II", 0x4949, 42, self._at, 54773648, self._index, 0, 0, 0, 0, 2355492, len(summary)
        )
        self._put(0, header)
        self._written: list[int] = []

    def write(self, number: int, pixels: NDArray[Any] | None = None, **tags: int) -> None:
        for at, part in self.parts(number, pixels, **tags):
            self._put(at, part)
        self.done()

    def parts(self, number: int, pixels: NDArray[Any] | None = None, **tags: int) -> list[tuple[int, bytes]]:
        """What is written for an image, in order: page, pixels, resolution, metadata."""
        data = (frame(number, *self._shape) if pixels is None else pixels).astype("<u2").tobytes()
        told: dict[str, Any] = {
            "FrameIndex": number,
            "ChannelIndex": 0,
            "SliceIndex": 0,
            "Exposure-ms": 20,
            "BitDepth": 14,
        }
        told |= {"ElapsedTime-ms": 100 + number * 25, "PixelSizeUm": 0.1} | tags
        text = json.dumps(told).encode() + b"\0"
        first = not self._written
        entries = 17 if first else 13
        after = self._at + 2 + 12 * entries + 4
        resolution, meta = after + len(data), after + len(data) + 16
        height, width = self._shape
        rows = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1)]
        rows += [(270, 2, 0, 0)] * 2 if first else []
        rows += [(273, 4, 1, after), (277, 3, 1, 1), (278, 3, 1, height), (279, 4, 1, len(data))]
        rows += [(282, 5, 1, resolution), (283, 5, 1, resolution + 8), (296, 3, 1, 3)]
        rows += [(50838, 4, 0, 0), (50839, 1, 0, 0)] if first else []
        rows.append((51123, 2, len(text), meta))
        self._next = meta + len(text)
        page = struct.pack("<H", entries) + b"".join(struct.pack("<HHII", *row) for row in rows)
        self._number = number
        return [
            (self._at, page + struct.pack("<I", self._next)),
            (after, data),
            (resolution, struct.pack("<IIII", 100000, 1, 100000, 1)),
            (meta, text),
        ]

    def put(self, at: int, data: bytes) -> None:
        self._put(at, data)

    def done(self) -> None:
        """The image is written: into the index of pages with it."""
        entry = struct.pack("<IIIII", 0, 0, self._number, 0, self._at)
        self._put(self._index + 8 + 20 * len(self._written), entry)
        self._written.append(self._at)
        self._at = self._next

    def end_chain(self) -> None:
        """No page follows: at the end, or because the next file goes on."""
        last = self._written[-1]
        entries = 17 if len(self._written) == 1 else 13
        self._put(last + 2 + 12 * entries, struct.pack("<I", 0))

    def finish(self, files: list[tuple[str, int]] | None = None) -> None:
        """``files``: name and pages of every file of the recording, in order."""
        self.end_chain()
        xml = self._xml(files or [(self.path.name, len(self._written))]).encode() + b"\0"
        self._put(self._at, xml)
        first = self._written[0] + 2 + 12 * 5
        self._put(first, struct.pack("<HHII", 270, 2, len(xml), self._at))
        self._file.truncate(self._at + len(xml) + 8)
        self._file.close()

    def _xml(self, files: list[tuple[str, int]]) -> str:
        height, width = self._shape
        total = sum(count for _, count in files)
        places = [(name, ifd) for name, count in files for ifd in range(count)]
        data = "".join(
            f'<TiffData FirstC="0" FirstT="{t}" FirstZ="0" IFD="{ifd}" PlaneCount="1"><UUID FileName="{name}">u:{name}'
            "</UUID></TiffData>"
            for t, (name, ifd) in enumerate(places)
        )
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="u:{self.path.name}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" '
            f'SizeX="{width}" SizeY="{height}" SizeC="1" SizeZ="1" SizeT="{total}" PhysicalSizeX="0.1" '
            f'PhysicalSizeXUnit="µm"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
        )

    def _put(self, at: int, data: bytes) -> None:
        self._file.seek(at)
        self._file.write(data)


class PageWriter:
    """tifffile, a page at a time, each on disk when it is written."""

    def __init__(self, path: Path, **options: Any) -> None:
        import tifffile

        self.path = path
        self._writer = tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False))
        self._options = options

    def write(self, number: int, pixels: NDArray[Any] | None = None) -> None:
        self._writer.write(
            frame(number) if pixels is None else pixels, contiguous=False, metadata=None, **self._options
        )
        self._writer._fh.flush()

    def finish(self) -> None:
        self._writer.close()


WRITERS: dict[str, Callable[[Path, int], Any]] = {
    "ndtiff": lambda folder, _: NDTiffWriter(folder),
    "ndtiff_bare": lambda folder, _: NDTiffWriter(folder, reserve=False),
    "micromanager": lambda folder, frames: MicroManagerTiff(folder / "rec_MMStack_Pos0.ome.tif", frames),
    "tiff": lambda folder, _: PageWriter(folder / "rec.tif"),
    "bigtiff": lambda folder, _: PageWriter(folder / "rec.tif", bigtiff=True),
    "compressed": lambda folder, _: PageWriter(folder / "rec.tif", compression="zlib"),
}
PATHS = {"ndtiff": "rec_1", "ndtiff_bare": "rec_1", "micromanager": "rec_MMStack_Pos0.ome.tif"}


def main(kind: str, folder: Path, frames: int, rate: float, source: str) -> None:
    """Write so many frames at a rate [1/s], with the time of each in a file beside: frame i was whole at times[i]."""
    stack = np.load(source) if source else None
    began = time.monotonic()
    writer = WRITERS[kind](folder, frames)
    times = []
    for number in range(frames):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        writer.write(number, None if stack is None else stack[number])
        times.append(time.time())
    writer.finish()
    temporary = folder / "times.tmp"
    temporary.write_text(json.dumps(times))
    temporary.replace(folder / "times.json")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5] if len(sys.argv) > 5 else "")
