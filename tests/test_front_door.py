"""The commands, run as a user runs them: as processes."""

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

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    "demo",
    "live",
    "replay",
    "view",
    "render",
    "keys",
    "certificates",
    "simulate",
    "psf",
    "train",
    "export",
    "evaluate",
    "convert",
    "bench",
    "doctor",
    "settings",
)
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")} | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
    "COLUMNS": "200",
    "PYTHONIOENCODING": "utf-8",
}
FRAMES = 40
LIKE_SIMULATED = ("camera=challenge_emccd", "optics=challenge")


def liveloc(*arguments: object, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command without a screen; its exit status must be ``status``."""
    command = [sys.executable, "-m", "liveloc", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=110)
    assert done.returncode == status, done.stderr + done.stdout
    return done


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of an untrained small network, which finds something everywhere if the threshold is low."""
    import torch

    from config.schema import NetworkSettings, TrainingSettings
    from models.export import describe
    from models.registry import build_network
    from models.weights_file import write_weights

    torch.manual_seed(0)
    network = NetworkSettings(past=1, future=1, encoder=[8, 8], features=8, heads=2, decoder=[8, 8, 8])
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    write_weights(build_network(network).state_dict(), describe(network, TrainingSettings(), 0, "untrained"), path)
    return path


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ``liveloc simulate`` wrote."""
    folder = tmp_path_factory.mktemp("simulated")
    sizes = (f"dataset.frames={FRAMES}", "dataset.height=24", "dataset.width=32")
    done = liveloc("simulate", *sizes, f"dataset.output={folder / 'set'}", cwd=folder)
    assert "40 frames" in done.stdout
    return folder / "set"


def arguments_of_replay(simulated: Path, model: Path, output: Path) -> tuple[object, ...]:
    run = (f"model={model}", "run.threshold=0.001", "run.threads=1", f"run.output={output}")
    return "replay", simulated / "frames.ome.tif", *LIKE_SIMULATED, *run


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, liveloc\n"
        "from typer.testing import CliRunner\n"
        "result = CliRunner().invoke(liveloc.app, ['--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        "heavy = ('torch', 'onnxruntime', 'PyQt5', 'lightning', 'pyarrow', 'scipy', 'hydra')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["viewer.window", "viewer.terminal", "viewer.display", "viewer.client"])
def test_the_viewer_never_loads_torch(module: str) -> None:
    pytest.importorskip("PyQt5", reason="PyQt5 is not installed (group viewer)")
    code = f"import sys, {module}; print([name for name in ('torch', 'onnxruntime') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_help_names_every_command(tmp_path: Path) -> None:
    text = liveloc("--help", cwd=tmp_path).stdout
    assert [name for name in COMMANDS if f" {name} " not in text] == []


def test_simulate_writes_frames_truth_and_settings(simulated: Path) -> None:
    import pyarrow.parquet as pq
    import tifffile

    assert tifffile.imread(simulated / "frames.ome.tif").shape == (FRAMES, 24, 32)
    assert pq.read_table(simulated / "emitters.parquet").num_rows > 0
    assert "name: challenge_emccd" in (simulated / "settings.yaml").read_text(encoding="utf-8")


def test_replay_accounts_for_every_frame(simulated: Path, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run (1)"
    done = liveloc(*arguments_of_replay(simulated, model, run), cwd=tmp_path)
    account = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (account["frames_seen"], account["missing_frames"], account["end_reason"]) == (FRAMES, [], "finished")
    assert account["model"]["name"] == "untrained"
    assert account["localisations"] > 0
    assert account["frames_per_second"] > 0
    assert f"{FRAMES} of {FRAMES}" in done.stdout
    assert f"{account['localisations']:,}" in done.stdout
    written = {path.name for path in run.iterdir()}
    assert {"image.png", "localisations.csv", "localisations.parquet", "settings.yaml"} <= written
    assert [name for name in written if name not in done.stdout] == []


def test_replay_of_a_part(simulated: Path, model: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    part = ("run.start=10", "run.stop=20", "run.roi=[8,4,16,16]")
    liveloc(*arguments_of_replay(simulated, model, tmp_path / "run"), *part, cwd=tmp_path)
    table = pq.read_table(tmp_path / "run" / "localisations.parquet")
    frames, x, y = (table[name].to_numpy() for name in ("frame", "x", "y"))
    assert (frames.min(), frames.max()) == (10, 19)
    assert x.min() > 700
    assert x.max() < 2500
    assert y.min() > 300
    assert y.max() < 2100


def test_an_estimated_camera_is_said_to_be_a_guess(simulated: Path, model: Path, tmp_path: Path) -> None:
    arguments = [part for part in arguments_of_replay(simulated, model, tmp_path / "run") if part not in LIKE_SIMULATED]
    done = liveloc(*arguments, "camera=estimate", cwd=tmp_path)
    account = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert "Camera estimated from the recording" in done.stderr
    assert any("Camera estimated" in words for words in account["warnings"])


def test_a_wide_psf_is_warned_of(simulated: Path, model: Path, tmp_path: Path) -> None:
    done = liveloc(*arguments_of_replay(simulated, model, tmp_path / "run"), "optics.psf_sigma=400", cwd=tmp_path)
    assert "The PSF is 4.00 pixels wide" in done.stderr


def test_convert_reads_the_log_of_a_run(simulated: Path, model: Path, tmp_path: Path) -> None:
    liveloc(*arguments_of_replay(simulated, model, tmp_path / "run"), "run.formats=[]", cwd=tmp_path)
    done = liveloc("convert", "run/localisations.arrows", "table.hdf5", cwd=tmp_path)
    assert (tmp_path / "table.hdf5").exists()
    assert (tmp_path / "table.yaml").exists()
    account = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert done.stdout.startswith(f"{account['localisations']:,} localisations")


REFUSED = {
    "mistyped setting": (("replay", "x.tif", "camera.baselin=1"), "Did you mean camera.baseline?"),
    "missing stack": (("replay", "nowhere.tif", *LIKE_SIMULATED), "nowhere.tif"),
    "missing table": (("convert", "nowhere.csv", "out.parquet"), "nowhere.csv"),
    "missing checkpoint": (("export", "nowhere.ckpt"), "nowhere.ckpt"),
    "missing model": (("demo", "model=nowhere.onnx", "viewer=false"), "nowhere.onnx"),
    "no micro-manager": (("live", "source=micromanager", "source.port=4826"), "Run pycro-manager server on port"),
    "nothing to follow": (("live", "source=follow"), "source.path"),
    "a live camera to guess": (("live", "camera=estimate"), "needs a recording"),
    "others without keys": (("live", "wire.address=0.0.0.0", "run.frames=1"), "liveloc keys FOLDER NAME"),
    "no light": (("live", "source=recorded", "source.path=x.tif", "feedback=activation"), "x.tif"),
    "mistyped option": (("render", "x.csv", "nm_per_pixl=5"), "nm_per_pixel"),
    "bad training": (("train", "training.steps=0"), "training.steps: expected a number of 1 or more"),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_a_message_and_status_2(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = liveloc(*arguments, cwd=tmp_path, status=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stack_without_calibration_says_what_is_needed(simulated: Path, model: Path, tmp_path: Path) -> None:
    done = liveloc("replay", simulated / "frames.ome.tif", f"model={model}", cwd=tmp_path, status=2)
    assert "em_gain" in done.stderr
    assert "camera=estimate" in done.stderr
    assert not (tmp_path / "runs").exists()


def demo_arguments(model: Path, frames: int) -> list[str]:
    sizes = [f"dataset.frames={frames}", "dataset.height=24", "dataset.width=24", "run.threads=1"]
    return ["demo", f"model={model}", *sizes, "run.output=run", "run.threshold=0.001"]


def test_demo_compares_with_the_truth(model: Path, tmp_path: Path) -> None:
    done = liveloc(*demo_arguments(model, 60), cwd=tmp_path)
    assert "No live window: there is no screen" in done.stdout or sys.platform != "linux"
    assert "Jaccard index" in done.stdout
    assert "RMSE" in done.stdout
    account = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert account["frames_seen"] == 60


def test_live_is_published_and_a_table_of_it_renders(model: Path, tmp_path: Path) -> None:
    sizes = ("dataset.height=24", "dataset.width=24", "run.threads=1", "run.threshold=0.001", f"model={model}")
    done = liveloc("live", *sizes, "run.frames=60", "run.output=run", "wire.port=0", "viewer=false", cwd=tmp_path)
    account = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert account["end_reason"] == "finished: 60 frames (run.frames)"
    assert account["endpoint"].startswith("tcp://127.0.0.1:")
    assert account["delay"]["median"] > 0
    assert (tmp_path / "run" / "quality.parquet").exists()
    assert "delay" in done.stdout
    if sys.platform == "linux":
        liveloc("render", "run", "output=picture.png", "nm_per_pixel=20", cwd=tmp_path)
        assert (tmp_path / "picture.png").stat().st_size > 1000


def test_keys_are_made_once(tmp_path: Path) -> None:
    liveloc("keys", "keys", "office", cwd=tmp_path)
    assert (tmp_path / "keys" / "for_clients" / "office" / "client.key_secret").exists()
    assert "never overwritten" in liveloc("keys", "keys", "office", cwd=tmp_path, status=2).stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_closes_the_run_and_keeps_what_came(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "liveloc", *demo_arguments(model, 100_000)]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background job ignores Ctrl-C and passes that on; whoever runs the tests there wants them to pass.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    try:
        _wait_for_rows(tmp_path / "run" / "localisations.arrows")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    account = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert process.returncode == 130, output
    assert account["end_reason"] == "stopped"
    assert account["frames_analysed"] == account["frames_seen"] > 0
    assert (tmp_path / "run" / "localisations.csv").exists()
    assert "Traceback" not in output


def _wait_for_rows(log: Path, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not (log.exists() and log.stat().st_size > 4000):
        assert time.monotonic() < deadline, "no localisations came"
        time.sleep(0.1)


def test_doctor_runs_anywhere(tmp_path: Path) -> None:
    text = liveloc("doctor", cwd=tmp_path).stdout
    assert [word for word in ("Python", "torch", "GPU", "live window", "shipped models") if word not in text] == []


def test_settings_of_one_group(tmp_path: Path) -> None:
    text = liveloc("settings", "camera", cwd=tmp_path).stdout
    assert "camera.baseline = None" in text
    assert "[ADU]" in text
    assert "challenge_emccd" in text
    assert "run.block" not in text


def test_evaluate_scores_one_condition(model: Path, tmp_path: Path) -> None:
    small = ("dataset.frames=12", "dataset.height=24", "dataset.width=24")
    done = liveloc("evaluate", f"model={model}", "dataset=dim", *small, "run.threads=1", cwd=tmp_path)
    assert "| RMSE [nm] |" in done.stdout
    assert "| dim |" in done.stdout
    assert "density_1" not in done.stdout


def test_kill_9_in_the_middle_of_a_replay_loses_nothing_that_was_written(model: Path, tmp_path: Path) -> None:
    from engine.output.recorder import LogTail, read_log

    liveloc(
        "simulate", "dataset.frames=4000", "dataset.height=32", "dataset.width=32", "dataset.output=set", cwd=tmp_path
    )
    output = tmp_path / "run"
    arguments = arguments_of_replay(tmp_path / "set", model, output)
    command = [sys.executable, "-m", "liveloc", *map(str, arguments), "run.block=1"]
    log, seen = output / "localisations.arrows", 0
    process = subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while seen < 500:
            assert process.poll() is None, "the replay ended before it could be killed"
            time.sleep(0.05)
            if log.exists():
                seen = read_log(log).num_rows
    finally:
        process.kill()
        process.wait()
    assert read_log(log).num_rows >= seen
    assert sum(batch.num_rows for batch in LogTail(log).read_new()) == read_log(log).num_rows
    assert '"end_reason": "running"' in (output / "run.json").read_text(encoding="utf-8")
