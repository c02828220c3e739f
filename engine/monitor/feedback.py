"""Feedback: the activation light holds the density of emitters, and is made safe when that cannot be seen to work."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, Protocol, Self

from acquisition.light import ActivationLight
from config.errors import RunError
from config.schema import FeedbackSettings
from engine.monitor.controller import DensityController, Reading
from engine.monitor.figures import Quality

logger = logging.getLogger(__name__)

BEAT = 1.0
"""Most seconds between two looks at whether everything is well."""
PERIODS = 5
"""Periods without figures or frames after which the light is made safe."""
LEAST_PATIENCE = 5.0
"""Seconds that this takes at least."""
TRIES = 3
"""How often the light is tried to be made safe from here; the guard tries too."""
ENDING = 10.0
"""Seconds that a light which hangs may hold up the end."""


DENSEST = 1000.0
"""Largest target that is taken for one [1/µm²]."""


class State(Enum):
    """What feedback does."""

    OFF = "off"
    """Nothing: the light is the user's."""
    WAITING = "waiting for figures"
    """Nothing yet: no figures of quality have come since it was switched on."""
    HOLDING = "holding"
    """Moves the light."""
    SAFE = "safe"
    """The light is at its safe value until figures come again."""
    FAILED = "failed"
    """Given up for this run, because the light or its guard failed; the light is at its safe value if it can be."""
    ENDED = "ended"
    """The run is over; the light is at its safe value."""


class Watchdog(Protocol):
    """What guards the light: see guard.Guard."""

    def beat(self) -> None:
        """Give a sign of life. Raises RunError where it has ended."""
        ...

    def close(self) -> None:
        """Make the light safe once more, and end."""
        ...


class Pulse:
    """Whether figures and frames keep coming, and this program keeps running. Times in seconds."""

    def __init__(self, patience: float, now: float) -> None:
        """Trouble is what lasts longer than ``patience``."""
        self._patience = patience
        self._figures = self._frames = self._looked = now
        self._newest: int | None = None

    def figures(self, now: float) -> None:
        """Figures have come. Any thread."""
        self._figures = now

    def begin(self, now: float) -> None:
        """What lies behind was no trouble."""
        self._figures = self._frames = self._looked = now

    def trouble(self, now: float, newest: int | None) -> str | None:
        """Look, while ``newest`` is the last frame that was taken. Gives what is wrong, in words."""
        if newest != self._newest:
            self._newest, self._frames = newest, now
        troubles = {
            "this program stood still": now - self._looked,
            "the camera gives no frames": now - self._frames,
            "no figures of quality have come": now - self._figures,
        }
        self._looked = now
        for words, since in troubles.items():
            if since > self._patience:
                return f"{words} for {since:.0f} s"
        return None


class Feedback:
    """Holds a density on a thread of its own; use as a context, so that the light is safe however the run ends.

        with Feedback(settings.feedback, light, newest, guard=lambda: Guard(plan)) as feedback:
            monitor = QualityMonitor(…, readers=[feedback.take], target=feedback.target)

    ``take`` is a reader of the quality monitor. The light is touched from the thread alone, for the first time when the
    first figures come while feedback is switched on; from then on, its end and every trouble set it to its safe value.
    Not switched on in the settings, it waits to be, by ``handle``.
    """

    def __init__(
        self,
        settings: FeedbackSettings,
        light: ActivationLight,
        newest: Callable[[], int | None] | None = None,
        *,
        period: float = 1.0,
        guard: Callable[[], Watchdog] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``newest`` tells the newest frame that the camera has given, which may be well ahead of the figures'.

        Without it, the newest of the figures is taken, which is right as long as the analysis does not lag. Figures
        come every ``period`` seconds. ``guard`` starts the guard, before the light is moved for the first time.
        """
        self.state = State.WAITING if settings.enabled else State.OFF
        self._settings, self._light, self._newest, self._start_guard = settings, light, newest, guard
        self._clock = clock
        self._pulse = Pulse(max(LEAST_PATIENCE, PERIODS * max(period, settings.every)), clock())
        self._wanted, self._aim, self._note = settings.enabled, settings.target, ""
        self._controller: DensityController | None = None
        self._guard: Watchdog | None = None
        self._power: float | None = None
        """As it was last set; None as long as it never was."""
        self._readings: list[Reading] = []
        self._seen: int | None = None
        self._lock = threading.Lock()
        self._stepped = -math.inf
        self._ending, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread = threading.Thread(target=self._work, name="liveloc-feedback", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take(self, quality: Quality) -> None:
        """A Reader of figures. Any thread."""
        with self._lock:
            reading = Reading(quality.first_frame, quality.localisations, quality.frames * quality.area)
            self._readings.append(reading)
            self._seen = quality.frame
        self._pulse.figures(self._clock())

    def target(self) -> float | None:
        """The density that is held [1/µm²]; None while nothing is. Any thread."""
        return self._aim if self._wanted and self.state is not State.FAILED else None

    def handle(self, command: str, arguments: Mapping[str, Any]) -> None:
        """Do what somebody outside asks: ``target`` with ``value`` [1/µm²], ``enabled``, or both. Any thread.

        Raises RunError to refuse.
        """
        value, enabled = arguments.get("value"), arguments.get("enabled")
        if command != "target" or (value is None and enabled is None):
            raise RunError("feedback takes the command target, with a value, with enabled, or with both.")
        if value is not None and not _is_density(value):
            raise RunError(f"the target must be a density above 0, at most {DENSEST:g} /µm²; {value!r:.60} was given.")
        if enabled is not None and not isinstance(enabled, bool):
            raise RunError(f"enabled must be true or false; {enabled!r:.60} was given.")
        if self.state in (State.FAILED, State.ENDED):
            raise RunError(f"feedback has ended for this run. {self._note}".strip())
        self._aim = self._aim if value is None else float(value)
        self._wanted = self._wanted if enabled is None else enabled
        logger.info("feedback is switched %s, its target is %.3g /µm²", "on" if self._wanted else "off", self._aim)
        self._wake.set()

    def figures(self) -> dict[str, Any]:
        """What it does, as plain values, for messages to other programs. Any thread."""
        return {
            "enabled": self._wanted and self.state is not State.FAILED,
            "state": self.state.value,
            "target": self._aim,
            "power": self._power,
            "note": self._note,
        }

    def close(self) -> None:
        """Make the light safe, if it was ever moved, and end. May be called twice."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(ENDING)
        if self._thread is not None and self._thread.is_alive():
            logger.error("the activation light does not answer; its guard is asked to make it safe. Check it by hand.")
        elif self._power is not None and self.state not in (State.FAILED, State.ENDED):
            self._try_safe("the run is over")
        self.state = State.ENDED
        self._dismiss_guard()

    def tick(self) -> None:
        """Look whether all is well, and move the light if it is time to. The thread calls it, a few times a second."""
        if self.state in (State.FAILED, State.ENDED):
            return
        with self._lock:
            readings, self._readings = self._readings, []
        try:
            if self._guard is not None:
                self._guard.beat()
            self._act(readings)
        except Exception as error:  # noqa: BLE001 (whatever it is, the light must not be left as it is)
            self._fail(error)

    def _work(self) -> None:
        while not self._ending.is_set():
            self.tick()
            self._wake.wait(min(BEAT, self._settings.every))
            self._wake.clear()

    def _act(self, readings: list[Reading]) -> None:
        newest = self._newest_frame()
        trouble = self._pulse.trouble(self._clock(), newest)
        if not self._wanted:
            self._let_go()
        elif self.state in (State.OFF, State.WAITING):
            self.state = State.WAITING
            if readings and newest is not None:
                self._take_over()
        elif trouble:
            self._stand_by(trouble)
        elif self.state is State.HOLDING:
            self._control(readings, newest)
        elif readings:
            self._resume()

    def _newest_frame(self) -> int | None:
        return self._seen if self._newest is None else self._newest()

    def _take_over(self) -> None:
        """From the user: the light is at what it was set to."""
        if self._guard is None and self._start_guard is not None:
            self._guard = self._start_guard()
        self._power = self._light.power()
        self._controller = DensityController(self._settings, self._power)
        self._pulse.begin(self._clock())
        self._change(State.HOLDING, "")
        logger.info("feedback: holds %.3g /µm²; the activation light is at %.4g", self._aim, self._power)

    def _let_go(self) -> None:
        if self.state in (State.HOLDING, State.SAFE):
            self._make_safe("it is switched off")
        self._change(State.OFF, "")

    def _stand_by(self, trouble: str) -> None:
        if self.state is State.HOLDING:
            self._make_safe(trouble)
            self._change(State.SAFE, f"The light is at its safe value: {trouble}.")

    def _resume(self) -> None:
        assert self._controller is not None
        self._controller.restart(self._settings.safe)
        self._change(State.HOLDING, "")
        logger.info("feedback: figures come again")

    def _control(self, readings: list[Reading], newest: int | None) -> None:
        assert self._controller is not None
        now = self._clock()
        for reading in readings:
            self._controller.read(reading)
        if (
            newest is None or now - self._stepped < self._settings.every * 0.99
        ):  # a clock's rounding is no reason to wait
            return
        self._stepped = now
        self._controller.target = self._aim
        words = self._controller.step(now, newest)
        if words:
            logger.info("feedback: %s", words)
            self._note = words
        if self._controller.power != self._power:
            self._set(self._controller.power)

    def _change(self, state: State, note: str) -> None:
        self.state, self._note = state, note

    def _set(self, power: float) -> None:
        self._light.set_power(power)
        self._power = power

    def _make_safe(self, why: str) -> None:
        """Raises what the light raises, after some tries."""
        for attempt in range(1, TRIES + 1):
            try:
                self._set(self._settings.safe)
            except Exception:
                if attempt == TRIES:
                    logger.error("THE ACTIVATION LIGHT CANNOT BE SET TO %g. Check it by hand.", self._settings.safe)
                    raise
            else:
                logger.info("feedback: activation light → %g, its safe value: %s", self._settings.safe, why)
                return

    def _fail(self, error: Exception) -> None:
        self._change(State.FAILED, f"Feedback has ended: {error}")
        logger.error("feedback has ended for this run: %s", error)
        if self._power is not None:
            self._try_safe(str(error))
        self._dismiss_guard()

    def _try_safe(self, why: str) -> None:
        try:
            self._make_safe(why)
        except Exception as error:  # noqa: BLE001 (said already; the guard tries next)
            self._note = f"THE ACTIVATION LIGHT COULD NOT BE MADE SAFE: {error}"

    def _dismiss_guard(self) -> None:
        """Which makes it set the light to safe, over its own connection."""
        if self._guard is not None:
            guard, self._guard = self._guard, None
            guard.close()


def _is_density(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= DENSEST
