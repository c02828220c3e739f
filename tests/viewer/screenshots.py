"""The window in every state, as pictures to look at: ``python -m tests.viewer.screenshots FOLDER [STATE …]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QApplication

from tests.viewer.engine import FIELD, Engine, engine, filaments
from viewer import style
from viewer.feed import Link
from viewer.points import Rectangle
from viewer.settings import ViewerSettings
from viewer.window import Window

PATIENCE = 120.0
"""Seconds until a state counts as not reached."""
WARNING = (
    "Background is 180 photons/pixel; the model was trained for 5 to 100. Expect misses: lower the laser, or choose "
    "another model."
)
TABLE = Path(__file__).parents[3] / "shared" / "data" / "tables" / "lacy_eyfp_thunderstorm.csv"


def wait(window: Window, condition: Callable[[], object]) -> None:
    """Let Qt work until the condition holds. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {window.session.link.value}, {window.store.count} points")
        QApplication.processEvents()
        time.sleep(0.005)
    calm = time.monotonic() + 0.6
    while time.monotonic() < calm:
        QApplication.processEvents()


def empty(window: Window, _: Path) -> None:
    """Nothing open."""
    wait(window, lambda: True)


def waiting(window: Window, _: Path) -> None:
    """No engine there yet."""
    window.open("tcp://127.0.0.1:5999")
    wait(window, lambda: window.session.link is Link.WAITING and "no engine" in window.session.words)


def run_for(window: Window, run: Engine, rows: int = 40_000) -> None:
    """A run that has gone on for a while, all of it in the window."""
    window.open(run.endpoint)
    wait(window, lambda: window.session.link is Link.LIVE)
    run.write(40, rows // 40)
    run.tell_quality(240)
    run.show()
    run.tell()
    wait(window, lambda: window.session.localisations == run.rows and window.canvas.settled)
    run.tell()


def live(window: Window, folder: Path) -> None:
    """A run that goes well."""
    with engine(folder / "run") as run:
        run_for(window, run)
        wait(window, lambda: window.canvas.settled)
        window.save_screenshot(folder / "live.png")


def warned(window: Window, folder: Path) -> None:
    """A run with lost frames, refused commands and data outside what the model knows; a rectangle is measured."""
    with engine(folder / "run") as run:
        run_for(window, run)
        run.tell(warnings=[WARNING], missing=3, lag=214, spooled_frames=120, paused=True)
        wait(window, lambda: window.session.status.get("paused"))
        window.command("pause", {})
        window.canvas.set_rectangle(Rectangle(0.3 * FIELD, 0.3 * FIELD, 0.6 * FIELD, 0.5 * FIELD))
        window.canvas.rectangle_drawn.emit(0.3 * FIELD, 0.3 * FIELD, 0.6 * FIELD, 0.5 * FIELD)
        window.docks["measure"].set_folded(False)
        wait(window, lambda: window.session.answer)
        window.save_screenshot(folder / "warned.png")


def lost(window: Window, folder: Path) -> None:
    """The engine has gone."""
    with engine(folder / "run") as run:
        run_for(window, run)
    wait(window, lambda: window.session.link is Link.LOST)


def million(window: Window, folder: Path) -> None:
    """A million localisations, coloured by time, filtered."""
    with engine(folder / "run") as run:
        for part in range(20):
            run.write_batch(filaments(50_000, part, part * 1250))
        run.tell_quality(600)
        run.show()
        window.open(run.endpoint)
        wait(window, lambda: window.session.link is Link.LIVE)
        run.tell_quality(120)
        run.show()
        run.tell()
        window.change_picture(by="frame", colours="turbo", mode="precision")
        window.filters.rows["precision"].set_range((float("-inf"), 18.0))
        window.filters.changed.emit("precision", float("-inf"), 18.0)
        wait(window, lambda: window.complete and window.store.count == 1_000_000)
        window.save_screenshot(folder / "million.png")


def error(window: Window, folder: Path) -> None:
    """A file that is none."""
    path = folder / "broken.parquet"
    path.write_bytes(b"no Parquet")
    window.open(str(path))
    wait(window, lambda: window.session.link is Link.FAILED)
    path.unlink()


def file(window: Window, _: Path) -> None:
    """Real E. coli cells."""
    window.open(str(TABLE))
    wait(window, lambda: window.complete)


def ended(window: Window, folder: Path) -> None:
    """A run that is over, opened by its folder."""
    with engine(folder / "run") as run:
        run.write(20, 2000)
        run.end()
    window.open(str(folder / "run"))
    wait(window, lambda: window.session.link is Link.ENDED and window.complete)


STATES = (empty, waiting, live, warned, lost, million, error, file, ended)


def main(arguments: list[str]) -> int:
    """Make the pictures."""
    parser = argparse.ArgumentParser("screenshots", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("states", nargs="*", help=", ".join(state.__name__ for state in STATES))
    options = parser.parse_args(arguments)
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_EnableHighDpiScaling)
    application = QApplication(["screenshots"])
    style.dress(application)
    options.folder.mkdir(parents=True, exist_ok=True)
    for state in STATES:
        if not options.states or state.__name__ in options.states:
            picture(state, options.folder / f"{state.__name__}.png")
    return 0


def picture(state: Callable[[Window, Path], None], path: Path) -> None:
    """One state; those that last only while their engine does take the picture themselves."""
    with tempfile.TemporaryDirectory() as scratch:
        window = Window(ViewerSettings())
        window.show()
        state(window, Path(scratch))
        own = Path(scratch) / path.name
        if own.exists():
            path.write_bytes(own.read_bytes())
        else:
            window.save_screenshot(path)
        window.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
