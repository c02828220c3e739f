"""The network of DECODE (Speiser et al. 2021, Nat. Methods 18:1082), for comparison."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from config.schema import NetworkSettings
from models.layers import StridedUNet, beside
from models.network import EmitterMap, Heads, Network, four_groups


class Decode(Network):
    """A U-Net that all frames share, then one on three consecutive frames' features side by side; ELU, four heads.

    Reads ``features``, the published 48: both U-Nets have two levels below and double their filters at each. Published:
    2.2 M parameters, 2.08 MFLOP per pixel of a frame analysed by itself. A stream encodes every frame once, not in each
    of its three roles, which gives the same for 1.2.

    What differs from the published network: input and outputs are scaled as in all networks here (the published ones by
    constants of the experiment, through sigmoid and tanh), and a 2-D network has no z. A neighbour that does not exist
    is replaced by the frame itself.
    """

    attends_in_place = True

    def __init__(self, settings: NetworkSettings) -> None:
        """Raises SettingsError for a context that is not one frame on either side."""
        super().__init__(settings)
        self._needs_context(1, 1)
        self.shrink, self.state_channels = 1, settings.features
        widths = [settings.features * factor for factor in (1, 2, 4)]
        self.shared = StridedUNet(1, widths, functional.elu)
        self.union = StridedUNet(3 * settings.features, widths, functional.elu)
        self.heads = Heads(settings.features, four_groups(self.channels), settings.features, functional.elu)

    def encode(self, photons: Tensor) -> Tensor:
        """(N, H, W) photons → (N, features, H, W)."""
        features: Tensor = self.shared(self.flattened(photons))
        return features

    def attend(self, state: Tensor, valid: Tensor, first: int, count: int) -> Tensor:
        """See Network.attend; gives (B·count, 3 · features, H, W)."""
        here = state[:, first : first + count]
        before, after = (_or_itself(here, *beside(state, valid, first, count, offset)) for offset in (-1, 1))
        return torch.cat([before, here, after], 2).flatten(0, 1)

    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:  # noqa: ARG002 (the contract's)
        """(N, 3 · features, H, W) → maps of (N, H, W)."""
        return self.named(self.heads(self.union(x)))


def _or_itself(here: Tensor, there: Tensor, exists: Tensor) -> Tensor:
    return torch.where(exists[:, None, None, None], there, here)
