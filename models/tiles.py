"""Large frames worked off in tiles, with the same answer: each also looks at what lies within a network's reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from config.errors import SettingsError
from models.layers import rounded_up
from models.network import EmitterMap, Network

LARGEST = 1 << 19
"""Pixels that a processor works off at once: some 700 × 700. A larger frame is cut into as few tiles as that allows,
long ones rather than squares, since only where two meet their surroundings are looked at twice (docs/decisions.md)."""
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
    shape: tuple[int, int]
    """(H, W) of a tile [pixels]; those at the far edges may be smaller."""

    def encode(self, photons: Tensor) -> Tensor:
        """As Network.encode."""
        shrink, reach = self.network.shrink, self._reach()[0]

        def piece(row: Stretch, column: Stretch) -> Tensor:
            seen = self.network.encode(photons[..., row.first : row.last, column.first : column.last])
            return seen[..., _within(row, shrink), _within(column, shrink)]

        sizes = zip(photons.shape[-2:], self.shape, strict=True)
        rows, columns = (stretches(size, side, reach) for size, side in sizes)
        return _laid([[piece(row, column) for column in columns] for row in rows])

    def decode(self, x: Tensor, height: int, width: int) -> EmitterMap:
        """As Network.decode."""
        shrink, reach = self.network.shrink, self._reach()[1]

        def piece(row: Stretch, column: Stretch) -> EmitterMap:
            part = x[..., _from(row, shrink), _from(column, shrink)]
            maps = self.network.decode(part, row.last - row.first, column.last - column.first)
            return maps.each(lambda value: value[..., _within(row), _within(column)])

        rows, columns = stretches(height, self.shape[0], reach), stretches(width, self.shape[1], reach)
        pieces = [[piece(row, column) for column in columns] for row in rows]
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
    wide = (int(wanted), int(wanted)) if wanted != "auto" else _fitting(network, shape, device)
    tile = tuple(max(network.multiple, rounded_up(side, network.multiple)) for side in wide)
    return Tiles(network, (tile[0], tile[1])) if tile[0] < shape[0] or tile[1] < shape[1] else None


def _fitting(network: Network, shape: tuple[int, int], device: torch.device) -> tuple[int, int]:
    """(H, W) of tiles that are worked off fastest, or that memory has room for; the frame's where that is whole."""
    if device.type != "cuda":
        return _cut(shape)
    # Half of what is free: the maps of the whole frame, its neighbours' features and the library need some, too.
    most = torch.cuda.mem_get_info(device)[0] // (2 * BYTES_A_PIXEL)
    side = math.isqrt(most) - 2 * max(network.reach or ()) - network.multiple
    return shape if math.prod(shape) <= most else (side, side)


def _cut(shape: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of the tiles of that grid, of as few as LARGEST allows, whose cuts are shortest."""
    fewest = -(-math.prod(shape) // LARGEST)
    grids = [(down, -(-fewest // down)) for down in range(1, fewest + 1)]
    down, across = min(grids, key=lambda grid: (grid[0] - 1) * shape[1] + (grid[1] - 1) * shape[0])
    return -(-shape[0] // down), -(-shape[1] // across)


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
