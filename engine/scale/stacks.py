"""Many stacks in one command: where each one's run goes, which are done already, and what became of each."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path

from config.errors import LivelocError, SettingsError, SourceUnreadable
from config.schema import Settings
from engine.output.run_folder import LOG_NAME
from engine.scale.outcome import Outcome, Place
from engine.status import State

logger = logging.getLogger(__name__)


def listed(words: Sequence[str]) -> list[Path]:
    """Stacks that the command line names; ``@FILE`` stands for those in a text file, one a line.

    Raises SourceUnreadable for a list that cannot be read, SettingsError for a stack that is named twice or none.
    """
    stacks = [stack for word in words for stack in (_from_file(Path(word[1:])) if word[0] == "@" else [Path(word)])]
    if not stacks:
        raise SettingsError("no stack is named. Give the path of one or more: liveloc replay STACK [STACK]...")
    twice = [stack for stack, times in Counter(stack.resolve() for stack in stacks).items() if times > 1]
    if twice:
        raise SettingsError(f"{twice[0]} is named twice. Name each stack once.")
    return stacks


def places(stacks: Sequence[Path], output: str | None) -> list[Place]:
    """Where the run of each stack goes: into ``output`` itself for one stack, into a folder of its own there for many.

    A folder is named for its stack, with as many of the folders above it as tell it from the others.
    """
    if len(stacks) == 1:
        return [Place(stacks[0], Path(output) if output else None)]
    if output is None:
        return [Place(stack, None) for stack in stacks]
    return [Place(stack, Path(output) / name) for stack, name in zip(stacks, _names(stacks), strict=True)]


def of_stack(settings: Settings, place: Place, many: bool) -> Settings:
    """Settings of one stack's run: one of many is named for its stack, and never takes the place of an earlier run."""
    run = settings.run
    folder, name = (free(place.folder), _stem(place.stack)) if many else (place.folder, run.name)
    return replace(settings, run=replace(run, output=str(folder) if folder else None, name=name))


def one_by_one(todo: Sequence[Place], replay: Callable[[Place], Outcome]) -> list[Outcome]:
    """What becomes of stacks that are replayed in order. One that fails is kept as an outcome; one that was stopped is
    the last.
    """
    outcomes = list[Outcome]()
    for place in todo:
        outcomes.append(_outcome(place, replay))
        status = outcomes[-1].status
        if status is not None and status.state is State.STOPPED:
            break
    return [*outcomes, *map(Outcome, todo[len(outcomes) :])]


def _outcome(place: Place, replay: Callable[[Place], Outcome]) -> Outcome:
    if is_done(place.folder):
        return Outcome(place, done_before=True)
    try:
        return replay(place)
    except LivelocError as error:
        logger.error("%s: %s", place.stack, error)
        return Outcome(place, error=error)


def is_done(folder: Path | None) -> bool:
    """Whether a run of an earlier command is finished there, or in a folder that ``free`` gave in its place."""
    taken = takewhile(Path.exists, _numbered(folder)) if folder else ()
    return any(_end_of(path) == "finished" for path in taken)


def free(folder: Path | None) -> Path | None:
    """The folder, or one with a number behind its name where a run that did not finish lies there: that is kept."""
    if folder is None:
        return None
    return next(path for path in _numbered(folder) if not (path / LOG_NAME).exists())


def _numbered(folder: Path) -> Iterator[Path]:
    """The folder itself, then with -2, -3 and so on behind its name."""
    yield folder
    yield from (folder.with_name(f"{folder.name}-{number}") for number in count(2))


def _end_of(folder: Path) -> str:
    try:
        account: object = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(account.get("end_reason", "")) if isinstance(account, dict) else ""


def _from_file(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnreadable(f"the list of stacks {path} cannot be read: {error}. One path a line, UTF-8.") from error
    return [Path(line.strip()) for line in lines if line.strip()]


def _names(stacks: Sequence[Path]) -> list[str]:
    """The stems of the paths; where these are not enough, the files' names with the folders above that it takes."""
    parts = [path.absolute().parts for path in stacks]
    names = [_stem(path) for path in stacks]
    for depth in range(1, max(map(len, parts))):
        shared = {name for name, times in Counter(names).items() if times > 1}
        names = ["_".join(part[-depth:]) if name in shared else name for part, name in zip(parts, names, strict=True)]
    return names


def _stem(path: Path) -> str:
    """Name without .tif, .ome.tif and their like."""
    stem = (
        path.name.removesuffix(path.suffix) if path.suffix.lower() in (".tif", ".tiff", ".raw", ".btf") else path.name
    )
    return stem.removesuffix(".ome")
