"""The controller of the light, on plants that follow it late, noisily and not in proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from config.schema import FeedbackSettings
from engine.monitor.controller import DensityController, Reading

FPS = 100
AREA = 41.0
BURST = 6
"""Localisations that one emitter gives: what makes counts scatter more than their root."""


@dataclass
class Plant:
    """A density that is 3 at power 100 and goes with a power of the light, after a dead time, through a low pass."""

    dead: float = 0.0
    low_pass: float = 0.0
    slope: float = 1.0
    spontaneous: float = 0.0
    density: float = 3.0
    drives: list[float] = field(default_factory=list)

    def follow(self, power: float, step: float) -> float:
        """The density [1/µm²] after ``step`` more seconds at ``power``."""
        self.drives.append(3.0 * (power / 100) ** self.slope)
        back = len(self.drives) - 1 - round(self.dead / step)
        drive = self.drives[back] if back >= 0 else 3.0
        self.density += (drive - self.density) * (1 if self.low_pass == 0 else min(1.0, step / self.low_pass))
        return self.density + self.spontaneous


@dataclass
class Course:
    """What happened."""

    density: np.ndarray
    power: np.ndarray
    step: float = 0.1

    def settled(self, target: float) -> float:
        """Seconds after which the density is within 15 % for good."""
        outside = np.flatnonzero(np.abs(self.density / target - 1) > 0.15)
        return 0.0 if not len(outside) else float((outside[-1] + 1) * self.step)


def drive(
    plant: Plant,
    controller: DensityController,
    seconds: float = 120.0,
    lag: float = 0.0,
    seed: int = 0,
    area: float = AREA,
) -> Course:
    """In steps of 0.1 s; readings of whole seconds come ``lag`` seconds late, with the scatter of counts."""
    random, step = np.random.default_rng(seed), 0.1
    densities, powers, waiting = list[float](), list[float](), list[tuple[float, Reading]]()
    for tick in range(round(seconds / step)):
        now = tick * step
        if tick and tick % 10 == 0:
            exposed = area * FPS
            count = BURST * int(random.poisson(np.mean(densities[-10:]) * exposed / BURST))
            waiting.append((now + lag, Reading(round(now - 1) * FPS, count, exposed)))
        while waiting and waiting[0][0] <= now:
            controller.read(waiting.pop(0)[1])
        if tick % 10 == 0:
            controller.step(now, round(now * FPS) - 1)
        densities.append(plant.follow(controller.power, step))
        powers.append(controller.power)
    return Course(np.array(densities), np.array(powers))


def controller(power: float = 100.0, **settings: float) -> DensityController:
    return DensityController(FeedbackSettings(**{"maximum": 1000.0, **settings}), power)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("low_pass", [0.0, 2.0])
@pytest.mark.parametrize("dead", [0.0, 1.0, 3.0, 5.0])
def test_from_three_times_too_dense_it_reaches_the_target_and_holds_it(dead: float, low_pass: float, seed: int) -> None:
    course = drive(Plant(dead, low_pass), controller(), seed=seed)
    assert course.settled(1.0) < 45
    assert course.density.min() > 0.85  # no swing beyond
    assert course.density[-600:].std() < 0.05


@pytest.mark.parametrize(
    ("plant", "seconds"),
    [
        (Plant(2, 1, slope=2.0), 40),
        (Plant(2, 1, slope=0.5), 90),
        (Plant(2, 1, spontaneous=0.5), 90),
        (Plant(0, 5), 45),
    ],
    ids=["steep", "flat", "spontaneous", "slow"],
)
def test_it_copes_with_plants_that_are_not_proportional(plant: Plant, seconds: float) -> None:
    course = drive(plant, controller(), 300)
    assert course.settled(1.0) < seconds
    assert course.density.min() > 0.85


def test_an_analysis_that_lags_makes_it_slower_and_not_unstable() -> None:
    course = drive(Plant(2, 1), controller(), 300, lag=20)
    assert course.settled(1.0) < 150
    assert course.density.min() > 0.85


def test_few_localisations_make_it_wait_for_more() -> None:
    course = drive(Plant(2, 1), controller(), 300, area=2.0)
    assert course.settled(1.0) < 250
    assert len(np.unique(course.power)) < 40


def test_from_too_sparse_it_goes_up() -> None:
    course = drive(Plant(1, 1), controller(target=6.0, slew=50.0))
    assert course.settled(6.0) < 45
    assert course.density.max() < 6.9


def test_it_starts_from_the_dark() -> None:
    course = drive(Plant(1, 1, density=0.0), controller(power=0.0, maximum=100.0), 200)
    assert course.settled(1.0) < 120
    assert course.density.max() < 3.1


def test_bleaching_is_made_good() -> None:
    """The density falls by half in two minutes if nothing is done."""
    plant, held = Plant(1, 1), controller(power=33.0)
    random, densities = np.random.default_rng(0), list[float]()
    for second in range(300):
        mean = plant.follow(held.power, 1.0) * math.exp(-second / 170)
        held.read(Reading(second * FPS, BURST * int(random.poisson(mean * AREA * FPS / BURST)), AREA * FPS))
        held.step(float(second + 1), second * FPS + FPS - 1)
        densities.append(mean)
    assert np.abs(np.array(densities[60:]) - 1).max() < 0.15


def test_limits_and_slew_rate_are_kept() -> None:
    limited = controller(minimum=60.0, maximum=110.0, slew=3.0)
    course = drive(Plant(1, 0), limited)
    assert course.power.min() == 60.0
    assert np.abs(np.diff(course.power[::10])).max() <= 3.0 + 1e-9
    assert np.abs(np.diff(course.power)).max() <= 3.0 + 1e-9


def test_a_late_step_makes_no_jump() -> None:
    late = controller(slew=1.0, start=50.0)
    late.step(0.0, 0)
    late.step(1000.0, 1)
    assert late.power == 98.0


def test_a_limit_that_is_in_the_way_is_said_once() -> None:
    at_limit, words = controller(minimum=100.0), list[str | None]()
    for second in range(60):
        at_limit.read(Reading(second * FPS + 1, 12_000, 4_000.0))
        words.append(at_limit.step(float(second), second * FPS))
    assert [text for text in words if text] == [
        "3 /µm² for a target of 1: the activation light is at its limit of 100 and cannot hold it"
    ]


def test_it_begins_where_it_is_told_by_the_slew_rate() -> None:
    starting = controller(power=0.0, start=30.0, slew=10.0)
    powers = []
    for second in range(5):
        starting.step(float(second), second)
        powers.append(starting.power)
    assert powers == [0, 10, 20, 30, 30]


def test_frames_of_before_the_change_tell_nothing() -> None:
    changed = controller(slew=1000.0)
    changed.step(0.0, 99)
    changed.read(Reading(100, 12_000, 4_000.0))
    words = changed.step(1.0, 199)
    assert words == "3 /µm² for a target of 1: activation light 100 → 57.74"
    changed.step(2.0, 299)
    assert changed.power == pytest.approx(57.735, abs=1e-3)
    for second in range(3, 20):  # frames up to 799 were taken within 5 s of the change, and are told late
        changed.read(Reading(100 + 40 * (second - 3), 12_000, 4_000.0))
        assert changed.step(float(second), 100 * second + 99) is None
    changed.read(Reading(800, 12_000, 4_000.0))
    assert changed.step(20.0, 2099) is not None


def test_a_new_target_is_taken_up() -> None:
    held = controller()
    drive(Plant(), held, 90)
    held.target = 2.0
    plant = Plant(density=3.0 * held.power / 100)
    held._stepped, held._changed = None, -math.inf
    held._fresh_from = None
    assert drive(plant, held, 90).settled(2.0) < 60


def test_after_someone_else_set_the_light_it_goes_back_slowly() -> None:
    held = controller(power=50.0, slew=10.0)
    held.step(0.0, 0)
    held.restart(0.0)
    powers = []
    for second in range(1, 9):
        held.step(float(second), 100 * second)
        powers.append(held.power)
    assert powers == [0, 10, 20, 30, 40, 50, 50, 50]


def test_nothing_found_at_all_raises_the_light_within_reason() -> None:
    dark = controller(power=10.0)
    dark.step(0.0, 99)
    dark.read(Reading(100, 0, 4_000.0))
    assert dark.step(1.0, 199) == "0 /µm² for a target of 1: activation light 10 → 20"
