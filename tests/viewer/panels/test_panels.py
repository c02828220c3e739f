"""The panels by themselves: they show what they are given and tell what is chosen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from viewer.feed import Link, LinkChanged, StatusCame
from viewer.points import Measurement, Rectangle
from viewer.settings import PictureSettings
from viewer.state import History, Session
from viewer.tally import Histogram

pytest.importorskip("PyQt5", reason="PyQt5 is not installed (group viewer)")
pytestmark = pytest.mark.usefixtures("screen", "qtbot")

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from viewer.panels.filters import FilterRow

INFINITY = math.inf


@pytest.fixture
def row(qtbot: QtBot) -> FilterRow:
    from viewer.panels.filters import FILTERABLE, FilterRow

    made = FilterRow(FILTERABLE[0])
    qtbot.addWidget(made)
    made.show_histogram(0.0, 50.0, np.ones(128))
    return made


def type_in(edit: Any, text: str) -> None:
    edit.setText(text)
    edit.editingFinished.emit()


def test_typed_limits_are_told_and_sorted(row: FilterRow) -> None:
    told: list[tuple[float, float]] = []
    row.changed.connect(lambda low, high: told.append((low, high)))
    type_in(row.high, "20")
    type_in(row.low, "30")
    type_in(row.low, "")
    assert told == [(-INFINITY, 20.0), (20.0, 30.0), (-INFINITY, 30.0)]
    assert row.high.text() == "30.0"


def test_a_limit_beyond_the_slider_stays_when_the_other_handle_moves(row: FilterRow) -> None:
    type_in(row.high, "80")
    row.slider.setValue((10.0, 50.0))
    assert row.range == (10.0, 80.0)
    row.slider.setValue((10.0, 40.0))
    assert row.range == (10.0, 40.0)


def test_a_growing_axis_moves_no_limit(row: FilterRow) -> None:
    row.slider.setValue((10.0, 50.0))
    row.show_histogram(0.0, 90.0, np.ones(128))
    assert row.range == (10.0, INFINITY)
    assert tuple(row.slider.value()) == pytest.approx((10.0, 90.0))


def test_a_column_that_is_not_known_cannot_be_filtered_by(row: FilterRow) -> None:
    row.show_histogram(math.nan, math.nan, np.zeros(128))
    assert not row.slider.isEnabled()
    assert not row.low.isEnabled()


def test_the_slider_ends_where_the_bulk_does() -> None:
    from viewer.panels.filters import bulk

    counts = np.zeros(1000)
    counts[100:300] = 50
    counts[999] = 1  # an outlier
    low, high = bulk(Histogram(0.0, 1000.0, counts))
    assert low == pytest.approx(100, abs=3)
    assert high == pytest.approx(300, abs=3)
    assert math.isnan(bulk(Histogram(math.nan, math.nan, np.zeros(4)))[0])


@pytest.mark.parametrize("limits", [(0.0, 1.0), (3.2, 48.9), (-312.0, 287.0), (0.0, 123456.0), (7.0, 7.0), (0.0, 0.0)])
def test_an_axis_is_round_and_holds_everything(limits: tuple[float, float]) -> None:
    from viewer.panels.filters import tidy

    low, high = tidy(*limits)
    assert low <= limits[0]
    assert high >= limits[1]
    assert high > low
    assert high - low <= 2.2 * max(limits[1] - limits[0], 1.0)
    assert tidy(*tidy(low, high)) == tidy(low, high)


def test_stop_needs_a_second_press(qtbot: QtBot) -> None:
    from viewer.panels.run import StopButton

    button = StopButton()
    qtbot.addWidget(button)
    confirmed: list[bool] = []
    button.confirmed.connect(lambda: confirmed.append(True))
    button.click()
    assert not confirmed
    button._timer.timeout.emit()  # too late for a second press
    assert button.text() == "Stop"
    button.click()
    button.click()
    assert confirmed == [True]


LINES = {
    "nothing": (Link.EMPTY, {}, "nothing open"),
    "live": (Link.LIVE, {"state": "running"}, "live · running"),
    "paused": (Link.LIVE, {"state": "running", "paused": True}, "live · paused"),
    "lost": (Link.LOST, {"state": "running"}, "lost"),
    "ended": (Link.ENDED, {"end_reason": "stopped: enough"}, "ended · stopped: enough"),
}


@pytest.mark.parametrize(("link", "status", "line"), LINES.values(), ids=LINES.keys())
def test_a_run_in_one_line(link: Link, status: dict[str, Any], line: str) -> None:
    from viewer.panels.run import state_in_words

    session = Session()
    session.take(LinkChanged(link))
    session.take(StatusCame(status))
    assert state_in_words(session) == line


@pytest.mark.parametrize(
    ("seconds", "text"), [(7, "7 s"), (187.9, "3 min 07 s"), (7300, "2 h 01 min"), (math.nan, "–")]
)
def test_durations(seconds: float, text: str) -> None:
    from viewer.panels.run import duration

    assert duration(seconds) == text


NUMBERS = [(1234567.0, "1,234,567"), (12.345, "12.3"), (0.012345, "0.0123"), (3.0, "3"), (math.nan, "–"), (0.0, "0")]


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_numbers(value: float, text: str) -> None:
    from viewer.panels.parts import words

    assert words(value) == text


def test_a_status_of_rubbish_is_shown_as_unknown(qtbot: QtBot) -> None:
    from viewer.panels.feedback import FeedbackPanel
    from viewer.panels.run import RunPanel

    session = Session()
    session.take(
        StatusCame(
            {"acquired": "many", "lag": None, "warnings": 3, "feedback": [1], "expected": 10**400, "elapsed": -5}
        )
    )
    session.take(LinkChanged(Link.LIVE))
    for panel in (RunPanel(), FeedbackPanel()):
        qtbot.addWidget(panel)
        panel.show_session(session, commands=True)
        assert panel.isEnabled()


def test_the_picture_panel_tells_what_is_chosen(qtbot: QtBot) -> None:
    from viewer.panels.picture import PicturePanel

    panel = PicturePanel()
    qtbot.addWidget(panel)
    chosen: list[PictureSettings] = []
    panel.changed.connect(chosen.append)
    panel.show_settings(PictureSettings(colours="batlow", gamma=0.5))  # one that the list does not have
    assert not chosen
    assert panel.colours.currentData() == "batlow"
    panel.show_range(0.0, 55.0)
    panel.automatic.setChecked(False)
    assert chosen[-1] == PictureSettings(colours="batlow", gamma=0.5, automatic=False, low=0.0, high=55.0)
    panel.high.setValue(99.0)
    assert chosen[-1].high == 99.0


def test_a_rectangle_without_area_has_no_density(qtbot: QtBot) -> None:
    from viewer.panels.measure import MeasurePanel

    panel = MeasurePanel()
    qtbot.addWidget(panel)
    panel.show_measured(Rectangle(0, 0, 0, 5), Measurement(0, math.nan, math.nan))
    assert panel.figures.text("density") == "–"
    panel.show_measured(None, None)
    assert not panel.only.isEnabled()


def test_curves_of_nothing_and_of_one_point(qtbot: QtBot) -> None:
    from viewer.panels.quality import QualityPanel

    panel, history = QualityPanel(), History()
    qtbot.addWidget(panel)
    panel.show()
    panel.show_history(history)
    history.append({"time": 5.0, "density": 0.0, "target": 1.0})
    panel.show_history(history)
    line = panel.plots[1]._lines[0]
    assert np.array_equal(np.asarray(line.getData()), [[5.0], [0.0]])


def test_a_dock_folds(qtbot: QtBot) -> None:
    from PyQt5.QtWidgets import QMainWindow

    from viewer.panels.measure import MeasurePanel
    from viewer.panels.parts import Dock

    window = QMainWindow()
    qtbot.addWidget(window)
    dock = Dock("Measure", "measure", MeasurePanel(), window, grows=False)
    window.addDockWidget(_left(), dock)
    tall = dock.minimumSizeHint().height()
    dock.set_folded(True)
    assert dock.maximumHeight() < tall
    dock.set_folded(False)
    assert dock.maximumHeight() > tall


def _left() -> Any:
    from PyQt5.QtCore import Qt

    return Qt.DockWidgetArea.LeftDockWidgetArea
