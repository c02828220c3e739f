"""Blinking without an end, under a light that switches molecules on: what feedback is tried on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from config.errors import SourceError
from config.schema import DatasetSettings
from simulation.simulator import populated
from simulation.structures import Places, dyes

EMITTER = np.dtype(
    [("emitter", "i8"), *((name, "f4") for name in ("x", "y", "z", "photons", "width")), ("until", "f8")]
)
"""One emitter: its number, place [pixels; z in nm], photons in a fully lit frame, width of its PSF over the usual one,
and until when it stays as it is: if it is on, a time [frames]; if it is dark, a dose of activation light [frames of
power 1]."""
Emitters: TypeAlias = NDArray[np.void]
Floats: TypeAlias = NDArray[np.float64]


class SimulatedLight:
    """An ActivationLight. Its unit is relative: 1 gives the density of the settings, p gives p times that."""

    def __init__(self, power: float = 1.0) -> None:
        self._power = power

    def power(self) -> float:
        """See ActivationLight."""
        return self._power

    def set_power(self, power: float) -> None:
        """See ActivationLight. Raises SourceError for what no light can do."""
        if not (math.isfinite(power) and power >= 0):
            raise SourceError(f"the power of the simulated light must be 0 or more, but it is {power}. Correct it.")
        self._power = float(power)


@dataclass(frozen=True)
class Lit:
    """What shines in one frame; all (N,). An emitter that comes on twice within the frame has two rows."""

    emitter: NDArray[np.int64]
    x: NDArray[np.float32]
    """Pixels from the corner."""
    y: NDArray[np.float32]
    photons: NDArray[np.float32]
    """Sent to the detector in this frame."""
    z: NDArray[np.float32]
    """[nm]"""
    width: NDArray[np.float32]
    """Of its PSF, over the usual one."""


class Blinking:
    """A sample that blinks for ever in constant memory; it follows from the settings' seed and the light's powers.

    Emitters are on for an exponential time and then bleach, with probability 1 / ``blinks``, or go dark. A dark one
    comes back after an exponential *dose* of light, ``off_time`` at power 1, and new ones come on as a Poisson process
    of the dose. So both rates are proportional to the power at any moment, what is on stays on for its time, and the
    mean number that is on goes to power × density with the on-time as its time constant: the number of dark emitters
    settles at a value in which the power does not occur.
    """

    def __init__(self, dataset: DatasetSettings, pixel_size: float, sigma_spread: float = 0.0) -> None:
        """``pixel_size`` in nm; ``sigma_spread`` of the PSF's width over emitters.

        The first frame is as dense as power 1 makes it in the long run.
        """
        self._dataset = dataset
        self._random = np.random.default_rng((dataset.seed, 1))
        self._on_time, self._off_time = dataset.on_time / dataset.exposure, dataset.off_time / dataset.exposure
        self._bleaching = 1 / max(1.0, dataset.blinks)
        self._margin, area = populated(dataset, pixel_size)
        self._sites = _sites(dataset, pixel_size)
        self._sigma_spread = sigma_spread
        self._count, self._frame, self._dose = 0, 0, 0.0
        mean = dataset.density * area
        self._rate = mean / self._on_time * self._bleaching
        """New emitters a frame at power 1."""
        self._on = self._new(int(self._random.poisson(mean)))
        self._on["until"] = self._exponential(len(self._on), self._on_time)
        dark = mean / self._on_time * (1 - self._bleaching) * self._off_time
        self._dark = self._new(int(self._random.poisson(dark)))
        self._dark["until"] = self._exponential(len(self._dark), self._off_time)

    def frame(self, power: float) -> Lit:
        """What shines in the next frame, during which the light has this power."""
        fresh = self._new(int(self._random.poisson(self._rate * power)))
        since = self._frame + self._random.random(len(fresh))
        woken, woken_since, self._dark = self._wake(self._dark, power)
        fresh["until"] = since + self._exponential(len(fresh), self._on_time)
        on = np.concatenate([self._on, fresh, woken])
        since = np.concatenate([np.full(len(self._on), float(self._frame)), since, woken_since])
        seen, shares, staying = [on], [self._share(on, since)], [on[self._stays(on)]]
        while len(dark := self._darkened(on, power)):
            # Some come back before the frame ends; only those that have just gone dark can.
            on, since, dark = self._wake(dark, power)
            self._dark = np.concatenate([self._dark, dark])
            seen.append(on)
            shares.append(self._share(on, since))
            staying.append(on[self._stays(on)])
        self._on = np.concatenate(staying)
        self._frame, self._dose = self._frame + 1, self._dose + power
        return _lit(np.concatenate(seen), np.concatenate(shares))

    def _new(self, count: int) -> Emitters:
        """Emitters that were never on before."""
        emitters = np.empty(count, EMITTER)
        emitters["emitter"] = np.arange(self._count, self._count + count)
        emitters["x"], emitters["y"], emitters["z"] = self._places(count)
        brightness = self._dataset.photons + self._dataset.photons_sd * self._random.standard_normal(count)
        emitters["photons"] = np.maximum(brightness, 0.05 * self._dataset.photons)
        emitters["width"] = 1.0
        if self._sigma_spread > 0:
            emitters["width"] = np.clip(1 + self._sigma_spread * self._random.standard_normal(count), 0.5, 2.0)
        self._count += count
        return emitters

    def _places(self, count: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        if self._sites is not None:
            which = torch.from_numpy(self._random.integers(len(self._sites), size=count))
            sites = self._sites[which]
            return sites.x.numpy(), sites.y.numpy(), sites.z.numpy()
        x, y = self._random.random((2, count))
        width, height = (side + 2 * self._margin for side in (self._dataset.width, self._dataset.height))
        low, high = self._dataset.depth
        z = self._random.uniform(low, high, count) if high > low else np.full(count, low)
        return x * width - self._margin, y * height - self._margin, z

    def _wake(self, dark: Emitters, power: float) -> tuple[Emitters, Floats, Emitters]:
        """Dark emitters that this frame's light switches on, since when, and those that stay dark."""
        due = dark["until"] < self._dose + power
        woken, dark = dark[due], dark[~due]
        since = self._frame + (woken["until"] - self._dose) / (power or 1.0)
        woken["until"] = since + self._exponential(len(woken), self._on_time)
        return woken, since, dark

    def _darkened(self, on: Emitters, power: float) -> Emitters:
        """Those whose time is over in this frame, less the bleached ones, waiting for their next dose."""
        over = on[~self._stays(on)]
        dark = over[self._random.random(len(over)) >= self._bleaching]
        spent = self._dose + power * (dark["until"] - self._frame)
        dark["until"] = spent + self._exponential(len(dark), self._off_time)
        return dark

    def _stays(self, on: Emitters) -> NDArray[np.bool_]:
        stays: NDArray[np.bool_] = on["until"] >= self._frame + 1
        return stays

    def _share(self, on: Emitters, since: Floats) -> Floats:
        """Share of this frame in which they shine, 0 to 1."""
        share: Floats = np.minimum(on["until"], self._frame + 1) - since
        return share

    def _exponential(self, count: int, mean: float) -> Floats:
        return self._random.exponential(mean, count)


def _sites(dataset: DatasetSettings, pixel_size: float) -> Places | None:
    """Places on the structure; None where emitters stand anywhere."""
    return dyes(dataset, pixel_size, torch.Generator().manual_seed(dataset.seed))


def _lit(on: Emitters, share: Floats) -> Lit:
    photons = (on["photons"] * share).astype(np.float32)
    x, y, z, width = (on[name].copy() for name in ("x", "y", "z", "width"))
    return Lit(on["emitter"].copy(), x, y, photons, z, width)
