"""The graph of a model file: new frames and what earlier ones left behind in, rows of localisations out.

The sequence inside one call is the state of S = past + future earlier frames followed by the T new ones. The frames
that are answered are the T that have their whole future now: numbers past … past + T − 1 of the sequence.

Where it is not one exported graph, a call is worked off in parts: frames are encoded and decoded a few at a time, and
attention sees a band of rows at a time, so that what a layer leaves for the next is still in the processor's cache and
memory does not grow with the frame. Parts are also what several processor cores share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.runtimes.model_file import ROW_COLUMNS
from models.correction import Corrections
from models.network import EmitterMap, EmitterMap3D, Network
from models.tiles import Tiles, tiles_for

PIXELS_A_PART = {"cpu": 1 << 16, "cuda": 1 << 22}
"""Pixels of the frames that are encoded, or decoded, together at the most: sixteen of 64 × 64 on a processor.

Not by the number of cores: a sum of other parts may be rounded otherwise, and so rows are the same to the last digit
on one core and on many."""
SMALL_PART = {"cpu": 1 << 14, "cuda": 1 << 22}
"""Where a call has less than four such parts they are made smaller, down to this, so that four cores have work."""
PLACES_A_BAND = {"cpu": 1 << 13, "cuda": 1 << 23}
"""Places, times frames of the window, that attention sees together."""

Each = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]
"""Calls a function with each item, in whatever order, and gives the answers in the items' order."""


def one_by_one(work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """In this thread, one after the other."""
    return [work(item) for item in items]


class StreamStep(nn.Module):
    """One call of a streaming model. Torch and ONNX runtimes run this same graph."""

    def __init__(self, network: Network, corrections: Corrections | None = None) -> None:
        """``corrections``: what becomes of the network's sigmas and probabilities; None: they stay."""
        super().__init__()
        self.network = network
        self.corrections = corrections
        self.share(one_by_one)
        self.tile("auto")
        self._encode: Any = network.encode
        self._attend: Any = network.attend
        self._decode: Any = network.decode
        self._detect: Any = detect

    def tile(self, wanted: str) -> None:
        """Work off large frames in tiles: auto, none or a number of pixels, as run.tile. Raises SettingsError."""
        tiles_for(self.network, wanted, (1, 1), torch.device("cpu"))
        self._tile: str = wanted
        self._tiles: dict[tuple[int, int], Tiles | None] = {}

    def share(self, each: Each) -> None:
        """Have the parts of a call worked off by ``each``."""
        self._each = each

    def compile_stages(self, **options: Any) -> None:
        """Have torch.compile make the three stages quicker; ``options`` are its own."""
        self._encode, self._attend, self._decode = (
            _compiled(stage, options) for stage in (self._encode, self._attend, self._decode)
        )

    def wrap_stages(self, wrap: Callable[[str, Any], Any]) -> None:
        """Have encode, attend, decode and detect called as ``wrap(name, stage)`` makes them, such as to time them."""
        self._encode, self._attend = wrap("encode", self._encode), wrap("attend", self._attend)
        self._decode, self._detect = wrap("decode", self._decode), wrap("detect", self._detect)

    def forward(self, photons: Tensor, state: Tensor, valid: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (N, columns) in the order of row_columns(dimensions), and the next state.

        ``photons`` (T, H, W); ``state`` (S, C, h, w) of the earlier frames, in whose type the features are kept;
        ``valid`` (S + T,) bool, which frames of the sequence exist; ``threshold`` () smallest probability of a row.
        Rows are sorted by frame, then y, then x.
        """
        if torch.compiler.is_exporting():
            return self._whole(photons, state, valid, threshold)
        count, height, width = photons.shape
        tiles = self._tiles_of(photons)
        encode, decode = (tiles.encode, tiles.decode) if tiles else (self._encode, self._decode)
        usual, small = PIXELS_A_PART[photons.device.type], SMALL_PART[photons.device.type]
        parts = _parts(photons.numel(), usual, count, small)
        encoded = self._each(lambda part: encode(part).to(state.dtype), photons.tensor_split(parts))
        sequence = torch.cat([state, *encoded])
        seen = self._attended(sequence, valid, count)
        past = self.network.context[0]
        exists = valid[past : past + count, None, None].tensor_split(parts)

        def answer(part: tuple[Tensor, Tensor]) -> Tensor:
            rows: Tensor = self._detect(decode(part[0], height, width), part[1], threshold, self.corrections)
            return rows

        if photons.numel() <= usual:  # detection is a hundred small operations, and threads would wait for one another
            maps = self._each(lambda part: decode(part, height, width), seen.tensor_split(parts))
            rows: Tensor = self._detect(_one_map(maps), torch.cat(exists), threshold, self.corrections)
        else:
            found = self._each(answer, list(zip(seen.tensor_split(parts), exists, strict=True)))
            rows = _joined(found, [len(part) for part in exists])
        return rows, sequence[count:]

    def _whole(self, photons: Tensor, state: Tensor, valid: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """The same as one graph."""
        count, height, width = photons.shape
        sequence = torch.cat([state, self.network.encode(photons)])
        past = self.network.context[0]
        maps = self.network.decode(self.network.attend(sequence[None], valid, past, count), height, width)
        exists = valid[past : past + count, None, None]
        return detect(maps, exists, threshold, self.corrections), sequence[count:]

    def _tiles_of(self, photons: Tensor) -> Tiles | None:
        """How frames of this size are worked off, decided once as memory is then."""
        shape = photons.shape[-2], photons.shape[-1]
        if shape not in self._tiles:
            self._tiles[shape] = tiles_for(self.network, self._tile, shape, photons.device)
        return self._tiles[shape]

    def _attended(self, sequence: Tensor, valid: Tensor, count: int) -> Tensor:
        past, rows = self.network.context[0], sequence.shape[-2]
        bands = 1
        if self.network.attends_in_place:
            places = len(sequence) * rows * sequence.shape[-1]
            bands = _parts(places, PLACES_A_BAND[sequence.device.type], rows)
        parts = sequence.tensor_split(bands, 2)
        seen = self._each(lambda part: self._attend(part[None], valid, past, count), parts)
        return seen[0] if bands == 1 else torch.cat(seen, 2)


def _parts(size: int, most: int, there: int, small: int | None = None) -> int:
    """How many parts to cut ``there`` things into, ``size`` in all: of ``most`` each, an even number for two cores;
    four at least, as long as they are no smaller than ``small``.
    """
    parts = max(-(-size // most), min(4, -(-size // (small or most))))
    return min(there, parts + (parts > 1) * parts % 2)


def _compiled(stage: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Any]:
    """``torch.compile`` of a stage, whose answers may be kept: a CUDA graph would write the next over the last."""
    made = torch.compile(stage, **options)

    def run(*given: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        answer = made(*given)
        return answer.each(Tensor.clone) if isinstance(answer, EmitterMap) else answer.clone()

    return run


def _one_map(parts: list[EmitterMap]) -> EmitterMap:
    """The frames of all parts."""
    if len(parts) == 1:
        return parts[0]
    return type(parts[0])(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def _joined(parts: list[Tensor], frames: list[int]) -> Tensor:
    """Rows of all parts; the frames of each count on from those before."""
    first = 0
    for rows, count in zip(parts, frames, strict=True):
        rows[:, 0] += first
        first += count
    return torch.cat(parts)


def detect(maps: EmitterMap, exists: Tensor, threshold: Tensor, corrections: Corrections | None = None) -> Tensor:
    """Rows (N, columns) of the local maxima of the reported probability; maps (T, H, W), ``exists`` broadcasts.

    With ``corrections`` the sigmas and probabilities of the rows, and so the threshold, are corrected ones.

    An emitter near a corner is shared by at most the four pixels that meet there, so what counts is the largest sum
    over the four 2×2 squares that a pixel belongs to; a row stands where a pixel is the largest of its nine. The four
    pixels of that square each have an opinion on where the emitter is, and the row sums them up.
    """
    probability = torch.sigmoid(maps.logit) * exists
    padded = functional.pad(probability, (1, 1, 1, 1))
    squares = _of_squares(torch.add, padded)
    shared = _of_squares(torch.maximum, squares)
    largest = _of_squares(torch.maximum, _of_squares(torch.maximum, padded))
    least = threshold if corrections is None else corrections.odds.before(threshold)
    frame, row, column = ((probability >= largest) & (shared > least)).nonzero().unbind(1)
    rows, columns = _best_square(squares, frame, row, column)
    weight = padded[frame[:, None], rows + 1, columns + 1]

    height, width = probability.shape[-2:]
    # Pixels outside the frame have no weight.
    place = (frame[:, None] * height + rows.clamp(0, height - 1)) * width + columns.clamp(0, width - 1)

    def of_square(values: Tensor) -> Tensor:  # (T, H, W) → (N, 4)
        return values.flatten()[place]

    # Relative to the pixel, as a float32 far from zero is too coarse.
    dx, sigma_x = columns - column[:, None] + of_square(maps.dx), of_square(maps.sigma_x)
    dy, sigma_y = rows - row[:, None] + of_square(maps.dy), of_square(maps.sigma_y)
    agreeing = weight * torch.exp(-0.5 * (_far(dx, sigma_x) + _far(dy, sigma_y)))
    dx, sigma_x = _sum_up(dx, sigma_x, agreeing, weight)
    dy, sigma_y = _sum_up(dy, sigma_y, agreeing, weight)
    photons, sigma_photons = _sum_up(of_square(maps.photons), of_square(maps.sigma_photons), agreeing, weight)
    values = [frame.float(), column + 0.5 + dx, row + 0.5 + dy, photons, maps.background[frame, row, column]]
    values += [sigma_x, sigma_y, sigma_photons, shared[frame, row, column].clamp(max=1.0)]
    if isinstance(maps, EmitterMap3D):
        values += _sum_up(of_square(maps.z), of_square(maps.sigma_z), agreeing, weight)
    return torch.stack(values if corrections is None else _corrected(values, corrections), 1)


def _corrected(values: list[Tensor], corrections: Corrections) -> list[Tensor]:
    """The columns of rows, in the order of row_columns."""
    *place, sigma_x, sigma_y, sigma_photons, probability = values[: len(ROW_COLUMNS)]
    words = [corrections.place.of(sigma, probability) for sigma in (sigma_x, sigma_y)]
    words += [corrections.photons.of(sigma_photons, probability), corrections.odds.of(probability)]
    depth = [values[9], corrections.depth.of(values[10], probability)] if len(values) > len(ROW_COLUMNS) else []
    return [*place, *words, *depth]


def _of_squares(join: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
    """What ``join`` makes of the four places of each 2×2 square of x (T, H, W): (T, H − 1, W − 1).

    As torch's pooling of one channel, which works place by place, but several times quicker.
    """
    rows = join(x[:, :-1], x[:, 1:])
    return join(rows[..., :-1], rows[..., 1:])


def _best_square(squares: Tensor, frame: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns (N, 4) of the pixels in the 2×2 square with the largest sum: the given pixel (N,) first.

    ``squares`` (T, H + 1, W + 1): element (r, c) sums the pixels (r − 1, c − 1) to (r, c).
    """
    four = torch.stack([squares[frame, row + down, column + right] for down in (0, 1) for right in (0, 1)], 1)
    best = four.argmax(1)
    down, right = 2 * (best // 2) - 1, 2 * (best % 2) - 1
    return torch.stack([row, row, row + down, row + down], 1), torch.stack(
        [column, column + right, column, column + right], 1
    )


def _far(place: Tensor, sigma: Tensor) -> Tensor:
    """How far (N, 4) each opinion is from the first, squared, in standard deviations of their difference."""
    return (place - place[:, :1]) ** 2 / (sigma**2 + sigma[:, :1] ** 2)


def _sum_up(value: Tensor, sigma: Tensor, agreeing: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Value and its standard deviation (N,) from four opinions (N, 4).

    The value is the mean of those that agree with the first. One that disagrees may see another emitter; it counts for
    the standard deviation alone, which is that of the whole mixture about the value (docs/decisions.md).
    """
    mean = (agreeing * value).sum(1) / agreeing.sum(1)
    variance = (weight * (sigma**2 + (value - mean[:, None]) ** 2)).sum(1) / weight.sum(1)
    return mean, torch.sqrt(variance)
