"""Which clusters are trusted, and how one is reached."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from config.errors import ClusterFailed, SettingsError
from config.schema import ClusterSettings, RunSettings, Settings
from engine.scale.cluster import PEM, connected, for_workers, local_shape, make_certificates, target

distributed = pytest.importorskip("distributed", reason="distributed is not installed (extra cluster)")


def at(address: str, **more: object) -> ClusterSettings:
    return replace(ClusterSettings(kind="address", address=address), **more)


@pytest.mark.parametrize("address", ["127.0.0.1:8786", "localhost:8786", "tcp://127.0.0.1:8786", "[::1]:8786"])
def test_this_computer_needs_no_certificates(address: str) -> None:
    assert target(at(address)) == (f"tcp://{address.removeprefix('tcp://')}", None)


@pytest.mark.parametrize("address", ["10.0.0.3:8786", "node1:8786", "tcp://node1.example.org:8786", "127.0.0.1.org:1"])
def test_another_computer_needs_certificates_or_a_word(address: str) -> None:
    with pytest.raises(SettingsError, match=r"liveloc certificates .* cluster\.trust_network=true"):
        target(at(address))
    assert target(at(address, trust_network=True))[1] is None


def test_tls_needs_all_three_files(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"needs cluster\.tls"):
        target(at("tls://node1:8786", trust_network=True))
    folder = tmp_path / "tls"
    assert [path.name for path in make_certificates(folder)] == list(PEM)
    address, security = target(at("node1:8786", tls=str(folder)))
    assert address == "tls://node1:8786"
    assert security is not None
    assert security.require_encryption
    (folder / "key.pem").unlink()
    with pytest.raises(SettingsError, match=r"there is no key\.pem"):
        target(at("node1:8786", tls=str(folder)))


def test_certificates_are_secret_and_never_overwritten(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls")
    if os.name == "posix":
        assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o600] * 3
    with pytest.raises(SettingsError, match="never overwritten"):
        make_certificates(tmp_path / "tls")


def test_a_scheduler_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.scale.cluster.CONNECT", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(ClusterFailed, match=rf"no scheduler answers at tcp://{address}"),
            connected(Settings(cluster=at(address))),
        ):
            pass


SHAPES = {
    "a core each": (ClusterSettings(), RunSettings(), 8, 0, (8, 1)),
    "a card each": (ClusterSettings(), RunSettings(), 8, 2, (2, 4)),
    "cards left alone": (ClusterSettings(), RunSettings(device="cpu"), 8, 2, (8, 1)),
    "as many as asked": (ClusterSettings(workers=3), RunSettings(), 8, 0, (3, 2)),
    "more than cores": (ClusterSettings(workers=9), RunSettings(), 8, 0, (9, 1)),
    "threads of the run": (ClusterSettings(workers=2), RunSettings(threads=3), 8, 0, (2, 3)),
    "threads of the cluster": (ClusterSettings(workers=2, threads=1), RunSettings(threads=3), 8, 0, (2, 1)),
}


@pytest.mark.parametrize(("chosen", "run", "cores", "gpus", "shape"), SHAPES.values(), ids=SHAPES.keys())
def test_shape_of_a_local_cluster(
    chosen: ClusterSettings, run: RunSettings, cores: int, gpus: int, shape: tuple[int, int]
) -> None:
    assert local_shape(chosen, run, cores, gpus) == shape


def test_maps_are_found_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings()
    settings.camera.maps = "maps.npz"
    ready = for_workers(settings, 3)
    assert ready.camera.maps == str(tmp_path / "maps.npz")
    assert ready.run.threads == 3


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(SettingsError, match=r"liveloc\[cluster\]"), connected(Settings(cluster=at("localhost:1"))):
        pass
