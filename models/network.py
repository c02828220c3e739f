"""The contract of every network: what it is given, what it says of a pixel, and how it streams.

A network encodes each frame by itself, looks along time over a window of encoded frames, and decodes one frame again.
What a frame leaves behind, its state, is one tensor; so one graph streams, trains and exports every network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.errors import SettingsError
from config.schema import NetworkSettings
from models.layers import convolved, flatten_noise

if TYPE_CHECKING:
    from simulation.truth import SceneBatch

CHANNELS = ("logit", "dx", "dy", "photons", "sigma_x", "sigma_y", "sigma_photons", "background")
"""Output channels, in order. This is the only place that knows it."""
CHANNELS_3D = (*CHANNELS, "z", "sigma_z")
"""Those of a network with ``dimensions: 3``."""

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

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same maps, each of them changed."""
        return type(self)(**{name: change(value) for name, value in vars(self).items()})


@dataclass(frozen=True)
class EmitterMap3D(EmitterMap):
    """The maps of a network that also says how far from the focus an emitter is."""

    z: Tensor
    """[nm], as the calibration of the PSF counts it."""
    sigma_z: Tensor
    """[nm]"""


class Network(nn.Module, ABC):
    """Base of all networks. Its outputs mean the same whatever the network, so loss, detection and export are shared.

    No answer may depend on the batch or block that a frame came in: norms are per frame, or constants when it runs.
    """

    shrink: int
    """How many times smaller than the frame the state is, each way."""
    state_channels: int
    """Channels of a frame's state."""
    attends_in_place = False
    """Whether ``attend`` gives of each place what it is given of that place, so that it can be worked off in bands."""
    reach: tuple[int, int] | None = None
    """How far ``encode`` and ``decode`` look beyond a pixel [pixels, multiples of ``multiple``], so that a frame can be
    worked off in tiles; None where that has no bound, or nobody has worked it out."""
    multiple: int = 1
    """Tiles begin at multiples of so many pixels."""

    def __init__(self, settings: NetworkSettings) -> None:
        """Raises SettingsError for dimensions other than 2 and 3."""
        super().__init__()
        if settings.dimensions not in (2, 3):
            raise SettingsError(f"network.dimensions={settings.dimensions}: expected 2, or 3 for a model that finds z.")
        self.settings = settings

    @property
    def context(self) -> tuple[int, int]:
        """(past, future) frames that an answer draws on."""
        return self.settings.past, self.settings.future

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the output channels."""
        return CHANNELS if self.settings.dimensions == 2 else CHANNELS_3D

    @abstractmethod
    def encode(self, photons: Tensor) -> Tensor:
        """(N, H, W) photons → state (N, state_channels, ⌈H / shrink⌉, ⌈W / shrink⌉), each frame by itself."""

    @abstractmethod
    def attend(self, state: Tensor, valid: Tensor, first: int, count: int) -> Tensor:
        """Features of frames ``first`` to ``first + count``, each knowing its neighbours.

        ``state`` (B, S, state_channels, h, w), ``valid`` (S,) bool, which frames exist → (B·count, any, h, w). A frame
        that does not exist must not change an answer; neither must one beyond the sequence's ends.
        """

    @abstractmethod
    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:
        """What ``attend`` gave, (N, any, h, w) → maps of (N, H, W)."""

    def forward(self, photons: Tensor) -> EmitterMap:
        """Whole scenes (B, T, H, W) at once: maps of (B, T, H, W)."""
        return self.decoded(self.attended(photons), photons)

    def training_maps(self, batch: SceneBatch) -> EmitterMap:
        """The maps that the loss is taken of. A network that learns by another way than it runs says so here."""
        maps: EmitterMap = self(batch.photons)
        return maps

    def attended(self, photons: Tensor) -> Tensor:
        """Scenes (B, T, H, W) encoded and attended: (B·T, any, h, w)."""
        batch, frames = photons.shape[:2]
        features = self.encode(photons.flatten(0, 1))
        valid = torch.ones(frames, dtype=torch.bool, device=photons.device)
        return self.attend(features.view(batch, frames, *features.shape[1:]), valid, 0, frames)

    def decoded(self, x: Tensor, photons: Tensor) -> EmitterMap:
        """What ``attended`` gave for ``photons`` (B, T, H, W) as maps of that shape."""
        return self.decode(x, photons.shape[-2], photons.shape[-1]).each(lambda value: value.view(photons.shape))

    def flattened(self, photons: Tensor) -> Tensor:
        """(N, H, W) photons → (N, 1, H, W), shot noise made even by constants that the settings keep."""
        return flatten_noise(photons[:, None], self.settings.input_offset, self.settings.input_scale)

    def unfolded(self, last: nn.Conv2d, x: Tensor, fold: int, height: int, width: int) -> EmitterMap:
        """The maps that ``last`` gives of x (N, C, h, w), where each place stands for ``fold`` × ``fold`` pixels."""
        with torch.autocast(x.device.type, enabled=False):
            channels = convolved(last, x.float()).contiguous()  # each in one piece, as the processor's vectors need it
            raw = functional.pixel_shuffle(channels, fold)[..., :height, :width]
            return self.named(dict(zip(self.channels, raw.unbind(-3), strict=True)))

    def named(self, channel: Mapping[str, Tensor]) -> EmitterMap:
        """Raw channels by name, each (…, H, W), to quantities in their range."""
        photon_scale, background_scale = self.settings.photon_scale, self.settings.background_scale
        maps = EmitterMap(
            logit=channel["logit"],
            dx=REACH * torch.tanh(channel["dx"]),
            dy=REACH * torch.tanh(channel["dy"]),
            photons=photon_scale * functional.softplus(channel["photons"]),
            sigma_x=functional.softplus(channel["sigma_x"]) + 0.01,
            sigma_y=functional.softplus(channel["sigma_y"]) + 0.01,
            sigma_photons=photon_scale * functional.softplus(channel["sigma_photons"]) + 2.0,
            background=background_scale * functional.softplus(channel["background"]),
        )
        return maps if self.settings.dimensions == 2 else self._with_depth(maps, channel)

    def _with_depth(self, maps: EmitterMap, channel: Mapping[str, Tensor]) -> EmitterMap3D:
        scale = self.settings.z_scale
        sigma_z = scale * functional.softplus(channel["sigma_z"]) + 2.0
        return EmitterMap3D(**vars(maps), z=scale * channel["z"], sigma_z=sigma_z)

    def _needs_context(self, past: int, future: int) -> None:
        """Raise SettingsError unless the settings ask for just this context."""
        if self.context != (past, future):
            raise SettingsError(
                f"network.kind={self.settings.kind} looks {past} frames back and {future} ahead by its construction; "
                f"found network.past={self.context[0]}, network.future={self.context[1]}. Leave them as they are in "
                f"config/network/{self.settings.kind}.yaml."
            )


def start_silent(last: nn.Conv2d, names: Sequence[str], fold: int = 1) -> None:
    """Begin with almost no emitters, as most pixels have none, and wide sigmas.

    ``last`` gives the channels ``names``, each for ``fold`` × ``fold`` pixels.
    """
    nn.init.normal_(last.weight, std=0.01)
    start = {"logit": -5.0, "sigma_photons": -0.5}
    bias = torch.tensor([start.get(name, 0.0) for name in names])
    with torch.no_grad():
        assert last.bias is not None
        last.bias.copy_(bias.repeat_interleave(fold**2))


class Heads(nn.Module):
    """A branch of a 3×3 and a 1×1 convolution for each group of channels, as DECODE, LiteLoc and the seed have them."""

    def __init__(
        self,
        inputs: int,
        groups: Sequence[Sequence[str]],
        width: int | None,
        activation: Callable[[Tensor], Tensor],
    ) -> None:
        """``width``: channels between the convolutions of a branch; None: as many as it gives."""
        super().__init__()
        self.groups, self.activation = [tuple(group) for group in groups], activation
        widths = [width or len(group) for group in groups]
        self.first = nn.ModuleList(nn.Conv2d(inputs, between, 3, padding=1) for between in widths)
        lasts = [nn.Conv2d(between, len(group), 1) for between, group in zip(widths, groups, strict=True)]
        for last, group in zip(lasts, groups, strict=True):
            start_silent(last, group)
        self.maps = nn.ModuleList(lasts)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, inputs, H, W) → raw channels by name, each (N, H, W)."""
        raw: dict[str, Tensor] = {}
        for first, last, group in zip(self.first, self.maps, self.groups, strict=True):
            between = self.activation(first(x))
            with torch.autocast(x.device.type, enabled=False):
                raw |= dict(zip(group, last(between.float()).unbind(1), strict=True))
        return raw


def four_groups(channels: Sequence[str]) -> list[list[str]]:
    """Detection, place and photons, their sigmas, background: the branches of DECODE and the seed."""
    sigmas = [name for name in channels if name.startswith("sigma")]
    alone = ("logit", "background")
    return [["logit"], [name for name in channels if name not in (*alone, *sigmas)], sigmas, ["background"]]
