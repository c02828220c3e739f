"""The network: encode each frame once, attend along time, decode to an emitter map.

Everything is computed at half resolution: four pixels travel as four channels in, and four sets of maps come out.
That loses nothing and keeps the processor busy with wide convolutions, not waiting for memory (docs/decisions.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.schema import NetworkSettings
from models.layers import TemporalAttention, UNet, flatten_noise

SHRINK = 2
"""Features are this many times smaller than the frame."""

CHANNELS = ("logit", "dx", "dy", "photons", "sigma_x", "sigma_y", "sigma_photons", "background")
"""Output channels, in order. This is the only place that knows it."""

REACH = 0.75
"""Largest offset of an emitter from the centre of the pixel that reports it [pixels]. With more, several pixels can
report the same emitter and training takes long to agree on one (docs/decisions.md)."""


@dataclass(frozen=True)
class EmitterMap:
    """What the network says of every pixel, each (…, H, W). Offsets are from the pixel's centre."""

    logit: Tensor
    """Log-odds that an emitter is reported here."""
    dx: Tensor
    """[pixels]"""
    dy: Tensor
    """[pixels]"""
    photons: Tensor
    sigma_x: Tensor
    """[pixels]"""
    sigma_y: Tensor
    """[pixels]"""
    sigma_photons: Tensor
    """[photons]"""
    background: Tensor
    """[photons / pixel]"""


class AttentionUNet(nn.Module):
    """Three stages. ``encode`` sees one frame; ``attend`` a window of encoded frames; ``decode`` one frame again."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        shuffled = SHRINK**2
        self.encoder = UNet(shuffled, settings.encoder)
        self.project = nn.Conv2d(settings.encoder[0], settings.features, 1)
        self.attention = TemporalAttention(settings.features, settings.heads, settings.past, settings.future)
        self.decoder = UNet(settings.features + shuffled, settings.decoder)
        width = settings.decoder[0]
        self.head = nn.Conv2d(width, width, 3, padding=1)
        self.maps = nn.Conv2d(width, shuffled * len(CHANNELS), 1)
        self._start_silent()

    @property
    def state_channels(self) -> int:
        """Channels of what a frame leaves behind: its features, and the frame itself for the decoder."""
        return self.settings.features + SHRINK**2

    def encode(self, photons: Tensor) -> Tensor:
        """(N, H, W) photons → (N, state_channels, ⌈H/2⌉, ⌈W/2⌉)."""
        height, width = photons.shape[-2:]
        even = functional.pad(photons[:, None], (0, width % 2, 0, height % 2), mode="replicate")
        x = flatten_noise(even, self.settings.input_offset, self.settings.input_scale)
        x = functional.pixel_unshuffle(x, SHRINK)
        return torch.cat([self.project(self.encoder(x)), x], 1)

    def attend(self, state: Tensor, valid: Tensor, first: int, count: int) -> Tensor:
        """Features of frames ``first`` to ``first + count``, each knowing its neighbours.

        ``state`` (B, S, state_channels, h, w), ``valid`` (S,) bool → (B·count, state_channels, h, w).
        """
        features = state[:, :, : self.settings.features].permute(0, 1, 3, 4, 2)
        seen = self.attention(features, valid, first, count).permute(0, 1, 4, 2, 3)
        return torch.cat([seen, state[:, first : first + count, self.settings.features :]], 2).flatten(0, 1)

    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:
        """(N, state_channels, h, w) → maps of (N, H, W)."""
        x = functional.relu(self.head(self.decoder(x)))
        with torch.autocast(x.device.type, enabled=False):
            return self._named(functional.pixel_shuffle(self.maps(x.float()), SHRINK)[..., :height, :width])

    def forward(self, photons: Tensor) -> EmitterMap:
        """Whole scenes (B, T, H, W) at once, as training sees them: maps of (B, T, H, W)."""
        batch, frames, height, width = photons.shape
        features = self.encode(photons.flatten(0, 1))
        state = features.view(batch, frames, *features.shape[1:])
        valid = torch.ones(frames, dtype=torch.bool, device=photons.device)
        maps = self.decode(self.attend(state, valid, 0, frames), height, width)
        return EmitterMap(**{name: value.view(batch, frames, height, width) for name, value in vars(maps).items()})

    def _named(self, raw: Tensor) -> EmitterMap:
        """Channels to quantities, each in its range."""
        channel = dict(zip(CHANNELS, raw.unbind(-3), strict=True))
        photon_scale, background_scale = self.settings.photon_scale, self.settings.background_scale
        photons = photon_scale * functional.softplus(channel["photons"])
        return EmitterMap(
            logit=channel["logit"],
            dx=REACH * torch.tanh(channel["dx"]),
            dy=REACH * torch.tanh(channel["dy"]),
            photons=photons,
            sigma_x=functional.softplus(channel["sigma_x"]) + 0.01,
            sigma_y=functional.softplus(channel["sigma_y"]) + 0.01,
            sigma_photons=photon_scale * functional.softplus(channel["sigma_photons"]) + 2.0,
            background=background_scale * functional.softplus(channel["background"]),
        )

    def _start_silent(self) -> None:
        """Begin with almost no emitters, as most pixels have none, and wide sigmas."""
        nn.init.normal_(self.maps.weight, std=0.01)
        start = {"logit": -5.0, "photons": 0.0, "sigma_x": 0.0, "sigma_y": 0.0, "sigma_photons": -0.5}
        bias = torch.tensor([start.get(name, 0.0) for name in CHANNELS])
        with torch.no_grad():
            assert self.maps.bias is not None
            self.maps.bias.copy_(bias.repeat_interleave(SHRINK**2))
