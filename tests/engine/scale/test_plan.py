"""Chunks: every block is answered once, with a full buffer before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.scale.plan import FEWEST_HALOS, HALOS, MOST_PIXELS, Plan


@given(
    frames=st.integers(1, 5000),
    block=st.integers(1, 64),
    past=st.integers(0, 40),
    future=st.integers(0, 40),
    chunk=st.none() | st.integers(1, 3000),
    workers=st.integers(1, 9),
)
def test_every_block_is_answered_once_with_a_full_buffer(
    frames: int, block: int, past: int, future: int, chunk: int | None, workers: int
) -> None:
    plan = Plan.of(frames, block, (past, future), 64 * 64, workers, chunk)
    chunks = list(plan)
    assert len(chunks) == len(plan)
    assert [chunk.index for chunk in chunks] == list(range(len(plan)))
    assert [place for chunk in chunks for place in range(chunk.first, chunk.stop)] == list(range(plan.blocks))
    assert plan.blocks * block >= frames > (plan.blocks - 1) * block
    assert all((one.first - one.warm) * block >= past + future or one.warm == 0 for one in chunks)
    assert [one.last for one in chunks] == [False] * (len(plan) - 1) + [True]
    assert frames <= plan.read <= frames + (len(plan) - 1) * plan.warm * block


def test_context_costs_two_per_cent_in_a_long_stack_and_ten_in_a_short_one() -> None:
    long, short = (Plan.of(frames, 16, (4, 4), 64 * 64, workers=4) for frames in (100_000, 500))
    assert long.chunk * long.block == HALOS * 16
    assert long.read / 100_000 < 1.02
    assert short.chunk * short.block == FEWEST_HALOS * 16
    assert len(short) == 4


def test_a_chunk_of_large_frames_is_small() -> None:
    pixels = 2048 * 2048
    plan = Plan.of(100_000, 4, (4, 4), pixels)
    assert plan.chunk * plan.block == FEWEST_HALOS * 8
    middle = Plan.of(100_000, 16, (4, 4), 512 * 512)
    assert middle.chunk * middle.block * 512 * 512 <= MOST_PIXELS + 16 * 512 * 512


def test_the_work_is_shared_out() -> None:
    assert len(Plan.of(1600, 16, (4, 4), 64 * 64, workers=2)) == 4
    assert len(Plan.of(1600, 16, (4, 4), 64 * 64, workers=2, chunk=1000)) == 2
