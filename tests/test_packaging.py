"""Our top-level names are ours alone, and a wheel holds what a run needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest

OURS = ("acquisition", "commands", "config", "engine", "liveloc", "models", "simulation", "viewer")
ROOT = Path(__file__).resolve().parents[1]


def test_no_installed_distribution_shadows_our_names() -> None:
    others = {name: owners for name, owners in packages_distributions().items() if name in OURS}
    foreign = {name: set(owners) - {"liveloc"} for name, owners in others.items()}
    assert {name: owners for name, owners in foreign.items() if owners} == {}


@pytest.mark.parametrize("name", OURS)
def test_a_name_leads_to_this_tree(name: str, tmp_path: Path) -> None:
    """Asked from elsewhere, so that the answer is what a user's Python finds and not the current folder's."""
    question = f"import importlib.util as u; print(u.find_spec({name!r}).origin)"
    found = subprocess.run(
        [sys.executable, "-c", question], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert Path(found).is_relative_to(ROOT)


def test_only_one_onnx_runtime_is_installed() -> None:
    found = {str(found.metadata["Name"]) for found in distributions()}
    assert len(found & {"onnxruntime", "onnxruntime-gpu"}) == 1


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in a wheel built from a copy of what git would give."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import os, sys; os.chdir(sys.argv[1]); from setuptools import build_meta as b; b.build_wheel(sys.argv[2])"
    source = _copy_of_tree(folder / "source")
    subprocess.run([sys.executable, "-c", build, str(source), str(folder)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _copy_of_tree(folder: Path) -> Path:
    """Our packages and what builds them, without caches: building must not leave anything in the tree."""
    for name in (*OURS, "liveloc.py", "pyproject.toml", "README.md", "LICENSE"):
        path = ROOT / name
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                target = folder / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    (folder / "README.md").touch()
    return folder


def test_the_wheel_holds_every_setting_file(wheel_names: set[str]) -> None:
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "config").rglob("*.yaml")}
    assert expected
    assert expected <= wheel_names


def test_the_wheel_holds_the_shipped_models(wheel_names: set[str]) -> None:
    weights = {path.relative_to(ROOT).as_posix() for path in (ROOT / "models" / "weights").iterdir() if path.is_file()}
    assert weights
    assert weights <= wheel_names


def test_the_wheel_holds_every_module_and_no_test(wheel_names: set[str]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for name in OURS for path in (ROOT / name).rglob("*.py")}
    assert {*modules, "liveloc.py"} <= wheel_names
    assert not [name for name in wheel_names if name.startswith(("tests/", "docs/"))]


def test_shipped_models_are_small() -> None:
    sizes = [path.stat().st_size for path in (ROOT / "models" / "weights").iterdir() if path.is_file()]
    assert sum(sizes) <= 10_000_000
