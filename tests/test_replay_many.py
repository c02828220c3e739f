"""`liveloc replay` with several stacks and on a cluster, run as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.test_front_door import ENVIRONMENT, LIKE_SIMULATED, liveloc, simulated

__all__ = ["simulated"]

SHIPPED = (*LIKE_SIMULATED, "run.threads=1", "run.formats=[csv]")
"""The shipped model, in its ONNX form: nothing here loads torch."""


def end(folder: Path) -> str:
    return str(json.loads((folder / "run.json").read_text(encoding="utf-8"))["end_reason"])


def test_one_stack_that_fails_does_not_stop_the_others(simulated: Path, tmp_path: Path) -> None:
    stack = simulated / "frames.ome.tif"
    (tmp_path / "b.tif").write_bytes(stack.read_bytes())
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    (tmp_path / "list.txt").write_text("b.tif\n", encoding="utf-8")
    words = ("broken.tif", stack, "@list.txt", *SHIPPED, "run.output=results")
    done = liveloc("replay", *words, cwd=tmp_path, status=2)
    assert "2 of 3 stacks done" in done.stdout
    assert "broken.tif" in done.stderr
    assert [end(tmp_path / "results" / name) for name in ("frames", "b")] == ["finished"] * 2
    again = liveloc("replay", *words, cwd=tmp_path, status=2)
    assert again.stdout.count("done before") == 2


def test_a_cluster_of_this_computer_gives_the_same_log(simulated: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="distributed is not installed (extra cluster)")
    words = ("replay", simulated / "frames.ome.tif", *SHIPPED)
    liveloc(*words, "run.output=local/run", cwd=tmp_path)
    cluster = ("cluster=local", "cluster.workers=2", "cluster.chunk=16")
    done = liveloc(*words, *cluster, "run.output=cluster/run", cwd=tmp_path)
    local, shared = (tmp_path / name / "run" for name in ("local", "cluster"))
    assert (local / "localisations.arrows").read_bytes() == (shared / "localisations.arrows").read_bytes()
    assert (local / "localisations.csv").read_bytes() == (shared / "localisations.csv").read_bytes()
    assert "2 workers on this computer" in done.stdout
    assert "40 of 40" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_ends_a_cluster_with_what_was_recorded(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="distributed is not installed (extra cluster)")
    sizes = ("dataset.frames=4000", "dataset.height=32", "dataset.width=32")
    liveloc("simulate", *sizes, "dataset.output=set", cwd=tmp_path)
    cluster = ("cluster=local", "cluster.workers=2", "cluster.chunk=16", "run.output=run")
    command = [sys.executable, "-m", "liveloc", "replay", "set/frames.ome.tif", *SHIPPED, *cluster]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a terminal sends Ctrl-C to every process of the command
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    log, deadline = tmp_path / "run" / "localisations.arrows", time.monotonic() + 100
    try:
        while not (log.exists() and log.stat().st_size > 4000):
            assert time.monotonic() < deadline, "no localisations came"
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    account = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert process.returncode == 130, output
    assert account["end_reason"].startswith("stopped")
    assert 0 < account["frames_analysed"] < 4000
    assert account["cluster"]["chunks_done_again"] == 0
    assert "Traceback" not in output


REFUSED = {
    "no scheduler": (("x.tif", "cluster=localhost:1"), "no scheduler answers at tcp://localhost:1"),
    "no trust": (("x.tif", "cluster=node1.example.org:8786"), "liveloc certificates"),
    "twice": (("x.tif", "./x.tif"), "named twice"),
    "no stack": (("run.block=8",), "no stack is named"),
    "no list": (("@nowhere.txt",), "the list of stacks nowhere.txt cannot be read"),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_a_message_and_status_2(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = liveloc("replay", *arguments, cwd=tmp_path, status=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_certificates_are_made_once(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed (extra cluster)")
    assert "key.pem" in liveloc("certificates", "tls", cwd=tmp_path).stdout
    assert "never overwritten" in liveloc("certificates", "tls", cwd=tmp_path, status=2).stderr
