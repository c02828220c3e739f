"""Building blocks of the networks."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvPair(nn.Module):
    """Two 3×3 convolutions with ReLU; the second one adds to its input."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, ⌈H / stride⌉, ⌈W / stride⌉)."""
        x = functional.relu(self.first(x))
        return functional.relu(x + self.second(x))


class UNet(nn.Module):
    """A U-Net of ConvPairs: halves the resolution once a level, joins skips by addition.

    Any height and width: halving rounds up and the way back is cut to the skip's size.
    """

    def __init__(self, inputs: int, widths: list[int]) -> None:
        super().__init__()
        self.enter = ConvPair(inputs, widths[0])
        steps = list(pairwise(widths))
        self.down = nn.ModuleList(ConvPair(fine, coarse, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in steps)
        self.join = nn.ModuleList(ConvPair(fine, fine) for fine, _ in steps)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, widths[0], H, W)."""
        skips = [self.enter(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up, join in zip(reversed(self.up), reversed(self.join), strict=True):
            skip = skips.pop()
            x = join(skip + up(x)[..., : skip.shape[-2], : skip.shape[-1]])
        return x


class TemporalAttention(nn.Module):
    """Multi-head self-attention along time at each pixel, over a window, with a learned bias a head and distance.

    Pre-normalised, then a two-fold MLP; both residual and zero at the start, so that training begins with no time.
    """

    def __init__(self, channels: int, heads: int, past: int, future: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads")
        self.heads, self.past, self.future = heads, past, future
        self.norm_attention = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros(heads, past + future + 1))
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels))
        for last in (self.out, self.mlp[-1]):
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, valid: Tensor, first: int, count: int) -> Tensor:
        """Attended features (B, count, h, w, C) of frames ``first`` to ``first + count`` of x (B, S, h, w, C).

        ``valid`` (S,) tells which frames exist; the others are not looked at. A frame that does not exist itself
        looks at itself alone, which keeps the softmax defined; its result means nothing.
        """
        batch, _, height, width, channels = x.shape
        normal = self.norm_attention(x)
        query = self._heads(self.query(normal[:, first : first + count]))
        key, value = (self._heads(part) for part in self.key_value(normal).chunk(2, -1))
        mixed = functional.scaled_dot_product_attention(query, key, value, self._mask(valid, first, count, x.dtype))
        mixed = mixed.transpose(1, 2).contiguous().reshape(batch, height, width, count, channels).permute(0, 3, 1, 2, 4)
        x = x[:, first : first + count] + self.out(mixed)
        result: Tensor = x + self.mlp(self.norm_mlp(x))
        return result

    def _heads(self, x: Tensor) -> Tensor:  # (B, T, h, w, C) → (B·h·w, heads, T, C / heads)
        batch, length, height, width, channels = x.shape
        x = x.permute(0, 2, 3, 1, 4).reshape(batch * height * width, length, self.heads, channels // self.heads)
        return x.transpose(1, 2)

    def _mask(self, valid: Tensor, first: int, count: int, dtype: torch.dtype) -> Tensor:
        """Additive bias (1, heads, count, S): learned within the window, −∞ outside it and where no frame is."""
        position = torch.arange(valid.shape[0], device=valid.device)
        distance = position[None, :] - position[first : first + count, None]
        seen = (distance >= -self.past) & (distance <= self.future) & valid[None, :] | (distance == 0)
        bias = self.bias[:, (distance + self.past).clamp(0, self.past + self.future)]
        return bias.masked_fill(~seen, -math.inf).to(dtype)[None]


def flatten_noise(photons: Tensor, offset: float, scale: float) -> Tensor:
    """Photons with their shot noise made about even: linear near zero, a square root far from it, odd."""
    return scale * photons / torch.sqrt(photons.abs() + offset)
