"""Micro-Manager's camera as a source: liveloc starts its sequence and takes every image out of the core's buffer.

A thread of its own speaks to the core, since a call to a Micro-Manager that has died never comes back. The sequence is
started so that it stops when the buffer is full: Micro-Manager's Live mode would overwrite frames without a word.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import numpy as np

from acquisition.micromanager_core import MOST_BUFFER, Core, Image, abandon, connect, describe, pop_image, set_up
from acquisition.source import Frames, SourceDescription
from config.errors import SourceError, SourceStopped
from config.schema import SourceSettings

log = logging.getLogger(__name__)

ENDLESS = 2**31 - 1
"""Images of a sequence without an end: what Micro-Manager itself asks cameras for."""
WAITING = 8
"""Blocks that may wait for the engine; then frames wait in Micro-Manager's own buffer."""
SHORTEST_WAIT, LONGEST_WAIT = 0.002, 0.05
"""Seconds between two looks at an empty buffer."""
FAREWELL = 5.0
"""Seconds that the core has to stop the camera at the end."""


class MicroManagerSource:
    """A FrameSource over pycromanager's Core, backend java or python (acquisition/micromanager_core.py)."""

    def __init__(
        self,
        settings: SourceSettings,
        roi: list[int] | None = None,
        frames: int | None = None,
        core: Callable[[], Core] | None = None,
    ) -> None:
        """``roi``: x, y, width, height to set on the chip [pixels]; ``frames``: images to take, None without an end.

        ``core`` makes the core where it is not the one that the settings name.
        """
        self._settings, self._roi, self._frames = settings, roi, frames
        self._make_core = core or (lambda: connect(settings))
        self._stopped = threading.Event()
        self._core: Core | None = None
        self._popper: _Popper | None = None
        self._description: SourceDescription | None = None

    @property
    def core(self) -> Core:
        """The core, once the source is open. Raises SourceError before."""
        if self._core is None:
            raise SourceError("the camera is not open yet.")
        return self._core

    def open(self) -> SourceDescription:
        """See FrameSource.open. Raises SourceError, SettingsError."""
        self._core = self._make_core()
        set_up(self._core, self._settings, self._roi)
        self._description = describe(self._core, self._frames)
        return self._description

    def blocks(self, size: int) -> Iterator[Frames]:
        """See FrameSource.blocks. Raises SourceStopped when the camera ends, hangs or changes; frames come first."""
        assert self._description is not None
        exposure = (self._description.exposure or 0.0) / 1000
        self._popper = popper = _Popper(self.core, self._description, size, self._frames, self._stopped)
        popper.start()
        silence, last = max(self._settings.silence, 5 * exposure), time.monotonic()
        while not self._stopped.is_set():
            try:
                frames = popper.blocks.get(timeout=0.1)
            except queue.Empty:
                if time.monotonic() - last > silence:
                    raise SourceStopped(
                        f"{self._description.name} gave no frame for {silence:g} s: the camera hangs, waits for a "
                        "trigger, or Micro-Manager was closed. What came before is analysed. Check the camera; for a "
                        "slower one set source.silence."
                    ) from None
                continue
            if frames is None:
                break
            last = time.monotonic()
            yield frames
        if popper.error is not None and not self._stopped.is_set():
            raise popper.error

    def stop(self) -> None:
        """See FrameSource.stop."""
        self._stopped.set()

    def close(self) -> None:
        """Stop the camera. One that does not stop within a few seconds is left to itself, and it is said."""
        self._stopped.set()
        popper, self._popper = self._popper, None
        if popper is None or popper.ident is None:
            return
        popper.join(FAREWELL)
        if popper.is_alive():
            abandon(self.core, popper)
            log.warning("Micro-Manager did not answer within %g s: stop the camera there", FAREWELL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Popper(threading.Thread):
    """Runs the camera's sequence and empties the core's buffer into ``blocks``; None follows the last one."""

    def __init__(
        self, core: Core, description: SourceDescription, size: int, frames: int | None, stopped: threading.Event
    ) -> None:
        super().__init__(name="liveloc-micromanager", daemon=True)
        self._core, self._description, self._size, self._frames = core, description, size, frames
        self._stopped = stopped
        self.blocks: queue.Queue[Frames | None] = queue.Queue(WAITING)
        self.error: SourceError | None = None
        """Why the sequence ended, where it should not have."""
        self._taken, self._last = 0, -1
        exposure = (description.exposure or 0.0) / 1000
        self._wait = min(LONGEST_WAIT, max(SHORTEST_WAIT, exposure / 2))

    def run(self) -> None:
        """Called by the thread."""
        try:
            self._core.start_sequence_acquisition(self._frames or ENDLESS, 0.0, True)
            try:
                self._empty_buffer()
            finally:
                self._core.stop_sequence_acquisition()
        except SourceError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 (a driver may raise anything; it reaches the user in words)
            self.error = SourceStopped(
                f"{self._description.name} failed after {self._taken} frames: {error}. What came before is analysed. "
                "Check the camera in Micro-Manager."
            )
        finally:
            self._hand_on(None)

    def _empty_buffer(self) -> None:
        while not self._stopped.is_set():
            # Asked before the buffer is looked at: a frame that comes between the two is not missed.
            running = self._core.is_sequence_running()
            count = int(self._core.get_remaining_image_count())
            if count:
                self._take(min(count, self._size))
            elif not running:
                self._check_end()
                return
            else:
                self._stopped.wait(self._wait)

    def _take(self, count: int) -> None:
        images = list[Image]()
        try:
            for _ in range(count):
                image = pop_image(self._core)
                self._check(image)
                images.append(image)
                self._last = image.number
        finally:  # what came before a failure is given
            self._taken += len(images)
            if images:
                self._hand_on(_block(images))

    def _check(self, image: Image) -> None:
        """Whether it belongs to the sequence. Raises SourceStopped."""
        if image.number <= self._last:
            raise SourceStopped(
                f"frame {image.number} came after frame {self._last}: another sequence was started on the camera, or "
                "it is several cameras under one name. What came before is analysed. Let one camera run, and nothing "
                "else start it."
            )
        if image.pixels.shape == (self._description.height, self._description.width):
            return
        raise SourceStopped(
            f"frame {image.number} has {image.pixels.shape[1]}×{image.pixels.shape[0]} pixels, those before "
            f"{self._description.width}×{self._description.height}: the region or binning was changed during the run. "
            "What came before is analysed. Start a new run."
        )

    def _check_end(self) -> None:
        """The buffer is empty and the sequence over. Raises SourceStopped where it should go on."""
        if self._core.is_buffer_overflowed():
            raise SourceStopped(
                f"Micro-Manager's buffer was full after {self._taken} frames, and the camera was stopped so that none "
                "is lost unseen: this computer does not take frames out as fast as they come. What came is analysed. "
                "Set a smaller run.roi or a longer exposure; where frames come in bursts, a larger source.buffer (it "
                f"was {self._core.get_circular_buffer_memory_footprint()} MB; liveloc asks for {MOST_BUFFER} at most)."
            )
        if self._frames is None or self._taken < self._frames:
            raise SourceStopped(
                f"the camera stopped after {self._taken} frames, and not because liveloc asked. Somebody may have "
                "stopped it in Micro-Manager, or its driver has. What came is analysed."
            )

    def _hand_on(self, frames: Frames | None) -> None:
        """Wait for room, unless nobody will make any."""
        while True:
            try:
                self.blocks.put(frames, timeout=0.1)
                return
            except queue.Full:
                if self._stopped.is_set():
                    return


def _block(images: list[Image]) -> Frames:
    return Frames(
        np.stack([image.pixels for image in images]),
        np.array([image.number for image in images], np.int64),
        np.array([image.seconds for image in images], np.float64),
    )
