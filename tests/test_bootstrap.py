"""The set-up script: what it decides, without setting anything up."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, with its .venv in a folder of the test's own, and no command ever run."""
    module = importlib.import_module("bootstrap")

    def refuse(*arguments: object, **_: object) -> int:
        raise AssertionError(f"started {arguments}")

    python = tmp_path / "python"
    python.touch()
    monkeypatch.setattr(module, "PYTHON", python)
    monkeypatch.setattr(module, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(module, "_gpu", lambda: False)
    monkeypatch.setattr(module.subprocess, "call", refuse)
    return module


def started(module: ModuleType, monkeypatch: pytest.MonkeyPatch, fails: tuple[str, ...] = ()) -> list[list[str]]:
    """Commands are noted and not run; those that hold one of ``fails`` fail."""
    commands: list[list[str]] = []

    def note(command: list[str], **_: object) -> int:
        commands.append(command)
        return int(any(word in command for word in fails))

    monkeypatch.setattr(module.subprocess, "call", note)
    return commands


def test_it_needs_the_standard_library_alone() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import bootstrap"
    subprocess.run([sys.executable, "-I", "-S", "-c", code, str(ROOT)], check=True)


def test_without_a_command_it_explains_itself(bootstrap: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main([]) == 2
    assert bootstrap.main(["--help"]) == 0
    assert "bootstrap.py demo" in capsys.readouterr().out


def test_an_old_python_is_told_which_one_to_take(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 0))
    assert bootstrap.main(["demo"]) == 2
    assert "needs Python 3.11" in capsys.readouterr().out


def test_the_second_time_nothing_is_installed(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = started(bootstrap, monkeypatch)
    bootstrap._install(developer=True)
    first = len(commands)
    bootstrap._install(developer=True)
    bootstrap._install(developer=False)
    assert len(commands) == first > 0


def test_the_tests_need_more_than_the_demo(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = started(bootstrap, monkeypatch)
    bootstrap._install(developer=False)
    assert not any(word.startswith("pytest") for word in commands[-1])
    bootstrap._install(developer=True)
    assert any(word.startswith("pytest") for word in commands[-1])


def test_a_changed_project_is_installed_again(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = started(bootstrap, monkeypatch)
    bootstrap._install(developer=False)
    stamp = json.loads(bootstrap.STAMP.read_text())
    bootstrap.STAMP.write_text(json.dumps({**stamp, "base": "of an older pyproject.toml"}))
    first = len(commands)
    bootstrap._install(developer=False)
    assert len(commands) > first


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_stamp_counts_as_none(bootstrap: ModuleType, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = started(bootstrap, monkeypatch)
    bootstrap.STAMP.write_text(text)
    bootstrap._install(developer=False)
    assert commands


def test_what_failed_is_not_taken_for_done(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    started(bootstrap, monkeypatch, fails=("--editable",))
    with pytest.raises(SystemExit):
        bootstrap._install(developer=False)
    assert not bootstrap.STAMP.exists()


TORCH = {
    "Linux without a GPU": (False, False, "linux", "whl/cpu"),
    "Linux with a GPU": (True, False, "linux", None),
    "Windows without a GPU": (False, True, "win32", None),
    "Windows with a GPU": (True, True, "win32", "whl/cu130"),
}


@pytest.mark.parametrize(("gpu", "windows", "system", "index"), TORCH.values(), ids=TORCH.keys())
def test_torch_comes_in_the_build_that_fits(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, gpu: bool, windows: bool, system: str, index: str | None
) -> None:
    monkeypatch.setattr(bootstrap, "WINDOWS", windows)
    monkeypatch.setattr(bootstrap.sys, "platform", system)
    monkeypatch.setattr(bootstrap, "_output", lambda _: "CUDA Version: 13.1")
    commands = started(bootstrap, monkeypatch, fails=("--no-index",))
    bootstrap._install_torch(gpu)
    indexes = [word for command in commands for word in command if "whl/" in word]
    assert [word.endswith(index or "-") for word in indexes] == ([True] if index else [])


def test_a_wheel_at_hand_goes_first(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = started(bootstrap, monkeypatch)
    bootstrap._install_torch(gpu=False)
    assert len(commands) == 1
    assert "torch>=2.11,<2.14" in commands[0]


def test_without_root_the_command_is_printed(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000, raising=False)
    assert not bootstrap._apt(["xvfb", "libgl1"], "No screen")
    assert "sudo apt-get install xvfb libgl1" in capsys.readouterr().out


def test_missing_libraries_are_found_by_name(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    present = "\n".join(f"{library}.0 (libc6)" for library in bootstrap.LIBRARIES if "icccm" not in library)
    asked: list[list[str]] = []

    def note(packages: list[str], why: str) -> bool:
        asked.append(packages)
        return True

    monkeypatch.setattr(bootstrap.sys, "platform", "linux")
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(bootstrap, "_output", lambda _: present)
    monkeypatch.setattr(bootstrap, "_apt", note)
    bootstrap._system_libraries(with_screen=True)
    assert asked == [["libxcb-icccm4"]]


def test_an_unknown_check_is_refused(bootstrap: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(["check", "ruf"]) == 2
    assert "no such check: ruf" in capsys.readouterr().out
