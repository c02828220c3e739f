"""Everything that `liveloc bench` measures, in order."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from config.compose import options
from config.errors import LivelocError, RunError, SettingsError
from config.schema import BenchSettings, Settings
from engine.output.disk import replace_text
from engine.runtimes import SUFFIXES, candidates_for
from engine.runtimes.choice import Candidate, Wanted
from models.bench.apart import Send, apart
from models.bench.facts import Cost, Machine, Row, StageTimes, whole
from models.bench.jobs import Job, Model, Preparation, Prepared, Staging
from models.bench.speed import measure
from models.weights import model_path, shipped

RUNTIMES = ("onnx-fp32", "onnx-fp16", "torch-fp32", "torch-bf16", "torch-fp16")
"""What may stand in bench.runtimes; onnx and torch alone stand for fp32."""
ENDINGS = {"output": ".json", "plot": ".png", "page": ".md"}
"""Of the files that may be asked for."""

Tell = Callable[[str, int, int], None]
"""Is told what is being measured, how many measurements are done and how many there are."""


@dataclass
class Result:
    """What was found."""

    machine: Machine
    costs: Mapping[str, Mapping[str, Cost]]
    """By model, then by stage."""
    rows: list[Row] = field(default_factory=list[Row])
    stages: list[StageTimes] = field(default_factory=list[StageTimes])
    failures: list[str] = field(default_factory=list[str])
    """What did not run, and why, in words."""


def bench(settings: Settings, tell: Tell) -> Result:
    """Measure what ``settings.bench`` asks for. Raises SettingsError, RunError where nothing could be measured."""
    check(settings.bench)
    with tempfile.TemporaryDirectory(prefix="liveloc-bench-") as folder:
        return _Bench(settings, Path(folder), tell).run()


def check(wanted: BenchSettings) -> None:
    """Raises SettingsError for what cannot be measured or written."""
    for name in wanted.runtimes:
        if str(Candidate.named(name)) not in RUNTIMES:
            raise SettingsError(f"bench.runtimes: expected some of {', '.join(RUNTIMES)}; found {name}.")
    if not wanted.sizes or min(wanted.sizes) < 8:
        raise SettingsError(f"bench.sizes: expected one or more heights of 8 pixels and more; found {wanted.sizes}.")
    if wanted.seconds <= 0:
        raise SettingsError(f"bench.seconds: expected more than 0; found {wanted.seconds:g}.")
    for name, ending in ENDINGS.items():
        path = getattr(wanted, name)
        if path is not None and (Path(path).suffix != ending or not Path(path).absolute().parent.is_dir()):
            raise SettingsError(f"bench.{name}: expected a {ending} file in a folder that exists; found {path}.")


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """A list of rows as JSON; what is not a number is null. Raises OSError."""
    replace_text(path, json.dumps([_plain(row) for row in rows], indent=1) + "\n")


def _plain(row: Row) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in asdict(row).items()}  # noqa: PLR0124 (NaN)


class _Bench:
    """One command's measurements, in a folder that is thrown away."""

    def __init__(self, settings: Settings, folder: Path, tell: Tell) -> None:
        self._settings, self._wanted, self._folder, self._tell = settings, settings.bench, folder, tell
        self._models = tuple(_model(name, folder) for name in self._wanted.models or shipped())
        self._frames = folder / "frames.npy"
        self._done, self._words = 0, ""
        self._count = 1

    def run(self) -> Result:
        """Everything, one process after the other."""
        self._say("starting")
        for model in self._models:
            if not model.untrained:
                self._candidates(model)  # what cannot run is refused before anything is measured
        found = self._prepared()
        result = Result(found.machine, found.costs)
        jobs = [job for model in self._models for job in self._jobs(model, found)]
        staged = [model for model in self._models if _has_weights(model)] if self._wanted.page else []
        self._done, self._count = 1, 1 + len(jobs) * len(self._wanted.sizes) + len(staged)
        for job in jobs:
            self._measure(job, result)
        for model in staged:
            self._say(f"the stages of {model.name}")
            apart(_stages, Staging(self._settings, model, found.machine, self._frames), result.stages.append)
            self._done += 1
        if not result.rows:
            raise RunError(f"nothing could be measured. {' '.join(result.failures)}")
        return result

    def _prepared(self) -> Prepared:
        onnx = any(name.startswith("onnx") for name in self._wanted.runtimes)
        answers = list[Prepared]()

        def take(sent: str | Prepared) -> None:
            answers.append(sent) if isinstance(sent, Prepared) else self._say(sent)

        apart(_prepare, Preparation(self._settings, self._models, onnx, self._frames), take)
        return answers[0]

    def _jobs(self, model: Model, found: Prepared) -> Iterator[Job]:
        """Those that this computer has instructions for. Raises SettingsError where one that was asked for is none."""
        cost, able = whole(found.costs[model.name]), found.machine.peak.products
        for one in self._candidates(model):
            if one.precision not in able and self._wanted.runtimes:
                raise SettingsError(
                    f"bench.runtimes: {one}: {found.machine.name} computes in {', '.join(able)} only; anything else "
                    "would be imitated, many times slower."
                )
            if one.precision not in able:
                continue
            yield Job(model.name, model.path, one, self._settings, self._frames, cost, found.machine)

    def _candidates(self, model: Model) -> list[Candidate]:
        """What it is to be run by. Raises SettingsError where that cannot be had here."""
        run = self._settings.run
        able = candidates_for(model.path, Wanted(run.runtime, run.device, run.precision))
        asked = [Candidate.named(name) for name in self._wanted.runtimes] or able
        for one in asked:
            if one not in able:
                there = ", ".join(map(str, able))
                raise SettingsError(
                    f"bench.runtimes: {one} cannot run {model.name} here. There are: {there or 'none'}."
                )
        return asked

    def _measure(self, job: Job, result: Result) -> None:
        """One process; where it fails, that is noted, and the rows that came before are kept."""
        left = len(self._wanted.sizes)

        def take(sent: str | Row) -> None:
            nonlocal left
            if isinstance(sent, str):
                self._say(sent)
            else:
                result.rows.append(sent)
                self._done, left = self._done + 1, left - 1

        self._say(f"{job.name} on {job.candidate}")
        try:
            apart(measure, job, take)
        except LivelocError as error:
            result.failures.append(f"{self._words}: {error}")
        self._done += left

    def _say(self, words: str) -> None:
        self._words = words
        self._tell(words, self._done, self._count)


def _model(name: str, folder: Path) -> Model:
    """The model that the setting names. Raises SettingsError."""
    if name in shipped():
        return Model(name, model_path(name), untrained=False)
    if name in options("network"):
        return Model(name, folder / name, untrained=True)
    path = Path(name)
    if not any(path.with_suffix(suffix).exists() for suffix in SUFFIXES.values()):
        raise SettingsError(
            f"bench.models: {name} is neither a shipped model ({', '.join(shipped())}) nor a network "
            f"({', '.join(options('network'))}) nor a model file."
        )
    return Model(path.stem, path, untrained=False)


def _has_weights(model: Model) -> bool:
    return model.path.with_suffix(SUFFIXES["torch"]).exists()


def _prepare(given: Preparation, send: Send) -> None:
    """In a process of its own, which loads torch."""
    from models.bench.prepare import prepare

    prepare(given, send)


def _stages(given: Staging, send: Send) -> None:
    from models.bench.prepare import measure_all_stages

    measure_all_stages(given, send)
