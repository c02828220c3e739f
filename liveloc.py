"""The front door: one command per use. Each builds objects from settings and starts them; nothing is decided here.

Heavy libraries are imported inside the command that needs them: ``liveloc --help`` loads none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from config.errors import LivelocError

if TYPE_CHECKING:
    from acquisition.camera import Camera
    from acquisition.source import FrameSource, SourceDescription
    from config.schema import Settings
    from engine.output.run_folder import RunFolder
    from engine.runtimes.runtime import Runtime
    from engine.status import Status

BAD_INPUT, INTERRUPTED = 2, 130
"""Exit statuses: something to put right; stopped by Ctrl-C."""
PACKAGES = ("acquisition", "config", "engine", "models", "simulation", "liveloc")
"""Whose warnings are printed."""
CHALLENGE = ("camera=challenge_emccd", "optics=challenge")
"""What simulations use unless they are told otherwise."""
CONDITIONS = ("density_0_2", "density_1", "density_2", "density_4", "dim")
"""Data sets that ``evaluate`` runs."""

out, err = Console(), Console(stderr=True)
logger = logging.getLogger("liveloc")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SETTING=VALUE]...",
        help="Settings to change, such as camera=challenge_emccd run.block=8; `liveloc settings` lists all.",
        show_default=False,
    ),
]


class FrontDoor(TyperGroup):
    """Turns liveloc's own errors into a message, and Ctrl-C into its exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. typer calls this, with its own kind of context in some versions and click's in others."""
        try:
            return super().invoke(ctx)
        except LivelocError as error:
            err.print(f"[red]{type(error).__name__}:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(BAD_INPUT) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=FrontDoor,
    name="liveloc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Live deep-learning single-molecule localisation microscopy: the super-resolved image grows while the camera "
    "runs.\n\nStart with `liveloc demo`, then `liveloc replay STACK camera=estimate`.",
)


def main() -> None:
    """The console script."""
    app()


@app.command()
def demo(
    overrides: Overrides = None,
    window: Annotated[bool, typer.Option(help="Open the live window where there is a screen.")] = True,
) -> None:
    """Watch a simulated acquisition live: 24 seconds, then how close the localisations came to the truth.

    An EMCCD of 64×64 pixels at 33 frames/s looks at blinking lines; the shipped model localises as the frames come.
    """
    from simulation.camera_source import SimulatedCamera

    settings = _settings("run=demo", "dataset=demo", *CHALLENGE, *overrides or ())
    source = SimulatedCamera(settings)
    with _run_folder(settings) as folder:
        _show_window(folder, window)
        status = _analyse(source, source.simulator.camera, settings, folder, source.open())
    _summarise(folder, status)
    _compare_with_truth(folder, source.simulator.emitters(0, status.analysed))
    _exit_if_stopped(status)


@app.command()
def replay(
    stack: Annotated[Path, typer.Argument(help="TIFF, OME-TIFF, NDTiff folder, or Picasso .raw.", show_default=False)],
    overrides: Overrides = None,
) -> None:
    """Localise a recorded stack: TIFF of any kind, Micro-Manager's NDTiff, Picasso's .raw.

    Writes a run folder with tables, image.png and an account of every frame. Photons need the camera's calibration:
    from the file, from camera=NAME, from camera=my_camera.yaml, or guessed with camera=estimate.

    Example: liveloc replay stack.tif camera=challenge_emccd run.output=results optics.psf_sigma=135
    """
    from acquisition.recorded import RecordedSource

    settings = _settings(*overrides or ())
    run = settings.run
    roi = (run.roi[0], run.roi[1], run.roi[2], run.roi[3]) if run.roi else None
    with RecordedSource(stack, run.start, run.stop, roi) as source:
        description = source.open()
        camera, notes = _camera(settings, source, description)
        with _run_folder(settings) as folder:
            _warn(notes)
            status = _analyse(source, camera, settings, folder, description)
    _summarise(folder, status)
    _exit_if_stopped(status)


@app.command()
def simulate(overrides: Overrides = None) -> None:
    """Simulate an acquisition to files: frames.ome.tif, emitters.parquet (the truth) and settings.yaml.

    Example: liveloc simulate dataset=density_1 dataset.frames=500 dataset.seed=3 dataset.output=simulated
    """
    from rich.progress import Progress

    from simulation.dataset import write_dataset

    settings = _settings(*CHALLENGE, *overrides or ())
    dataset = settings.dataset
    folder = (
        Path(dataset.output) if dataset.output else Path("runs") / f"{datetime.now():%Y-%m-%dT%H-%M-%S}_{dataset.name}"
    )
    with Progress(console=err) as progress:
        task = progress.add_task("simulating", total=dataset.frames)
        frames = write_dataset(settings, folder, lambda done: progress.update(task, completed=done))
    out.print(f"{dataset.frames:,} frames: {frames}", highlight=False, soft_wrap=True)


@app.command()
def train(overrides: Overrides = None) -> None:
    """Train a network on frames simulated on the fly. Interrupt and start again at will: it resumes.

    Example: liveloc train network=small training.steps=5000 training.output=trainings/mine
    """
    from models.training import train as run_training

    checkpoint = run_training(_settings(*overrides or ()))
    out.print(f"Trained. To use it: liveloc export {checkpoint} my_model", highlight=False, soft_wrap=True)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that `liveloc train` wrote.", show_default=False)],
    output: Annotated[Path | None, typer.Argument(help="Where to write; the suffixes come by themselves.")] = None,
    measure: Annotated[bool, typer.Option(help="Run the benchmark and keep its figures in the file.")] = True,
) -> None:
    """Turn a training's checkpoint into a model file that describes itself, and check that its forms agree."""
    from models.export import export as write_model

    target = output or checkpoint.with_name("model")
    conditions = _conditions(CONDITIONS, "dataset.frames=300", "dataset.seed=1") if measure else ()
    description = write_model(checkpoint, target, conditions)
    out.print(f"{description.name}: {target}.onnx and {target}.safetensors", highlight=False, soft_wrap=True)


@app.command()
def evaluate(overrides: Overrides = None) -> None:
    """Score a model on simulated acquisitions of known truth: Jaccard index, RMSE, efficiency.

    Runs the benchmark's conditions, or the one data set that is given.

    Example: liveloc evaluate model=my_model.onnx dataset=density_2 dataset.frames=200
    """
    from models.evaluation.benchmark import as_markdown, benchmark

    given = list(overrides or ())
    chosen = [name.partition("=")[2] for name in given if name.startswith("dataset=")] or CONDITIONS
    conditions = _conditions(chosen, *given)
    runtime = _runtime(conditions[0])
    out.print(f"{runtime.description.name} on {runtime.name}", highlight=False)
    out.print(as_markdown(list(benchmark(runtime, conditions))), highlight=False, soft_wrap=True)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The table to read.", show_default=False)],
    destination: Annotated[Path, typer.Argument(metavar="OUT", help="The table to write.", show_default=False)],
    pixel_size: Annotated[float | None, typer.Option(help="Camera pixel [nm], where the table does not tell.")] = None,
    width: Annotated[int | None, typer.Option(help="Columns of the frames, where the table does not tell.")] = None,
    height: Annotated[int | None, typer.Option(help="Rows of the frames, where the table does not tell.")] = None,
    psf_sigma: Annotated[float | None, typer.Option(help="PSF width, standard deviation [nm].")] = None,
) -> None:
    """Convert localisations: .csv (ThunderSTORM), .hdf5 (Picasso), .parquet, .arrows (a run's log, crashed or not).

    Example: liveloc convert runs/2026-11-22T18-03-11_replay/localisations.arrows for_picasso.hdf5
    """
    from engine.output.formats import convert as convert_table

    table = convert_table(source, destination, pixel_size, width, height, psf_sigma)
    out.print(f"{table.num_rows:,} localisations: {destination}", highlight=False, soft_wrap=True)


@app.command()
def doctor() -> None:
    """Say what is installed, which runtime really runs, whether a GPU is used, and whether a window can be opened."""
    from rich.table import Table

    from engine.doctor import Finding, examine
    from models.weights import shipped
    from viewer.display import why_no_window

    no_window = why_no_window()
    models = shipped()
    findings = [
        *examine(),
        Finding("live window", no_window or "can be opened", no_window is None),
        Finding("shipped models", ", ".join(models) or "none", bool(models)),
    ]
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value, good in findings:
        table.add_row("[green]✓[/]" if good else "[yellow]![/]", f"[bold]{escape(name)}[/]", escape(value))
    out.print(table)


@app.command()
def settings(
    group: Annotated[str, typer.Argument(help="Only those that begin with this, such as camera.")] = "",
) -> None:
    """List every setting with its default, its unit and its meaning, and the files that each group offers."""
    from config.compose import GROUPS, compose, options
    from config.describe import meanings
    from config.limits import leaves

    values = dict(leaves(compose()))
    for key, meaning in meanings().items():
        if key.startswith(group):
            out.print(f"[bold]{key}[/] = {escape(str(values[key]))}\n    {escape(meaning)}", highlight=False)
    for name in GROUPS:
        if name.startswith(group.partition(".")[0]):
            out.print(f"{name}= one of {', '.join(options(name))}, or a file", highlight=False, soft_wrap=True)


def _conditions(names: Sequence[str], *overrides: str) -> list[Settings]:
    """Settings of the benchmark's acquisitions, by data set."""
    return [_settings(*CHALLENGE, *overrides, f"dataset={name}") for name in names]


def _settings(*overrides: str) -> Settings:
    from config.compose import compose

    return compose(overrides)


@contextmanager
def _run_folder(settings: Settings) -> Iterator[RunFolder]:
    """The run's folder, with warnings printed meanwhile."""
    from engine.output.run_folder import RunFolder

    with _printed_warnings(), RunFolder.create(settings) as folder:
        yield folder


@contextmanager
def _printed_warnings() -> Iterator[None]:
    from viewer.terminal import WarningPrinter

    printer = WarningPrinter(err)
    for name in PACKAGES:
        logging.getLogger(name).addHandler(printer)
    try:
        yield
    finally:
        for name in PACKAGES:
            logging.getLogger(name).removeHandler(printer)


def _warn(warnings: Sequence[str]) -> None:
    for words in warnings:
        logger.warning("%s", words)


def _camera(settings: Settings, source: FrameSource, description: SourceDescription) -> tuple[Camera, list[str]]:
    """The calibration of a recording, and what the user should know about it."""
    from acquisition.calibration import estimated_settings
    from acquisition.camera import Camera

    known, notes = settings.camera, list[str]()
    if known.estimate:
        known, notes = estimated_settings(known, description.camera, source.blocks(settings.run.block))
    shape = description.height, description.width
    return Camera.from_settings(known, description.camera, shape, description.origin), notes


def _runtime(settings: Settings) -> Runtime:
    """The model, ready to run."""
    from engine.runtimes import load_runtime
    from models.weights import model_path

    run = settings.run
    return load_runtime(model_path(settings.model), run.runtime, run.device, run.threads, _build)


def _build(path: Path) -> Any:
    from models.export import build_step

    return build_step(path)


def _analyse(
    source: FrameSource, camera: Camera, settings: Settings, folder: RunFolder, description: SourceDescription
) -> Status:
    """Run the engine on an open source to its end, shown in the terminal, everything kept in the run folder."""
    from engine.domain_check import DomainCheck
    from engine.observer import ObservedLocaliser
    from engine.output.recorder import Recorder
    from engine.pipeline import Pipeline
    from engine.streaming import StreamingLocaliser
    from viewer.terminal import RunProgress

    run, runtime = settings.run, _runtime(settings)
    folder.begin(_facts(settings, runtime, camera, description))
    streaming = StreamingLocaliser(runtime, camera, run.threshold, description.origin, run.block)
    check = DomainCheck(runtime.description, camera, settings.optics.psf_sigma, description.origin)
    localiser = ObservedLocaliser(streaming, [check])
    recorder = Recorder(folder.log_path, _field(settings, camera, description, folder))
    pipeline = Pipeline(source, localiser, recorder, block=run.block, queue=run.queue, description=description)
    size = f"{description.width}×{description.height} pixels"
    title = f"{description.name}, {size}: {runtime.description.name} on {runtime.name}"
    logger.info("%s", title)
    out.print(f"{escape(title)} → {escape(str(folder.path))}", highlight=False, soft_wrap=True)
    try:
        with RunProgress(out) as progress:
            return pipeline.run(progress.show)
    finally:
        if pipeline.status().state.over:
            folder.finish(pipeline.status())


def _facts(settings: Settings, runtime: Runtime, camera: Camera, description: SourceDescription) -> Any:
    """What run.json keeps of the run's parts."""
    from engine.output.run_folder import ModelUsed, RunFacts
    from engine.runtimes import SUFFIXES
    from models.weights import model_path

    kind = "onnx" if runtime.name.startswith("onnx") else "torch"
    model = runtime.description
    file = model_path(settings.model).with_suffix(SUFFIXES[kind])
    used = ModelUsed.of_file(file, model.name, model.version, kind, runtime.name)
    values = {name: v if isinstance(v, str | float | int) else "per pixel" for name, v in vars(camera).items()}
    names = ("name", "height", "width", "frames", "exposure", "origin")
    return RunFacts(used, values, {name: getattr(description, name) for name in names})


def _field(settings: Settings, camera: Camera, description: SourceDescription, folder: RunFolder) -> dict[str, str]:
    """What the log tells of the field, so that it can be drawn and converted by itself."""
    from engine.output.table import describe_field

    return describe_field(
        run_id=folder.run_id,
        pixel_size=camera.pixel_size,
        width=description.origin[0] + description.width,
        height=description.origin[1] + description.height,
        frames=description.frames,
        psf_sigma=settings.optics.psf_sigma,
    )


def _show_window(folder: RunFolder, wanted: bool) -> None:
    from viewer.display import open_window, why_no_window

    reason = why_no_window() if wanted else "--no-window"
    if reason is None:
        open_window(folder.path, stay=out.is_terminal, log=folder.path / "viewer.log")
    else:
        out.print(f"No live window: {reason}", highlight=False, soft_wrap=True)


def _summarise(folder: RunFolder, status: Status) -> None:
    from viewer.terminal import file_sizes, print_table, ranges_in_words

    rows = [
        ("end", status.end_reason),
        ("frames analysed", f"{status.analysed:,} of {status.acquired:,}"),
        ("frames missing", ranges_in_words(status.missing)),
        ("localisations", f"{status.localisations:,}"),
        ("speed", f"{status.frames_per_second:.1f} frames/s, {status.elapsed:.1f} s"),
        ("run folder", str(folder.path)),
        *file_sizes(folder.path),
    ]
    print_table(out, rows)


def _compare_with_truth(folder: RunFolder, truth: Any) -> None:
    from engine.output.recorder import read_log
    from models.evaluation.benchmark import PHOTON_FLOOR
    from models.evaluation.metrics import score

    reached = score(read_log(folder.log_path), truth, floor=PHOTON_FLOOR)
    out.print(
        f"Against the truth: Jaccard index [bold]{reached.jaccard:.2f}[/], RMSE [bold]{reached.rmse:.1f} nm[/] "
        f"({truth.num_rows:,} in the truth; pairs within 250 nm, truth under {PHOTON_FLOOR:.0f} photons left out)",
        highlight=False,
        soft_wrap=True,
    )


def _exit_if_stopped(status: Status) -> None:
    from engine.status import State

    if status.state is State.STOPPED:
        raise typer.Exit(INTERRUPTED)


if __name__ == "__main__":
    main()
