"""Commands that run the engine: demo, live, replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.parts import (
    BAD_INPUT,
    CHALLENGE,
    INTERRUPTED,
    Overrides,
    camera_of,
    fallback_of,
    out,
    printed_warnings,
    run_folder,
    runtime_of,
    say,
    settings_of,
    warn,
)
from commands.sources import light_of, live_source
from config.errors import SettingsError

if TYPE_CHECKING:
    from acquisition.camera import Camera
    from acquisition.source import FrameSource, SourceDescription
    from config.schema import Settings
    from engine.output.run_folder import RunFolder
    from engine.scale.outcome import Outcome, Place
    from engine.session import Session
    from engine.status import Status


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


def live(overrides: Overrides = None) -> None:
    """Localise while the camera runs: Micro-Manager's camera, a data set that is being written, or a simulated EMCCD.

    Ends with Ctrl-C, run.frames=N or run.seconds=N. Without source= it is the simulated camera.

    Examples: liveloc live source=micromanager camera=ixon897 camera.pixel_size=100 run.seconds=600;
    liveloc live source=follow source.path=D:/data/run_1 camera=ixon897; liveloc live run.seconds=60
    """
    folder, _, status = _watch(_live_settings("run=live", *overrides or ()), endless=True)
    _summarise(folder.path, status)
    _exit_if_stopped(status)


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
    settings = settings_of(*overrides)
    todo = places(listed(stacks), settings.run.output)
    outcomes = _replay_here(settings, todo) if settings.cluster.kind == "off" else _replay_on_cluster(settings, todo)
    _summarise_all(outcomes)


def _stacks_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is no ``setting=value``, or exists though it looks like one, is a stack."""
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    return [word for word in words if word not in overrides], overrides


def _replay_here(settings: Settings, todo: Sequence[Place]) -> list[Outcome]:
    """In this process. With several stacks, one that fails does not stop the others."""
    from engine.scale.stacks import of_stack, one_by_one

    if len(todo) == 1:
        return [_replay_one(settings, todo[0])]
    with printed_warnings():
        return one_by_one(todo, lambda place: _replay_one(of_stack(settings, place, many=True), place))


def _replay_one(settings: Settings, place: Place) -> Outcome:
    from acquisition.recorded import RecordedSource, rectangle
    from engine.scale.outcome import Outcome

    run = settings.run
    with RecordedSource(place.stack, run.start, run.stop, rectangle(run)) as source:
        description = source.open()
        camera, notes = camera_of(settings, source, description)
        with run_folder(settings) as folder:
            warn(notes)
            status = _analyse(source, camera, settings, folder, description)
    return Outcome(replace(place, folder=folder.path), status)


def _replay_on_cluster(settings: Settings, todo: Sequence[Place]) -> list[Outcome]:
    from engine.scale.archive import Archive
    from engine.scale.cluster import connected
    from engine.signals import termination_as_interrupt
    from models.runtime import model_anywhere, open_model, settled
    from viewer.terminal import RunProgress

    with termination_as_interrupt(), printed_warnings(), connected(settings) as cluster:
        say(f"{len(todo)} stack{'s' * (len(todo) > 1)} → {cluster.name}")
        settings = cluster.decided(replace(settings, model=model_anywhere(settings.model)), settled)
        archive = Archive(cluster, settings, todo, open_model)
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


def _live_settings(*overrides: str) -> Settings:
    """Settings of a live run; a simulated camera comes with its calibration and its sample."""
    settings = settings_of(*overrides)
    simulated = settings.source.kind == "simulated" or settings.source.config == "blinking"
    return settings_of("dataset=demo", *CHALLENGE, *overrides) if simulated else settings


def _watch(settings: Settings, endless: bool) -> tuple[RunFolder, FrameSource, Status]:
    """Run the engine on a live source to its end."""
    from engine.signals import termination_as_interrupt

    if settings.camera.estimate:
        raise SettingsError(
            "camera=estimate needs a recording to look at. Record a few hundred frames and estimate from them with "
            "`liveloc replay STACK camera=estimate`, or give the camera: camera=ixon897 camera.pixel_size=100."
        )
    with termination_as_interrupt(), live_source(settings, endless) as source:
        description = source.open()
        camera, notes = camera_of(settings, source, description)
        with run_folder(settings) as folder:
            warn(notes)
            _save_raw_in(source, folder, settings)
            return folder, source, _analyse(source, camera, settings, folder, description, live=True)


def _save_raw_in(source: FrameSource, folder: RunFolder, settings: Settings) -> None:
    """Raw frames that Micro-Manager saves go into the run folder, unless the user wants them elsewhere."""
    from acquisition.micromanager_acquisition import MicroManagerAcquisitionSource

    if isinstance(source, MicroManagerAcquisitionSource) and settings.source.save is None:
        source.folder = folder.path / "raw"


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

    runtime = runtime_of(settings)
    parts = (settings, folder, source, description, camera, runtime, model_path(settings.model))
    light, guard = light_of(settings, source) if live else (None, None)
    with Session(*parts, live=live, light=light, guard=guard, fallback=fallback_of(settings)) as session:
        title = f"{session.title} → {folder.path}"
        say(title)
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
        say(f"No live window: {reason}")


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
