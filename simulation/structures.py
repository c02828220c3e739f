"""Where emitters sit. Positions are (x, y) in pixels of the camera from the outer corner of pixel (0, 0), z in nm."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor

from config.errors import SettingsError
from config.schema import DatasetSettings
from simulation.pictures import structure_mask

RING_RADIUS = 0.3
"""Radius of the ring over the shorter side of the field."""
LINES = 6
LINE_WIDTH = 25.0
"""Width of approaching lines [nm]."""
LINE_DECAY = 0.15
"""Length over which approaching lines come e times closer, over the field's width."""
TUBES = 8
TUBE_RADIUS = 12.5
"""Outer radius of a microtubule [nm]."""
PERSISTENCE = 20_000.0
"""Length over which a microtubule keeps its direction: shorter in a cell than the millimetres of a free one [nm]."""
TUBE_STEP = 25.0
"""Between two points of a microtubule's axis [nm]."""
PORE_RADIUS, RINGS_APART, COPIES_APART = 53.5, 50.0, 12.0
"""Nup96 in a nuclear pore (Thevathasan et al. 2019, Nature Methods 16:1045): radius of its two rings, how far apart
they stand, and how far apart the two copies at each of a ring's eight corners [nm]."""
CORNERS, PORE_LABELS, PORE_ROOM = 8, 32, 160.0
"""Corners of a pore, its labels, and the room it takes [nm]."""
SPOKES = 12
STAR_RADIUS = 0.45
"""Radius of the Siemens star over the shorter side of the field."""
BORDER = 0.05
"""Share of the field around an image and around pairs that stays empty."""


@dataclass(frozen=True)
class Field:
    """What a structure is laid out in."""

    height: int
    """[pixels]"""
    width: int
    """[pixels]"""
    pixel_size: float
    """[nm]"""
    depth: tuple[float, float]
    """Lowest and highest z [nm]."""
    dataset: DatasetSettings

    @property
    def middle(self) -> float:
        """Height in the middle of the sample [nm]."""
        return (self.depth[0] + self.depth[1]) / 2

    @property
    def thick(self) -> bool:
        """Whether structures extend in z; otherwise they are flat."""
        return self.depth[1] > self.depth[0]


@dataclass(frozen=True)
class Places:
    """Places of emitters, (N,) each."""

    x: Tensor
    """Pixels."""
    y: Tensor
    """Pixels."""
    z: Tensor
    """[nm]"""

    def __getitem__(self, which: Tensor) -> Places:
        return Places(self.x[which], self.y[which], self.z[which])

    def __len__(self) -> int:
        return len(self.x)


Structure = Callable[[int, Field, torch.Generator], Places]
"""(number of labels, field, generator) → that many places."""


def lines(count: int, field: Field, generator: torch.Generator) -> Places:
    """Labels on wavy filaments that cross the field."""
    which = torch.randint(LINES, (count,), generator=generator)
    phase, swing, slope = (torch.rand(LINES, generator=generator) for _ in range(3))
    along = torch.rand(count, generator=generator)
    middle = (torch.arange(LINES) + 0.5) / LINES
    wave = 0.06 * (0.3 + swing[which]) * torch.sin(2 * math.pi * (along + phase[which]))
    across = (middle[which] + wave + 0.2 * (slope[which] - 0.5) * (along - 0.5)).clamp(0.01, 0.99)
    return _flat(along * field.width, across * field.height, field)


def ring(count: int, field: Field, generator: torch.Generator) -> Places:
    """Labels evenly on one circle in the middle of the field."""
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    radius = RING_RADIUS * min(field.height, field.width)
    x, y = field.width / 2 + radius * torch.cos(angle), field.height / 2 + radius * torch.sin(angle)
    return _flat(x, y, field)


def image(count: int, field: Field, generator: torch.Generator) -> Places:
    """Labels evenly on the structure of a picture, which fills the field as far as its proportions let it.

    Raises SettingsError where the picture is missing or blank.
    """
    mask = structure_mask(field.dataset.structure_file)
    rows, columns = mask.nonzero(as_tuple=True)
    scale = (1 - 2 * BORDER) * min(field.height / mask.shape[0], field.width / mask.shape[1])
    chosen = torch.randint(len(rows), (count,), generator=generator)
    down, right = torch.rand(2, count, generator=generator)
    x = (columns[chosen] + right - mask.shape[1] / 2) * scale + field.width / 2
    y = (rows[chosen] + down - mask.shape[0] / 2) * scale + field.height / 2
    return _flat(x, y, field)


def approaching(count: int, field: Field, generator: torch.Generator) -> Places:
    """Labels on two lines that come closer and closer: where they become one tells the resolution."""
    along, across = torch.rand(2, count, generator=generator)
    side = torch.randint(2, (count,), generator=generator) * 2 - 1
    away = (0.5 - BORDER) * field.height * torch.exp(-along / LINE_DECAY)
    width = LINE_WIDTH / field.pixel_size
    y = field.height / 2 + side * (away + width * across)
    return _flat(along * field.width, y.clamp(0, field.height), field)


def microtubules(count: int, field: Field, generator: torch.Generator) -> Places:
    """Labels around stiff tubes that wander through the field, hollow in 3-D."""
    width, height = field.width * field.pixel_size, field.height * field.pixel_size
    steps = math.ceil(1.5 * math.hypot(width, height) / TUBE_STEP)
    turns = math.sqrt(TUBE_STEP / PERSISTENCE) * torch.randn(TUBES, steps, generator=generator)
    heading = 2 * math.pi * torch.rand(TUBES, 1, generator=generator) + torch.cumsum(turns, 1)
    through = torch.rand(2, TUBES, 1, generator=generator) * torch.tensor([width, height])[:, None, None]
    axis = torch.cumsum(TUBE_STEP * torch.stack([heading.cos(), heading.sin()]), 2)
    axis = axis - axis[:, :, steps // 2, None] + through  # each passes the field, whichever way it heads
    phase, waves = torch.rand(2, TUBES, 1, generator=generator)
    climb = torch.sin(2 * math.pi * (phase + (0.5 + waves) * torch.linspace(0, 1, steps)))
    inside = ((axis > 0) & (axis < torch.tensor([width, height])[:, None, None])).all(0)
    tube, point = inside.nonzero(as_tuple=True)
    chosen = torch.randint(len(tube), (count,), generator=generator)
    tube, point = tube[chosen], point[chosen]
    angle, along = torch.rand(2, count, generator=generator) * torch.tensor([[2 * math.pi], [TUBE_STEP]])
    side, lift = TUBE_RADIUS * angle.cos(), TUBE_RADIUS * angle.sin()
    cosine, sine = heading[tube, point].cos(), heading[tube, point].sin()
    x = axis[0, tube, point] + along * cosine - side * sine
    y = axis[1, tube, point] + along * sine + side * cosine
    room = max(0.0, (field.depth[1] - field.depth[0]) / 2 - TUBE_RADIUS)
    z = field.middle + (room * climb[tube, point] + lift if field.thick else torch.zeros(count))
    return Places(x / field.pixel_size, y / field.pixel_size, z)


def pores(count: int, field: Field, generator: torch.Generator) -> Places:
    """Labels at the corners of nuclear pores: eight corners, two copies in each of two rings, 32 labels a pore.

    Pores stand apart, each turned at random. Raises SettingsError where so many do not fit.
    """
    number = math.ceil(count / PORE_LABELS)
    columns = max(1, round(math.sqrt(number * field.width / field.height)))
    rows = math.ceil(number / columns)
    room = torch.tensor([field.width / columns, field.height / rows]) * field.pixel_size
    if float(room.min()) < PORE_ROOM:
        raise SettingsError(
            f"dataset.labels={count} makes {number} nuclear pores of {PORE_LABELS} labels, which do not fit into "
            f"{field.width} × {field.height} pixels. Set fewer labels or a larger field."
        )
    cell = torch.arange(number)
    middle = torch.stack([cell % columns, cell // columns], 1) * room
    middle = middle + PORE_ROOM / 2 + torch.rand(number, 2, generator=generator) * (room - PORE_ROOM)
    corner = 2 * math.pi / CORNERS * torch.arange(CORNERS)
    copy = COPIES_APART / PORE_RADIUS * torch.tensor([-0.5, 0.5])
    turn = 2 * math.pi * torch.rand(number, 1, generator=generator)
    angle = (turn + (corner[:, None] + copy).flatten()).repeat(1, 2)
    height = torch.tensor([-0.5, 0.5]).repeat_interleave(PORE_LABELS // 2) * RINGS_APART
    x, y = middle[:, :1] + PORE_RADIUS * angle.cos(), middle[:, 1:] + PORE_RADIUS * angle.sin()
    z = (field.middle + height * field.thick).expand(number, -1)
    return Places(x.flatten() / field.pixel_size, y.flatten() / field.pixel_size, z.flatten())[torch.arange(count)]


def star(count: int, field: Field, generator: torch.Generator) -> Places:
    """Labels on the spokes of a Siemens star: spokes and gaps grow narrower towards its middle."""
    distance, within = torch.rand(2, count, generator=generator)
    spoke = torch.randint(SPOKES, (count,), generator=generator)
    angle = 2 * math.pi / SPOKES * (spoke + 0.5 * within)
    radius = STAR_RADIUS * min(field.height, field.width) * distance.sqrt()
    x, y = field.width / 2 + radius * angle.cos(), field.height / 2 + radius * angle.sin()
    return _flat(x, y, field)


def pairs(count: int, field: Field, generator: torch.Generator) -> Places:
    """Labels in pairs ``dataset.pair_distances`` apart, in turn, each pair turned at random; all pairs well apart."""
    number = math.ceil(count / 2)
    apart = torch.tensor(list(islice(cycle(field.dataset.pair_distances), number))) / field.pixel_size
    columns = math.ceil(math.sqrt(number * field.width / field.height))
    rows = math.ceil(number / columns)
    place = torch.arange(number)
    inner = 1 - 2 * BORDER
    x = field.width * (BORDER + inner * (place % columns + 0.5) / columns)
    y = field.height * (BORDER + inner * (place // columns + 0.5) / rows)
    angle = 2 * math.pi * torch.rand(number, generator=generator)
    side = torch.tensor([-0.5, 0.5])
    x, y = (x[:, None] + side * (apart * angle.cos())[:, None]), (y[:, None] + side * (apart * angle.sin())[:, None])
    return _flat(x.flatten()[:count], y.flatten()[:count], field)


STRUCTURES: dict[str, Structure] = {
    "lines": lines,
    "ring": ring,
    "image": image,
    "approaching": approaching,
    "microtubules": microtubules,
    "pores": pores,
    "star": star,
    "pairs": pairs,
}


def dyes(dataset: DatasetSettings, pixel_size: float, generator: torch.Generator) -> Places | None:
    """Where the dyes of a structure sit: its labels, less those that carry none, each off by the linkage error.

    None where emitters stand anywhere. ``pixel_size`` in nm. Raises SettingsError.
    """
    if dataset.structure == "random":
        return None
    depth = (dataset.depth[0], dataset.depth[1])
    field = Field(dataset.height, dataset.width, pixel_size, depth, dataset)
    places = STRUCTURES[dataset.structure](dataset.labels, field, generator)
    if dataset.labelling < 1:
        kept = torch.rand(len(places), generator=generator) < dataset.labelling
        kept[0] |= not kept.any()
        places = places[kept]
    return _linked(places, field, generator) if dataset.linkage > 0 else places


def scattered(count: int, height: int, width: int, margin: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positions anywhere in the field and up to ``margin`` pixels around it."""
    x = torch.rand(count, generator=generator) * (width + 2 * margin) - margin
    y = torch.rand(count, generator=generator) * (height + 2 * margin) - margin
    return x, y


def heights(count: int, dataset: DatasetSettings, generator: torch.Generator) -> Tensor:
    """Heights (N,) [nm] of emitters that stand anywhere. Draws nothing for a sample without depth."""
    low, high = dataset.depth
    if low == high:
        return torch.full((count,), float(low))
    return low + (high - low) * torch.rand(count, generator=generator)


def _linked(places: Places, field: Field, generator: torch.Generator) -> Places:
    off = field.dataset.linkage * torch.randn(3, len(places), generator=generator)
    x, y = places.x + off[0] / field.pixel_size, places.y + off[1] / field.pixel_size
    return Places(x, y, places.z + off[2] if field.thick else places.z)


def _flat(x: Tensor, y: Tensor, field: Field) -> Places:
    return Places(x, y, torch.full_like(x, field.middle))
