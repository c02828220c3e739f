"""Commands that make data and models: simulate, train, calibrate, export."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.parts import (
    CHALLENGE,
    CONDITIONS,
    Overrides,
    camera_of,
    conditions_of,
    err,
    out,
    printed_warnings,
    runtime_of,
    settings_of,
    warn,
)

if TYPE_CHECKING:
    pass


def simulate(overrides: Overrides = None) -> None:
    """Simulate an acquisition to files: frames.ome.tif, emitters.parquet (the truth) and settings.yaml.

    Example: liveloc simulate dataset=density_1 dataset.frames=500 dataset.seed=3 dataset.output=simulated
    """
    from rich.progress import Progress

    from simulation.dataset import write_dataset

    settings = settings_of(*CHALLENGE, *overrides or ())
    dataset = settings.dataset
    folder = (
        Path(dataset.output) if dataset.output else Path("runs") / f"{datetime.now():%Y-%m-%dT%H-%M-%S}_{dataset.name}"
    )
    with Progress(console=err) as progress:
        task = progress.add_task("simulating", total=dataset.frames)
        frames = write_dataset(settings, folder, lambda done: progress.update(task, completed=done))
    out.print(f"{dataset.frames:,} frames: {frames}", highlight=False, soft_wrap=True)


def train(
    overrides: Overrides = None,
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Train once for every combination: network=small,default.")
    ] = False,
) -> None:
    """Train a network on frames simulated on the fly. Interrupt and start again at will: it resumes.

    Example: liveloc train network=small training.steps=5000 training.output=trainings/mine
    """
    from config.sweep import combinations, swept
    from models.training import train as run_training

    given = list(overrides or ())
    for chosen in combinations(given) if multirun else [given]:
        settings = settings_of(*chosen)
        if multirun:
            settings.training.output = str(Path(settings.training.output) / swept(given, chosen))
            out.print(f"{settings.training.output}", highlight=False, soft_wrap=True)
        checkpoint = run_training(settings)
        out.print(f"Trained. To use it: liveloc export {checkpoint} my_model", highlight=False, soft_wrap=True)


def calibrate(
    stack: Annotated[Path, typer.Argument(help="A recording of the microscope's own.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Where the settings files go.")],
    overrides: Overrides = None,
) -> None:
    """Measure a microscope on its own recording: camera, PSF, photons, background, blinking. Writes settings files.

    What is known of the camera goes in as for `replay`; the rest is estimated by photon transfer. The files are for
    `train` (a recipe that adapts the model), `simulate` and `evaluate` (an acquisition alike, with truth).

    Example: liveloc calibrate stack.tif my_microscope camera.pixel_size=108
    """
    from acquisition.recorded import RecordedSource, rectangle
    from models import microscope
    from viewer.terminal import print_table

    settings = settings_of("camera=estimate", *overrides or ())
    run, roi = settings.run, rectangle(settings.run)
    with RecordedSource(stack, run.start, run.stop, roi) as source:
        source.open()
        region = microscope.region_to_look_at(source, roi)
    with printed_warnings(), RecordedSource(stack, run.start, run.stop, region) as source:
        description = source.open()
        camera, notes = camera_of(settings, source, description)
        warn(notes)
        found = microscope.look(source, camera, runtime_of(settings), run.threshold)
    known, exposure = (
        microscope.known_camera(settings.camera, camera),
        description.exposure or settings.dataset.exposure,
    )
    files = microscope.write_settings(folder, found, known, exposure, settings.model)
    print_table(out, [(name, f"{value:.4g}") for name, value in found.rows(exposure).items()])
    recipe, alike = files["training"], " ".join(f"{group}={files[group]}" for group in ("dataset", "camera", "optics"))
    for step in (
        f"liveloc train training={recipe}",
        f"liveloc export --no-measure {folder / 'training' / 'last.ckpt'} {folder / folder.name}",
        f"liveloc evaluate {alike} model={folder / folder.name}.onnx",
    ):
        out.print(step, highlight=False, soft_wrap=True)


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that `liveloc train` wrote.", show_default=False)],
    output: Annotated[Path | None, typer.Argument(help="Where to write; the suffixes come by themselves.")] = None,
    measure: Annotated[bool, typer.Option(help="Run the benchmark and keep its figures in the file.")] = True,
) -> None:
    """Turn a training's checkpoint into a model file that describes itself, and check that its forms agree."""
    from models.export import export as write_model

    target = output or checkpoint.with_name("model")
    conditions = conditions_of(CONDITIONS, "dataset.frames=300", "dataset.seed=1") if measure else ()
    description = write_model(checkpoint, target, conditions)
    out.print(f"{description.name}: {target}.onnx and {target}.safetensors", highlight=False, soft_wrap=True)
