"""The front door: one command per use. Each builds objects from settings and starts them; nothing is decided here.

Heavy libraries are imported inside the command that needs them: ``liveloc --help`` loads none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from config.errors import LivelocError, RuntimeUnavailable, SettingsError

if TYPE_CHECKING:
    from acquisition.camera import Camera
    from acquisition.light import ActivationLight
    from acquisition.source import FrameSource, SourceDescription
    from config.schema import Settings
    from engine.monitor.guard import LightPlan
    from engine.output.run_folder import RunFolder
    from engine.runtimes.runtime import Runtime
    from engine.session import Session
    from engine.status import Status

BAD_INPUT, INTERRUPTED = 2, 130
"""Exit statuses: something to put right; stopped by Ctrl-C."""
PACKAGES = ("acquisition", "config", "engine", "models", "simulation", "liveloc")
"""Whose warnings are printed."""
CHALLENGE = ("camera=challenge_emccd", "optics=challenge")
"""What simulations use unless they are told otherwise."""
CONDITIONS = ("density_0_2", "density_1", "density_2", "density_4", "dim")
"""Data sets that ``evaluate`` runs."""
VIEW_OPTIONS = ("screenshot", "keys", "pixel_size")
"""What ``view`` takes besides its target."""

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
def demo(overrides: Overrides = None) -> None:
    """Watch a simulated acquisition live: 24 seconds, then how close the localisations came to the truth.

    An EMCCD of 64×64 pixels at 33 frames/s looks at blinking lines; the shipped model localises as the frames come.
    """
    from simulation.camera_source import SimulatedCamera

    core = ("source.backend=python", "source.config=blinking")
    given = overrides or []
    chosen = core if any(words.startswith("source=micromanager") for words in given) else ()
    folder, source, status = _watch(_live_settings("run=demo", *chosen, *given), endless=False)
    _summarise(folder, status)
    if isinstance(source, SimulatedCamera):
        _compare_with_truth(folder, source.simulator.emitters(0, status.acquired))
    _exit_if_stopped(status)


@app.command()
def live(overrides: Overrides = None) -> None:
    """Localise while the camera runs: Micro-Manager's camera, a data set that is being written, or a simulated EMCCD.

    Ends with Ctrl-C, run.frames=N or run.seconds=N. Without source= it is the simulated camera.

    Examples: liveloc live source=micromanager camera=ixon897 camera.pixel_size=100 run.seconds=600;
    liveloc live source=follow source.path=D:/data/run_1 camera=ixon897; liveloc live run.seconds=60
    """
    folder, _, status = _watch(_live_settings("run=live", *overrides or ()), endless=True)
    _summarise(folder, status)
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
    with RecordedSource(stack, settings.run.start, settings.run.stop, _rectangle(settings)) as source:
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
        settings = _settings(*chosen)
        if multirun:
            settings.training.output = str(Path(settings.training.output) / swept(given, chosen))
            out.print(f"{settings.training.output}", highlight=False, soft_wrap=True)
        checkpoint = run_training(settings)
        out.print(f"Trained. To use it: liveloc export {checkpoint} my_model", highlight=False, soft_wrap=True)


@app.command()
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
    from acquisition.recorded import RecordedSource
    from models import microscope
    from viewer.terminal import print_table

    settings = _settings("camera=estimate", *overrides or ())
    run, roi = settings.run, _rectangle(settings)
    with RecordedSource(stack, run.start, run.stop, roi) as source:
        source.open()
        region = microscope.region_to_look_at(source, roi)
    with _printed_warnings(), RecordedSource(stack, run.start, run.stop, region) as source:
        description = source.open()
        camera, notes = _camera(settings, source, description)
        _warn(notes)
        found = microscope.look(source, camera, _runtime(settings), run.threshold)
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
def view(
    target: Annotated[
        str | None, typer.Argument(metavar="[ENDPOINT|RUN|FILE]", help="What to show.", show_default=False)
    ] = None,
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[screenshot=PNG] [keys=FOLDER] [pixel_size=NM]")
    ] = None,
) -> None:
    """Look at a live run (tcp://127.0.0.1:5601), a run folder, or a table of any kind; drop more on the window.

    ``screenshot=PNG`` saves the window once everything is shown, and closes it. ``keys=FOLDER`` holds the keys for an
    engine on another computer. ``pixel_size=NM`` is the camera's pixel where a table does not tell it.

    Example: liveloc view runs/2026-11-22T18-03-11_replay screenshot=window.png
    """
    from viewer.display import why_no_window

    given = _named([*([target] if target and "=" in target else []), *(options or ())], VIEW_OPTIONS)
    reason = why_no_window()
    if reason is not None:
        raise RuntimeUnavailable(f"no window can be opened: {reason}. `liveloc render` makes a picture without one.")
    from viewer.window import main as show

    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    raise typer.Exit(show([*([target] if target and "=" not in target else []), *words]))


@app.command()
def render(
    source: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run folder or a table.", show_default=False)],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="output=PNG [nm_per_pixel=10] [scale_bar=true] [bits=32]")
    ] = None,
) -> None:
    """Render localisations to a PNG, or to a TIFF of 16 or 32 bits, as the window would, without a screen.

    Example: liveloc render runs/2026-11-22T18-03-11_replay output=picture.png nm_per_pixel=10
    """
    from viewer.render import render_file

    given = {"output": f"{source.stem}.png", "nm_per_pixel": "10", "scale_bar": "true", "bits": "32"}
    given |= _named(options or (), tuple(given))
    output = Path(given["output"])
    if given["bits"] not in ("16", "32") or given["scale_bar"] not in ("true", "false"):
        raise SettingsError("expected bits=16 or bits=32, scale_bar=true or scale_bar=false.")
    pixel, bar = _number("nm_per_pixel", given["nm_per_pixel"]), given["scale_bar"] == "true"
    image = render_file(source, output, pixel, scale_bar=bar, bits=int(given["bits"]))
    height, width = image.density.shape
    out.print(f"{width}×{height} pixels of {pixel:g} nm: {output}", highlight=False, soft_wrap=True)


@app.command()
def keys(
    folder: Annotated[Path, typer.Argument(help="Where to keep the engine's keys.", show_default=False)],
    clients: Annotated[list[str], typer.Argument(help="Names of those who may connect.", show_default=False)],
) -> None:
    """Make CURVE keys, so that viewers on other computers can connect: only who has a key gets anything.

    Example: liveloc keys keys office, then liveloc live wire.address=0.0.0.0 wire.keys=keys; carry
    keys/for_clients/office to the other computer and run there: liveloc view tcp://MICROSCOPE:5601 keys=office
    """
    from engine.output.keys import make_keys

    for made in make_keys(folder, clients):
        out.print(f"Carry to its owner, and keep secret: {made}", highlight=False, soft_wrap=True)


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


def _named(words: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """``name=value`` words. Raises SettingsError for any other name."""
    given = dict[str, str]()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in known:
            raise SettingsError(f"{word}: expected {', '.join(f'{name}=…' for name in known)}.")
        given[name] = value
    return given


def _number(name: str, text: str) -> float:
    """A number above 0. Raises SettingsError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SettingsError(f"{name}={text}: expected a number above 0.")
    return value


def _conditions(names: Sequence[str], *overrides: str) -> list[Settings]:
    """Settings of the benchmark's acquisitions, by data set."""
    return [_settings(*CHALLENGE, *overrides, f"dataset={name}") for name in names]


def _settings(*overrides: str) -> Settings:
    from config.compose import compose

    return compose(overrides)


def _live_settings(*overrides: str) -> Settings:
    """Settings of a live run; a simulated camera comes with its calibration and its sample."""
    settings = _settings(*overrides)
    simulated = settings.source.kind == "simulated" or settings.source.config == "blinking"
    return _settings("dataset=demo", *CHALLENGE, *overrides) if simulated else settings


def _watch(settings: Settings, endless: bool) -> tuple[RunFolder, FrameSource, Status]:
    """Run the engine on a live source to its end."""
    from engine.signals import termination_as_interrupt

    if settings.camera.estimate:
        raise SettingsError(
            "camera=estimate needs a recording to look at. Record a few hundred frames and estimate from them with "
            "`liveloc replay STACK camera=estimate`, or give the camera: camera=ixon897 camera.pixel_size=100."
        )
    with termination_as_interrupt(), _live_source(settings, endless) as source:
        description = source.open()
        camera, notes = _camera(settings, source, description)
        with _run_folder(settings) as folder:
            _warn(notes)
            _save_raw_in(source, folder, settings)
            return folder, source, _analyse(source, camera, settings, folder, description, live=True)


def _save_raw_in(source: FrameSource, folder: RunFolder, settings: Settings) -> None:
    """Raw frames that Micro-Manager saves go into the run folder, unless the user wants them elsewhere."""
    from acquisition.micromanager_acquisition import MicroManagerAcquisitionSource

    if isinstance(source, MicroManagerAcquisitionSource) and settings.source.save is None:
        source.folder = folder.path / "raw"


def _live_source(settings: Settings, endless: bool) -> FrameSource:
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
    from acquisition.recorded import RecordedSource

    chosen, run = settings.source, settings.run
    if chosen.path is None:
        raise SettingsError(f"source={chosen.kind} needs source.path: the stack, or the folder that is being written.")
    window = (Path(chosen.path), run.start, run.stop, _rectangle(settings))
    if chosen.kind == "follow":
        return FollowSource(*window, exposure=chosen.exposure, silence=chosen.silence)
    return RecordedSource(*window, paced=chosen.paced, exposure=chosen.exposure)


def _rectangle(settings: Settings) -> tuple[int, int, int, int] | None:
    """run.roi as x, y, width, height [pixels]."""
    roi = settings.run.roi
    return (roi[0], roi[1], roi[2], roi[3]) if roi else None


def _light(settings: Settings, source: FrameSource) -> tuple[ActivationLight | None, LightPlan | None]:
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


def _fallback(settings: Settings) -> Callable[[], Runtime] | None:
    """How to go on without the GPU, where the user allows it."""
    if not settings.run.cpu_fallback:
        return None
    return lambda: _runtime(replace(settings, run=replace(settings.run, device="cpu")))


def _build(path: Path) -> Any:
    from models.export import build_step

    return build_step(path)


def _analyse(
    source: FrameSource,
    camera: Camera,
    settings: Settings,
    folder: RunFolder,
    description: SourceDescription,
    live: bool = False,
) -> Status:
    """Run the engine on an open source to its end, shown in the terminal, everything kept in the run folder."""
    from engine.session import Session
    from models.weights import model_path
    from viewer.terminal import RunProgress

    runtime = _runtime(settings)
    parts = (settings, folder, source, description, camera, runtime, model_path(settings.model))
    light, guard = _light(settings, source) if live else (None, None)
    with Session(*parts, live=live, light=light, guard=guard, fallback=_fallback(settings)) as session:
        title = f"{session.title} → {folder.path}"
        out.print(escape(title), highlight=False, soft_wrap=True)
        if live:
            _show_window(settings, folder, session)
        with RunProgress(out) as progress:
            return session.run(progress.show)


def _show_window(settings: Settings, folder: RunFolder, session: Session) -> None:
    from viewer.display import open_window, why_no_window

    reason = why_no_window() if settings.viewer is not False else "viewer=false"
    if reason is None:
        target = session.publisher.endpoint if session.publisher else str(folder.path)
        open_window(target, stay=out.is_terminal, log=folder.path / "viewer.log")
    else:
        out.print(f"No live window: {reason}", highlight=False, soft_wrap=True)


def _summarise(folder: RunFolder, status: Status) -> None:
    from viewer.terminal import file_sizes, print_table, ranges_in_words

    delay = status.delay_run
    rows = [
        ("end", status.end_reason),
        ("frames analysed", f"{status.analysed:,} of {status.acquired:,}"),
        ("frames missing", ranges_in_words(status.missing)),
        *([("frames skipped", ranges_in_words(status.skipped))] if status.skipped else []),
        ("localisations", f"{status.localisations:,}"),
        ("speed", f"{status.frames_per_second:.1f} frames/s, {status.elapsed:.1f} s"),
        *([("delay", f"{delay.median:.2f} s (median), {delay.p99:.2f} s (99 %)")] if delay else []),
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
