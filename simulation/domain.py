"""Training scenes: every scene draws its own microscope, dye, density and camera from a domain."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from config.errors import SettingsError
from config.schema import DomainSettings
from simulation.augmentation import changing, flickering, flipped, outside_box, structured, widths
from simulation.background import smooth_background
from simulation.noise import CameraNoise
from simulation.optics import spline_psf
from simulation.photophysics import frame_traces, stationary_blinks
from simulation.psf import AstigmaticPsf, FocusCurve, GaussianPsf, Psf, Spots
from simulation.truth import SceneBatch, Truth

MARGIN = 4.0
"""Emitters are placed this far beyond the frame's edge too [pixels]: their light reaches in."""
FAINTEST = 25.0
"""An emitter with fewer photons than this in a frame is light, but not truth [photons]."""


class Domain:
    """Draws scenes from a DomainSettings. All randomness comes from the generator that is passed in."""

    def __init__(self, settings: DomainSettings, frames: int, size: int, faintest: float = FAINTEST) -> None:
        """``faintest``: smallest light of an emitter in a frame that is truth [photons].

        Raises SettingsError where the settings' PSF cannot be had or does not go with them.
        """
        self.settings = settings
        self.faintest = faintest
        self.frames = frames
        self.size = size
        self._spline = spline_psf(settings.psf_file, "training.domain.psf_file") if settings.psf == "spline" else None
        if self._spline and (settings.flips or settings.width_spread > 0):
            raise SettingsError(
                "training.domain.flips and width_spread do not go with psf=spline: its mirror image is another PSF, "
                "and its width the measured one. Set flips=false and width_spread=0."
            )
        self._often: Domain | None = None
        if settings.often_share > 0:
            ranges: dict[str, Any] = {**settings.often, "often": {}, "often_share": 0.0}
            self._often = Domain(replace(settings, **ranges), frames, size, faintest)

    def batch(self, scenes: int, generator: torch.Generator) -> SceneBatch:
        """A batch of independent scenes."""
        drawn = [self.scene(index, generator) for index in range(scenes)]
        truth = Truth(*(torch.cat([getattr(t, name) for *_, t in drawn]) for name in Truth.__annotations__))
        return SceneBatch(
            torch.stack([photons for photons, _, _ in drawn]), torch.stack([back for _, back, _ in drawn]), truth
        )

    def scene(self, index: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Truth]:
        """Frames (T, H, W) in measured photons, their background, and the truth of scene ``index`` of a batch."""
        draw = _Draw(generator)
        if self._often and draw.uniform(0, 1) < self.settings.often_share:
            return self._often.scene(index, generator)
        sigma = draw.uniform(*self.settings.psf_sigma)
        background, photons = self._light(sigma, draw)
        truth, width = self._emitters(index, photons, draw)
        light = self._drawn(truth, width, self._psf(sigma, draw))
        field = self._background(background, draw)
        camera = self._camera(draw)
        measured = camera.to_photons(camera.expose(light + field, generator))
        if self.settings.flips:
            measured, field, truth = flipped(measured, field, truth, generator)
        inside = (truth.x > 0) & (truth.x < self.size) & (truth.y > 0) & (truth.y < self.size)
        return measured, field, truth.kept(inside & (truth.photons >= self.faintest))

    def _psf(self, sigma: float, draw: _Draw) -> Psf:
        """The scene's PSF; ``sigma`` in focus [pixels]."""
        domain = self.settings
        if self._spline:
            return self._spline
        if domain.psf == "gaussian":
            return GaussianPsf(sigma)
        depth = draw.uniform(*domain.focal_depth)
        x, y = (
            FocusCurve(sigma, draw.uniform(*focus), depth, third, fourth)
            for focus, third, fourth in zip((domain.focus_x, domain.focus_y), domain.third, domain.fourth, strict=True)
        )
        return AstigmaticPsf(x, y)

    def _drawn(self, truth: Truth, width: Tensor, psf: Psf) -> Tensor:
        """Light (T, H, W) of the emitters."""
        spots = Spots(truth.frame, truth.x, truth.y, truth.z, truth.photons, width)
        return psf.frames(spots, (self.frames, self.size, self.size))

    def _background(self, mean: float, draw: _Draw) -> Tensor:
        """(T, H, W)."""
        domain = self.settings
        field = smooth_background(self.size, self.size, mean, draw.uniform(0.0, 0.4), draw.generator)
        if domain.structured_background > 0 and draw.uniform(0, 1) < domain.structured_background:
            field = structured(field, draw.generator)
        course = field.expand(self.frames, self.size, self.size)
        return changing(course, domain.background_change, draw.generator) if domain.background_change > 0 else course

    def _light(self, sigma: float, draw: _Draw) -> tuple[float, float]:
        """Background and photons; where emitters would drown, drawn once more, so that few scenes teach nothing."""
        background, photons = self._draw_light(draw)
        if photons < 4 * math.sqrt(4 * math.pi * sigma**2 * background):
            background, photons = self._draw_light(draw)
        return background, photons

    def _draw_light(self, draw: _Draw) -> tuple[float, float]:
        return draw.log_uniform(*self.settings.background), draw.log_uniform(*self.settings.photons)

    def _emitters(self, scene: int, photons: float, draw: _Draw) -> tuple[Truth, Tensor]:
        """Emitters of a scene, and the width of each one's PSF over the usual one."""
        low, high = self.settings.density
        density = draw.uniform(math.sqrt(low), math.sqrt(high)) ** 2
        on_time = draw.log_uniform(*self.settings.on_time)
        side = self.size + 2 * MARGIN
        blinks = stationary_blinks(density * side**2, self.frames, on_time, draw.generator)
        count = len(blinks.start)
        spread = draw.uniform(*self.settings.photons_spread)
        brightness = photons * (1 + spread * draw.normal(count)).clamp(min=0.1)
        x, y = (draw.uniforms(count) * side - MARGIN for _ in range(2))
        blink, frame, lit = frame_traces(blinks, self.frames)
        z, width = (column[blink] for column in (self._heights(count, draw), self._widths(count, draw)))
        truth = Truth(torch.full_like(frame, scene), frame, x[blink], y[blink], brightness[blink] * lit, z)
        return self._augmented(truth, width, draw)

    def _heights(self, count: int, draw: _Draw) -> Tensor:
        low, high = self.settings.depth
        return low + (high - low) * draw.uniforms(count) if high > low else torch.full((count,), low)

    def _widths(self, count: int, draw: _Draw) -> Tensor:
        spread = self.settings.width_spread
        return widths(count, spread, draw.generator) if spread > 0 else torch.ones(count)

    def _augmented(self, truth: Truth, width: Tensor, draw: _Draw) -> tuple[Truth, Tensor]:
        domain = self.settings
        if domain.flicker > 0:
            truth = flickering(truth, domain.flicker, draw.generator)
        if domain.dropout > 0 and draw.uniform(0, 1) < domain.dropout:
            stay = outside_box(truth, self.size, draw.generator)
            truth, width = truth.kept(stay), width[stay]
        return truth, width

    def _camera(self, draw: _Draw) -> CameraNoise:
        if draw.uniform(0, 1) < self.settings.emccd_fraction:
            gain = draw.log_uniform(50, 500)
            return CameraNoise(
                quantum_efficiency=draw.uniform(0.8, 0.95),
                em_gain=gain,
                e_per_adu=gain * draw.log_uniform(0.02, 0.3),
                baseline=draw.uniform(100, 400),
                read_noise=draw.uniform(20, 100),
                spurious_charge=draw.log_uniform(0.001, 0.05),
            )
        # Pixels of an sCMOS differ: gain by a few percent, read noise with a long tail of bad ones.
        shape = (self.size, self.size)
        e_per_adu = draw.log_uniform(0.2, 1.0) * (1 + 0.03 * draw.normal(*shape))
        return CameraNoise(
            quantum_efficiency=draw.uniform(0.6, 0.95),
            em_gain=1.0,
            e_per_adu=e_per_adu,
            baseline=draw.uniform(80, 120) + 2 * draw.normal(*shape),
            read_noise=draw.uniform(0.8, 2.0) * torch.exp(0.25 * draw.normal(*shape)),
            spurious_charge=draw.log_uniform(0.001, 0.1),
        )


class _Draw:
    """Random numbers of one generator, by distribution."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def log_uniform(self, low: float, high: float) -> float:
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def uniforms(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)
