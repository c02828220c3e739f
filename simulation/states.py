"""Photophysics as a Markov chain in continuous time: any states, such as on, triplet, off and bleached.

A dye's fast cycle (nanoseconds between ground and excited state) is far below a frame. States that are left and entered
again and again within a frame are therefore lumped: their occupation is in equilibrium, and rates out of them are means
over it. What remains is drawn event by event, for all emitters at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from config.errors import SettingsError
from config.schema import PhotophysicsSettings
from simulation.photophysics import Blinks

FAST = 100.0
"""States that are left more often than this in a frame are fast."""
EVENTS = 100_000_000
"""Most transitions that an acquisition may take; more would run for hours."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Chain:
    """States, the rates between them and the light of each."""

    names: tuple[str, ...]
    rates: Floats
    """(S, S) from row to column [1/s]; nothing on the diagonal."""
    emission: Floats
    """(S,) light of each state, in any unit."""
    start: int
    """State in which emitters enter."""

    @property
    def exits(self) -> Floats:
        """(S,) rate of leaving each state [1/s]."""
        total: Floats = self.rates.sum(1)
        return total

    @property
    def bleaches(self) -> bool:
        """Whether there is a state that nothing leaves."""
        return bool((self.exits == 0).any())

    def stationary(self) -> Floats:
        """(S,) share of time in each state in the long run, of a chain that does not bleach."""
        return _equilibrium(self.rates)

    def lives(self) -> Floats:
        """(S,) mean time that an emitter spends in each state before it bleaches [s]; infinite where it stays."""
        alive = self.exits > 0
        generator = (self.rates - np.diag(self.exits))[np.ix_(alive, alive)]
        begin = (np.arange(len(self.names)) == self.start)[alive].astype(float)
        lives = np.full(len(self.names), np.inf)
        lives[alive] = np.linalg.solve(-generator.T, begin)
        return lives

    def lumped(self, exposure: float) -> Chain:
        """The chain at the pace of frames of ``exposure`` [s], fast cycles lumped into one state each."""
        group = self._groups(self.exits * exposure > FAST)
        count = int(group.max()) + 1
        weight = np.zeros((len(self.names), count))
        for number in range(count):
            members = group == number
            weight[members, number] = _equilibrium(self.rates[np.ix_(members, members)])
        rates = weight.T @ self.rates @ (group[:, None] == np.arange(count))
        np.fill_diagonal(rates, 0)
        names = tuple("+".join(np.array(self.names)[group == number]) for number in range(count))
        return Chain(names, rates, weight.T @ self.emission, int(group[self.start]))

    def _groups(self, fast: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(S,) number of each state's group: fast states that lead into each other are one."""
        cycles = self.rates * fast[:, None] * fast[None]
        _, group = connected_components(cycles > 0, directed=True, connection="strong")
        _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[inverse].astype(np.int64)  # in the order of the states


def make_chain(settings: PhotophysicsSettings) -> Chain:
    """The chain that the settings describe. Raises SettingsError for one that cannot blink."""
    pairs = {_pair(text): rate for text, rate in settings.rates.items()}
    names = tuple(dict.fromkeys(name for pair in pairs for name in pair))
    start = settings.start or (names[0] if names else "")
    for what, named in (("start", [start]), ("emission", list(settings.emission))):
        unknown = [name for name in named if name not in names]
        if unknown:
            raise SettingsError(
                f"photophysics.{what} names {', '.join(unknown) or 'nothing'}; photophysics.rates has "
                f"{', '.join(names) or 'no states'}. Write rates as `bright > dark: 20.0` [1/s] and use their names."
            )
    if min((*pairs.values(), *settings.emission.values())) < 0 or not any(settings.emission.values()):
        raise SettingsError(
            "photophysics: rates and emission must be 0 or more, and one state must emit. Correct them."
        )
    rates = np.zeros((len(names), len(names)))
    for (before, after), rate in pairs.items():
        rates[names.index(before), names.index(after)] = rate
    emission = np.array([settings.emission.get(name, 0.0) for name in names])
    chain = Chain(names, rates, emission, names.index(start))
    _check_ends(chain)
    return chain


def _check_ends(chain: Chain) -> None:
    """Raise SettingsError where an emitter may be caught, neither bleached nor ever back."""
    links = chain.rates + (chain.exits == 0)[:, None]  # as if a bleached one came back anywhere
    if connected_components(links > 0, directed=True, connection="strong")[0] > 1 and not _all_bleach(chain):
        raise SettingsError(
            "photophysics.rates: from every state an emitter must come to a state that nothing leaves (bleached), or "
            "from every state to every other one. Add the missing transitions."
        )
    if (chain.emission[chain.exits == 0] > 0).any():
        raise SettingsError("photophysics.emission: a state that nothing leaves cannot emit. Set it to 0.")


def _all_bleach(chain: Chain) -> bool:
    reach = (chain.rates > 0) | np.eye(len(chain.names), dtype=bool)
    for _ in chain.names:
        reach = reach @ reach
    return bool(reach[:, chain.exits == 0].any(1).all())


def _pair(text: str) -> tuple[str, str]:
    before, arrow, after = (part.strip() for part in text.partition(">"))
    if not (before and arrow and after and before != after):
        raise SettingsError(f"photophysics.rates: expected two states as `bright > dark`, found {text!r}.")
    return before, after


def _equilibrium(rates: Floats) -> Floats:
    """Shares (S,) of states that lead into each other: they sum to 1, and as much flows into each as out of it."""
    flow = (rates - np.diag(rates.sum(1))).T
    equations = np.vstack([flow / max(1.0, float(np.abs(flow).max())), np.ones(len(rates))])
    shares: Floats = np.linalg.lstsq(equations, np.eye(len(rates) + 1)[-1], rcond=None)[0]
    return shares


@dataclass(frozen=True, eq=False)
class Trains:
    """When emitters shine, and how brightly."""

    blinks: Blinks
    level: Tensor
    """(N,) light of each blink over that of the brightest state."""
    emitters: int
    """How many there are, those that never shone among them."""


def chain_trains(chain: Chain, alight: float, frames: int, exposure: float, generator: torch.Generator) -> Trains:
    """Blinks of a population of which ``alight`` emitters are on at any moment, on average over the acquisition.

    ``exposure`` in seconds. Where the chain bleaches, new emitters come in evenly in time; otherwise the same ones go
    on for ever, from equilibrium. Raises SettingsError for more transitions than can be drawn.
    """
    slow = chain.lumped(exposure)
    enter = _entering if chain.bleaches else _in_equilibrium
    state, birth = enter(slow, alight, frames, exposure, generator)
    return _run(slow, state, birth, frames, exposure, generator)


def _entering(
    slow: Chain, alight: float, frames: int, exposure: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """State and its begin [frames] of emitters that come in one after another, for ever, and bleach.

    Those that are there at frame 0 are Poisson in number and spread over the states as an emitter's life is; what they
    were before does not matter, as the chain has no memory.
    """
    alive = slow.exits > 0
    lives = np.where(alive, slow.lives(), 0)
    entering = alight / float(lives[slow.emission > 0].sum())
    events = float((lives * slow.exits).sum())
    already = _draw_count(entering * float(lives.sum()), events, generator)
    new = _draw_count(entering * frames * exposure, events, generator)
    weights = torch.from_numpy(lives)
    there = torch.multinomial(weights, already, replacement=True, generator=generator) if already else torch.zeros(0)
    birth = torch.rand(new, generator=generator, dtype=torch.float64) * frames
    state = torch.cat([there.long(), torch.full((new,), slow.start)])
    return state, torch.cat([torch.zeros(already, dtype=torch.float64), birth])


def _in_equilibrium(
    slow: Chain, alight: float, frames: int, exposure: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """State at frame 0, and that time, of emitters that go on for ever."""
    shares = slow.stationary().clip(min=0)
    expected = alight / float(shares[slow.emission > 0].sum())
    count = _draw_count(expected, float((shares * slow.exits).sum()) * frames * exposure, generator)
    weights = torch.from_numpy(shares)
    state = torch.multinomial(weights, count, replacement=True, generator=generator) if count else torch.zeros(0).long()
    return state, torch.zeros(count, dtype=torch.float64)


def _draw_count(expected: float, events: float, generator: torch.Generator) -> int:
    """A Poisson number of emitters, of which each makes so many transitions. Raises SettingsError for too many."""
    if expected * (1 + events) > EVENTS:
        raise SettingsError(
            f"photophysics: {expected:.3g} emitters with {events:.3g} transitions each are too many to draw (at most "
            f"{EVENTS:.0e} in all). Lower dataset.density or dataset.frames, or leave out the fastest states."
        )
    return int(torch.poisson(torch.tensor(expected, dtype=torch.float64), generator=generator))


def _run(chain: Chain, state: Tensor, time: Tensor, frames: int, exposure: float, generator: torch.Generator) -> Trains:
    """Every emitter from state to state until the last frame; ``time`` [frames] is when it enters ``state``."""
    exits = torch.from_numpy(chain.exits) * exposure
    level = torch.from_numpy(chain.emission / chain.emission.max())
    choice = torch.from_numpy(chain.rates / np.maximum(chain.exits, 1e-300)[:, None])
    count = len(state)
    emitter = torch.arange(count)
    found = [(emitter[:0], time[:0], time[:0], level[:0])]
    while len(emitter):
        end = time + torch.empty(len(emitter), dtype=torch.float64).exponential_(generator=generator) / exits[state]
        seen = (level[state] > 0) & (end > 0) & (time < frames)
        found.append((emitter[seen], time[seen].clamp(min=0), end[seen].clamp(max=frames), level[state][seen]))
        staying = (end < frames) & (exits[state] > 0)
        emitter, time, state = emitter[staying], end[staying], state[staying]
        if len(emitter):
            state = torch.multinomial(choice[state], 1, generator=generator).flatten()
    owner, begin, end, light = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Trains(Blinks(owner, begin.float(), (end - begin).float()), light.float(), count)


def merged(emitter: Tensor, frame: Tensor, photons: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Photon traces (emitter, frame, photons): one row an emitter and frame, however often it blinked within it.

    Sorted by frame, then emitter.
    """
    count = int(emitter.max()) + 1 if len(emitter) else 1
    key, place = torch.unique(frame * count + emitter, return_inverse=True)
    light = torch.zeros(len(key), dtype=photons.dtype).index_add_(0, place, photons)
    return key % count, key // count, light
