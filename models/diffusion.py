"""A denoising-diffusion head: emitters are drawn out of noise in a few steps, on condition of what the frames show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from config.errors import SettingsError
from config.schema import NetworkSettings
from models.attention_unet import AttentionUNet
from models.layers import UNet
from models.network import REACH, EmitterMap

if TYPE_CHECKING:
    from simulation.truth import SceneBatch, Truth

SIGNAL = 4
"""Channels that are noised: whether an emitter is here (−1 or 1), its two offsets and its photons (0 where none is)."""
TILE = 32
"""The noise that sampling starts from repeats after this many places."""


class Diffusion(AttentionUNet):
    """The attention U-Net with a decoder that also sees a noisy answer, and how noisy it is, and says the clean one.

    Learning: the truth is drawn as a map, mixed with noise of a random level t (cos(πt/2) of the one, sin(πt/2) of the
    other), and the maps that the decoder makes of it have the loss of all networks, so sigmas are learned too. Running:
    ``sampling_steps`` steps of a deterministic sampler (Song et al. 2021, arXiv:2010.02502) from a noise that is part
    of the model and repeats every TILE places, the same for every frame. So the same frames give the same rows, in
    blocks of any size, on any computer; the time it takes grows with the steps.

    The seed's four files of this name add no noise and take none away: they are U-Nets with attention in the second.
    What they vary are settings here (config/network/diffusion.yaml lists them): ``gates`` on the skips, ``middle``, the
    levels and widths of ``decoder``. The first one's attention at every level of its second U-Net would make a frame
    depend on neighbours of neighbours; here attention stands in one place.
    """

    noise: Tensor

    def __init__(self, settings: NetworkSettings) -> None:
        """Raises SettingsError for no sampling step."""
        super().__init__(settings)
        if settings.sampling_steps < 1:
            raise SettingsError(f"network.sampling_steps={settings.sampling_steps}: expected at least one step.")
        places = settings.fold**2
        noisy = SIGNAL * places + 1
        self.decoder = UNet(settings.features + places + noisy, settings.decoder, settings.gates, settings.middle)
        fixed = torch.Generator().manual_seed(0)
        noise = torch.randn(SIGNAL * places, TILE, TILE, generator=fixed, device="cpu")
        self.register_buffer("noise", noise)
        self.reach = None  # the noise is the whole frame's

    def training_maps(self, batch: SceneBatch) -> EmitterMap:
        """The maps made of the truth under noise of one random level a frame.

        Noise and levels follow from the batch, so that a resumed training ends where an unbroken one does.
        """
        height, width = batch.photons.shape[-2:]
        x = self._at_fold(self.attended(batch.photons))
        seed = int(batch.photons.double().sum().item()) & (2**63 - 1)
        drawn = torch.Generator().manual_seed(seed)
        level = torch.rand(len(x), 1, 1, 1, generator=drawn).to(x.device)
        clean = self._folded_truth(batch.truth, batch.photons.shape, x)
        noise = torch.randn(clean.shape, generator=drawn).to(x.device)
        noisy = _signal_share(level) * clean + _noise_share(level) * noise
        maps = self.unfolded(self.maps, self._denoised(x, noisy, level), self.fold, height, width)
        return maps.each(lambda value: value.view(batch.photons.shape))

    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:
        """(N, state_channels, h, w) → maps of (N, H, W), sampled."""
        x = self._at_fold(x)
        noisy = self._start(x)
        steps = self.settings.sampling_steps
        for step in range(steps - 1):
            now, then = (x.new_full((1, 1, 1, 1), 1 - (step + more) / steps) for more in (0, 1))
            clean = self._folded(self._denoised(x, noisy, now))
            noise = (noisy - _signal_share(now) * clean) / _noise_share(now)
            noisy = _signal_share(then) * clean + _noise_share(then) * noise
        last = x.new_full((1, 1, 1, 1), 1 / steps)
        return self.unfolded(self.maps, self._denoised(x, noisy, last), self.fold, height, width)

    def _denoised(self, x: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        """Features (N, C, h, w) of the clean answer, of what attention gave, a noisy answer and its level (N or 1)."""
        level = level.expand(len(x), 1, *x.shape[-2:])
        return functional.relu(self.head(self.decoder(torch.cat([x, noisy, level], 1))))

    def _start(self, x: Tensor) -> Tensor:
        """The model's noise, (N, SIGNAL · fold², h, w)."""
        row, column = (torch.arange(size, device=x.device) % TILE for size in x.shape[-2:])
        noise = self.noise[:, row[:, None], column[None, :]].to(x.dtype)
        return noise.expand(len(x), *noise.shape)

    def _folded(self, x: Tensor) -> Tensor:
        """The signal that features (N, C, h, w) say is there: (N, SIGNAL · fold², h, w)."""
        with torch.autocast(x.device.type, enabled=False):
            raw = self.maps(x.float()).unflatten(1, (len(self.channels), self.fold**2))
            return self._signal(self.named(dict(zip(self.channels, raw.unbind(1), strict=True)))).flatten(1, 2)

    def _signal(self, maps: EmitterMap) -> Tensor:
        probability = torch.sigmoid(maps.logit)
        seen = (maps.dx / REACH, maps.dy / REACH, maps.photons / self.settings.photon_scale)
        return torch.stack([2 * probability - 1, *(probability * value for value in seen)], 1)

    def _folded_truth(self, truth: Truth, shape: torch.Size, like: Tensor) -> Tensor:
        """The true signal (N, SIGNAL · fold², h, w) of scenes of ``shape``; ``like`` gives N, h and w."""
        height, width = (self.fold * size for size in like.shape[-2:])
        clean = torch.zeros(len(like), SIGNAL, height, width, device=like.device)
        clean[:, 0] = -1
        row, column = truth.y.long(), truth.x.long()
        of_emitter = (torch.ones_like(truth.x), (truth.x - column - 0.5) / REACH, (truth.y - row - 0.5) / REACH)
        values = torch.stack([*of_emitter, truth.photons / self.settings.photon_scale], 1)
        clean[truth.scene * shape[1] + truth.frame, :, row, column] = values
        return functional.pixel_unshuffle(clean, self.fold)


def _signal_share(level: Tensor) -> Tensor:
    return torch.cos(0.5 * math.pi * level)


def _noise_share(level: Tensor) -> Tensor:
    return torch.sin(0.5 * math.pi * level)
