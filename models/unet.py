"""A plain U-Net that sees one frame only: what a network is worth without time."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from config.schema import NetworkSettings
from models.layers import UNet, padded, rounded_up
from models.network import EmitterMap, Network, start_silent


class PlainUNet(Network):
    """One U-Net of the attention U-Net's make. A frame's state is the frame itself, ``fold`` × ``fold`` pixels a place.

    Reads ``fold`` and ``decoder``.
    """

    attends_in_place = True

    def __init__(self, settings: NetworkSettings) -> None:
        """Raises SettingsError for a context."""
        super().__init__(settings)
        self._needs_context(0, 0)
        self.fold = self.shrink = settings.fold
        self.state_channels = settings.fold**2
        self.decoder = UNet(self.state_channels, settings.decoder)
        width = settings.decoder[0]
        self.head = nn.Conv2d(width, width, 3, padding=1)
        self.maps = nn.Conv2d(width, self.fold**2 * len(self.channels), 1)
        start_silent(self.maps, self.channels, self.fold)
        self.multiple = self.fold * self.decoder.multiple
        self.reach = 0, rounded_up(self.fold * (self.decoder.reach + 1), self.multiple)

    def encode(self, photons: Tensor) -> Tensor:
        """(N, H, W) photons → (N, fold², ⌈H / fold⌉, ⌈W / fold⌉)."""
        return functional.pixel_unshuffle(padded(self.flattened(photons), self.fold), self.fold)

    def attend(self, state: Tensor, valid: Tensor, first: int, count: int) -> Tensor:  # noqa: ARG002 (the contract's)
        """The frames as they are, (B·count, fold², h, w)."""
        return state[:, first : first + count].flatten(0, 1)

    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:
        """(N, fold², h, w) → maps of (N, H, W)."""
        x = functional.relu(self.head(self.decoder(x)))
        return self.unfolded(self.maps, x, self.fold, height, width)
