"""A vision transformer: patches of a frame as tokens, attention among them and along time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.errors import SettingsError
from config.schema import NetworkSettings
from models.layers import TemporalAttention, WindowAttention, padded
from models.network import REACH, EmitterMap, Network, start_silent

TOLD = 5
"""Channels in which an answer is told to the next pass."""


class ViT(Network):
    """Patches become tokens; blocks within each frame, attention along time, blocks within the frame again, maps.

    The seed has ten of these, near-identical files. What they vary are settings here (config/network/vit.yaml lists
    them): ``features``, ``patch``, ``blocks`` (attention within a frame before or after that along time, or neither),
    ``positions``, ``past`` and ``future``, ``passes`` (a second look that knows the first one's answer). Attention
    within a frame stays inside windows of ``window`` patches, every other block's shifted by half of one, so that the
    work grows with the frame's area and not with its square.
    """

    attends_in_place = True

    def __init__(self, settings: NetworkSettings) -> None:
        """Raises SettingsError for other than two numbers of blocks, or no pass."""
        super().__init__(settings)
        if len(settings.blocks) != 2 or settings.passes < 1:
            raise SettingsError(
                f"network.blocks={settings.blocks}, network.passes={settings.passes}: expected two numbers of blocks, "
                "before and after attention along time, and at least one pass."
            )
        width, self.patch = settings.features, settings.patch
        self.shrink, self.state_channels = self.patch, width
        self.embed = nn.Conv2d(self.patch**2, width, 3, padding=1)
        before, after = settings.blocks
        self.before, self.after = self._blocks(before), self._blocks(after)
        self.attention = TemporalAttention(width, settings.heads, settings.past, settings.future)
        self.attention.bias.requires_grad_(settings.positions)
        self.tell = nn.Conv2d(TOLD * self.patch**2, width, 1) if settings.passes > 1 else None
        self.norm = nn.LayerNorm(width)
        self.head = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.maps = nn.Conv2d(2 * width, self.patch**2 * len(self.channels), 1)
        start_silent(self.maps, self.channels, self.patch)

    def encode(self, photons: Tensor) -> Tensor:
        """(N, H, W) photons → (N, features, ⌈H / patch⌉, ⌈W / patch⌉)."""
        frame = padded(self.flattened(photons), self.patch)
        tokens = self.embed(functional.pixel_unshuffle(frame, self.patch)).permute(0, 2, 3, 1)
        result: Tensor = self.before(tokens).permute(0, 3, 1, 2)
        return result

    def attend(self, state: Tensor, valid: Tensor, first: int, count: int) -> Tensor:
        """See Network.attend; gives (B·count, features, h, w)."""
        seen = self.attention(state.permute(0, 1, 3, 4, 2), valid, first, count)
        result: Tensor = seen.permute(0, 1, 4, 2, 3).flatten(0, 1)
        return result

    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:
        """(N, features, h, w) → maps of (N, H, W)."""
        maps = self._answer(x, height, width)
        for _ in range(1, self.settings.passes):
            assert self.tell is not None
            maps = self._answer(x + self.tell(self._told(maps)), height, width)
        return maps

    def _answer(self, x: Tensor, height: int, width: int) -> EmitterMap:
        tokens = self.norm(self.after(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return self.unfolded(self.maps, functional.relu(self.head(tokens)), self.patch, height, width)

    def _told(self, maps: EmitterMap) -> Tensor:
        """Where it saw emitters, where in the pixel, how bright, on what background: (N, TOLD · patch², h, w)."""
        probability = torch.sigmoid(maps.logit)
        light = [maps.photons / self.settings.photon_scale, maps.background / self.settings.background_scale]
        seen = [value * probability for value in (maps.dx / REACH, maps.dy / REACH, light[0])]
        return functional.pixel_unshuffle(
            padded(torch.stack([probability, *seen, light[1]], 1), self.patch), self.patch
        )

    def _blocks(self, number: int) -> nn.Sequential:
        settings = self.settings
        blocks = [
            WindowAttention(settings.features, settings.heads, settings.window, shifted=index % 2 == 1)
            for index in range(number)
        ]
        return nn.Sequential(*blocks)
