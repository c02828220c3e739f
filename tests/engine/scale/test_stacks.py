"""Many stacks: what the command line names, where each run goes, what is done already, what became of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.errors import RunError, SettingsError, SourceUnreadable
from config.schema import Settings
from engine.output.run_folder import LOG_NAME
from engine.scale.outcome import Outcome, Place
from engine.scale.stacks import free, is_done, listed, of_stack, one_by_one, places
from engine.status import State
from tests.engine.output.test_run_folder import STATUS


def run_in(folder: Path, end: str) -> Path:
    folder.mkdir(parents=True)
    (folder / LOG_NAME).touch()
    (folder / "run.json").write_text(json.dumps({"end_reason": end}))
    return folder


def test_a_list_of_stacks(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.tif\n\n  b c.tif \n", encoding="utf-8")
    assert listed([f"@{tmp_path / 'list.txt'}", "d.tif"]) == [Path("a.tif"), Path("b c.tif"), Path("d.tif")]


def test_what_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="One path a line"):
        listed(["@nowhere.txt"])
    with pytest.raises(SettingsError, match="named twice"):
        listed(["a.tif", "./a.tif"])
    with pytest.raises(SettingsError, match="no stack is named"):
        listed([])


NAMES = {
    "different": (["x/a.tif", "y/b.ome.tif", "c.raw"], ["a", "b", "c"]),
    "same name in two folders": (["x/a.tif", "y/a.tif", "b.tif"], ["x_a.tif", "y_a.tif", "b"]),
    "same but for the kind": (["a.tif", "a.raw"], ["a.tif", "a.raw"]),
    "dots": (["cell 1.5.tif", "cell 1.6.tif", "data.ndtiff"], ["cell 1.5", "cell 1.6", "data.ndtiff"]),
    "one name made of another": (["x/a.tif", "y/a.tif", "x_a.tif.tif"], ["x_a.tif", "y_a.tif", "x_a.tif.tif"]),
}


@pytest.mark.parametrize(("stacks", "names"), NAMES.values(), ids=NAMES.keys())
def test_each_stack_has_a_folder_of_its_own(stacks: list[str], names: list[str]) -> None:
    folders = [place.folder for place in places([Path(stack) for stack in stacks], "results")]
    assert len(set(folders)) == len(stacks)
    if stacks[-1] != "x_a.tif.tif":
        assert folders == [Path("results") / name for name in names]


def test_one_stack_takes_the_folder_itself() -> None:
    assert places([Path("a.tif")], "results") == [Place(Path("a.tif"), Path("results"))]
    assert places([Path("a.tif"), Path("b.tif")], None)[1].folder is None


def test_what_is_done_is_known_and_what_is_not_is_kept(tmp_path: Path) -> None:
    folder = run_in(tmp_path / "a", "running")
    assert not is_done(folder)
    assert free(folder) == tmp_path / "a-2"
    run_in(tmp_path / "a-2", "failed: the disk is full")
    assert free(folder) == tmp_path / "a-3"
    run_in(tmp_path / "a-3", "finished")
    assert is_done(folder)
    assert not is_done(tmp_path / "b")
    assert not is_done(None)
    assert free(None) is None


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_an_account_that_cannot_be_read_is_of_no_finished_run(tmp_path: Path, content: str) -> None:
    (run_in(tmp_path / "a", "finished") / "run.json").write_text(content)
    assert not is_done(tmp_path / "a")


def test_a_run_of_many_is_named_for_its_stack(tmp_path: Path) -> None:
    run_in(tmp_path / "a", "running")
    run = of_stack(Settings(), Place(Path("x/a.ome.tif"), tmp_path / "a"), many=True).run
    assert (run.output, run.name) == (str(tmp_path / "a-2"), "a")
    assert of_stack(Settings(), Place(Path("x/a.tif"), None), many=False).run == Settings().run


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    def replay(place: Place) -> Outcome:
        if place.stack.name == "bad.tif":
            raise RunError("the network fell over")
        return Outcome(place, STATUS)

    run_in(tmp_path / "before", "finished")
    todo = [Place(Path(f"{name}.tif"), tmp_path / name) for name in ("good", "bad", "before", "after")]
    outcomes = one_by_one(todo, replay)
    assert [outcome.words for outcome in outcomes] == [
        "finished",
        "failed: the network fell over",
        "done before",
        "finished",
    ]
    assert [outcome.done for outcome in outcomes] == [True, False, True, True]


def test_after_a_stop_nothing_more_begins() -> None:
    from dataclasses import replace

    stopped = replace(STATUS, state=State.STOPPED)
    outcomes = one_by_one([Place(Path(name), None) for name in "abc"], lambda place: Outcome(place, stopped))
    assert [outcome.words for outcome in outcomes] == ["stopped", "not begun", "not begun"]
