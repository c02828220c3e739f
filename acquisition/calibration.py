"""Baseline and gain of an undocumented camera, estimated from an ordinary blinking recording.

Photon transfer (Janesick 2007, "Photon Transfer"): shot noise makes variance grow linearly with the mean,
variance = slope · (mean − baseline). Frame-to-frame differences cannot supply the variance here, because emitters that
switch on and off swamp the noise. A microscope cannot resolve what lies beyond its optical cut-off, so the highest
spatial frequencies of every single frame hold noise alone (Heintzmann et al. 2016, "Calibrating photon counts from a
single image", arXiv:1611.05654). We take them with a sixth difference along both axes, average its square and the
equally weighted signal over small tiles, for which the linear law holds exactly, and fit a robust line over tiles
sorted by brightness.

Limits, all stated in the result's docstrings: read noise moves the line, so the baseline found lies below the true one
by variance/slope of the read noise; a PSF narrower than about one pixel leaks into the noise and makes photons per ADU
too small; so does EM excess noise, which is folded in on purpose (detected, not arriving, photons); pixels that were
interpolated, smoothed or compressed with loss have no white noise left and give nonsense.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from acquisition.source import Frames, Pixels
from config.errors import CalibrationMissing
from config.schema import CameraSettings

SIXTH_DIFFERENCE = np.array([1, -6, 15, -20, 15, -6, 1], dtype=np.float32)
TILE = 6
"""Side of the squares that signal and noise are averaged over [pixels]."""
BINS = 20
"""Groups of tiles of like brightness that the line is drawn through."""
BISQUARE = 4.685
"""Tuning constant of Tukey's bisquare weights [robust standard deviations]."""
LEAST_NOISE = 1e-3
"""Variance that even a noiseless camera exceeds by rounding to whole ADU [ADU²]; less means no noise at all."""
SIGNIFICANT = 4.0
"""Smallest slope, in its own standard errors, that is trusted."""
PIXELS_ENOUGH = 8_000_000
"""Pixels beyond which more do not improve the estimate noticeably."""
FRAMES_ENOUGH = 100
DEFAULT_PIXEL_SIZE = 100.0
"""Pixel size that ``camera=estimate`` falls back on [nm]."""
PIXEL_SIZE_WARNING = (
    f"The pixel size is not known, {DEFAULT_PIXEL_SIZE:g} nm is assumed: all distances and uncertainties scale "
    "with it. Give camera.pixel_size=…"
)
UNIFORM_WARNING = (
    "The frames are too uniform or too few to separate baseline and gain: the baseline is about the darkest value. "
    "Take dark frames and give camera.baseline=…"
)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class PhotonTransfer:
    """What an ordinary recording tells of its camera."""

    baseline: float
    """ADU at which the noise would vanish; never below 0 nor above the darkest tile's mean."""
    photons_per_adu: float
    """Detected photons per ADU above it, as if shot noise were all the noise: an EM register halves it (F² = 2)."""
    trusted: bool
    """False where the frames are too uniform or too few for a line: the baseline is then about the darkest value."""


def estimate(pixels: Pixels) -> PhotonTransfer:
    """Photon transfer over frames (T, H, W) in ADU. 10 frames of 128×128 are enough; emitters may be present.

    Raises CalibrationMissing where the frames carry no noise or are smaller than a tile.
    """
    signal, noise = _tiles(_enough(pixels))
    x, y = _binned(signal, noise)
    slope, error, intercept = _robust_line(x, y)
    if slope <= SIGNIFICANT * error:
        return _uniform(pixels, x, y)
    baseline = float(np.clip(-intercept / slope, 0.0, x[0]))
    exact = baseline == -intercept / slope
    return PhotonTransfer(baseline, 1.0 / (slope if exact else _slope_through(baseline, x, y)), trusted=True)


def estimated_settings(
    settings: CameraSettings, known: Mapping[str, float], blocks: Iterable[Frames]
) -> tuple[CameraSettings, list[str]]:
    """Settings with their gaps filled from the recording's first frames, and what the user should know about it.

    What settings or metadata give stays. Where e_per_adu is estimated, an unknown em_gain and quantum_efficiency become
    1, and e_per_adu absorbs their true values: the unit is then detected photons. An e_per_adu that was given needs
    its em_gain given too. Raises CalibrationMissing where the frames are of no use.
    """
    given = _given(settings, known)
    gaps: dict[str, Any] = {}
    warnings: list[str] = []
    if "pixel_size" not in given:
        gaps["pixel_size"] = DEFAULT_PIXEL_SIZE
        warnings.append(PIXEL_SIZE_WARNING)
    if settings.maps is None and not {"baseline", "e_per_adu"} <= given.keys():
        transfer = estimate(first_frames(blocks))
        gaps |= _gain_gaps(given, transfer)
        warnings += _transfer_warnings(gaps, transfer)
    if "e_per_adu" in gaps or settings.maps is not None:
        gaps |= {field: 1.0 for field in ("em_gain", "quantum_efficiency") if field not in given}
    return replace(settings, **gaps), warnings


def first_frames(blocks: Iterable[Frames]) -> Pixels:
    """Pixels (T, H, W) of the first frames of a source, as many as an estimate needs."""
    taken: list[Pixels] = []
    count = 0
    for block in blocks:
        taken.append(block.pixels[: FRAMES_ENOUGH - count])
        count += len(taken[-1])
        if count >= FRAMES_ENOUGH or count * block.pixels[0].size >= PIXELS_ENOUGH:
            break
    if not taken:
        raise CalibrationMissing("camera=estimate needs frames, but the recording gave none. Give the camera's values.")
    return np.concatenate(taken)


def _enough(pixels: Pixels) -> NDArray[np.float32]:
    frames = max(1, min(FRAMES_ENOUGH, PIXELS_ENOUGH // max(1, pixels[0].size)))
    return pixels[:: max(1, len(pixels) // frames)][:frames].astype(np.float32)


def _tiles(frames: NDArray[np.float32]) -> tuple[Values, Values]:
    """Mean signal [ADU] and noise variance [ADU²] of each tile, weighted alike."""
    weights = SIXTH_DIFFERENCE**2 / np.sum(SIXTH_DIFFERENCE**2)
    difference = SIXTH_DIFFERENCE / np.sqrt(np.sum(SIXTH_DIFFERENCE**2))
    return _tile_means(_separable(frames, weights)), _tile_means(np.square(_separable(frames, difference)))


def _separable(frames: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    reach = len(kernel) // 2
    filtered: NDArray[np.float32] = convolve1d(convolve1d(frames, kernel, axis=1), kernel, axis=2)
    return filtered[:, reach:-reach, reach:-reach]


def _tile_means(values: NDArray[np.float32]) -> Values:
    frames, height, width = values.shape
    rows, columns = height // TILE, width // TILE
    if not rows or not columns:
        raise CalibrationMissing(
            f"camera=estimate needs frames of at least {TILE + 6}×{TILE + 6} pixels. Give the camera's values instead."
        )
    tiles = values[:, : rows * TILE, : columns * TILE].reshape(frames, rows, TILE, columns, TILE)
    means: Values = tiles.mean(axis=(2, 4), dtype=np.float64).ravel()
    return means


def _binned(signal: Values, noise: Values) -> tuple[Values, Values]:
    """Means of both over groups of tiles of like brightness, darkest first."""
    groups = np.array_split(np.argsort(signal), min(BINS, len(signal)))
    x = np.array([signal[group].mean() for group in groups])
    y = np.array([noise[group].mean() for group in groups])
    if y.min() < LEAST_NOISE:
        raise CalibrationMissing(
            "camera=estimate needs noise, but parts of these frames have none (smoothed, saturated, or drawn?). "
            "Give baseline, e_per_adu and em_gain yourself."
        )
    return x, y


def _robust_line(x: Values, y: Values) -> tuple[float, float, float]:
    """Slope, its standard error, and intercept of y over x, errors growing with y; outliers count less."""
    if len(x) < 4:
        return 0.0, 0.0, 0.0
    design = np.stack([x, np.ones_like(x)], axis=1)
    line, spread, weights = _fit(design, y, 1.0 / y)
    for _ in range(10):
        residual = (y - design @ line) / y
        line, spread, weights = _fit(design, y, np.clip(1.0 - (residual / (BISQUARE * spread)) ** 2, 0.0, 1.0) / y)
    covariance = np.linalg.pinv((design * weights[:, None]).T @ (design * weights[:, None]))
    return float(line[0]), float(np.sqrt(covariance[0, 0])) * spread, float(line[1])


def _fit(design: Values, y: Values, weights: Values) -> tuple[Values, float, Values]:
    """Weighted least squares: the line, the robust spread of its relative residuals, and the weights again."""
    line = np.linalg.lstsq(design * weights[:, None], y * weights, rcond=None)[0]
    spread = 1.4826 * float(np.median(np.abs(y - design @ line) / y)) + 1e-9
    return line.astype(np.float64), spread, weights


def _slope_through(baseline: float, x: Values, y: Values) -> float:
    """Slope of the least-squares line from (baseline, 0), errors growing with y."""
    relative = (x - baseline) / y
    return float(relative.sum() / (relative**2).sum())


def _uniform(pixels: Pixels, x: Values, y: Values) -> PhotonTransfer:
    """Without differences in brightness only a guess of the baseline is possible: just below the darkest values."""
    baseline = max(0.0, float(np.quantile(pixels[:FRAMES_ENOUGH], 0.001)) - 1.0)
    return PhotonTransfer(baseline, 1.0 / _slope_through(min(baseline, x[0] - 1.0), x, y), trusted=False)


def _given(settings: CameraSettings, known: Mapping[str, float]) -> dict[str, float]:
    fields = ("baseline", "e_per_adu", "em_gain", "quantum_efficiency", "pixel_size")
    told = {field: getattr(settings, field) for field in fields}
    return {field: known[field] for field in fields if field in known} | {
        field: value for field, value in told.items() if value is not None
    }


def _gain_gaps(given: Mapping[str, float], transfer: PhotonTransfer) -> dict[str, float]:
    """Fields to fill. Where the EM gain is known, it and the excess noise (F² = 2) are taken out of the slope again."""
    gaps = {} if "baseline" in given else {"baseline": transfer.baseline}
    if "e_per_adu" in given:
        return gaps
    em_gain = given.get("em_gain", 1.0)
    excess = 2.0 if em_gain > 1.0 else 1.0
    return gaps | {"e_per_adu": transfer.photons_per_adu * excess * em_gain}


def _transfer_warnings(gaps: Mapping[str, float], transfer: PhotonTransfer) -> list[str]:
    found = ", ".join(f"{field} {gaps[field]:.3g}" for field in ("baseline", "e_per_adu") if field in gaps)
    approximate = (
        f"Camera estimated from the recording: {found}. Photon counts and the uncertainties that follow from "
        "them are approximate (detected photons; an unknown EM register's excess noise is folded in)."
    )
    return [approximate] if transfer.trusted else [approximate, UNIFORM_WARNING]
