"""Commands around the others: keys, certificates, doctor, settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from commands.parts import out, say

if TYPE_CHECKING:
    pass


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
        say(f"Carry to its owner, and keep secret: {made}")


def certificates(
    folder: Annotated[Path, typer.Argument(help="Where to keep them; carry it to every computer.", show_default=False)],
) -> None:
    """Make TLS certificates for a Dask cluster: who has them may run programs on it, so keep them secret.

    Example: liveloc certificates tls, then see docs/scale.md
    """
    from engine.scale.cluster import make_certificates

    for made in make_certificates(folder):
        say(f"Keep secret: {made}")


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
            say(f"{name}= one of {', '.join(options(name))}, or a file")
