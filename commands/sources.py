"""From settings to the source of a live run and the light that feedback moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.errors import SettingsError

if TYPE_CHECKING:
    from acquisition.light import ActivationLight
    from acquisition.source import FrameSource
    from config.schema import Settings
    from engine.monitor.guard import LightPlan


def live_source(settings: Settings, endless: bool) -> FrameSource:
    """The source that the settings name, not yet open. One that is not endless gives ``dataset.frames``."""
    chosen, run = settings.source, settings.run
    if chosen.kind in ("follow", "recorded"):
        return _file_source(settings)
    if chosen.kind == "simulated":
        from simulation.camera_source import SimulatedCamera

        return SimulatedCamera(settings, endless=endless)
    frames = run.frames if endless else settings.dataset.frames
    core = _blinking_core(settings) if chosen.config == "blinking" else None
    if chosen.kind == "micromanager":
        from acquisition.micromanager import MicroManagerSource

        return MicroManagerSource(chosen, run.roi, frames, core)
    from acquisition.micromanager_acquisition import MicroManagerAcquisitionSource

    return MicroManagerAcquisitionSource(chosen, Path(chosen.save or "raw"), run.roi, frames, core)


def _blinking_core(settings: Settings) -> Callable[[], Any]:
    """Makes a Micro-Manager core whose camera is the simulated one."""
    from simulation.micromanager_camera import blinking_core

    return lambda: blinking_core(settings)


def _file_source(settings: Settings) -> FrameSource:
    from acquisition.follow import FollowSource
    from acquisition.recorded import RecordedSource, rectangle

    chosen, run = settings.source, settings.run
    if chosen.path is None:
        raise SettingsError(f"source={chosen.kind} needs source.path: the stack, or the folder that is being written.")
    window = (Path(chosen.path), run.start, run.stop, rectangle(run))
    if chosen.kind == "follow":
        return FollowSource(*window, exposure=chosen.exposure, silence=chosen.silence)
    return RecordedSource(*window, paced=chosen.paced, exposure=chosen.exposure)


def light_of(settings: Settings, source: FrameSource) -> tuple[ActivationLight | None, LightPlan | None]:
    """What feedback moves, and how a guard in another process reaches it, where one can."""
    from simulation.camera_source import SimulatedCamera

    feedback, port = settings.feedback, settings.source.port
    if isinstance(source, SimulatedCamera):
        return source.light(), None
    if feedback.device is None or feedback.property is None:
        if feedback.enabled:
            raise SettingsError(
                "feedback needs the light: set feedback.device to Micro-Manager's label of its device and "
                "feedback.property to the property that sets its power (docs/feedback.md)."
            )
        return None, None
    from acquisition.micromanager import MicroManagerSource
    from acquisition.micromanager_light import MicroManagerLight, light_arguments

    if not isinstance(source, MicroManagerSource):
        raise SettingsError(f"feedback moves a light through source=micromanager, not through {settings.source.kind}.")

    light = MicroManagerLight(source.core, feedback.device, feedback.property)
    light.check_range(min(feedback.minimum, feedback.safe), max(feedback.maximum, feedback.safe))
    if settings.source.backend != "java":
        return light, None
    from engine.monitor.guard import LightPlan

    arguments = light_arguments(feedback.device, feedback.property, port)
    return light, LightPlan("acquisition.micromanager_light:open_light", arguments, feedback.safe)
