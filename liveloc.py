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
    from engine.scale.outcome import Outcome, Place
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
    _summarise(folder.path, status)
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
    _summarise(folder.path, status)
    _exit_if_stopped(status)


@app.command()
def replay(
    words: Annotated[list[str], typer.Argument(metavar="STACK [STACK]... [SETTING=VALUE]...", show_default=False)],
) -> None:
    """Localise recorded stacks: TIFF of any kind, Micro-Manager's NDTiff, Picasso's .raw.

    Each gets a run folder with tables, image.png and an account of every frame; with several stacks, in run.output, and
    those that an earlier command finished there are left out. @FILE names stacks, one a line. Photons need the camera's
    calibration: from the file, from camera=NAME, from camera=my_camera.yaml, or guessed with camera=estimate.

    cluster=local shares the work among processes, cluster=HOST:PORT among computers (docs/scale.md): same rows.

    Example: liveloc replay stack.tif camera=challenge_emccd run.output=results optics.psf_sigma=135
    """
    from engine.scale.stacks import listed, places

    stacks, overrides = _stacks_and_overrides(words)
    settings = _settings(*overrides)
    todo = places(listed(stacks), settings.run.output)
    outcomes = _replay_here(settings, todo) if settings.cluster.kind == "off" else _replay_on_cluster(settings, todo)
    _summarise_all(outcomes)


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
    from acquisition.recorded import RecordedSource, rectangle
    from models import microscope
    from viewer.terminal import print_table

    settings = _settings("camera=estimate", *overrides or ())
    run, roi = settings.run, rectangle(settings.run)
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

    Runs the benchmark's conditions, or the one data set that is given. With evaluation.output=FOLDER everything else
    too: error over the Cramér–Rao bound, by photons, signal to noise and neighbours, sigmas, probabilities, bias,
    resolving power, thresholds, as tables and figures.

    Examples: liveloc evaluate model=my_model.onnx dataset=density_2 dataset.frames=200;
    liveloc evaluate evaluation.output=report
    """
    from models.evaluation.benchmark import as_markdown, benchmark

    given = list(overrides or ())
    chosen = [name.partition("=")[2] for name in given if name.startswith("dataset=")] or CONDITIONS
    conditions = _conditions(chosen, *given)
    runtime = _runtime(conditions[0])
    out.print(f"{runtime.description.name} on {runtime.name}", highlight=False)
    if conditions[0].evaluation.output is None:
        out.print(as_markdown(list(benchmark(runtime, conditions))), highlight=False, soft_wrap=True)
    else:
        _report(runtime, conditions, Path(conditions[0].evaluation.output), " ".join(["liveloc evaluate", *given]))


@app.command()
def compare(
    truth: Annotated[
        Path,
        typer.Argument(help="A folder that `liveloc simulate` wrote, or a table of the truth.", show_default=False),
    ],
    tables: Annotated[
        list[str],
        typer.Argument(metavar="TABLE... [SETTING=VALUE]...", help="Tables or run folders.", show_default=False),
    ],
) -> None:
    """Score tables side by side on one truth: run folders, ThunderSTORM .csv, Picasso .hdf5, .parquet.

    Where the truth is a table alone, camera=NAME and optics.psf_sigma=NM give the bounds. evaluation.output=FOLDER
    writes all tables and figures.

    Example: liveloc compare simulated runs/mine picasso_locs.hdf5 evaluation.output=report
    """
    from models.evaluation.compare import compare_tables
    from models.evaluation.report import write_report

    paths, overrides = _paths_and_overrides(tables)
    settings = _settings(*overrides)
    sections = compare_tables(truth, paths, settings)
    out.print(sections[0].markdown(), highlight=False, soft_wrap=True, markup=False)
    if settings.evaluation.output is not None:
        words = ["liveloc compare", str(truth), *tables]
        head = {"command": " ".join(words), "title": f"On the same truth: {truth.name}"}
        write_report(sections, head, head["title"], Path(settings.evaluation.output))
        out.print(f"Everything: {settings.evaluation.output}", highlight=False, soft_wrap=True)


@app.command()
def inspect(
    tables: Annotated[
        list[str],
        typer.Argument(metavar="TABLE... [SETTING=VALUE]...", help="Tables or run folders.", show_default=False),
    ],
) -> None:
    """Tell of localisations whose truth nobody knows: statistics, FRC resolution, precision from repeats.

    evaluation.output=FOLDER writes pictures, distributions and tables.

    Example: liveloc inspect runs/mine their_table.csv evaluation.output=report
    """
    from models.evaluation.inspection import inspect_files

    paths, overrides = _paths_and_overrides(tables)
    section = inspect_files(paths, _settings(*overrides), " ".join(["liveloc inspect", *tables]))
    out.print(section.markdown(), highlight=False, soft_wrap=True, markup=False)


@app.command()
def card(
    models: Annotated[list[str], typer.Argument(metavar="MODEL... [SETTING=VALUE]...", show_default=False)],
    docs: Annotated[Path, typer.Option(help="Folder of the documents.")] = Path("docs"),
    measure: Annotated[bool, typer.Option(help="Evaluate anew; else write from the results that are there.")] = True,
) -> None:
    """Write a model's card, docs/models/NAME.md, from a full evaluation, and docs/benchmarks.md from all results.

    Example: liveloc card default small
    """
    from models.evaluation.card import write_benchmarks, write_card
    from models.weights import model_path

    names, overrides = [name for name in models if "=" not in name], [word for word in models if "=" in word]
    for name in names:
        chosen = [word.partition("=")[2] for word in overrides if word.startswith("dataset=")] or CONDITIONS
        conditions = _conditions(chosen, f"model={name}", *overrides)
        runtime = _runtime(conditions[0])
        folder = docs / "models" / runtime.description.name
        if measure:
            command = " ".join(["liveloc evaluate", f"model={name}", *overrides, f"evaluation.output={folder}"])
            _report(runtime, conditions, folder, command)
        out.print(f"{write_card(runtime.description, model_path(name), docs)}", highlight=False, soft_wrap=True)
    out.print(f"{write_benchmarks(docs)}", highlight=False, soft_wrap=True)


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
def certificates(
    folder: Annotated[Path, typer.Argument(help="Where to keep them; carry it to every computer.", show_default=False)],
) -> None:
    """Make TLS certificates for a Dask cluster: who has them may run programs on it, so keep them secret.

    Example: liveloc certificates tls, then see docs/scale.md
    """
    from engine.scale.cluster import make_certificates

    for made in make_certificates(folder):
        out.print(f"Keep secret: {made}", highlight=False, soft_wrap=True)


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


def _stacks_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is no ``setting=value``, or exists though it looks like one, is a stack."""
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    return [word for word in words if word not in overrides], overrides


def _replay_here(settings: Settings, todo: Sequence[Place]) -> list[Outcome]:
    """In this process. With several stacks, one that fails does not stop the others."""
    from engine.scale.stacks import of_stack, one_by_one

    if len(todo) == 1:
        return [_replay_one(settings, todo[0])]
    with _printed_warnings():
        return one_by_one(todo, lambda place: _replay_one(of_stack(settings, place, many=True), place))


def _replay_one(settings: Settings, place: Place) -> Outcome:
    from acquisition.recorded import RecordedSource, rectangle
    from engine.scale.outcome import Outcome

    run = settings.run
    with RecordedSource(place.stack, run.start, run.stop, rectangle(run)) as source:
        description = source.open()
        camera, notes = _camera(settings, source, description)
        with _run_folder(settings) as folder:
            _warn(notes)
            status = _analyse(source, camera, settings, folder, description)
    return Outcome(replace(place, folder=folder.path), status)


def _replay_on_cluster(settings: Settings, todo: Sequence[Place]) -> list[Outcome]:
    from engine.scale.archive import Archive
    from engine.scale.cluster import connected
    from engine.signals import termination_as_interrupt
    from models.runtime import model_anywhere, open_model
    from viewer.terminal import RunProgress

    with termination_as_interrupt(), _printed_warnings(), connected(settings) as cluster:
        out.print(f"{len(todo)} stack{'s' * (len(todo) > 1)} → {escape(cluster.name)}", highlight=False)
        archive = Archive(cluster, replace(settings, model=model_anywhere(settings.model)), todo, open_model)
        with RunProgress(out) as progress:
            return archive.run(progress.show)


def _summarise_all(outcomes: Sequence[Outcome]) -> None:
    """A table of the one run, or of all; the exit status tells whether all are done."""
    from viewer.terminal import print_outcomes

    if len(outcomes) > 1:
        print_outcomes(out, outcomes)
    for outcome in outcomes[: len(outcomes) == 1]:
        if outcome.error is not None:
            raise outcome.error
        if outcome.status is not None and outcome.place.folder is not None:
            _summarise(outcome.place.folder, outcome.status)
    for outcome in outcomes:
        if outcome.status is not None:
            _exit_if_stopped(outcome.status)
    if not all(outcome.done for outcome in outcomes):
        raise typer.Exit(BAD_INPUT)


def _paths_and_overrides(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Words that name files, and SETTING=VALUE words. Raises SettingsError without a file."""
    paths = [Path(word) for word in words if "=" not in word or Path(word).exists()]
    if not paths:
        raise SettingsError("expected at least one table or run folder, such as runs/mine or their_table.csv.")
    return paths, [word for word in words if Path(word) not in paths]


def _report(runtime: Runtime, conditions: Sequence[Settings], folder: Path, command: str) -> None:
    """Measure everything of a model into ``folder``; what is being measured is shown meanwhile."""
    from models.evaluation.report import report_model

    with err.status("evaluating") as status:
        sections = report_model(
            runtime, conditions, folder, command, lambda what: status.update(f"evaluating: {what.replace('_', ' ')}")
        )
    out.print(sections[0].markdown(), highlight=False, soft_wrap=True, markup=False)
    out.print(f"Everything: {folder / 'results.md'}", highlight=False, soft_wrap=True)


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
    from acquisition.recorded import RecordedSource, rectangle

    chosen, run = settings.source, settings.run
    if chosen.path is None:
        raise SettingsError(f"source={chosen.kind} needs source.path: the stack, or the folder that is being written.")
    window = (Path(chosen.path), run.start, run.stop, rectangle(run))
    if chosen.kind == "follow":
        return FollowSource(*window, exposure=chosen.exposure, silence=chosen.silence)
    return RecordedSource(*window, paced=chosen.paced, exposure=chosen.exposure)


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
    from models.runtime import open_model

    return open_model(settings)[0]


def _fallback(settings: Settings) -> Callable[[], Runtime] | None:
    """How to go on without the GPU, where the user allows it."""
    if not settings.run.cpu_fallback:
        return None
    return lambda: _runtime(replace(settings, run=replace(settings.run, device="cpu")))


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


def _summarise(folder: Path, status: Status) -> None:
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
        ("run folder", str(folder)),
        *file_sizes(folder),
    ]
    print_table(out, rows)


def _compare_with_truth(folder: RunFolder, truth: Any) -> None:
    from engine.output.recorder import read_log
    from models.evaluation.metrics import score
    from models.evaluation.trial import PHOTON_FLOOR

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
