"""What the window knows, and what it remembers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from engine.localisations import empty_batch
from tests.viewer.localisations import batch_of
from viewer.feed import Answered, Began, Counted, Link, LinkChanged, Progress, QualityCame, Rows, StatusCame
from viewer.settings import ViewerSettings, load, save, settings_path
from viewer.state import MOST_FIGURES, History, Session


def test_a_session_takes_everything_in() -> None:
    session = Session()
    news = [
        Began("run"),
        LinkChanged(Link.LOADING, "catching up"),
        Progress(3, 10),
        Rows(batch_of([1.0, 2.0], [1.0, 2.0], frame=[4, 9]), {"pixel_size_nm": "100"}),
        Rows(empty_batch()),
        StatusCame({"lag": 3}),
        QualityCame({"time": 1.0, "frc": None}),
        Counted(2, 1),
        Answered("pause", "no"),
    ]
    for one in news:
        session.take(one)
    assert (session.name, session.localisations, session.frame) == ("run", 2, 9)
    assert session.metadata == {"pixel_size_nm": "100"}
    loading = session.progress
    assert loading == Progress(3, 10)
    assert (session.malformed, session.gaps) == (2, 1)
    session.take(LinkChanged(Link.LIVE))
    finished = session.progress
    assert finished is None
    session.take(Began("next"))
    assert (session.localisations, session.frame, session.status, len(session.quality)) == (0, -1, {}, 0)
    assert session.link is Link.LIVE


def test_a_history_knows_what_is_unknown() -> None:
    history = History()
    history.append({"frc": None, "density": 1.0})
    history.append({"frc": 40.0})
    history.append({"frc": None})
    assert math.isnan(history.column("frc")[0])
    assert history.newest("frc") == 40.0
    assert history.newest("density") == 1.0
    assert math.isnan(history.newest("nothing"))


def test_a_history_takes_nothing_twice_and_no_maps() -> None:
    history = History()
    for second in (1.0, 2.0, 1.0, 2.0, 3.0):
        history.append({"time": second, "density_map": [[1.0]], "warnings": ["no"]})
    assert history.column("time").tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(history.column("density_map")).all()


def test_a_history_is_bounded_and_keeps_its_span() -> None:
    history = History()
    for second in range(3 * MOST_FIGURES):
        history.append({"time": float(second)})
    assert len(history) <= MOST_FIGURES
    time = history.column("time")
    assert time[0] == 0.0
    assert time[-1] == 3 * MOST_FIGURES - 1


def test_settings_come_back(tmp_path: Path) -> None:
    settings = ViewerSettings(folder="here", filters={"precision": [None, 20.0]}, closed=["raw"])
    settings.picture.colours, settings.picture.gamma = "viridis", 1.2
    settings.remember("a")
    settings.remember("b")
    settings.remember("a")
    save(settings, tmp_path / "deep" / "viewer.json")
    assert load(tmp_path / "deep" / "viewer.json") == settings
    assert settings.recent == ["a", "b"]


DAMAGED = {
    "nothing": "",
    "no JSON": "{",
    "another kind": "[1, 2]",
    "wrong types": json.dumps(
        {"picture": {"gamma": "bright", "colours": 3}, "folder": 5, "recent": [1], "filters": []}
    ),
    "not finite": '{"picture": {"gamma": NaN}}',
    "wrong filters": json.dumps({"filters": {"precision": [1], "photons": ["a", None]}}),
    "from the future": json.dumps({"picture": {"shine": 1}, "smell": 2}),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_settings_start_afresh(text: str, tmp_path: Path) -> None:
    path = tmp_path / "viewer.json"
    path.write_text(text)
    assert load(path) == ViewerSettings()


def test_settings_that_cannot_be_kept_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    save(ViewerSettings(), tmp_path / "file" / "viewer.json")
    assert load(tmp_path / "file" / "viewer.json") == ViewerSettings()


def test_settings_have_a_place() -> None:
    assert settings_path().name == "viewer.json"
