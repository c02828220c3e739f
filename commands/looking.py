"""Commands that show and convert tables: view, render, convert."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.parts import say
from config.errors import RuntimeUnavailable, SettingsError

if TYPE_CHECKING:
    pass


VIEW_OPTIONS = ("screenshot", "keys", "pixel_size")
"""What ``view`` takes besides its target."""


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
    say(f"{table.num_rows:,} localisations: {destination}")


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
    say(f"{width}×{height} pixels of {pixel:g} nm: {output}")


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
