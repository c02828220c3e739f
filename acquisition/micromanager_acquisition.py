"""Micro-Manager's camera through pycromanager's Acquisition: Micro-Manager saves the raw frames while liveloc looks."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np

from acquisition.files.metadata import number
from acquisition.micromanager_core import Core, connect, describe, set_up
from acquisition.source import Frames, Pixels, SourceDescription
from config.errors import SourceError, SourceStopped
from config.schema import SourceSettings

log = logging.getLogger(__name__)

WAITING = 256
"""Frames that may wait for the engine; then the acquisition waits, and its own queue grows."""
MOST_AT_ONCE, BYTES_AT_ONCE = 1000, 128_000_000
"""Frames and bytes asked for at once: between two portions the camera stops for a moment."""
FAREWELL = 10.0
"""Seconds that Micro-Manager has to finish its files at the end."""


class MicroManagerAcquisitionSource:
    """A FrameSource whose frames Micro-Manager saves as an NDTiff data set in ``folder``.

    Frames are numbered by the acquisition's time axis. pycromanager takes them from the camera one after the other and
    keeps one processor core busy with it; ``micromanager`` is the quicker source where the raw frames are not needed.
    """

    def __init__(
        self,
        settings: SourceSettings,
        folder: Path,
        roi: list[int] | None = None,
        frames: int | None = None,
        core: Callable[[], Core] | None = None,
    ) -> None:
        """``roi``: x, y, width, height to set on the chip [pixels]; ``frames``: images to take, None without an end.

        ``core`` makes the core where it is not the one that the settings name.
        """
        self.folder = folder
        """Where the raw frames are saved; may be changed until ``blocks`` begins."""
        self._settings, self._roi, self._frames = settings, roi, frames
        self._make_core = core or (lambda: connect(settings))
        self._stopped = threading.Event()
        self._images: queue.Queue[tuple[int, float, Pixels] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._error: SourceError | None = None
        self._came = 0
        """Images that Micro-Manager gave."""
        self._description: SourceDescription | None = None

    def open(self) -> SourceDescription:
        """See FrameSource.open. Raises SourceError, SettingsError."""
        core = self._make_core()
        set_up(core, self._settings, self._roi)
        if self._settings.backend == "python":
            _start_engine(core)
        self._description = describe(core, self._frames)
        return self._description

    def blocks(self, size: int) -> Iterator[Frames]:
        """See FrameSource.blocks. Raises SourceStopped when the acquisition fails or hangs; frames come first."""
        assert self._description is not None
        silence = max(self._settings.silence, 5 * (self._description.exposure or 0.0) / 1000)
        self._thread = threading.Thread(target=self._acquire, name="liveloc-acquisition", daemon=True)
        self._thread.start()
        last, ended = time.monotonic(), False
        while not (self._stopped.is_set() or ended):
            images, ended = self._next(size)
            if images:
                last = time.monotonic()
                numbers, seconds, pixels = zip(*images, strict=True)
                yield Frames(np.stack(pixels), np.array(numbers, np.int64), np.array(seconds))
            elif not ended and time.monotonic() - last > silence:
                raise SourceStopped(
                    f"Micro-Manager's acquisition gave no frame for {silence:g} s. What came before is analysed, and "
                    f"saved in {self.folder}. Check the camera; for a slower one set source.silence."
                )
        if self._error is not None and not self._stopped.is_set():
            raise self._error

    def stop(self) -> None:
        """See FrameSource.stop."""
        self._stopped.set()

    def close(self) -> None:
        """Let Micro-Manager finish its files. May be called twice."""
        self._stopped.set()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        deadline = time.monotonic() + FAREWELL
        while thread.is_alive() and time.monotonic() < deadline:
            with suppress(queue.Empty):  # the hook may wait for room
                self._images.get_nowait()
            thread.join(0.05)
        if thread.is_alive():
            log.warning(
                "Micro-Manager did not finish %s within %g s: look whether it is complete", self.folder, FAREWELL
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self, size: int) -> tuple[list[tuple[int, float, Pixels]], bool]:
        """What is there, at most ``size`` images, and whether it is the end; waits a moment for the first."""
        images = list[tuple[int, float, Pixels]]()
        try:
            item = self._images.get(timeout=0.1)
            while item is not None:
                images.append(item)
                if len(images) == size:
                    return images, False
                item = self._images.get_nowait()
        except queue.Empty:
            return images, False
        return images, True

    def _acquire(self) -> None:
        """The acquisition from start to end, on a thread of its own."""
        import pycromanager

        # Which one it makes, and what that takes, depends on the backend.
        begin = cast("Callable[..., Any]", pycromanager.Acquisition)
        try:
            where = {"directory": str(self.folder.resolve()), "name": "raw"}
            with begin(**where, image_process_fn=self._look, show_display=False) as acquisition:
                for points in self._portions():
                    acquisition.acquire([{"axes": {"time": point}} for point in points])
                    self._wait_for(points.stop - len(points) // 2, acquisition)
                self._wait_for(self._frames, acquisition)
                if self._stopped.is_set():
                    acquisition.abort()
        except Exception as error:  # noqa: BLE001 (a driver may raise anything; it reaches the user in words)
            self._error = SourceStopped(
                f"Micro-Manager's acquisition failed: {error}. What came before is analysed, and saved in "
                f"{self.folder}. Check the camera and the disk."
            )
        finally:
            self._hand_on(None)

    def _portions(self) -> Iterator[range]:
        """Time points to ask for at once: each portion is one sequence of the camera, and may wait in memory."""
        assert self._description is not None
        frame = self._description.height * self._description.width * self._description.dtype.itemsize
        step = int(min(MOST_AT_ONCE, max(16, BYTES_AT_ONCE // frame)))
        for start in itertools.count(0, step):
            stop = start + step if self._frames is None else min(start + step, self._frames)
            if self._stopped.is_set() or stop <= start:
                return
            yield range(start, stop)

    def _wait_for(self, count: int | None, acquisition: Any) -> None:
        """Until so many images came, or nobody wants more. None waits for that alone. Raises what the engine met."""
        while not self._stopped.is_set() and (count is None or self._came < count):
            acquisition._check_for_exceptions()  # noqa: SLF001 (else known only when all is over)
            self._stopped.wait(0.02)

    def _look(self, image: Pixels, metadata: Mapping[str, Any]) -> tuple[Pixels, Mapping[str, Any]]:
        """Called by pycromanager with each image; what it gives back is saved."""
        elapsed = number(metadata.get("ElapsedTime-ms"))
        seconds = elapsed / 1000 if elapsed else np.nan  # pycromanager's own engine writes 0 on every image
        self._hand_on((int(metadata["Axes"]["time"]), seconds, np.array(image)))
        self._came += 1
        return image, metadata

    def _hand_on(self, item: tuple[int, float, Pixels] | None) -> None:
        """Wait for room, unless nobody will make any."""
        while True:
            try:
                self._images.put(item, timeout=0.1)
                return
            except queue.Full:
                if self._stopped.is_set():
                    return


def _start_engine(core: Core) -> None:
    """The acquisition engine of pycromanager for a core in this process; there is one of it."""
    from mmpycorex import launcher
    from pycromanager.acquisition.acq_eng_py.internal.engine import Engine

    if core not in launcher._PYMMCORES:  # noqa: SLF001 (by this list pycromanager tells Python's core from Java's)
        launcher._PYMMCORES.append(core)  # noqa: SLF001
    if Engine.get_instance() is None:
        Engine(core)
