"""Commands that make data and models: simulate, train, calibrate, export."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.parts import (
    CHALLENGE,
    CONDITIONS,
    Overrides,
    camera_of,
    conditions_for,
    err,
    out,
    printed_warnings,
    runtime_of,
    say,
    settings_of,
    warn,
)

if TYPE_CHECKING:
    pass


def simulate(overrides: Overrides = None) -> None:
    """Simulate an acquisition to files: frames, truth (Parquet and ThunderSTORM), settings, camera and a preview.

    Example: liveloc simulate dataset=density_1 dataset.frames=500 dataset.seed=3 dataset.output=simulated
    In 3-D: liveloc simulate dataset=microtubules_3d optics=astigmatic photophysics=dstorm
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from simulation.dataset import write_dataset

    settings = settings_of(*CHALLENGE, *overrides or ())
    dataset = settings.dataset
    folder = (
        Path(dataset.output) if dataset.output else Path("runs") / f"{datetime.now():%Y-%m-%dT%H-%M-%S}_{dataset.name}"
    )
    rate = TextColumn("{task.fields[rate]} frames/s")
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=err) as progress:
        task, began = progress.add_task("", total=dataset.frames, rate="…"), time.perf_counter()

        def told(done: int) -> None:
            progress.update(task, completed=done, rate=f"{done / (time.perf_counter() - began):,.0f}")

        frames = write_dataset(settings, folder, told)
    spent = time.perf_counter() - began
    say(f"{dataset.frames:,} frames in {spent:.1f} s ({dataset.frames / spent:,.0f}/s): {frames}")


def psf(
    stack: Annotated[Path, typer.Argument(help="A TIFF of planes (Z, Y, X) with beads.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="Where to write, such as psf.h5.", show_default=False)],
    step: Annotated[float, typer.Option(help="Between two planes [nm].", show_default=False)],
    pixel_size: Annotated[float, typer.Option(help="Width of a pixel in the sample [nm].", show_default=False)],
    window: Annotated[int, typer.Option(help="Rows and columns to keep around a bead, odd [pixels].")] = 21,
) -> None:
    """Measure a point-spread function on beads, for simulations and 3-D training (optics.psf=spline).

    Example: liveloc psf beads.tif psf.h5 --step 50 --pixel-size 108
    """
    from simulation.bead_stack import measure_psf

    found = measure_psf(stack, step, pixel_size, window)
    found.psf.save(output)
    beads = "1 bead" if found.beads == 1 else f"{found.beads} beads (they differ by {found.disagreement:.0%})"
    left = f", {found.left_out} left out as too near to others or to the border" if found.left_out else ""
    say(f"{output}: {len(found.psf.values)} planes from {beads}{left}.")
    say(f"Use it: liveloc simulate optics.psf=spline optics.psf_file={output}")


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
            say(f"{settings.training.output}")
        checkpoint = run_training(settings)
        say(f"Trained. To use it: liveloc export {checkpoint} my_model")


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
        runtime = runtime_of(settings)
        found = microscope.look(source, camera, runtime, run.threshold)
    known, exposure = (
        microscope.known_camera(settings.camera, camera),
        description.exposure or settings.dataset.exposure,
    )
    print_table(out, [(name, f"{value:.4g}") for name, value in found.rows(exposure).items()])
    with err.status("how fast this computer trains"):
        network = runtime.description.settings["network"]
        files = microscope.write_settings(folder, found, known, exposure, settings.model, network)
    recipe, alike = (
        " ".join(f"{group}={files[group]}" for group in groups)
        for groups in (("training", "network"), ("dataset", "camera", "optics"))
    )
    for step in (
        f"liveloc train {recipe}",
        f"liveloc export --no-measure {folder / 'training' / 'last.ckpt'} {folder / folder.name}",
        f"liveloc evaluate {alike} model={folder / folder.name}.onnx",
    ):
        say(step)


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint that `liveloc train` wrote, or a .safetensors model to put right anew.",
            show_default=False,
        ),
    ],
    output: Annotated[Path | None, typer.Argument(help="Where to write; the suffixes come by themselves.")] = None,
    measure: Annotated[bool, typer.Option(help="Run the benchmark and keep its figures in the file.")] = True,
    calibrate: Annotated[
        bool, typer.Option(help="Put sigmas and probabilities right by simulated scenes of the training's domain.")
    ] = True,
) -> None:
    """Turn a training's checkpoint into a model file that describes itself, and check that its forms agree."""
    from models.evaluation.recalibration import SCENES
    from models.export import export as write_model
    from models.export import learned

    target = output or checkpoint.with_name("model")
    network, training, *_ = learned(checkpoint)
    kept = {"network": asdict(network), "training": asdict(training)}
    conditions = conditions_for(kept, CONDITIONS, "dataset.frames=300", "dataset.seed=1") if measure else ()
    description = write_model(checkpoint, target, conditions, SCENES if calibrate else 0)
    say(f"{description.name}: {target}.onnx and {target}.safetensors")
