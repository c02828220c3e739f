"""How a stack is cut into chunks, so that many workers give the very rows that one would.

A run hands its frames to the network in blocks, and block k answers the frames that ``future`` others follow by then. A
chunk is a row of such blocks, and its rows are what these blocks answer. Before them its worker pushes the few blocks
that fill the rolling buffer, and leaves their rows to the chunk before. From then on each call has the input and the
state that it has in an undivided run: the rows are the same to the last bit, and no frame's future is read twice.

    blocks      0   1   2   3   4   5   6   7   8
    chunk 0     ■   ■   ■
    chunk 1             □   ■   ■   ■
    chunk 2                         □   ■   ■   ■      □ pushed only, ■ pushed and answered
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HALOS = 50
"""Frames of a chunk over frames that are read twice: 2 % more work."""
FEWEST_HALOS = 10
"""The same for short stacks and large frames: 10 % more work, so that there is something to share out."""
MOST_PIXELS = 1 << 28
"""Most pixels of a chunk, so that a lost worker costs minutes at most and rows come back in bearable pieces."""


@dataclass(frozen=True)
class Chunk:
    """A row of blocks that one worker localises. Blocks count from the stack's first."""

    index: int
    warm: int
    """First block to push."""
    first: int
    """First block whose answer counts."""
    stop: int
    """Block to stop before."""
    last: bool
    """Whether the stack ends with it, so that the frames that wait for their future are answered as well."""


@dataclass(frozen=True)
class Plan:
    """A stack in chunks."""

    frames: int
    """Of the stack."""
    block: int
    """Frames of a block; the last may have fewer."""
    warm: int
    """Blocks that are pushed before a chunk, but for the first."""
    chunk: int
    """Blocks of a chunk; the last may have fewer."""

    @classmethod
    def of(
        cls, frames: int, block: int, context: tuple[int, int], pixels: int, workers: int = 1, chunk: int | None = None
    ) -> Plan:
        """``pixels`` of a frame; ``chunk``: frames, None: what suits the context, the size and the workers."""
        warm = -(-sum(context) // block)
        wanted = chunk or _suitable(frames, max(1, warm) * block, pixels, workers)
        return cls(frames, block, warm, max(1, -(-wanted // block)))

    @property
    def blocks(self) -> int:
        """Of the stack."""
        return -(-self.frames // self.block)

    def __len__(self) -> int:
        """Chunks."""
        return (self.blocks + self.chunk - 1) // self.chunk

    def __iter__(self) -> Iterator[Chunk]:
        for index in range(len(self)):
            first = index * self.chunk
            stop = min(self.blocks, first + self.chunk)
            yield Chunk(index, max(0, first - self.warm), first, stop, last=stop == self.blocks)

    @property
    def read(self) -> int:
        """Frames that all workers read together: each once, and the context before each chunk again."""
        return sum(self._until(chunk.stop) - self._until(chunk.warm) for chunk in self)

    def _until(self, block: int) -> int:
        return min(self.frames, block * self.block)


def _suitable(frames: int, halo: int, pixels: int, workers: int) -> int:
    """Frames of a chunk: as many as keep the context small, unless too few chunks or too large ones come of it."""
    share = -(-frames // (2 * workers))
    return max(FEWEST_HALOS * halo, min(HALOS * halo, MOST_PIXELS // pixels, share))
