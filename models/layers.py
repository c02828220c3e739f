"""Building blocks of the networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

from config.errors import SettingsError


class ConvPair(nn.Module):
    """Two 3×3 convolutions with ReLU; the second one adds to its input."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, ⌈H / stride⌉, ⌈W / stride⌉)."""
        x = convolved(self.first, x, relu=True)
        return convolved(self.second, x, added=x, relu=True)


class UNet(nn.Module):
    """A U-Net of ConvPairs: halves the resolution once a level, joins skips by addition.

    Any height and width: halving rounds up and the way back is cut to the skip's size.
    """

    def __init__(self, inputs: int, widths: list[int], gated: bool = False, middle: int = 0) -> None:
        """``gated``: skips pass attention gates; ``middle``: size of one more kernel at the coarsest level, 0: none."""
        super().__init__()
        self.enter = ConvPair(inputs, widths[0])
        steps = list(pairwise(widths))
        self.down = nn.ModuleList(ConvPair(fine, coarse, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in steps)
        self.join = nn.ModuleList(ConvPair(fine, fine) for fine, _ in steps)
        self.gates = nn.ModuleList(_Gate(fine) for fine, _ in steps) if gated else None
        self.middle = nn.Conv2d(widths[-1], widths[-1], middle, padding=middle // 2) if middle else None

    @property
    def multiple(self) -> int:
        """Places, each way, that the coarsest level joins in one."""
        return 1 << len(self.down)

    @property
    def reach(self) -> int:
        """How far it looks beyond a place, in places: two convolutions on the way in, and at each level 1 (strided) and
        1 twice as wide on the way down, 1 to the finer place and 2 on the way up.
        """
        middle = self.middle.kernel_size[0] // 2 if self.middle is not None else 0
        return 2 + 6 * (self.multiple - 1) + middle * self.multiple

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, widths[0], H, W)."""
        skips = [self.enter(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        x = skips.pop()
        if self.middle is not None:
            x = convolved(self.middle, x, relu=True)
        for level in reversed(range(len(skips))):
            skip = skips[level]
            x = self.up[level](x)[..., : skip.shape[-2], : skip.shape[-1]]
            x = self.join[level](x + (skip if self.gates is None else self.gates[level](skip, x)))
        return x


class _Gate(nn.Module):
    """Lets through of a skip what the coarser level asks for (Oktay et al. 2018, arXiv:1804.03999), without norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        between = max(1, channels // 2)
        self.skip = nn.Conv2d(channels, between, 1)
        self.coarse = nn.Conv2d(channels, between, 1)
        self.openness = nn.Conv2d(between, 1, 1)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        return skip * torch.sigmoid(self.openness(functional.relu(self.skip(skip) + self.coarse(coarse))))


BLOCK = 8
"""Frames whose attention is worked off together: more see much that lies outside the window, fewer share little."""


class TemporalAttention(nn.Module):
    """Multi-head self-attention along time at each pixel, over a window, with a learned bias a head and distance.

    Pre-normalised, then a two-fold MLP; both residual and zero at the start, so that training begins with no time.
    """

    def __init__(self, channels: int, heads: int, past: int, future: int, gated: bool = False) -> None:
        """``gated``: the MLP is a gated one. Raises SettingsError where heads do not divide channels."""
        super().__init__()
        check_heads(channels, heads)
        self.heads, self.past, self.future = heads, past, future
        self.norm_attention = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros(heads, past + future + 1))
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = GatedMLP(channels) if gated else MLP(channels)
        for last in (self.out, self.mlp[-1]):
            start_at_zero(last)

    def forward(self, x: Tensor, valid: Tensor, first: int, count: int) -> Tensor:
        """Attended features (B, count, h, w, C) of frames ``first`` to ``first + count`` of x (B, S, h, w, C).

        ``valid`` (S,) tells which frames exist; the others are not looked at. A frame that does not exist itself
        looks at itself alone, which keeps the softmax defined; its result means nothing.
        """
        batch, _, height, width, channels = x.shape
        normal = self.norm_attention(x)
        query = self._heads(linear(self.query, normal[:, first : first + count]))
        key, value = (self._heads(part) for part in linear(self.key_value, normal).chunk(2, -1))
        mixed = self._mixed(query, key, value, self._mask(valid, first, count, x.dtype))
        mixed = linear(self.out, mixed.transpose(1, 2).contiguous().flatten(2))
        mixed = mixed.reshape(batch, height, width, count, channels).permute(0, 3, 1, 2, 4)
        x = x[:, first : first + count] + mixed
        result: Tensor = x + self.mlp(self.norm_mlp(x))
        return result

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Attention (N, heads, count, D) of queries like it to keys and values (N, heads, S, D).

        A processor running a stream does it in blocks of frames: small matrix products that stay in its cache, of what
        a block can see alone. Its fused kernel takes up to twice as long for windows this short (docs/decisions.md).
        """
        (count, size), window = query.shape[-2:], self.past + self.future
        if not _runs_on_processor(query) or count % BLOCK or key.shape[-2] != count + window:
            return functional.scaled_dot_product_attention(query, key, value, mask)
        seen = BLOCK + window
        masks = [mask[:, :, n : n + BLOCK, n : n + seen] for n in range(0, count, BLOCK)]
        keys, values = (part.unfold(2, seen, BLOCK).mT.contiguous() for part in (key, value))
        likeness = query.reshape(*query.shape[:2], -1, BLOCK, size) @ keys.mT
        weights = torch.add(torch.stack(masks, 2).float(), likeness, alpha=1 / math.sqrt(size)).softmax(-1)
        return (weights.to(value.dtype) @ values).flatten(2, 3)

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


class GatedMLP(nn.Sequential):
    """A two-fold MLP whose hidden channels are multiplied by others through a GELU (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Linear(channels, 4 * channels), nn.Linear(2 * channels, channels))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (Sequential's word)
        """(…, channels) → (…, channels)."""
        value, gate = self[0](input).chunk(2, -1)
        result: Tensor = self[1](value * functional.gelu(gate))
        return result


class WindowAttention(nn.Module):
    """Multi-head self-attention among the places of a square window, with a learned bias a head and distance.

    Pre-normalised, then a two-fold MLP; both residual. ``shifted``: windows begin half a window earlier, so that blocks
    in turn join what others part (Liu et al. 2021, arXiv:2103.14030). Places beyond the frame are not looked at.
    """

    index: Tensor

    def __init__(self, channels: int, heads: int, window: int, shifted: bool) -> None:
        """Raises SettingsError where heads do not divide channels."""
        super().__init__()
        check_heads(channels, heads)
        self.heads, self.window, self.shift = heads, window, window // 2 if shifted else 0
        self.norm_attention = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        span = 2 * window - 1
        self.bias = nn.Parameter(torch.zeros(heads, span**2))
        place = torch.arange(window)
        distance = place[:, None] - place[None, :] + window - 1
        index = distance[:, None, :, None] * span + distance[None, :, None, :]
        self.register_buffer("index", index.reshape(window**2, window**2), persistent=False)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = MLP(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) → (N, h, w, C)."""
        x = x + self._mixed(self.norm_attention(x))
        result: Tensor = x + self.mlp(self.norm_mlp(x))
        return result

    def _mixed(self, x: Tensor) -> Tensor:
        count, height, width, channels = x.shape
        parts = self.query_key_value(self._windows(x)).unflatten(-1, (3, self.heads, channels // self.heads))
        # Windows and heads together, so that one bias serves all frames: (3, N, windows · heads, window², C / heads).
        query, key, value = parts.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        mixed = functional.scaled_dot_product_attention(query, key, value, self._bias(x).to(query.dtype))
        down, across = self._tiles(height), self._tiles(width)
        mixed = mixed.reshape(count, down * across, self.heads, *mixed.shape[2:]).transpose(2, 3)
        mixed = mixed.reshape(count, down, across, self.window, self.window, channels).transpose(2, 3)
        mixed = mixed.reshape(count, down * self.window, across * self.window, channels)
        result: Tensor = self.out(mixed[:, self.shift : self.shift + height, self.shift : self.shift + width])
        return result

    def _bias(self, x: Tensor) -> Tensor:  # (1, windows · heads, window², window²): learned; −10⁴ beyond the frame
        exists = self._windows(torch.ones_like(x[:1, ..., :1], dtype=torch.float32))[0, :, None, None, :, 0]
        return (self.bias[:, self.index] + 1e4 * (exists - 1)).flatten(0, 1)[None]

    def _windows(self, x: Tensor) -> Tensor:  # (N, h, w, C) → (N, windows, window², C)
        count, height, width, channels = x.shape
        down, across = self._tiles(height), self._tiles(width)
        after = [tiles * self.window - self.shift - size for tiles, size in ((across, width), (down, height))]
        x = functional.pad(x, (0, 0, self.shift, after[0], self.shift, after[1]))
        x = x.view(count, down, self.window, across, self.window, channels).transpose(2, 3)
        return x.reshape(count, down * across, self.window**2, channels)

    def _tiles(self, size: int) -> int:
        return (size + self.shift + self.window - 1) // self.window


class MLP(nn.Sequential):
    """A two-fold MLP."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Linear(channels, 2 * channels), nn.ReLU(inplace=True), nn.Linear(2 * channels, channels))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (Sequential's word)
        """(…, channels) → (…, channels)."""
        wide, narrow = self[0], self[2]
        assert isinstance(wide, nn.Linear)
        assert isinstance(narrow, nn.Linear)
        return linear(narrow, linear(wide, input, relu=True))


class StridedUNet(nn.Module):
    """The U-Net of DECODE: strided 2×2 convolutions down, bilinear and a 1×1 convolution up, skips joined side by side.

    As published (Speiser et al. 2021), without norms. Any height and width: frames are padded at the far edges.
    """

    def __init__(self, inputs: int, widths: Sequence[int], activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        self.multiple = 2 ** len(steps)
        pairs = pairwise([inputs, *widths])
        self.blocks = nn.ModuleList(_TwoConvs(before, after, activation) for before, after in pairs)
        self.pools = nn.ModuleList(nn.Conv2d(fine, fine, 2, 2) for fine, _ in steps)
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in steps)
        self.joins = nn.ModuleList(_TwoConvs(2 * fine, fine, activation) for fine, _ in steps)
        self.last = nn.Conv2d(widths[0], widths[0], 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, widths[0], H, W)."""
        height, width = x.shape[-2:]
        return self.up(self.down(padded(x, self.multiple)))[..., :height, :width]

    def down(self, x: Tensor) -> list[Tensor]:
        """Features of each level, the finest first; height and width are multiples of ``multiple``."""
        levels = [self.blocks[0](x)]
        for pool, block in zip(self.pools, self.blocks[1:], strict=True):
            levels.append(block(pool(levels[-1])))
        return levels

    def up(self, levels: Sequence[Tensor]) -> Tensor:
        """Back to the finest level."""
        x = levels[-1]
        ways = zip(reversed(self.narrow), reversed(self.joins), reversed(levels[:-1]), strict=True)
        for narrow, join, skip in ways:
            # The 1×1 convolution before the interpolation gives the same as after it, at a quarter of the work.
            x = join(torch.cat([skip, functional.interpolate(narrow(x), scale_factor=2, mode="bilinear")], 1))
        result: Tensor = self.last(x)
        return result


class _TwoConvs(nn.Module):
    """Two 3×3 convolutions, each with an activation."""

    def __init__(self, inputs: int, outputs: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.second(self.activation(self.first(x))))


def check_heads(channels: int, heads: int) -> None:
    """Raise SettingsError where heads do not divide channels."""
    if channels % heads:
        raise SettingsError(
            f"network.heads={heads}: {channels} channels cannot be shared by so many heads. Take a divisor of "
            f"{channels}, or other network.features."
        )


def convolved(conv: nn.Conv2d, x: Tensor, added: Tensor | None = None, relu: bool = False) -> Tensor:
    """conv(x), plus ``added``, without what is negative: (N, C, H, W) → (N, outputs, …).

    When a network runs on a processor, oneDNN does all of it in one pass over memory, as torch.compile would have it.
    """
    if ONE_PASS is None or not _runs_on_processor(x):
        x = conv(x)
        x = x if added is None else added + x
        return functional.relu(x, inplace=True) if relu else x
    kind = _computed_in(x)
    weights = *_ready(conv, kind, x), conv.padding, conv.stride, conv.dilation, conv.groups
    x, last = x.to(kind, memory_format=torch.channels_last), "relu" if relu else "none"
    if added is None:
        result: Tensor = ONE_PASS(x, *weights, last, [], "")
    else:
        result = ONE_PASS.binary(x, added.to(kind), *weights, "add", None, last if relu else None, [], "")
    return result


def linear(layer: nn.Linear, x: Tensor, relu: bool = False) -> Tensor:
    """layer(x), without what is negative if wanted: (…, inputs) → (…, outputs). In one pass as ``convolved``."""
    if LINEAR_ONE_PASS is None or not _runs_on_processor(x):
        x = layer(x)
        return functional.relu(x, inplace=True) if relu else x
    kind = _computed_in(x)
    result: Tensor = LINEAR_ONE_PASS(x.to(kind), *_ready(layer, kind, x), "relu" if relu else "none", [], "")
    return result


READY: WeakKeyDictionary[nn.Module, tuple[tuple[object, ...], Tensor, Tensor]] = WeakKeyDictionary()
"""Weights and biases as they are computed with, by layer, and of what they were made."""
AS_THEY_ARE = ContextVar("AS_THEY_ARE", default=False)
"""Whether operations get the weights themselves, so that who counts what is read knows them (models/bench/cost.py)."""


def _ready(layer: nn.Conv2d | nn.Linear, kind: torch.dtype, x: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias in ``kind``, a convolution's laid out as oneDNN wants it: for frames as small as a part's, to do
    that anew in every call takes up to half of the convolution's time.
    """
    weight, bias = layer.weight, layer.bias
    assert bias is not None
    if AS_THEY_ARE.get():
        return weight.to(kind), bias.to(kind)
    made_of = kind, weight.data_ptr(), None if weight.is_inference() else weight._version  # noqa: SLF001 (counts its changes)
    ready = READY.get(layer)
    if ready is None or ready[0] != made_of:
        laid = weight.to(kind)
        if isinstance(layer, nn.Conv2d) and REORDER is not None:
            how = layer.padding, layer.stride, layer.dilation, layer.groups, list(x.shape)
            laid = REORDER(laid.contiguous(memory_format=torch.channels_last), *how)
        ready = READY[layer] = made_of, laid, bias.to(kind)
    return ready[1:]


def _runs_on_processor(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.is_inference_mode_enabled() and not torch.compiler.is_compiling()


def _computed_in(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _one_pass(name: str) -> Any:
    found = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return getattr(torch.ops.mkldnn, name, None) if found else None


ONE_PASS, LINEAR_ONE_PASS = _one_pass("_convolution_pointwise"), _one_pass("_linear_pointwise")
REORDER = _one_pass("_reorder_convolution_weight")
"""oneDNN's convolution, and its matrix product, with what follows, and its layout of weights, where this torch has
them."""

if ONE_PASS is not None:

    @register_flop_formula(ONE_PASS)
    def _flops(x: list[int], *others: Any, out_shape: list[int], **_: object) -> int:
        """Arithmetic of it, for torch's counter; what is to be added stands before the weights."""
        weight = next(one for one in others[1::-1] if len(one) == len(x))
        return conv_flop_count(x, weight, out_shape)


if LINEAR_ONE_PASS is not None:

    @register_flop_formula(LINEAR_ONE_PASS)
    def _linear_flops(x: list[int], weight: list[int], *_: Any, **__: object) -> int:
        """Arithmetic of it."""
        return 2 * math.prod(x) * weight[0]


def start_at_zero(layer: nn.Module) -> None:
    """All parameters of a layer zero, so that a residual branch begins as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def padded(x: Tensor, multiple: int) -> Tensor:
    """(N, C, H, W) with height and width made multiples, the last row and column repeated."""
    down, right = ((multiple - size % multiple) % multiple for size in x.shape[-2:])
    return functional.pad(x, (0, right, 0, down), mode="replicate")


def beside(state: Tensor, valid: Tensor, first: int, count: int, offset: int) -> tuple[Tensor, Tensor]:
    """Frames ``offset`` away from those from ``first`` on, and which of them exist.

    ``state`` (B, S, …), ``valid`` (S,) → (B, count, …), of which those that do not exist mean nothing, and (count,).
    """
    index = torch.arange(count, device=valid.device) + (first + offset)
    inside = (index >= 0) & (index < valid.shape[0])
    index = index.clamp(min=0, max=valid.shape[0] - 1)
    return state.index_select(1, index), inside & valid[index]


def rounded_up(value: int, multiple: int) -> int:
    """The next multiple."""
    return -(-value // multiple) * multiple


def flatten_noise(photons: Tensor, offset: float, scale: float) -> Tensor:
    """Photons with their shot noise made about even: linear near zero, a square root far from it, odd."""
    return scale * photons / torch.sqrt(photons.abs() + offset)
