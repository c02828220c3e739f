"""What a run's folder and its log tell of model, camera and field: the same whoever did the work."""

from __future__ import annotations

from pathlib import Path

from acquisition.camera import Camera
from acquisition.source import SourceDescription
from config.schema import Settings
from engine.output.run_folder import ModelUsed, RunFacts
from engine.output.table import describe_field
from engine.runtimes import SUFFIXES
from engine.runtimes.runtime import Runtime


def model_used(runtime: Runtime, model: Path) -> ModelUsed:
    """What runs; ``model`` is the file in either of its forms. Raises OSError."""
    kind = "onnx" if runtime.name.startswith("onnx") else "torch"
    known = runtime.description
    return ModelUsed.of_file(model.with_suffix(SUFFIXES[kind]), known.name, known.version, kind, runtime.name)


def run_facts(used: ModelUsed, camera: Camera, source: SourceDescription, endpoint: str | None = None) -> RunFacts:
    """What run.json keeps of the run's parts."""
    calibration = {
        name: value if isinstance(value, str | float | int) else "per pixel" for name, value in vars(camera).items()
    }
    names = ("name", "height", "width", "frames", "exposure", "origin")
    return RunFacts(used, calibration, {name: getattr(source, name) for name in names}, endpoint)


def log_metadata(run_id: str, camera: Camera, source: SourceDescription, settings: Settings) -> dict[str, str]:
    """What the log tells of the field, so that it can be drawn and converted by itself."""
    return describe_field(
        run_id=run_id,
        pixel_size=camera.pixel_size,
        width=source.origin[0] + source.width,
        height=source.origin[1] + source.height,
        frames=source.frames,
        psf_sigma=settings.optics.psf_sigma,
    )
