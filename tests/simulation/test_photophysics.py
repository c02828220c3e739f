"""Blinking against what exponentials imply."""

from __future__ import annotations

import torch

from simulation.photophysics import Blinks, blink_trains, frame_traces, lead_in, stationary_blinks


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_per_frame(blinks: Blinks, frames: int) -> torch.Tensor:
    _, frame, lit = frame_traces(blinks, frames)
    return torch.zeros(frames).index_add_(0, frame, lit)


def test_traces_hold_exactly_the_time_that_an_emitter_was_on() -> None:
    blinks = Blinks(torch.arange(4), torch.tensor([-0.5, 0.25, 1.0, 3.5]), torch.tensor([1.0, 2.0, 1.0, 9.0]))
    blink, frame, lit = frame_traces(blinks, 5)
    traces = torch.zeros(4, 5)
    traces[blink, frame] = lit
    expected = torch.tensor([[0.5, 0, 0, 0, 0], [0.75, 1, 0.25, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0.5, 1]])
    assert torch.allclose(traces, expected)


def test_a_stationary_window_is_as_dense_at_its_start_as_at_its_end() -> None:
    on = on_per_frame(stationary_blinks(2000.0, 20, 3.0, generator()), 20)
    assert torch.all((on / 2000 - 1).abs() < 0.1)
    assert abs(float(on.mean()) / 2000 - 1) < 0.03


def test_blinks_last_as_long_as_they_should() -> None:
    blinks = stationary_blinks(5000.0, 50, 2.5, generator())
    assert abs(float(blinks.duration.mean()) / 2.5 - 1) < 0.02


def test_trains_have_the_duty_cycle_of_their_rates() -> None:
    emitters, frames, on, off, mean_blinks = 6000, 200, 2.0, 20.0, 3.0
    blinks = blink_trains(emitters, frames, on, off, mean_blinks, generator())
    density = emitters * mean_blinks * on / (frames + lead_in(on, off, mean_blinks))
    per_frame = on_per_frame(blinks, frames)
    assert abs(float(per_frame.mean()) / density - 1) < 0.03
    # Steady: as many at the start as at the end.
    assert abs(float(per_frame[:50].mean() / per_frame[-50:].mean()) - 1) < 0.06


def test_blinks_begin_anywhere_in_a_frame_however_many_there_are() -> None:
    # A blink touches 1 + on-time frames on average where its start is spread evenly over a frame.
    blinks = blink_trains(20_000, 300, 2.0, 100.0, 3.0, generator())
    whole = (blinks.start > 0) & (blinks.start + blinks.duration < 300)
    kept = Blinks(blinks.emitter[whole], blinks.start[whole], blinks.duration[whole])
    frames_touched = len(frame_traces(kept, 300)[0]) / int(whole.sum())
    assert abs(frames_touched / (1 + float(kept.duration.mean())) - 1) < 0.01


def test_an_emitter_is_never_on_twice_at_once() -> None:
    blinks = blink_trains(50, 500, 3.0, 10.0, 6.0, generator(3))
    for emitter in range(50):
        mine = blinks.emitter == emitter
        start, order = blinks.start[mine].sort()
        end = start + blinks.duration[mine][order]
        assert torch.all(start[1:] >= end[:-1] - 1e-3)


def test_one_blink_means_bleached_after_the_first() -> None:
    blinks = blink_trains(300, 100, 2.0, 5.0, 1.0, generator())
    assert len(set(blinks.emitter.tolist())) == len(blinks.emitter)
