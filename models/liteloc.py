"""The network of LiteLoc (Fei et al. 2025, Nat. Commun., doi 10.1038/s41467-025-62662-5), for comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.schema import NetworkSettings
from models.layers import beside, padded
from models.network import EmitterMap, Heads, Network


class LiteLoc(Network):
    """Three frames at half resolution: convolutions of growing dilation, then a shallow U-Net, then three heads.

    Reads ``features``, the published 64. Published: 1.33 M parameters; 71.08 GFLOP for ten images of 128 × 128 pixels
    with one more on either side, counted in multiplications with addition, so 0.87 MFLOP per pixel.

    What differs from the published network: input and outputs are scaled as in all networks here, the background has a
    channel (beside the sigmas), and a 2-D network has no z. Batch norms are as published: while training they use the
    batch, and constants when the network runs, so that no frame depends on others of its block.
    """

    attends_in_place = True

    def __init__(self, settings: NetworkSettings) -> None:
        """Raises SettingsError for a context that is not one frame on either side."""
        super().__init__(settings)
        self._needs_context(1, 1)
        width = settings.features
        self.shrink, self.state_channels = 2, 2 * width
        self.norm = nn.BatchNorm2d(1)
        self.enter = _ConvNorm(1, width)
        self.frame = nn.ModuleList(_ConvNorm(inputs * width, width) for inputs in (1, 2, 2))
        self.join = _ConvNorm(4 * width, width)
        self.coarse = nn.ModuleList(_ConvNorm(2 * width, width, dilation) for dilation in (2, 4, 8, 16))
        self.fine = _FineUNet(width)
        self.leave = nn.Sequential(_ConvNorm(width, width), _ConvNorm(width, width))
        self.heads = Heads(width, _three_groups(self.channels), width, functional.elu)

    def encode(self, photons: Tensor) -> Tensor:
        """(N, H, W) photons → (N, 2 · features, ⌈H/2⌉, ⌈W/2⌉): the frame's features, and its pooled first ones."""
        x = functional.max_pool2d(self.enter(self.norm(padded(self.flattened(photons), 2))), 2)
        seen = self.frame[0](x)
        for conv in self.frame[1:]:
            seen = conv(torch.cat([seen, x], 1)) + seen
        return torch.cat([seen, x], 1)

    def attend(self, state: Tensor, valid: Tensor, first: int, count: int) -> Tensor:
        """See Network.attend; gives (B·count, 4 · features, h, w). The features of a frame that is not are zero."""
        features = state[:, :, : self.settings.features]
        before, after = (_or_nothing(*beside(features, valid, first, count, offset)) for offset in (-1, 1))
        here = state[:, first : first + count]
        own, frame = here[:, :, : self.settings.features], here[:, :, self.settings.features :]
        return torch.cat([before, own, after, frame], 2).flatten(0, 1)

    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:
        """(N, 4 · features, h, w) → maps of (N, H, W)."""
        _, own, _, frame = x.chunk(4, 1)
        x = self._coarse(self.join(x) + own, frame)
        x = self.fine(torch.cat([x, frame], 1))
        x = self.leave(functional.interpolate(x, scale_factor=2))
        return self.named(self.heads(x)).each(lambda value: value[..., :height, :width])

    def _coarse(self, x: Tensor, frame: Tensor) -> Tensor:
        """Four dilated convolutions; the last also takes the first one's result a second time."""
        first = self.coarse[0](torch.cat([x, frame], 1)) + x
        second = self.coarse[1](torch.cat([first, frame], 1)) + first
        third = self.coarse[2](torch.cat([second, frame], 1)) + second
        result: Tensor = self.coarse[3](torch.cat([third, frame], 1)) + first + third
        return result


class _ConvNorm(nn.Module):
    """A 3×3 convolution, ReLU, and then the norm."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(functional.relu(self.conv(x)))
        return result


class _FineUNet(nn.Module):
    """One level of a U-Net, (N, 2 · width, h, w) → (N, width, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = _ConvNorm(2 * width, width)
        self.deep = nn.Sequential(_ConvNorm(width, width), _ConvNorm(width, 2 * width), _ConvNorm(2 * width, 2 * width))
        self.narrow = _ConvNorm(2 * width, width)
        self.join = nn.Sequential(_ConvNorm(2 * width, width), _ConvNorm(width, width))

    def forward(self, x: Tensor) -> Tensor:
        skip = self.enter(x)
        deep = self.deep(functional.avg_pool2d(padded(skip, 2), 2))
        height, width = skip.shape[-2:]
        up = self.narrow(functional.interpolate(deep, scale_factor=2)[..., :height, :width])
        result: Tensor = self.join(torch.cat([up, skip], 1))
        return result


def _or_nothing(there: Tensor, exists: Tensor) -> Tensor:
    return torch.where(exists[:, None, None, None], there, torch.zeros_like(there))


def _three_groups(channels: tuple[str, ...]) -> list[list[str]]:
    sigmas = [name for name in channels if name.startswith("sigma")]
    places = [name for name in channels if name not in (*sigmas, "logit", "background")]
    return [["logit"], places, [*sigmas, "background"]]
