"""When emitters shine: blinking in continuous time, and the photons that fall into each frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Blinks:
    """Intervals in which an emitter is on. Times in frames from the start of frame 0; they may begin before it."""

    emitter: Tensor
    """(N,) int64, which emitter."""
    start: Tensor
    """(N,) when it comes on [frames]."""
    duration: Tensor
    """(N,) how long it stays on [frames]."""


def stationary_blinks(rate: float, frames: int, on_time: float, generator: torch.Generator) -> Blinks:
    """Blinks of independent emitters in a window of ``frames``, as if they had gone on for ever before it.

    ``rate``: mean number of emitters that are on at any moment. Those that are on when the window opens are Poisson
    in number and, an exponential having no memory, stay on as long as new ones.
    """
    already = int(torch.poisson(torch.tensor(rate), generator=generator))
    new = int(torch.poisson(torch.tensor(rate * frames / on_time), generator=generator))
    start = torch.cat([torch.zeros(already), torch.rand(new, generator=generator) * frames])
    return Blinks(torch.arange(already + new), start, _exponential(already + new, on_time, generator))


def blink_trains(
    emitters: int, frames: int, on_time: float, off_time: float, blinks: float, generator: torch.Generator
) -> Blinks:
    """Blink trains of emitters that switch on, go dark and come back, and bleach after a geometric number of blinks.

    ``on_time``, ``off_time`` are means of exponentials [frames], ``blinks`` the mean number (at least 1). First
    activations are spread evenly from one mean train length before frame 0, so that the density is steady.
    """
    counts = _geometric(emitters, blinks, generator)
    owner = torch.repeat_interleave(torch.arange(emitters), counts)
    duration = _exponential(len(owner), on_time, generator)
    pause = _exponential(len(owner), off_time, generator)
    lead = lead_in(on_time, off_time, blinks)
    first = torch.rand(emitters, generator=generator) * (frames + lead) - lead
    # Time from the train's first activation to each blink: everything before it in the same train.
    # In double precision: the sum runs over all trains, and in single its steps would be quarters of a frame.
    cycle = (duration + pause).double()
    before = torch.cumsum(cycle, 0) - cycle
    train_begin = torch.cumsum(counts, 0) - counts
    start = first[owner] + (before - before[train_begin][owner]).float()
    seen = (start < frames) & (start + duration > 0)
    return Blinks(owner[seen], start[seen], duration[seen])


def lead_in(on_time: float, off_time: float, blinks: float) -> float:
    """How long before frame 0 trains begin, so that late blinks of early trains are there [frames]."""
    return 3 * blinks * (on_time + off_time)


def frame_traces(blinks: Blinks, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """The frames that each blink touches: index of the blink (M,), frame (M,), lit share of the frame (M,) 0 to 1."""
    first = blinks.start.clamp(min=0).floor().long()
    last = (blinks.start + blinks.duration).clamp(max=frames).ceil().long()
    spans = (last - first).clamp(min=0)
    blink = torch.repeat_interleave(torch.arange(len(spans)), spans)
    offset = torch.arange(len(blink)) - torch.repeat_interleave(torch.cumsum(spans, 0) - spans, spans)
    frame = first[blink] + offset
    start, end = blinks.start[blink], (blinks.start + blinks.duration)[blink]
    lit = (torch.minimum(end, frame + 1.0) - torch.maximum(start, frame.to(start))).clamp(0, 1)
    return blink, frame, lit


def _exponential(count: int, mean: float, generator: torch.Generator) -> Tensor:
    return torch.empty(count).exponential_(1.0, generator=generator) * mean


def _geometric(count: int, mean: float, generator: torch.Generator) -> Tensor:
    """Numbers from 1 with the given mean."""
    if mean <= 1:
        return torch.ones(count, dtype=torch.long)
    return torch.empty(count).geometric_(1 / mean, generator=generator).long()
