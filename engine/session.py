"""A run with everything that stands around it, built from settings: recorder, publisher, observers, pipeline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from acquisition.camera import Camera
from acquisition.light import ActivationLight
from acquisition.source import FrameSource, SourceDescription
from config.errors import RunError
from config.schema import Settings
from engine.domain_check import DomainCheck
from engine.facts import log_metadata, model_used, run_facts
from engine.monitor.feedback import Feedback
from engine.monitor.guard import NO_GUARD, Guard, LightPlan
from engine.monitor.quality import QualityMonitor, Reader
from engine.observer import ObservedLocaliser, Observer
from engine.output.preview import PreviewObserver
from engine.output.publisher import Publisher
from engine.output.recorder import Recorder
from engine.output.run_folder import RunFolder
from engine.pipeline import Pipeline, Watcher
from engine.runtimes.resilient import ResilientRuntime
from engine.runtimes.runtime import Runtime
from engine.status import Status
from engine.streaming import StreamingLocaliser

logger = logging.getLogger(__name__)


class Session:
    """One run of the engine on an open source. Use as a context; ``run`` once inside it.

    A recorded stack (``live`` false) is worked off as fast as it goes. A live camera is never held up, and what happens
    is published over the wire.
    """

    def __init__(
        self,
        settings: Settings,
        folder: RunFolder,
        source: FrameSource,
        description: SourceDescription,
        camera: Camera,
        runtime: Runtime,
        model: Path,
        *,
        live: bool = False,
        light: ActivationLight | None = None,
        guard: LightPlan | None = None,
        fallback: Callable[[], Runtime] | None = None,
    ) -> None:
        """``model``: the file that ``runtime`` runs; ``fallback`` makes a runtime on the processor, where the user
        allows it; ``light``: what feedback may move; ``guard``: how another process reaches it, if one can.

        Raises SettingsError where the wire's address cannot be had, RecorderFailed where the log cannot be made.
        """
        self._settings, self._folder, self._description, self._camera = settings, folder, description, camera
        self._runtime, self._live = runtime, live
        self._closing, self._measuring = ExitStack(), ExitStack()
        self._pipeline: Pipeline | None = None
        self.publisher = self._closing.enter_context(self._publish()) if live and settings.wire.enabled else None
        self._feedback = self._hold(light, guard) if light else None
        endpoint = self.publisher.endpoint if self.publisher else None
        folder.begin(run_facts(model_used(runtime, model), camera, description, endpoint))
        recorder = Recorder(folder.log_path, log_metadata(folder.run_id, camera, description, settings))
        run, resilient = settings.run, ResilientRuntime(runtime, fallback)
        streaming = StreamingLocaliser(resilient, camera, run.threshold, description.origin, run.block)
        self._pipeline = Pipeline(
            source,
            ObservedLocaliser(streaming, self._observers()),
            recorder,
            [self.publisher] if self.publisher else [],
            block=run.block,
            queue=run.queue,
            description=description,
            live=live,
            policy=run.policy,
            memory=run.memory,
            spool=Path(run.spool) if run.spool else folder.path,
            seconds=run.seconds,
            frames=run.frames,
        )

    @property
    def pipeline(self) -> Pipeline:
        """What runs. Raises RunError in the moment before it is there."""
        if self._pipeline is None:
            raise RunError("the run is only being prepared. Ask again in a moment.")
        return self._pipeline

    @property
    def title(self) -> str:
        """What runs on what, in one line."""
        size = f"{self._description.width}×{self._description.height} pixels"
        return f"{self._description.name}, {size}: {self._runtime.description.name} on {self._runtime.name}"

    def run(self, watch: Watcher) -> Status:
        """Run to the end, however it comes, and close the run's account. Raises what ended the run.

        ``watch`` is called a few times a second, on this thread.
        """
        logger.info("%s", self.title)
        if self._live:
            self._warm_up()

        def watch_all(status: Status) -> None:
            watch(status)
            self._tell(status)

        try:
            return self.pipeline.run(watch_all)
        finally:
            self._measuring.close()  # the light is made safe first
            status = self.pipeline.status()
            self._tell(status)
            if status.state.over:
                self._folder.finish(status)

    def handle(self, command: str, arguments: Mapping[str, Any]) -> None:
        """Do what a client asks; see CommandHandler. Raises RunError to refuse."""
        if command != "target":
            self.pipeline.handle(command, arguments)
        elif self._feedback is not None:
            self._feedback.handle(command, arguments)
        else:
            raise RunError("this run has no light that could be moved. Set feedback.device and feedback.property.")

    def describe(self) -> dict[str, Any]:
        """What a client is told of the run when it connects."""
        source = {name: getattr(self._description, name) for name in ("name", "height", "width", "frames", "exposure")}
        model = self._runtime.description
        return {
            "status": self._figures(self._pipeline.status()) if self._pipeline else None,
            "source": source,
            "camera": {"name": self._camera.name, "pixel_size": self._camera.pixel_size},
            "model": {"name": model.name, "version": model.version, "runtime": self._runtime.name},
        }

    def close(self) -> None:
        """Make the light safe, stop measuring and publishing. May be called twice."""
        self._measuring.close()
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _publish(self) -> Publisher:
        folder = self._folder
        return Publisher(folder.log_path, folder.run_id, self._settings.wire, self.describe, self)

    def _hold(self, light: ActivationLight, guard: LightPlan | None) -> Feedback:
        chosen = self._settings.feedback
        guarded = (lambda: Guard(guard)) if guard else None
        if chosen.enabled and guard is None:
            logger.warning("%s", NO_GUARD)
        return Feedback(chosen, light, self._newest, period=self._settings.monitor.every, guard=guarded)

    def _newest(self) -> int | None:
        return self._pipeline.newest if self._pipeline else None

    def _measure(self) -> QualityMonitor:
        """The monitor; feedback is closed before it."""
        readers: list[Reader] = []
        if self.publisher is not None:
            publish = self.publisher.send_quality
            readers.append(lambda quality: publish(quality.figures()))
        if self._feedback is not None:
            readers.append(self._feedback.take)
        monitor = QualityMonitor(
            self._settings.monitor,
            self._camera,
            self._description,
            self._runtime.description,
            self._folder.path,
            readers=readers,
            target=self._feedback.target if self._feedback else lambda: None,
            stop=self._stop,
        )
        self._measuring.callback(monitor.close)
        if self._feedback is not None:
            self._measuring.enter_context(self._feedback)
        return monitor

    def _stop(self, reason: str) -> None:
        self.pipeline.stop(reason)

    def _observers(self) -> list[Observer]:
        model, origin = self._runtime.description, self._description.origin
        observers: list[Observer] = [DomainCheck(model, self._camera, self._settings.optics.psf_sigma, origin)]
        if self.publisher is not None:
            rate = self._settings.wire.preview_rate
            observers.append(PreviewObserver(self.publisher.send_preview, rate, model.context[1], origin))
        if self._live and self._settings.monitor.enabled:
            observers.append(self._measure())
        return observers

    def _warm_up(self) -> None:
        """A runtime prepares itself on its first call; the camera must not wait for that."""
        window = sum(self._runtime.description.context)
        shape = self._description.height, self._description.width
        frames = np.zeros((self._settings.run.block, *shape), np.float32)
        valid = np.ones(window + len(frames), bool)
        self._runtime.step(frames, self._runtime.blank_state(*shape), valid, 1.0)

    def _tell(self, status: Status) -> None:
        if self.publisher is not None:
            self.publisher.send_status(self._figures(status))

    def _figures(self, status: Status) -> dict[str, Any]:
        return {
            **status.figures(),
            "source": self._description.name,
            "model": f"{self._runtime.description.name} on {self._runtime.name}",
            "exposure": self._description.exposure,
            "warnings": self._folder.warnings,
            "feedback": self._feedback.figures() if self._feedback else None,
        }
