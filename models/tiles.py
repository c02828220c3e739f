"""Large frames worked off in tiles, with the same answer: each also looks at what lies within a network's reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from config.errors import SettingsError
from models.network import EmitterMap, Network

LARGEST = 1 << 19
"""Pixels of a frame that a processor works off whole: some 700 × 700."""
SIDE = 512
"""Of a tile of a larger one [pixels]: what a layer gives of it stays in the processor's last cache, which is worth more
than looking at the tiles' surroundings twice (docs/decisions.md)."""
BYTES_A_PIXEL = 1024
"""Memory that the stages of the shipped models need for a pixel of a frame, in fp32 (docs/performance.md)."""


@dataclass(frozen=True)
class Stretch:
    """A tile along one axis [pixels]."""

    start: int
    """First pixel that it answers for."""
    stop: int
    """One behind the last."""
    first: int
    """First pixel that it looks at."""
    last: int
    """One behind the last."""


def stretches(size: int, side: int, reach: int) -> list[Stretch]:
    """Tiles of ``side`` pixels along an axis of ``size``, each with ``reach`` pixels more on either side."""
    starts = range(0, size, side)
    return [
        Stretch(start, min(start + side, size), max(0, start - reach), min(start + side + reach, size))
        for start in starts
    ]


@dataclass(frozen=True)
class Tiles:
    """How one network works off frames of one size."""

    network: Network
    side: int
    """Of a tile [pixels]."""

    def encode(self, photons: Tensor) -> Tensor:
        """As Network.encode."""
        shrink, reach = self.network.shrink, self._reach()[0]

        def piece(row: Stretch, column: Stretch) -> Tensor:
            seen = self.network.encode(photons[..., row.first : row.last, column.first : column.last])
            return seen[..., _within(row, shrink), _within(column, shrink)]

        rows, columns = (stretches(size, self.side, reach) for size in photons.shape[-2:])
        return _laid([[piece(row, column) for column in columns] for row in rows])

    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:
        """As Network.decode."""
        shrink, reach = self.network.shrink, self._reach()[1]

        def piece(row: Stretch, column: Stretch) -> EmitterMap:
            part = x[..., _from(row, shrink), _from(column, shrink)]
            maps = self.network.decode(part, row.last - row.first, column.last - column.first)
            return maps.each(lambda value: value[..., _within(row), _within(column)])

        columns = stretches(width, self.side, reach)
        pieces = [[piece(row, column) for column in columns] for row in stretches(height, self.side, reach)]
        kind, names = type(pieces[0][0]), vars(pieces[0][0])
        return kind(**{name: _laid([[getattr(one, name) for one in row] for row in pieces]) for name in names})

    def _reach(self) -> tuple[int, int]:
        assert self.network.reach is not None
        return self.network.reach


def tiles_for(network: Network, wanted: str, shape: tuple[int, int], device: torch.device) -> Tiles | None:
    """Tiles for frames of ``shape`` (H, W), None where they are worked off whole.

    ``wanted``: none, a number of pixels, or auto, which takes tiles where the whole would not fit into memory, or into
    a processor's cache. Raises SettingsError where the network cannot take any.
    """
    if wanted == "none" or (wanted == "auto" and network.reach is None):
        return None
    if network.reach is None:
        raise SettingsError(
            f"run.tile={wanted}: what a network of the kind {network.settings.kind} says of a pixel may depend on the "
            "whole frame. Set run.tile=auto."
        )
    side = int(wanted) if wanted != "auto" else _fitting(network, shape, device)
    side = max(network.multiple, side // network.multiple * network.multiple)
    return Tiles(network, side) if side < max(shape) else None


def _fitting(network: Network, shape: tuple[int, int], device: torch.device) -> int:
    """The side of a tile that is worked off fastest, or that memory has room for; the frame's where that is whole."""
    if device.type != "cuda":
        return max(shape) if math.prod(shape) <= LARGEST else SIDE
    # Half of what is free: the maps of the whole frame, its neighbours' features and the library need some, too.
    most = torch.cuda.mem_get_info(device)[0] // (2 * BYTES_A_PIXEL)
    return max(shape) if math.prod(shape) <= most else math.isqrt(most) - 2 * max(network.reach or ())


def _within(stretch: Stretch, shrink: int = 1) -> slice:
    """What a tile answers for, of what it looked at; the answer is ``shrink`` times smaller."""
    begin = (stretch.start - stretch.first) // shrink
    return slice(begin, begin + -(-(stretch.stop - stretch.start) // shrink))


def _from(stretch: Stretch, shrink: int) -> slice:
    """What a tile looks at, of features ``shrink`` times smaller than the frame."""
    return slice(stretch.first // shrink, -(-stretch.last // shrink))


def _laid(pieces: Sequence[Sequence[Tensor]]) -> Tensor:
    """One tensor of rows of tiles."""
    return torch.cat([torch.cat(list(row), -1) for row in pieces], -2)
