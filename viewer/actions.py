"""The menus: every action with its shortcut, which the menus show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from PyQt5.QtGui import QKeySequence
from PyQt5.QtWidgets import QAction, QMenu

from viewer.panels.picture import COLOUR_BY, COLOUR_MAPS, MODES

if TYPE_CHECKING:
    from viewer.window import Window


@dataclass(frozen=True)
class Entry:
    """One line of a menu."""

    text: str
    keys: str
    do: Callable[[], object]
    tip: str = ""


def build_menus(window: Window) -> None:
    """Fill the window's menu bar."""
    bar = window.menuBar()
    assert bar is not None
    _fill(window, _menu(bar.addMenu("&File")), _file_entries(window))
    _fill(window, _menu(bar.addMenu("&View")), _view_entries(window))
    picture = _menu(bar.addMenu("&Picture"))
    _fill(window, picture, _picture_entries(window))
    _add_choices(window, picture)
    run = _menu(bar.addMenu("&Run"))
    _fill(window, run, _run_entries(window))
    _fill(window, _menu(bar.addMenu("&Help")), [Entry("Mouse and keyboard", "F1", window.show_help)])


def _file_entries(window: Window) -> list[Entry | None]:
    return [
        Entry("Open file …", "Ctrl+O", window.ask_file),
        Entry("Open file with a given pixel size …", "", window.ask_sized_file),
        Entry("Open run folder …", "Ctrl+Shift+O", window.ask_folder),
        Entry("Connect …", "Ctrl+L", window.ask_endpoint),
        None,
        Entry("Export picture …", "Ctrl+E", window.ask_export),
        Entry("Save filtered table …", "Ctrl+S", window.ask_table),
        Entry("Screenshot of the window …", "Ctrl+Shift+S", window.ask_screenshot),
        None,
        Entry("Quit", "Ctrl+Q", window.close),
    ]


def _view_entries(window: Window) -> list[Entry | None]:
    panels: list[Entry | None] = [
        Entry(dock.windowTitle(), f"Ctrl+{place}", partial(window.toggle_panel, name))
        for place, (name, dock) in enumerate(window.docks.items(), 1)
    ]
    return [
        Entry("Fit the whole field", "F", window.canvas.fit, "a double click does the same"),
        Entry("Zoom in", "+", partial(window.canvas.zoom, 1 / 1.5)),
        Entry("Zoom out", "-", partial(window.canvas.zoom, 1.5)),
        None,
        Entry("Measure a rectangle", "R", window.toggle_rectangle_tool),
        Entry("Leave the rectangle", "Esc", window.leave_rectangle),
        None,
        *panels,
        None,
        Entry("Picture only", "H", window.toggle_panels),
        Entry("Full screen", "F11", window.toggle_full_screen),
    ]


def _picture_entries(window: Window) -> list[Entry | None]:
    change = window.change_picture
    return [
        Entry("Automatic contrast", "A", lambda: change(automatic=not window.picture.settings.automatic)),
        Entry("Brighter", "Shift+Up", partial(window.change_contrast, 1 / 1.25)),
        Entry("Darker", "Shift+Down", partial(window.change_contrast, 1.25)),
        Entry("Scale bar", "B", lambda: change(scale_bar=not window.picture.settings.scale_bar)),
        Entry("Next colour map", "C", window.next_colours),
        Entry("Show everything (no filters)", "Ctrl+R", window.filters.open_all),
    ]


def _run_entries(window: Window) -> list[Entry | None]:
    return [
        Entry("Start or resume", "Ctrl+F5", partial(window.command, "start", {})),
        Entry("Pause", "Ctrl+F6", partial(window.command, "pause", {})),
        Entry("Mark …", "M", window.begin_mark),
    ]


def _add_choices(window: Window, menu: QMenu) -> None:
    """Submenus for what the picture panel has, so that the keyboard reaches it."""
    choices: dict[str, tuple[str, Iterable[tuple[str, str]]]] = {
        "Drawn as": ("mode", MODES.items()),
        "Colour by": ("by", COLOUR_BY.items()),
        "Colours": ("colours", ((name, name) for name in COLOUR_MAPS)),
    }
    menu.addSeparator()
    for title, (setting, options) in choices.items():
        submenu = _menu(menu.addMenu(title))
        for value, text in options:
            _add(window, submenu, Entry(text, "", partial(window.change_picture, **{setting: value})))


def _fill(window: Window, menu: QMenu, entries: Iterable[Entry | None]) -> None:
    """None is a line between two groups."""
    for entry in entries:
        if entry is None:
            menu.addSeparator()
        else:
            _add(window, menu, entry)


def _add(window: Window, menu: QMenu, entry: Entry) -> None:
    action = QAction(entry.text, window)
    if entry.keys:
        action.setShortcut(QKeySequence(entry.keys))
    action.setToolTip(entry.tip or entry.text)
    # Qt hands over whether the action is checked, which no action here wants to know.
    action.triggered.connect(lambda *_: _run(entry.do))
    menu.addAction(action)


def _run(do: Callable[[], object]) -> None:
    do()


def _menu(menu: QMenu | None) -> QMenu:
    assert menu is not None
    return menu
