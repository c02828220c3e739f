"""Training learns, repeats and resumes; what it makes can be exported and read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from config.compose import compose
from config.errors import ExportMismatch, ModelFileInvalid, TrainingError
from config.schema import DomainSettings, NetworkSettings, Settings, TrainingSettings
from engine.runtimes import load_runtime
from engine.runtimes.choice import Wanted
from models import export as export_module
from models import training
from models.export import build_step, export
from models.registry import build_network
from models.training import SceneStream, load_checkpoint, train

TINY = NetworkSettings(name="tiny", past=1, future=1, encoder=[8, 8], features=8, heads=2, decoder=[8, 8])


def tiny(folder: Path, steps: int) -> Settings:
    easy = DomainSettings(photons=[3000.0, 3000.0], background=[2.0, 2.0], density=[0.01, 0.01], psf_sigma=[1.2, 1.2])
    training = TrainingSettings(
        steps=steps, batch_size=2, sequence=3, size=16, warmup=5, checkpoint_every=10, precision="fp32",
        device="cpu", output=str(folder), domain=easy, ema=0.9, learning_rate=3e-3,
    )  # fmt: skip
    return Settings(network=TINY, training=training)


def losses(folder: Path) -> list[float]:
    lines = (folder / "curves" / "from_step_0" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    column = lines[0].split(",").index("total")
    return [float(value) for line in lines[1:] if (value := line.split(",")[column])]


def test_training_learns_and_keeps_its_settings(tmp_path: Path) -> None:
    checkpoint = train(tiny(tmp_path, 60))
    seen = losses(tmp_path)
    assert seen[-1] < 0.8 * seen[0]
    network, training, weights, steps = load_checkpoint(checkpoint)
    assert (network, training.steps, steps) == (TINY, 60, 60)
    assert set(weights) == set(build_network(TINY).state_dict())


@pytest.mark.parametrize(("wanted", "able", "word"), [
    ("auto", True, "bf16-mixed"), ("auto", False, "32-true"), ("fp16", True, "16-mixed"), ("bf16", False, "bf16-mixed"),
])  # fmt: skip
def test_a_training_computes_in_what_the_device_has_instructions_for(
    wanted: str, able: bool, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.training.computes_in_bf16", lambda _: able)
    recipe = compose([f"training.precision={wanted}", "training.device=cpu"]).training
    assert training._precision(recipe) == word


def test_a_resumed_training_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    unbroken = load_checkpoint(train(tiny(tmp_path / "a", 20)))[2]
    # The learning rate follows the planned steps, so the broken one is stopped half-way rather than planned short.
    broken = tiny(tmp_path / "b", 20)
    _train_until(broken, 15)
    resumed = load_checkpoint(train(broken))[2]
    for name, weight in unbroken.items():
        assert torch.allclose(weight, resumed[name], atol=1e-6), name


def _train_until(settings: Settings, step: int) -> None:
    """Train and die after a checkpoint, as a killed process does."""

    def dying(self: SceneStream) -> object:
        for number, batch in enumerate(original(self)):
            if number == step:
                raise KeyboardInterrupt
            yield batch

    original = SceneStream.__iter__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SceneStream, "__iter__", dying)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(settings)


def test_other_settings_do_not_resume(tmp_path: Path) -> None:
    train(tiny(tmp_path, 10))
    changed = tiny(tmp_path, 10)
    changed.training.learning_rate = 1e-5
    with pytest.raises(TrainingError, match=r"training\.output"):
        train(changed)


def test_a_loss_that_is_no_number_stops_with_words(tmp_path: Path) -> None:
    settings = tiny(tmp_path, 30)
    settings.training.learning_rate = 1e30
    settings.training.warmup = 0
    with pytest.raises(TrainingError, match="not a number"):
        train(settings)


def test_the_smoke_recipe_of_the_yaml_runs(tmp_path: Path) -> None:
    settings = compose(["training=smoke", "training.steps=2", f"training.output={tmp_path}"])
    assert train(settings).exists()


def test_the_default_recipe_is_the_schema(tmp_path: Path) -> None:
    assert compose([]).training == TrainingSettings()
    # A model file of an earlier liveloc says nothing of the logarithm, and has none.
    assert replace(compose([]).network, input_log=0.0) == NetworkSettings()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    export(train(tiny(folder / "training", 10)), folder / "tiny")
    return folder / "tiny"


def test_both_forms_describe_themselves_alike(exported: Path) -> None:
    _, description = build_step(exported.with_suffix(".safetensors"))
    onnx_form = load_runtime(exported, Wanted("onnx", "cpu", "fp32", 1), build_step)
    assert onnx_form.description == description
    assert description.context == (1, 1)
    assert description.settings["training"]["seed"] == 1
    assert description.made_by["steps"] == "10"
    assert "CPU" in onnx_form.name


def test_a_model_file_is_exported_anew(exported: Path, tmp_path: Path) -> None:
    first = build_step(exported.with_suffix(".safetensors"))[0].state_dict()
    export(exported.with_suffix(".safetensors"), tmp_path / "again")
    module, description = build_step(tmp_path / "again.safetensors")
    assert all(torch.equal(module.state_dict()[name], weight) for name, weight in first.items())
    assert (description.name, description.made_by["steps"]) == ("again", "10")


def test_parity_is_really_checked(exported: Path, tmp_path: Path) -> None:
    for suffix in (".onnx", ".safetensors"):
        (tmp_path / f"other{suffix}").write_bytes(exported.with_suffix(suffix).read_bytes())
    model = onnx.load(tmp_path / "other.onnx")
    weight = next(w for w in model.graph.initializer if "maps.bias" in w.name)
    values = onnx.numpy_helper.to_array(weight).copy()
    weight.CopyFrom(onnx.numpy_helper.from_array(values + 5, weight.name))
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ExportMismatch):
        export_module.check_parity(tmp_path / "other")


def test_damaged_model_files_are_refused(exported: Path, tmp_path: Path) -> None:
    for suffix in (".onnx", ".safetensors"):
        damaged = tmp_path / f"damaged{suffix}"
        damaged.write_bytes(exported.with_suffix(suffix).read_bytes()[:1000])
        with pytest.raises(ModelFileInvalid):
            load_runtime(damaged, Wanted("auto", "cpu", "fp32", 1), build_step)
    with pytest.raises(ModelFileInvalid, match="no model file"):
        load_runtime(tmp_path / "absent.onnx", Wanted("auto", "cpu", "fp32", 1), build_step)


def test_no_checkpoint_no_export(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="liveloc train"):
        export(tmp_path / "none.ckpt", tmp_path / "out")


def test_a_changed_recipe_changes_the_hash() -> None:
    first = export_module.describe(TINY, TrainingSettings(), 1, "a")
    other = export_module.describe(TINY, replace(TrainingSettings(), seed=2), 1, "a")
    assert first.settings_hash != other.settings_hash


def test_a_training_starts_from_a_model_file(exported: Path, tmp_path: Path) -> None:
    settings = tiny(tmp_path / "more", 1)
    settings.training.base = str(exported.with_suffix(".safetensors"))
    settings.training.learning_rate = 1e-9
    before = build_step(exported.with_suffix(".safetensors"))[0].network.state_dict()
    after = load_checkpoint(train(settings))[2]
    assert all(torch.allclose(after[name], weight, atol=1e-6) for name, weight in before.items())


def test_what_a_training_could_not_start_from_is_said(
    exported: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = tiny(tmp_path, 1)
    settings.training.base = str(exported.with_suffix(".safetensors"))
    settings.network = replace(TINY, decoder=[8, 12])
    train(settings)
    (message,) = [record.getMessage() for record in caplog.records if "were taken from" in record.getMessage()]
    assert "decoder.down.0.first.weight 8×8×3×3 → 12×8×3×3" in message


def test_weights_that_do_not_fit_are_refused(exported: Path, tmp_path: Path) -> None:
    settings = tiny(tmp_path, 1)
    settings.training.base = str(exported.with_suffix(".safetensors"))
    settings.network = NetworkSettings(kind="decode", past=1, future=1, features=8)
    with pytest.raises(TrainingError, match="nothing to start from"):
        train(settings)
