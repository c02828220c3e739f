"""The folder of a run: its settings, its account, its log of localisations, and at the end tables and a picture.

settings.yaml            what was asked for, resolved
run.json                 what happened; written at the start with end_reason "running", so that a run which was killed
                         shows as one, and replaced whole at the end
liveloc.log              messages, with times
localisations.arrows     the crash-safe log (engine/output/recorder.py)
localisations.csv …      the tables of run.formats, made from the log at the end
image.png                the picture
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pyarrow as pa
from omegaconf import OmegaConf

from config.errors import LivelocError, RunError, SettingsError
from config.schema import Settings
from engine.ledger import Ranges, numbers_of
from engine.output.disk import replace_text
from engine.output.formats import FORMATS, write_table
from engine.output.image import fitting_pixel, render, write_png
from engine.output.recorder import read_log
from engine.status import Status

logger = logging.getLogger(__name__)

LOG_NAME = "localisations.arrows"
PACKAGES = ("acquisition", "config", "engine", "models", "simulation", "liveloc")
"""Whose messages go into liveloc.log."""
DISTRIBUTIONS = ("liveloc", "numpy", "scipy", "pyarrow", "torch", "onnxruntime", "onnxruntime-gpu")
"""Whose versions are kept; torch only where the run loaded it."""


Made = TypeVar("Made")

EVERY = object()
_ADDRESSEE: ContextVar[object] = ContextVar("addressee", default=EVERY)
"""Which folder keeps the messages of a thread."""


@dataclass(frozen=True)
class ModelUsed:
    """Which model ran, and on what."""

    name: str
    version: str
    path: str
    sha256: str
    """Of the model file."""
    runtime: str
    """onnx or torch."""
    device: str

    @classmethod
    def of_file(cls, path: Path, name: str, model_version: str, runtime: str, device: str) -> ModelUsed:
        """With the file's hash. Raises OSError."""
        with path.open("rb") as file:
            return cls(name, model_version, str(path), hashlib.file_digest(file, "sha256").hexdigest(), runtime, device)


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run before its first frame."""

    model: ModelUsed | None = None
    camera: Mapping[str, Any] = field(default_factory=dict)
    """The calibration in use, by field of CameraSettings."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Name, height, width, expected frames and whatever else tells the recording."""
    endpoint: str | None = None
    """Where the run is published (docs/wire.md), if it is."""


class RunFolder:
    """One run's folder. Use as a context: leaving it without ``finish`` writes down that the run failed.

        with RunFolder.create(settings) as folder:
            folder.begin(facts)
            pipeline = Pipeline(source, localiser, Recorder(folder.log_path, metadata))
            try:
                pipeline.run()
            finally:
                folder.finish(pipeline.status())

    Warnings that any part of liveloc logs meanwhile are kept for ``run.json``.
    """

    def __init__(self, path: Path, settings: Settings, clock: Callable[[], datetime] | None = None) -> None:
        """Make the folder and write settings.yaml and run.json. Prefer ``create``. Raises RunError."""
        self.path = path
        self._settings = settings
        self._clock = clock or (lambda: datetime.now(UTC))
        self._started = self._clock()
        self._facts = RunFacts()
        self._notes: dict[str, Any] = {}
        self._finished = False
        self._messages = _MessageKeeper()
        _claim(path)
        replace_text(path / "settings.yaml", OmegaConf.to_yaml(OmegaConf.structured(settings)))
        self._file_handler = _file_handler(path / "liveloc.log")
        self._attach()
        self._write_account({"end_reason": "running"})

    @classmethod
    def create(
        cls, settings: Settings, root: Path = Path("runs"), clock: Callable[[], datetime] | None = None
    ) -> RunFolder:
        """The folder that ``run.output`` names, or a dated one under ``root``.

        Raises RunError where it holds a run already, or cannot be made; SettingsError for an unknown run.formats.
        """
        _check_formats(settings.run.formats)
        now = (clock or datetime.now)()
        return cls(
            Path(settings.run.output) if settings.run.output else _dated(root, settings.run.name, now), settings, clock
        )

    @property
    def log_path(self) -> Path:
        """Where the recorder writes."""
        return self.path / LOG_NAME

    @property
    def run_id(self) -> str:
        """Names the run, in its tables too."""
        return self.path.resolve().name

    @property
    def warnings(self) -> list[str]:
        """Warnings so far."""
        return list(self._messages.warnings)

    def begin(self, facts: RunFacts) -> None:
        """Write down what is known before the first frame."""
        self._facts = facts
        self._write_account({"end_reason": "running"})

    def note(self, name: str, content: Mapping[str, Any]) -> None:
        """Add something to run.json, which is written next by ``begin`` and ``finish``."""
        self._notes[name] = dict(content)

    def finish(self, status: Status) -> None:
        """Write the account, the tables and the picture, then the account again with the warnings that these gave.

        A table or picture that cannot be made is a warning: the log is whole, and ``liveloc convert`` makes it later.
        """
        self._finished = True
        self._attempt("run.json", partial(self._write_account, _outcome(status)))
        if self.log_path.exists():
            self._write_products()
        self._attempt("run.json", partial(self._write_account, _outcome(status)))

    def close(self) -> None:
        """Stop logging into the folder. May be called twice."""
        for name in PACKAGES:
            logging.getLogger(name).removeHandler(self._file_handler)
            logging.getLogger(name).removeHandler(self._messages)
        self._file_handler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; a run that was not finished is written down as failed, with its error."""
        if not self._finished:
            reason = str(error) or type(error).__name__ if error else "it was left before its end"
            self._attempt("run.json", partial(self._write_account, {"end_reason": f"failed: {reason}"}))
        self.close()

    def _attach(self) -> None:
        for handler in (self._file_handler, self._messages):
            handler.addFilter(lambda _: _ADDRESSEE.get() in (EVERY, self))
        for name in PACKAGES:
            package = logging.getLogger(name)
            package.addHandler(self._file_handler)
            package.addHandler(self._messages)
            if package.level == logging.NOTSET:
                package.setLevel(logging.INFO)

    def _write_account(self, outcome: Mapping[str, Any]) -> None:
        running = outcome["end_reason"] == "running"
        account = {
            "run": self.run_id,
            "started": self._started.isoformat(timespec="seconds"),
            "ended": None if running else self._clock().isoformat(timespec="seconds"),
            **EMPTY_OUTCOME,
            **outcome,
            "model": vars(self._facts.model) if self._facts.model else None,
            "camera": dict(self._facts.camera),
            "source": dict(self._facts.source),
            "endpoint": self._facts.endpoint,
            **self._notes,
            "warnings": self.warnings,
            "versions": versions(),
        }
        replace_text(self.path / "run.json", json.dumps(account, indent=2, default=str) + "\n")

    def _write_products(self) -> None:
        table = self._attempt("the tables", lambda: read_log(self.log_path))
        if table is None:
            return
        for name in self._settings.run.formats:
            path = self.path / f"localisations.{name}"
            self._attempt(path.name, partial(write_table, table, path))
        self._attempt("image.png", partial(self._write_image, table))

    def _attempt(self, what: str, make: Callable[[], Made]) -> Made | None:
        """What ``make`` gives, or None with a warning: at the end of a run, one failure must not hide another."""
        try:
            return make()
        except (LivelocError, OSError, MemoryError) as error:
            logger.warning("%s could not be made: %s. The log %s is whole.", what, error, self.log_path)
            return None

    def _write_image(self, table: pa.Table) -> None:
        pixel = fitting_pixel(table, self._settings.run.image_pixel)
        write_png(self.path / "image.png", render(table, pixel), pixel)


@contextmanager
def messages_for(folder: RunFolder | None) -> Iterator[None]:
    """Within this context, messages of this thread go into one open folder alone, or into none.

    For a process in which several runs go on; otherwise every open folder keeps them.
    """
    token = _ADDRESSEE.set(folder)
    try:
        yield
    finally:
        _ADDRESSEE.reset(token)


EMPTY_OUTCOME: Mapping[str, Any] = {
    "end_reason": "running",
    "frames_seen": 0,
    "frames_analysed": 0,
    "missing_frames": [],
    "missing_ranges": [],
    "unanalysed_ranges": [],
    "skipped_frames": [],
    "skipped_ranges": [],
    "marks": [],
    "delay": None,
    "localisations": 0,
    "frames_per_second": 0.0,
    "seconds": 0.0,
    "dropped_sinks": [],
}
"""What run.json holds of a run that has not ended."""


def _outcome(status: Status) -> dict[str, Any]:
    """``missing_frames`` lists every number without an answer: what never came, and what a failure left undone.

    Frames that were given up on request are in ``skipped_frames``, and in ``skipped_ranges`` with the reason. ``delay``
    is the time from a frame taken to its localisations recorded, over the whole run [s].
    """
    return {
        "end_reason": status.end_reason,
        "frames_seen": status.acquired,
        "frames_analysed": status.analysed,
        "missing_frames": status.not_analysed(),
        "missing_ranges": _pairs(status.missing),
        "unanalysed_ranges": _pairs(status.pending),
        "skipped_frames": numbers_of(status.skipped),
        "skipped_ranges": _skipped(status),
        "marks": [vars(mark) for mark in status.marks],
        "delay": vars(status.delay_run) if status.delay_run else None,
        "localisations": status.localisations,
        "frames_per_second": round(status.frames_per_second, 2),
        "seconds": round(status.elapsed, 3),
        "dropped_sinks": list(status.dropped_sinks),
    }


def _pairs(ranges: Ranges) -> list[list[int]]:
    """[first, last] of each range."""
    return [[numbers.start, numbers.stop - 1] for numbers in ranges]


def _skipped(status: Status) -> list[list[Any]]:
    """[first, last, reason] of each range of frames that were given up, in order."""
    behind = [[*pair, "behind"] for pair in _pairs(status.skipped_behind)]
    return sorted(behind + [[*pair, "paused"] for pair in _pairs(status.skipped_paused)])


def versions() -> dict[str, str]:
    """Versions of Python, the system and what this run uses."""
    used = (name for name in DISTRIBUTIONS if name != "torch" or "torch" in sys.modules)
    found = {name: _version(name) for name in used}
    here = {"python": platform.python_version(), "system": platform.platform()}
    return here | {name: text for name, text in found.items() if text is not None}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _check_formats(formats: list[str]) -> None:
    known = [suffix.removeprefix(".") for suffix in FORMATS]
    for name in formats:
        if name not in known:
            raise SettingsError(f"run.formats must be some of {', '.join(known)}, found {name!r}. Correct run.formats.")


def _dated(root: Path, name: str, now: datetime) -> Path:
    """runs/2026-11-22T18-03-11_name, with a number behind it where two runs begin in one second."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    first = root / f"{now:%Y-%m-%dT%H-%M-%S}_{plain}"
    path, count = first, 1
    while path.exists():
        count += 1
        path = first.with_name(f"{first.name}-{count}")
    return path


def _claim(path: Path) -> None:
    """Make the folder, unless it holds a run. Raises RunError."""
    if (path / LOG_NAME).exists():
        raise RunError(
            f"{path} holds the localisations of an earlier run, which are never overwritten. "
            "Choose another folder with run.output=FOLDER, or move that one away."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"the run folder {path} cannot be made: {error.strerror or error}. Choose another with run.output=FOLDER."
        ) from error


def _file_handler(path: Path) -> logging.FileHandler:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


class _MessageKeeper(logging.Handler):
    """Keeps warnings, each text once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging, from any thread, under the handler's lock."""
        text = record.getMessage()
        if text not in self.warnings:
            self.warnings.append(text)
