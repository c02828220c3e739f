"""Settings from YAML groups and overrides, and the words of every refusal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, given
from hypothesis import strategies as st

from config.compose import FOLDER, GROUPS, _prepare, compose, keys, to_yaml
from config.errors import SettingsError
from config.limits import CHOICES, LIMITS
from config.schema import CameraSettings, Settings

DEFAULTS = {
    "camera": "unknown",
    "optics": "unknown",
    "network": "default",
    "training": "default",
    "dataset": "random",
    "photophysics": "two_state",
    "run": "replay",
    "source": "simulated",
    "wire": "loopback",
    "monitor": "default",
    "feedback": "off",
    "cluster": "off",
    "evaluation": "default",
    "bench": "default",
}

REFUSED = {
    "mistyped": ("camera.baselin=1", "camera.baselin: no such setting. Did you mean camera.baseline?"),
    "group left out": ("baseline=1", "Did you mean camera.baseline?"),
    "group mistyped": ("camra.baseline=1", "Did you mean camera.baseline?"),
    "group alone mistyped": ("camer=unknown", "camer: no such setting. Did you mean camera?"),
    "nothing near": ("qqqqqq=1", "`liveloc settings` lists all of them"),
    "nested": ("training.domain.photon=[1,2]", "Did you mean training.domain.photons?"),
    "no equals": ("camera.baseline", "expected setting=value"),
    "unknown option": ("network=smal", "Did you mean network=small?"),
    "unknown option, nothing near": ("network=zzzz", "There are astigmatic, decode, default"),
    "text for a number": ("camera.baseline=abc", "camera.baseline: expected a number, or null for not known"),
    "text for a whole number": ("run.block=many", "run.block: expected a whole number"),
    "fraction for a whole number": ("run.block=1.5", "run.block: expected a whole number"),
    "text for yes or no": ("camera.estimate=perhaps", "camera.estimate: expected true or false"),
    "words for numbers": ("run.roi=[a,b,c,d]", "run.roi: expected whole numbers in brackets"),
    "null where there must be a value": ("run.block=null", "run.block: expected a whole number"),
    "unbalanced": ("run.roi=[1,2", "cannot be composed"),
    "below": ("run.block=0", "run.block: expected a number of 1 or more, found 0"),
    "above": ("camera.quantum_efficiency=90", "above 0 and at most 1, found 90"),
    "zero": ("camera.em_gain=0", "camera.em_gain: expected a number above 0"),
    "not a number": ("camera.em_gain=nan", "camera.em_gain: expected a number above 0"),
    "choice": ("run.runtime=tensorflow", "expected one of auto, onnx, torch"),
    "format": ("run.formats=[csv,xlsx]", "found xlsx"),
    "short roi": ("run.roi=[1,2,3]", "expected [x, y, width, height]"),
    "stop before start": ("run.stop=0", "expected a number of 1 or more"),
    "domain upside down": ("training.domain.photons=[200,100]", "expected [smallest, largest]"),
    "no cluster": ("cluster=remote", "cluster=remote: no such cluster. There are local, off"),
    "cluster without a port": ("cluster=node1.example", "no such cluster"),
    "missing file": ("camera=nowhere/mine.yaml", "the file cannot be read"),
}


@pytest.mark.parametrize(("override", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_words(override: str, words: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        compose([override])
    assert words in str(refusal.value)


def test_defaults_are_the_groups_of_the_root() -> None:
    settings = compose()
    assert {group: getattr(settings, group).name for group in GROUPS} == DEFAULTS
    assert settings.model == "default"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_shipped_file_composes_and_names_itself(path: Path) -> None:
    group = path.parent.name
    settings = compose([f"{group}={path.stem}"])
    assert getattr(settings, group).name == path.stem or group in ("camera", "optics")


def test_overrides_win_over_the_group_whatever_their_order() -> None:
    assert compose(["network.heads=7", "network=small"]).network.heads == 7


def test_a_later_override_wins() -> None:
    assert compose(["run.block=3", "run.block=5"]).run.block == 5


def test_a_later_file_of_a_group_wins() -> None:
    assert compose(["network=default", "network=small"]).network.name == "small"


@pytest.mark.parametrize(
    ("name", "a_frame"),
    [("density_0_2", 0.2), ("density_1", 1.0), ("density_2", 2.0), ("density_4", 4.0), ("dim", 1.0)],
)
def test_benchmark_conditions(name: str, a_frame: float) -> None:
    dataset = compose([f"dataset={name}"]).dataset
    assert dataset.density * (1 + dataset.exposure / dataset.on_time) == pytest.approx(a_frame, rel=1e-3)
    assert compose(["dataset=dim"]).dataset.photons == 300


VALUES = {
    "optional number": ("camera.baseline=100", "camera.baseline", 100.0),
    "back to unknown": ("camera.baseline=null", "camera.baseline", None),
    "list": ("run.roi=[1,2,30,40]", "run.roi", [1, 2, 30, 40]),
    "words": ("run.formats=[csv,hdf5]", "run.formats", ["csv", "hdf5"]),
    "windows path": (r"run.output=C:\data\run 1", "run.output", r"C:\data\run 1"),
    "windows folder": ("run.output=C:\\data\\", "run.output", "C:\\data\\"),
    "brackets, comma, equals": ("run.output=/a (b), c=d [e]", "run.output", "/a (b), c=d [e]"),
    "apostrophe": ("run.output=/it's", "run.output", "/it's"),
    "number as text": ("run.name=2026", "run.name", "2026"),
    "quoted": ("run.name='a b'", "run.name", "a b"),
    "no output": ("run.output=null", "run.output", None),
    "root": (r"model=D:\m.onnx", "model", r"D:\m.onnx"),
}


@pytest.mark.parametrize(("override", "key", "value"), VALUES.values(), ids=VALUES.keys())
def test_values(override: str, key: str, value: object) -> None:
    found: object = compose([override])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


@given(st.text(st.characters(codec="utf-8", exclude_characters="$", exclude_categories=["Cc"]), min_size=1))
def test_any_path_reaches_hydra_unchanged(text: str) -> None:
    assume(text != "null" and not (text[0] == text[-1] and text[0] in "'\""))
    assert str(OverridesParser.create().parse_override(_prepare(f"run.output={text}")).value()) == text


def own_file(folder: Path, text: str) -> Path:
    path = folder / "my microscope (left).yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_camera_file_of_ones_own(tmp_path: Path) -> None:
    path = own_file(tmp_path, "name: ours\nbaseline: 101\ne_per_adu: 4.5\n")
    camera = compose(["camera.e_per_adu=5", f"camera={path}"]).camera
    assert camera == CameraSettings(name="ours", baseline=101.0, e_per_adu=5.0)


@pytest.mark.parametrize(
    ("often", "words"),
    [
        ("brightness: [1.0, 2.0]", "expected names among psf_sigma"),
        ("photons: [50.0, 200.0]", "expected [smallest, largest] within [100, 5000]"),
    ],
)
def test_what_is_seen_often_lies_in_the_domain(often: str, words: str, tmp_path: Path) -> None:
    path = own_file(tmp_path, f"domain:\n  often:\n    {often}\n")
    with pytest.raises(SettingsError, match=re.escape(words)):
        compose([f"training={path}"])


def test_a_camera_file_is_read_anew(tmp_path: Path) -> None:
    path = own_file(tmp_path, "baseline: 101\n")
    compose([f"camera={path}"])
    own_file(tmp_path, "baseline: 102\n")
    assert compose([f"camera={path}"]).camera.baseline == 102


def test_a_camera_file_relative_to_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("em_gain: 3\n")
    monkeypatch.chdir(tmp_path)
    assert compose(["camera=./mine.yaml"]).camera.em_gain == compose(["camera=mine.yaml"]).camera.em_gain == 3


def test_maps_beside_the_camera_file(tmp_path: Path) -> None:
    (tmp_path / "maps.npz").touch()
    maps = compose([f"camera={own_file(tmp_path, 'maps: maps.npz')}"]).camera.maps
    assert maps is not None
    assert Path(maps) == (tmp_path / "maps.npz").resolve()


def test_a_training_file_with_a_domain(tmp_path: Path) -> None:
    path = own_file(tmp_path, "domain:\n  photons: [10, 20]\n")
    assert compose([f"training={path}"]).training.domain.photons == [10, 20]


OWN_REFUSED = {
    "mistyped": ("baselin: 1", "camera.baselin: no such setting. Did you mean camera.baseline?"),
    "list": ("- 1", "found list"),
    "not YAML": ("a: [", "expected YAML"),
    "wrong type": ("baseline: dark", "camera.baseline: expected a number"),
    "out of range": ("quantum_efficiency: 95", "camera.quantum_efficiency"),
}


@pytest.mark.parametrize(("text", "words"), OWN_REFUSED.values(), ids=OWN_REFUSED.keys())
def test_own_file_refused_in_words(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        compose([f"camera={own_file(tmp_path, text)}"])
    assert words in str(refusal.value)


def test_yaml_holds_every_setting() -> None:
    settings = compose(["camera.baseline=100", "run.roi=[0,0,8,8]"])
    kept = yaml.safe_load(to_yaml(settings))
    assert kept["camera"]["baseline"] == 100
    assert kept["run"]["roi"] == [0, 0, 8, 8]
    assert set(kept) == {*GROUPS, "model", "viewer"}


def test_every_limit_belongs_to_a_setting() -> None:
    assert {*LIMITS, *CHOICES} <= set(keys())


def test_keys_are_the_schema() -> None:
    assert "training.domain.psf_sigma" in keys()
    assert "training.domain" not in keys()
    assert len(keys()) == len(set(keys()))


def test_compose_leaves_no_state_behind() -> None:
    first = compose(["run.block=3"])
    first.network.encoder.append(1)
    assert compose() == compose()
    assert compose().network.encoder == Settings().network.encoder


@pytest.mark.parametrize("address", ["node1:8786", "10.0.0.3:8786", "tls://node1.example.org:8786", "[::1]:8786"])
def test_a_cluster_goes_by_its_address(address: str) -> None:
    cluster = compose([f"cluster={address}", "cluster.retries=3"]).cluster
    assert (cluster.kind, cluster.address, cluster.retries) == ("address", address, 3)


def test_a_cluster_of_this_computer_and_none() -> None:
    assert compose(["cluster=local", "cluster.workers=2"]).cluster.kind == "local"
    assert compose(["cluster=off"]).cluster.kind == compose().cluster.kind == "off"
