"""The doctor's findings: tried on this machine, and on machines made worse."""

from __future__ import annotations

import subprocess

import pytest

from engine import doctor


def test_every_finding_says_something() -> None:
    found = {finding.name: finding for finding in doctor.examine()}
    assert {"Python", "liveloc", "processor", "disk", "GPU", "torch"} <= set(found)
    assert all(finding.value for finding in found.values())


def test_the_processor_runs_onnx() -> None:
    pytest.importorskip("onnxruntime", reason="no ONNX Runtime is installed")
    assert doctor.provider_loads("CPUExecutionProvider")


def test_a_provider_that_is_not_there_is_not_claimed() -> None:
    pytest.importorskip("onnxruntime", reason="no ONNX Runtime is installed")
    with pytest.warns(UserWarning, match="CoreML"):
        assert not doctor.provider_loads("CoreMLExecutionProvider")


def test_two_runtimes_at_once_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0")
    findings = list(doctor.onnx_runtime())
    assert not findings[0].good
    assert "hide one another" in findings[0].value


def test_no_runtime_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    (finding,) = doctor.onnx_runtime()
    assert not finding.good
    assert "liveloc[cpu]" in finding.value


def test_a_processor_build_of_torch_beside_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    finding = doctor.torch_build()
    assert not finding.good
    assert "without CUDA" in finding.value


def test_a_broken_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(9, "nvidia-smi")

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("subprocess.run", fail)
    assert not doctor.gpu().good
