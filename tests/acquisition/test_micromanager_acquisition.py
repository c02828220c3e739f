"""Micro-Manager saves while liveloc looks: pycromanager's Acquisition on a real core, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from acquisition.recorded import RecordedSource

pytest.importorskip("pycromanager", reason="pycromanager is not installed (group micromanager)")

ROOT = Path(__file__).resolve().parents[2]
BEGIN = """
import json, os, sys, time, traceback
from pathlib import Path
import numpy as np
from acquisition.micromanager_acquisition import MicroManagerAcquisitionSource
from config.schema import SourceSettings

folder = Path(sys.argv[1])
settings = SourceSettings(backend="python", config="demo", exposure=5.0)

def end(*result):
    print(json.dumps(result), flush=True)
    os._exit(0)  # pycromanager's engine has threads that do not end

def fail(*error):
    traceback.print_exception(*error)
    sys.stderr.flush()
    os._exit(1)

sys.excepthook = fail
"""
BLINKING = """
from config.compose import compose
from simulation import micromanager_camera
scene = ["camera=challenge_emccd", "optics=challenge", "dataset=demo", "source.exposure=5"]
scene += ["source.backend=python", "source.config=blinking", "dataset.height=32", "dataset.width=48"]
chosen = compose(scene)

def core():
    return micromanager_camera.blinking_core(chosen)
"""


def run(code: str, folder: Path) -> list[object]:
    command = [sys.executable, "-c", BEGIN + code, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stdout, done.stderr
    result: list[object] = json.loads(done.stdout.splitlines()[-1])
    return result


def saved_in(folder: Path) -> Path:
    (saved,) = [path for path in folder.iterdir() if path.is_dir()]
    return saved


def test_every_frame_is_looked_at_and_saved(tmp_path: Path) -> None:
    code = """
with MicroManagerAcquisitionSource(settings, folder, [0, 0, 32, 24], 150) as source:
    source.open()
    blocks = list(source.blocks(16))
np.save(folder / "seen.npy", np.concatenate([frames.pixels for frames in blocks]))
end([int(number) for frames in blocks for number in frames.numbers])
"""
    (numbers,) = run(code, tmp_path)
    assert numbers == list(range(150))
    with RecordedSource(saved_in(tmp_path)) as source:
        assert source.open().frames == 150
        pixels = np.concatenate([frames.pixels for frames in source.blocks(64)])
    np.testing.assert_array_equal(pixels, np.load(tmp_path / "seen.npy"))


def test_stop_is_prompt_and_what_came_is_saved(tmp_path: Path) -> None:
    code = """
asked, count = None, 0
with MicroManagerAcquisitionSource(settings, folder, [0, 0, 32, 24], None) as source:
    source.open()
    for frames in source.blocks(4):
        count += len(frames)
        if count >= 40 and asked is None:
            source.stop()
            asked = time.monotonic()
took = time.monotonic() - asked
end(count, took)
"""
    count, took = run(code, tmp_path)
    assert isinstance(count, int)
    assert isinstance(took, float)
    assert took < 2.0
    with RecordedSource(saved_in(tmp_path)) as source:
        assert (source.open().frames or 0) >= count


def test_a_failing_disk_is_named(tmp_path: Path) -> None:
    code = """
(folder / "file").write_text("in the way")
with MicroManagerAcquisitionSource(settings, folder / "file", None, 10) as source:
    source.open()
    try:
        list(source.blocks(4))
        end("no error", "")
    except Exception as error:
        end(type(error).__name__, str(error))
"""
    kind, words = run(code, tmp_path)
    assert kind == "SourceStopped"
    assert "acquisition failed" in str(words)


def test_the_blinking_core_is_looked_at_and_saved_like_any_other(tmp_path: Path) -> None:
    code = """
with MicroManagerAcquisitionSource(chosen.source, folder, None, 60, core) as source:
    source.open()
    blocks = list(source.blocks(16))
np.save(folder / "seen.npy", np.concatenate([frames.pixels for frames in blocks]))
end([int(number) for frames in blocks for number in frames.numbers])
"""
    (numbers,) = run(BLINKING + code, tmp_path)
    assert numbers == list(range(60))
    seen = np.load(tmp_path / "seen.npy")
    assert seen.shape == (60, 32, 48)
    assert seen.std(axis=0).min() > 0, "it blinks"
    with RecordedSource(saved_in(tmp_path)) as source:
        source.open()
        np.testing.assert_array_equal(np.concatenate([frames.pixels for frames in source.blocks(64)]), seen)


def test_a_camera_that_dies_is_named_at_once_and_what_came_is_kept(tmp_path: Path) -> None:
    code = """
chosen.source.silence = 60.0
shines = micromanager_camera.SimulatedEmccd.start_sequence

def dies(camera, count, get_buffer):
    for number, taken in enumerate(shines(camera, count, get_buffer)):
        if number == 40:
            raise RuntimeError("cable out")
        yield taken

micromanager_camera.SimulatedEmccd.start_sequence = dies
count, begun, words = 0, time.monotonic(), ""
try:
    with MicroManagerAcquisitionSource(chosen.source, folder, None, 200, core) as source:
        source.open()
        for frames in source.blocks(4):
            count += len(frames)
except Exception as error:
    words = str(error)
end(count, time.monotonic() - begun, words)
"""
    count, took, words = run(BLINKING + code, tmp_path)
    assert isinstance(took, float)
    assert took < 30, "long before the silence of 60 s"
    assert "acquisition failed" in str(words)
    with RecordedSource(saved_in(tmp_path)) as source:
        assert 0 < (source.open().frames or 0) == count
