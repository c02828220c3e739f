"""Cards: each process takes one of its own, and a process that is killed gives it back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from engine.scale.gpu import claim_gpu, visible_gpus

ROOT = Path(__file__).resolve().parents[3]
CLAIM = """
import os, sys
from pathlib import Path
from engine.scale.gpu import claim_gpu
claimed = claim_gpu(Path(sys.argv[1]))
print(claimed, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


@contextmanager
def worker(folder: Path, cards: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process that has claimed a card and holds it; with what it says."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(folder)],
        cwd=ROOT,
        env={"CUDA_VISIBLE_DEVICES": cards, "PYTHONPATH": str(ROOT), "PATH": "", "SYSTEMROOT": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().split()
        finally:
            process.kill()


def test_each_takes_its_own_and_the_killed_one_gives_it_back(tmp_path: Path) -> None:
    with ExitStack() as others:
        first, said = others.enter_context(worker(tmp_path, "0,2"))
        assert said == ["0", "0"]
        assert others.enter_context(worker(tmp_path, "0,2"))[1] == ["2", "2"]
        assert others.enter_context(worker(tmp_path, "0,2"))[1][0] in ("0", "2")  # a third shares
        first.kill()
        first.wait()
        assert others.enter_context(worker(tmp_path, "0,2"))[1] == ["0", "0"]


def test_where_there_is_no_choice_nothing_is_claimed(tmp_path: Path) -> None:
    with worker(tmp_path, "3") as (_, said):
        assert said == ["None", "3"]
    assert list(tmp_path.iterdir()) == []


VISIBLE = {"": [], "0": ["0"], "0, 3": ["0", "3"], "-1": [], "GPU-1a,GPU-2b": ["GPU-1a", "GPU-2b"]}


@pytest.mark.parametrize(("variable", "cards"), VISIBLE.items())
def test_what_cuda_is_told_counts(monkeypatch: pytest.MonkeyPatch, variable: str, cards: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == cards


def test_without_a_driver_there_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    assert claim_gpu(tmp_path) is None
