"""Does the acquisition fit the model? Looks at the first frames and what was found in them, and warns in words."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.special import erf

from acquisition.camera import Camera
from acquisition.source import Frames
from engine.runtimes.model_file import ModelDescription, domain_warnings, photon_warnings

logger = logging.getLogger(__name__)

FRAMES = 50
"""Frames looked at, or fewer where they are large."""
PIXELS = 8_000_000
"""Most pixels kept for it."""
REACH = 4
"""A spot is looked at this far around its pixel [pixels]; others must be twice as far away."""
SPOTS = 200
"""Spots fitted at most, the brightest first."""
FEWEST = 10
"""With fewer isolated spots the width is not judged."""
WIDTHS = np.geomspace(0.5, 4.0, 43)
"""PSF widths that are tried, standard deviation [pixels]."""


class DomainCheck:
    """An Observer that checks once, after the first frames."""

    def __init__(
        self, model: ModelDescription, camera: Camera, psf_sigma: float | None, origin: tuple[int, int] = (0, 0)
    ) -> None:
        """``psf_sigma`` in nm as the settings say, None where they do not; ``origin`` of the frames [pixels]."""
        self._model, self._camera, self._psf_sigma, self._origin = model, camera, psf_sigma, origin
        self._frames: list[Frames] = []
        self._batches: list[pa.RecordBatch] = []
        self._done = False

    def observe(self, frames: Frames | None, batch: pa.RecordBatch) -> None:
        """See Observer.observe."""
        if self._done:
            return
        self._batches.append(batch)
        if frames is not None:
            self._frames.append(frames)
        count = sum(map(len, self._frames))
        if frames is None or count >= FRAMES or count * frames.pixels[0].size >= PIXELS:
            self._check()

    def _check(self) -> None:
        """Warn once, and let go of the frames."""
        self._done = True
        table = pa.Table.from_batches(self._batches)
        deep = "z" in self._model.columns  # out of focus its spots are wider, each by its height
        measured = self._measure(table) if table.num_rows and not deep else None
        for words in self._warnings(table, measured):
            logger.warning("%s", words)
        self._frames, self._batches = [], []

    def _measure(self, table: pa.Table) -> float | None:
        """PSF width on the collected frames [nm]."""
        pixels = np.concatenate([frames.pixels for frames in self._frames])
        numbers = np.concatenate([frames.numbers for frames in self._frames])
        column = {name: table[name].to_numpy().astype(np.float64) for name in ("x", "y", "photons", "frame")}
        frame = np.searchsorted(numbers, column["frame"])
        x = column["x"] / self._camera.pixel_size - self._origin[0]
        y = column["y"] / self._camera.pixel_size - self._origin[1]
        width = psf_width(self._camera.to_photons(pixels), frame, x, y, column["photons"])
        if width is not None:
            logger.info("the PSF measures %.0f nm (%.2f pixels)", width * self._camera.pixel_size, width)
        return None if width is None else width * self._camera.pixel_size

    def _warnings(self, table: pa.Table, measured: float | None) -> list[str]:
        description, camera = self._model, self._camera
        width = measured if measured is not None else self._psf_sigma
        words = domain_warnings(description, pixel_size=camera.pixel_size, psf_sigma=width, em_gain=camera.em_gain)
        if table.num_rows:
            medians = (float(np.median(table[name].to_numpy())) for name in ("photons", "background"))
            words += photon_warnings(description, *medians)
        if measured is not None and self._psf_sigma is not None and abs(measured / self._psf_sigma - 1) > 0.25:
            words.append(
                f"optics.psf_sigma says {self._psf_sigma:.0f} nm, the frames show {measured:.0f} nm. "
                "Check the pixel size and the focus."
            )
        return words


def psf_width(
    photons: NDArray[np.float32],
    frame: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    brightness: NDArray[np.float64],
) -> float | None:
    """Standard deviation of the PSF [pixels] that fits isolated spots best, or None with too few of them.

    ``photons`` (T, H, W); spots: ``frame`` index into T, ``x``, ``y`` from the corner [pixels], ``brightness`` ranks.
    Least squares of an integrated Gaussian plus a constant at the positions given; one width for all spots.
    """
    chosen = _isolated(photons.shape, frame, x, y)
    chosen = chosen[np.argsort(-brightness[chosen])][:SPOTS]
    if len(chosen) < FEWEST:
        return None
    row, column = y[chosen].astype(int), x[chosen].astype(int)
    steps = np.arange(-REACH, REACH + 1)
    patches = photons[frame[chosen, None, None], row[:, None, None] + steps[:, None], column[:, None, None] + steps]
    centre_x, centre_y = (value[chosen] - pixel for value, pixel in ((x, column), (y, row)))
    misfit = [_misfit(patches.astype(np.float64), centre_x, centre_y, width, steps) for width in WIDTHS]
    return float(WIDTHS[int(np.argmin(misfit))])


def _isolated(
    shape: tuple[int, ...], frame: NDArray[np.int64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Spots whose patch lies in the frame and holds no other spot."""
    _, height, width = shape
    inside = (x >= REACH) & (x < width - REACH - 1) & (y >= REACH) & (y < height - REACH - 1)
    points = np.stack([x, y, frame * 100.0 * REACH], 1)
    if len(points) < 2:
        return np.flatnonzero(inside)
    nearest = np.asarray(KDTree(points).query(points, k=2)[0])[:, 1]
    return np.flatnonzero(inside & (nearest > 2 * REACH))


def _misfit(
    patches: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], width: float, steps: NDArray[np.int64]
) -> float:
    """Squared residual of all patches, each after its best amplitude and constant."""
    spot = _profile(y, width, steps)[:, :, None] * _profile(x, width, steps)[:, None, :]
    spot -= spot.mean((1, 2), keepdims=True)
    rest = patches - patches.mean((1, 2), keepdims=True)
    amplitude = (spot * rest).sum((1, 2)) / (spot**2).sum((1, 2))
    return float(((rest - amplitude[:, None, None] * spot) ** 2).sum())


def _profile(centre: NDArray[np.float64], width: float, steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of light (N, K) in each pixel along one axis."""
    edges = (np.append(steps, steps[-1] + 1)[None] - centre[:, None]) / (width * np.sqrt(2))
    return np.asarray(np.diff(0.5 * erf(edges), axis=1))
