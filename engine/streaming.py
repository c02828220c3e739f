"""The streaming localiser: frames in ADU in, localisations in nm out, with the temporal buffer in between.

The buffer itself is the runtime's state: features of the last past + future frames, on the runtime's device. Here live
only the numbers of the frames that still wait for their future.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from acquisition.camera import Camera
from acquisition.source import Frames
from engine.localisations import LOCALISATION_SCHEMA, empty_batch, joined_batches
from engine.runtimes.model_file import ModelDescription
from engine.runtimes.runtime import Runtime, calibrated

PIXELS_A_CALL = 1 << 24
"""Frames that go into one call hold at most this many pixels together, so that large fields do not fill the memory. The
more frames, the less each of them shares in the cost of its neighbours' keys and values."""
AS_THEY_ARE = ("photons", "background", "sigma_photons", "probability", "z", "sigma_z")
"""Columns of a model's rows that are those of the table; a 2-D model has no z."""


class StreamingLocaliser:
    """A Localiser that runs a model file. Owned by the engine's inference thread."""

    def __init__(
        self,
        runtime: Runtime,
        camera: Camera,
        threshold: float = 0.5,
        origin: tuple[int, int] = (0, 0),
        block: int = 16,
    ) -> None:
        """``origin``: (x, y) pixel of the frames' corner on the recorded frame; ``block``: most frames a call."""
        self._runtime = calibrated(runtime, camera)
        self._camera = camera
        self._threshold = threshold
        self._origin = origin
        self._block = block
        self._past, self._future = runtime.description.context
        self._state: Any = None
        self._shape, self._dtype = (0, 0), np.dtype(np.float32)
        self._seen = np.empty(0, np.int64)
        """Numbers of the frames in the state, the newest last; it holds the newest past + future."""

    @property
    def context(self) -> tuple[int, int]:
        """(past, future) frames."""
        return self._past, self._future

    def describe(self) -> ModelDescription:
        """What the model file says of itself."""
        return self._runtime.description

    def push(self, frames: Frames) -> pa.RecordBatch:
        """See Localiser.push. Raises ValueError when the frames' size changes within a movie."""
        step = max(1, min(self._block, PIXELS_A_CALL // frames.pixels[0].size))
        gaps = np.flatnonzero(np.diff(frames.numbers) != 1) + 1
        batches = []
        for run in np.split(np.arange(len(frames)), gaps):
            if len(self._seen) and frames.numbers[run[0]] != self._seen[-1] + 1:
                batches.append(self.flush())
            parts = np.split(run, range(step, len(run), step))
            batches += [self._step(frames.pixels[part[0] : part[-1] + 1], frames.numbers[part]) for part in parts]
        return joined_batches(batches)

    def flush(self) -> pa.RecordBatch:
        """See Localiser.flush. The next push begins a new movie."""
        batch = empty_batch()
        if len(self._seen) and self._future:
            nothing = np.zeros((self._future, *self._shape), self._dtype)
            batch = self._run(nothing, np.zeros(self._future, bool))
        self._state, self._seen = None, np.empty(0, np.int64)
        return batch

    def _step(self, pixels: NDArray[Any], numbers: NDArray[np.int64]) -> pa.RecordBatch:
        if self._state is None:
            self._shape, self._dtype = (pixels.shape[1], pixels.shape[2]), pixels.dtype
            self._state = self._runtime.blank_state(*self._shape)
        elif pixels.shape[1:] != self._shape:
            raise ValueError(f"frames of {pixels.shape[1:]} pixels after frames of {self._shape}")
        self._seen = np.concatenate([self._seen, numbers])
        return self._run(pixels, np.ones(len(numbers), bool))

    def _run(self, pixels: NDArray[Any], exist: NDArray[np.bool_]) -> pa.RecordBatch:
        """One call of the graph; it answers the frames that ``future`` others follow."""
        window = self._past + self._future
        known = len(self._seen) - int(exist.sum())
        earlier = np.arange(window) >= window - known
        rows, self._state = self._runtime.step(pixels, self._state, np.concatenate([earlier, exist]), self._threshold)
        # Frame i of the answer is the sequence's past + i; the sequence's end is the newest frame, real or not.
        batch = self._table(rows, self._seen, known - self._future)
        self._seen = self._seen[max(0, len(self._seen) - window) :] if exist.all() else self._seen
        return batch

    def _table(self, rows: NDArray[np.float32], numbers: NDArray[np.int64], first: int) -> pa.RecordBatch:
        """Model rows in pixels to the table in nm; row 0's frame is ``numbers[first]``."""
        value = dict(zip(self._runtime.description.columns, rows.T, strict=True))
        scale = np.float32(self._camera.pixel_size)
        filled = {
            "frame": numbers[value["frame"].astype(np.int64) + first],
            "x": (value["x"] + np.float32(self._origin[0])) * scale,
            "y": (value["y"] + np.float32(self._origin[1])) * scale,
            "sigma_x": value["sigma_x"] * scale,
            "sigma_y": value["sigma_y"] * scale,
            **{name: value[name] for name in AS_THEY_ARE if name in value},
        }
        columns = [
            pa.array(np.ascontiguousarray(filled[field.name]), field.type)
            if field.name in filled
            else pa.nulls(len(rows), field.type)
            for field in LOCALISATION_SCHEMA
        ]
        return pa.RecordBatch.from_arrays(columns, schema=LOCALISATION_SCHEMA)
