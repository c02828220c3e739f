"""Markov photophysics against what its rates say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from config.compose import compose
from config.errors import SettingsError
from config.schema import PhotophysicsSettings
from simulation.dataset import make_live_simulator, make_simulator
from simulation.photophysics import frame_traces
from simulation.states import Trains, chain_trains, make_chain, merged

EXPOSURE = 0.02


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def settings(
    rates: dict[str, float], emission: dict[str, float] | None = None, start: str | None = None
) -> PhotophysicsSettings:
    return PhotophysicsSettings("test", "states", rates, emission or {"bright": 1.0}, start)


BLINKING = settings({"bright > dark": 10.0, "dark > bright": 1.0})
BLEACHING = settings({"bright > dark": 30.0, "dark > bright": 2.0, "bright > bleached": 10.0})


def alight(trains: Trains, frames: int) -> torch.Tensor:
    """Light in each frame, in emitters that shine throughout."""
    blink, frame, lit = frame_traces(trains.blinks, frames)
    return torch.zeros(frames).index_add_(0, frame, lit * trains.level[blink])


@pytest.mark.parametrize("photophysics", [BLINKING, BLEACHING], ids=["for ever", "bleaching"])
def test_as_many_shine_as_were_asked_for_from_the_first_frame_to_the_last(photophysics: PhotophysicsSettings) -> None:
    light = alight(chain_trains(make_chain(photophysics), 500.0, 400, EXPOSURE, generator()), 400)
    for part in light.chunk(4):
        assert float(part.mean()) == pytest.approx(500, rel=0.1)


def test_times_in_a_state_are_exponential_with_its_rate() -> None:
    blinks = chain_trains(make_chain(BLINKING), 300.0, 2000, EXPOSURE, generator()).blinks
    whole = (blinks.start > 0) & (blinks.start + blinks.duration < 1500)
    seconds = blinks.duration[whole & (blinks.start < 1000)] * EXPOSURE
    assert float(seconds.mean()) == pytest.approx(0.1, rel=0.03)
    assert float(seconds.std() / seconds.mean()) == pytest.approx(1, abs=0.05)


def test_an_emitter_shines_as_long_as_its_rates_say_before_it_bleaches() -> None:
    chain = make_chain(BLEACHING)
    lives = chain.lives()
    # Four visits on average, each of 1/40 s; dark in three of four, for 1/2 s.
    assert lives[:2] == pytest.approx([4 / 40, 3 / 2])
    trains = chain_trains(chain, 50.0, 12_000, EXPOSURE, generator())
    early = torch.zeros(trains.emitters).index_add_(0, trains.blinks.emitter, trains.blinks.duration)
    first = torch.full((trains.emitters,), 1e9).scatter_reduce(0, trains.blinks.emitter, trains.blinks.start, "amin")
    born = (first > 0) & (first < 10_000)
    assert float(early[born].mean()) * EXPOSURE == pytest.approx(0.1, rel=0.05)


def test_the_fast_cycle_of_a_dye_becomes_one_state() -> None:
    """The jablonski preset by hand: of 154 parts of the time on, 123 in the ground state, 1 excited, 30 triplet."""
    slow = make_chain(compose(["photophysics=jablonski"]).photophysics).lumped(EXPOSURE)
    assert slow.names == ("ground+excited+triplet", "off")
    assert slow.rates[0, 1] == pytest.approx(2e4 / 154, rel=1e-6)
    assert slow.rates[1, 0] == pytest.approx(0.2)
    assert slow.emission[0] == pytest.approx(5e7 / 154, rel=1e-6)
    assert slow.emission[1] == 0


def test_lumping_keeps_the_light_of_a_chain_that_can_be_drawn_whole() -> None:
    rates = {"bright > triplet": 4e4, "triplet > bright": 2e4, "bright > dark": 30.0, "dark > bright": 5.0}
    chain = make_chain(settings(rates))
    lumped, whole = chain.lumped(EXPOSURE), chain.lumped(1e-9)
    assert len(lumped.names) == 2
    assert len(whole.names) == 3
    assert lumped.stationary()[0] == pytest.approx(chain.stationary()[:2].sum(), rel=1e-6)


def test_dim_states_shine_less() -> None:
    both = settings({"bright > dim": 20.0, "dim > bright": 20.0}, {"bright": 4.0, "dim": 1.0})
    trains = chain_trains(make_chain(both), 100.0, 200, EXPOSURE, generator())
    assert set(trains.level.tolist()) == {1.0, 0.25}
    assert float(alight(trains, 200).mean()) == pytest.approx(62.5, rel=0.1)


def test_a_trace_has_one_row_a_frame() -> None:
    emitter, frame = torch.tensor([3, 1, 3, 3, 1]), torch.tensor([0, 0, 0, 1, 0])
    told = merged(emitter, frame, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert [column.tolist() for column in told[:2]] == [[1, 3, 3], [0, 0, 1]]
    assert told[2].tolist() == pytest.approx([0.7, 0.4, 0.4])


REFUSED = {
    "no arrow": (settings({"bright dark": 1.0}), "bright > dark"),
    "to itself": (settings({"bright > bright": 1.0}), "two states"),
    "nothing": (settings({}), "no states"),
    "unknown emission": (settings({"a > b": 1.0, "b > a": 1.0}, {"c": 1.0}), "c;"),
    "unknown start": (settings({"bright > b": 1.0, "b > bright": 1.0}, start="x"), "start names x"),
    "negative": (settings({"bright > b": -1.0, "b > bright": 1.0}), "0 or more"),
    "dark": (settings({"a > b": 1.0, "b > a": 1.0}, {"a": 0.0}), "must emit"),
    "caught": (settings({"bright > a": 1.0, "a > b": 1.0, "b > a": 1.0}), "missing transitions"),
    "shines for ever": (settings({"dark > bright": 1.0}), "cannot emit"),
}


@pytest.mark.parametrize(("photophysics", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_chains_that_cannot_blink_are_refused(photophysics: PhotophysicsSettings, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make_chain(photophysics)


def test_more_transitions_than_can_be_drawn_are_refused() -> None:
    busy = settings({"bright > dark": 4000.0, "dark > bright": 4000.0})
    with pytest.raises(SettingsError, match="too many to draw"):
        chain_trains(make_chain(busy), 1e5, 100_000, EXPOSURE, generator())


def test_a_data_set_blinks_by_its_states() -> None:
    small = ("camera=challenge_emccd", "optics=challenge", "dataset.frames=60", "dataset.height=32", "dataset.width=32")
    wanted = compose([*small, "photophysics=dstorm", "dataset.density=1"])
    first, again = make_simulator(wanted), make_simulator(wanted)
    truth = first.emitters()
    assert truth.equals(again.emitters())
    rows = np.stack([truth["emitter"].to_numpy(), truth["frame"].to_numpy()])
    assert np.unique(rows, axis=1).shape == rows.shape
    light = truth["photons"].to_numpy().sum() / 60 / 3.2**2
    assert light == pytest.approx(1000, rel=0.25)
    with pytest.raises(SettingsError, match="two states"):
        make_live_simulator(wanted)
