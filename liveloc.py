"""The front door: one command per use. Each builds objects from settings and starts them; nothing is decided here.

Heavy libraries are imported inside the command that needs them: ``liveloc --help`` loads none.
"""

from __future__ import annotations

from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from commands import helping, judging, looking, making, measuring, running
from commands.parts import BAD_INPUT, INTERRUPTED, err
from config.errors import LivelocError

COMMANDS = (
    *(running.demo, running.live, running.replay),
    *(looking.view, looking.render, looking.convert),
    *(making.simulate, making.psf, making.train, making.calibrate, making.export),
    *(judging.evaluate, judging.compare, judging.inspect, judging.card),
    *(measuring.bench, helping.settings, helping.doctor, helping.keys, helping.certificates),
)
"""In the order in which ``liveloc --help`` lists them."""


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
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
