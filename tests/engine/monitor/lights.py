"""Activation lights for tests. The one in a file can be reached by several processes, as a laser can."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acquisition.light import ActivationLight
from config.errors import SourceError
from config.schema import FeedbackSettings
from engine.monitor.feedback import Feedback
from engine.monitor.figures import Quality
from engine.monitor.guard import Guard, LightPlan, load


@dataclass
class FakeLight:
    """Remembers what it was set to; fails while ``broken`` says why."""

    value: float = 40.0
    broken: str = ""
    set_to: list[float] = field(default_factory=list)

    def power(self) -> float:
        if self.broken:
            raise SourceError(self.broken)
        return self.value

    def set_power(self, power: float) -> None:
        if self.broken:
            raise SourceError(self.broken)
        self.value = power
        self.set_to.append(power)


@dataclass
class FileLight:
    """Its power stands in a file, and who set it."""

    path: Path

    def power(self) -> float:
        return float(json.loads(self.path.read_text(encoding="utf-8"))["power"])

    def set_power(self, power: float) -> None:
        if not self.path.exists():
            raise SourceError(f"{self.path.name} is not there")
        fresh = self.path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({"power": power, "by": os.getpid()}), encoding="utf-8")
        fresh.replace(self.path)


def open_file_light(path: str) -> ActivationLight:
    """What a guard is told to call."""
    light = FileLight(Path(path))
    light.power()
    return light


def open_nothing(words: str) -> ActivationLight:
    raise SourceError(words)


def plan_for(path: Path, patience: float = 30.0) -> LightPlan:
    return LightPlan("tests.engine.monitor.lights:open_file_light", {"path": str(path)}, 3.0, patience)


def quality(first: int, density: float, frames: int = 100, area: float = 40.0) -> Quality:
    """Figures of a window of so many frames."""
    count = round(density * frames * area)
    blank: dict[str, Any] = dict.fromkeys(
        ("target", "photons", "background", "precision", "psf_sigma", "drift_x", "drift_y", "frc")
    )
    return Quality(
        time=(first + frames) / 100, first_frame=first, frame=first + frames - 1, frames=frames, localisations=count,
        area=area, localisations_per_frame=count / frames, density=density, density_map=[], warnings=[], **blank,
    )  # fmt: skip


def engine_process(plan_text: str, ending: str) -> None:
    """An engine with feedback in a process of its own, which says when it moves the light; then ``ending``."""
    plan = LightPlan(**json.loads(plan_text))
    settings = FeedbackSettings(enabled=True, safe=plan.safe, every=0.05, slew=1000.0, minimum=5.0)
    light, second = load(plan.open)(**plan.arguments), 0
    before = light.power()
    with Feedback(settings, light, lambda: second * 100, guard=lambda: Guard(plan)) as feedback:
        while feedback.figures()["power"] in (None, before):
            second += 1
            feedback.take(quality(100 * second + 1, 3.0))
            time.sleep(0.02)
        sys.stdout.write("moved\n")
        sys.stdout.flush()
        if ending == "exception":
            raise RuntimeError("the run fell over")
        if ending == "exit":
            sys.exit(0)
        while True:
            time.sleep(0.1)
            second += 1
            feedback.take(quality(100 * second + 1, 1.0))


if __name__ == "__main__":
    engine_process(*sys.argv[1:])
