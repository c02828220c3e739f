"""The two networks published as SMLM-AttentionAI (Reinhard et al. 2024), for comparison.

Both look at windows of 50 frames. Published, a movie is cut into blocks of 50 which are analysed each by itself: frames
at a block's ends see one side only, positions are counted from where a block began, and frames after the last whole
block are dropped. Here every frame stands in the middle of its own window, 25 frames before and 24 after, and positions
are distances in time, by a learned bias a head. So a frame's answer does not depend on where a block began. The price
is a delay of 24 frames.

What else differs, and is a defect of the published code: its input is normalised by the whole block's mean and spread
(here by constants), and its channels are named in four contradicting orders. Two linear maps in a row are one here, as
nothing stands between them (the published attention projects queries, keys and values twice).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.schema import NetworkSettings
from models.layers import StridedUNet, TemporalAttention, padded
from models.network import EmitterMap, Heads, Network, four_groups

GROUPS = 8
"""Groups of the norm before attention; its statistics are one frame's alone."""


class SeedV1(Network):
    """AttentionUNet: attention along time at the coarsest level of the second of two DECODE-like U-Nets.

    Reads ``features``, the published 48, and ``heads``, ``past``, ``future``.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        width = settings.features
        self.widths = [width, 2 * width, 4 * width]
        self.shrink = 4
        self.state_channels = sum(4**level * channels for level, channels in zip((2, 1, 0), self.widths, strict=True))
        """The levels of the second U-Net's way down, folded to the coarsest one's size."""
        self.first = StridedUNet(1, self.widths, functional.relu)
        self.second = StridedUNet(width, self.widths, functional.relu)
        self.attention = SeedAttention(self.widths[-1], settings)
        self.heads = Heads(width, four_groups(self.channels), None, functional.relu)

    def encode(self, photons: Tensor) -> Tensor:
        """(N, H, W) photons → (N, state_channels, ⌈H/4⌉, ⌈W/4⌉)."""
        fine, middle, coarse = self.second.down(self.first(padded(self.flattened(photons), self.shrink)))
        return torch.cat([coarse, functional.pixel_unshuffle(middle, 2), functional.pixel_unshuffle(fine, 4)], 1)

    def attend(self, state: Tensor, valid: Tensor, first: int, count: int) -> Tensor:
        """See Network.attend; gives (B·count, state_channels, h, w)."""
        coarse, skips = state[:, :, : self.widths[-1]], state[:, first : first + count, self.widths[-1] :]
        return torch.cat([self.attention(coarse, valid, first, count), skips.flatten(0, 1)], 1)

    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:
        """(N, state_channels, h, w) → maps of (N, H, W)."""
        coarse, middle, fine = torch.split(x, [self.widths[2], 4 * self.widths[1], 16 * self.widths[0]], 1)
        levels = [functional.pixel_shuffle(fine, 4), functional.pixel_shuffle(middle, 2), coarse]
        return self.named(self.heads(self.second.up(levels))).each(lambda value: value[..., :height, :width])


class SeedV2(Network):
    """AttentionUNetV2: attention along time at full resolution, between two U-Nets; the one that the paper is about.

    Reads ``features``, the published 96 (25.1 M parameters, 12.9 MFLOP per pixel and frame), ``heads``, ``past``,
    ``future``. The rolling buffer holds ``features`` numbers a pixel for each of 49 frames: 4.9 GB at 512 × 512.
    Batch norms use the batch while training, and constants when the network runs.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        width = settings.features
        self.shrink, self.state_channels = 1, width
        self.first = _PooledUNet(1, [width, 2 * width, 4 * width])
        self.attention = SeedAttention(width, settings)
        self.second = _PooledUNet(width, [2 * width, 4 * width, 8 * width])
        self.heads = Heads(2 * width, four_groups(self.channels), None, functional.relu)

    def encode(self, photons: Tensor) -> Tensor:
        """(N, H, W) photons → (N, features, H, W)."""
        features: Tensor = self.first(self.flattened(photons))
        return features

    def attend(self, state: Tensor, valid: Tensor, first: int, count: int) -> Tensor:
        """See Network.attend; gives (B·count, features, H, W)."""
        seen: Tensor = self.attention(state, valid, first, count)
        return seen

    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:  # noqa: ARG002 (the contract's)
        """(N, features, H, W) → maps of (N, H, W)."""
        return self.named(self.heads(self.second(x)))


class SeedAttention(nn.Module):
    """Attention along time as the seed frames it: group norm and a 1×1 convolution before, one after, residual."""

    def __init__(self, channels: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.enter = nn.Conv2d(channels, channels, 1)
        self.attention = TemporalAttention(channels, settings.heads, settings.past, settings.future, gated=True)
        self.leave = nn.Conv2d(channels, channels, 1)

    def forward(self, state: Tensor, valid: Tensor, first: int, count: int) -> Tensor:
        """(B, S, channels, h, w) → (B·count, channels, h, w)."""
        batch, length = state.shape[:2]
        x = self.enter(self.norm(state.flatten(0, 1)))
        x = x.view(batch, length, *x.shape[1:]).permute(0, 1, 3, 4, 2)
        seen = self.attention(x, valid, first, count).permute(0, 1, 4, 2, 3).flatten(0, 1)
        result: Tensor = self.leave(seen) + state[:, first : first + count].flatten(0, 1)
        return result


class _PooledUNet(nn.Module):
    """The seed's own U-Net: enters at the width of its finest level, maximum down, bilinear up, skips side by side.

    Any height and width: frames are padded at the far edges.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        self.multiple = 2 ** len(steps)
        self.enter = nn.Conv2d(inputs, widths[0], 1)
        self.down = nn.ModuleList(_two_norms(fine, coarse, coarse) for fine, coarse in steps)
        self.up = nn.ModuleList(_two_norms(fine + coarse, fine, (fine + coarse) // 2) for fine, coarse in steps)
        self.last = nn.Conv2d(widths[0], widths[0], 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, widths[0], H, W)."""
        height, width = x.shape[-2:]
        levels = [self.enter(padded(x, self.multiple))]
        for down in self.down:
            levels.append(down(functional.max_pool2d(levels[-1], 2)))
        x = levels.pop()
        for up in reversed(self.up):
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = up(torch.cat([levels.pop(), x], 1))
        result: Tensor = self.last(x)[..., :height, :width]
        return result


def _two_norms(inputs: int, outputs: int, between: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with a batch norm and ReLU."""
    layers: list[nn.Module] = []
    for before, after in ((inputs, between), (between, outputs)):
        conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
