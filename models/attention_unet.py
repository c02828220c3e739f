"""The network of the shipped models: encode each frame once, attend along time, decode to an emitter map.

By default everything is computed at half resolution: four pixels travel as four channels in, and four sets of maps come
out. That loses nothing and keeps the processor busy with wide convolutions, not waiting for memory (docs/decisions.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.errors import SettingsError
from config.schema import NetworkSettings
from models.layers import TemporalAttention, UNet, convolved, padded, rounded_up
from models.network import EmitterMap, Network, start_silent


class AttentionUNet(Network):
    """Three stages. ``encode`` sees one frame; ``attend`` a window of encoded frames; ``decode`` one frame again.

    ``fold`` and ``attention_at`` say at which resolution convolutions and attention work.
    """

    attends_in_place = True

    def __init__(self, settings: NetworkSettings) -> None:
        """Raises SettingsError where attention would be finer than the convolutions."""
        super().__init__(settings)
        fold, coarser = settings.fold, settings.attention_at // settings.fold
        if fold * coarser != settings.attention_at or coarser < 1:
            raise SettingsError(
                f"network.attention_at={settings.attention_at}: expected network.fold={fold} or a multiple of it."
            )
        self.fold, self.shrink = fold, settings.attention_at
        views = 2 if settings.input_log else 1
        self.state_channels = settings.features + views * self.shrink**2
        """The features, and the frame itself for the decoder."""
        self.encoder = UNet(views * fold**2, settings.encoder)
        features = settings.features
        self.project = nn.Conv2d(settings.encoder[0], features, coarser, coarser)
        self.attention = TemporalAttention(features, settings.heads, settings.past, settings.future)
        self.expand = nn.ConvTranspose2d(features, features, coarser, coarser) if coarser > 1 else None
        self.decoder = UNet(features + views * fold**2, settings.decoder)
        width = settings.decoder[0]
        self.head = nn.Conv2d(width, width, 3, padding=1)
        self.maps = nn.Conv2d(width, fold**2 * len(self.channels), 1)
        start_silent(self.maps, self.channels, fold)
        self.multiple = math.lcm(self.shrink, fold * max(self.encoder.multiple, self.decoder.multiple))
        seen = fold * self.encoder.reach, fold * (self.decoder.reach + 1)
        self.reach = rounded_up(seen[0], self.multiple), rounded_up(seen[1], self.multiple)

    def encode(self, photons: Tensor) -> Tensor:
        """(N, H, W) photons → (N, state_channels, ⌈H / shrink⌉, ⌈W / shrink⌉)."""
        frame = self._views(padded(photons[:, None], self.shrink)[:, 0])
        folded = functional.pixel_unshuffle(frame, self.fold).contiguous(memory_format=torch.channels_last)
        kept = folded if self.expand is None else functional.pixel_unshuffle(folded, self.shrink // self.fold)
        features = convolved(self.project, self.encoder(folded))
        return torch.cat([features, kept.to(features.dtype)], 1)

    def attend(self, state: Tensor, valid: Tensor, first: int, count: int) -> Tensor:
        """See Network.attend; gives (B·count, state_channels, h, w)."""
        state = state.permute(0, 1, 3, 4, 2)  # so that nothing is moved where channels are last in memory
        seen = self.attention(state[..., : self.settings.features], valid, first, count)
        frames = state[:, first : first + count, ..., self.settings.features :]
        return torch.cat([seen, frames], -1).permute(0, 1, 4, 2, 3).flatten(0, 1)

    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:
        """(N, state_channels, h, w) → maps of (N, H, W)."""
        x = convolved(self.head, self.decoder(self._at_fold(x)), relu=True)
        return self.unfolded(self.maps, x, self.fold, height, width)

    def _views(self, photons: Tensor) -> Tensor:
        """(N, H, W) photons → (N, 1, H, W) with even noise, and where the settings say so once more as a logarithm."""
        flat = self.flattened(photons)
        if not self.settings.input_log:
            return flat
        logarithm = torch.log1p(photons[:, None].clamp(min=0) / self.settings.input_log)
        return torch.cat([flat, logarithm], 1)

    def _at_fold(self, x: Tensor) -> Tensor:
        """What attention gave, at the resolution of the convolutions: (N, features + views · fold², …)."""
        if self.expand is None:
            return x
        features, frame = x[:, : self.settings.features], x[:, self.settings.features :]
        return torch.cat([self.expand(features), functional.pixel_shuffle(frame, self.shrink // self.fold)], 1)
