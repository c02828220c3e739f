"""A GPU that runs out of memory or is lost: the rows are those of an undisturbed run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquisition.camera import Camera
from acquisition.source import Frames
from config.errors import RunError, RuntimeUnavailable
from config.schema import NetworkSettings, TrainingSettings
from engine.runtimes.model_file import ModelDescription
from engine.runtimes.resilient import ResilientRuntime
from engine.runtimes.runtime import Runtime
from engine.runtimes.torch_runtime import TorchRuntime
from engine.streaming import StreamingLocaliser
from models.attention_unet import AttentionUNet
from models.export import describe
from models.streaming import StreamStep

CAMERA = Camera("test", baseline=100.0, e_per_adu=0.5, em_gain=1.0, quantum_efficiency=0.8, pixel_size=110.0)
NETWORK = NetworkSettings(name="random", past=3, future=2, encoder=[8, 12], features=8, heads=2, decoder=[12, 12])

onnx_errors = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
"""A compiled module, without annotations."""


@pytest.fixture(scope="module")
def real() -> TorchRuntime:
    """A network with random weights that attends strongly and reports many emitters."""
    torch.manual_seed(3)
    network = AttentionUNet(NETWORK).eval()
    for parameter in network.attention.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(network.maps.weight, std=0.4)
    assert network.maps.bias is not None
    with torch.no_grad():
        network.maps.bias[:4] = -1.0
    return TorchRuntime(StreamStep(network), describe(NETWORK, TrainingSettings(), 0, "random"), "cpu", 1)


@dataclass
class Faulty:
    """A runtime that runs another and has no memory for more than ``most`` frames, or is lost at a given call."""

    inner: Runtime
    most: int = 10**6
    error: Exception = field(default_factory=lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to…"))
    lost_at: int | None = None
    lost: Exception = field(default_factory=lambda: RuntimeError("CUDA error: unspecified launch failure"))
    calls: list[int] = field(default_factory=list)
    """Frames of each call that came, failed ones included."""
    states: list[Any] = field(default_factory=list)
    """States that it gave, which another device cannot read."""

    @property
    def description(self) -> ModelDescription:
        return self.inner.description

    @property
    def name(self) -> str:
        return "faulty GPU"

    def blank_state(self, height: int, width: int) -> Any:
        return self._own(self.inner.blank_state(height, width))

    def step(
        self, photons: NDArray[np.float32], state: Any, valid: NDArray[np.bool_], threshold: float
    ) -> tuple[NDArray[np.float32], Any]:
        self.calls.append(len(photons))
        if len(photons) > self.most:
            raise self.error
        if self.lost_at is not None and len(self.calls) > self.lost_at:
            raise self.lost
        rows, state = self.inner.step(photons, self.states[state], valid, threshold)
        return rows, self._own(state)

    def _own(self, state: Any) -> int:
        self.states.append(state)
        return len(self.states) - 1


def blocks() -> Iterator[Frames]:
    """Three blocks of ten frames; frame 12 is missing."""
    rng = np.random.default_rng(1)
    for part in np.array_split(np.delete(np.arange(31), 12), 3):
        pixels = rng.poisson(40, (len(part), 19, 26)).astype(np.uint16) + 100
        pixels[rng.random(pixels.shape) < 0.02] += 500
        yield Frames(pixels, part, np.full(len(part), np.nan))


def rows_of(runtime: Runtime) -> NDArray[np.float64]:
    """Localisations of the movie, (N, columns)."""
    localiser = StreamingLocaliser(runtime, CAMERA, 0.3)
    batches = [*(localiser.push(block) for block in blocks()), localiser.flush()]
    names = ("frame", "x", "y", "photons", "sigma_x", "probability")
    return np.concatenate([np.stack([batch.column(name).to_numpy() for name in names], 1) for batch in batches])


@pytest.fixture(scope="module")
def undisturbed(real: TorchRuntime) -> NDArray[np.float64]:
    rows = rows_of(real)
    assert len(rows) > 200
    return rows


def assert_same(found: NDArray[np.float64], undisturbed: NDArray[np.float64]) -> None:
    assert found.shape == undisturbed.shape
    assert np.allclose(found, undisturbed, rtol=1e-4, atol=1e-3)


MEMORY: dict[str, Exception] = {
    "torch": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "onnx arena": onnx_errors.RuntimeException(
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Available memory of 0 is smaller than requested bytes of 4: "
        "Failed to allocate memory for requested buffer of size 4"
    ),
    "onnx cuda": onnx_errors.Fail("CUDA failure 2: out of memory ; GPU=0"),
    "processor": MemoryError("Unable to allocate 9 GiB"),
}


@pytest.mark.parametrize("error", MEMORY.values(), ids=MEMORY.keys())
def test_short_of_memory_it_goes_on_with_smaller_blocks(
    error: Exception, real: TorchRuntime, undisturbed: NDArray[np.float64], caplog: pytest.LogCaptureFixture
) -> None:
    faulty = Faulty(real, most=3, error=error)
    assert_same(rows_of(ResilientRuntime(faulty)), undisturbed)
    assert faulty.calls[:3] == [10, 5, 2]
    assert max(faulty.calls[2:]) == 2, "it does not try the large block again"
    assert "goes on with 2" in caplog.text


def test_without_faults_it_changes_nothing(real: TorchRuntime, undisturbed: NDArray[np.float64]) -> None:
    faulty = Faulty(real)
    assert_same(rows_of(ResilientRuntime(faulty)), undisturbed)
    assert faulty.calls == [10, 2, 2, 8, 10, 2], "the gap cuts the second block; two flushes"


LOST: dict[str, Exception] = {
    "torch": RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be…"),
    "onnx": onnx_errors.Fail("CUDA failure 700: an illegal memory access"),
    "named": RuntimeUnavailable("the device is gone"),
}


@pytest.mark.parametrize("error", LOST.values(), ids=LOST.keys())
@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_lost_device_is_replaced_where_it_is_allowed(
    at: int, error: Exception, real: TorchRuntime, undisturbed: NDArray[np.float64], caplog: pytest.LogCaptureFixture
) -> None:
    faulty = Faulty(real, lost_at=at, lost=error)
    runtime = ResilientRuntime(faulty, lambda: real)
    assert_same(rows_of(runtime), undisturbed)
    assert len(faulty.calls) == at + 1
    assert f"goes on with {real.name}" in caplog.text
    assert "faulty GPU was lost" in caplog.text
    assert "run.cpu_fallback" in caplog.text


def test_no_memory_for_a_single_frame_falls_back_too(
    real: TorchRuntime, undisturbed: NDArray[np.float64], caplog: pytest.LogCaptureFixture
) -> None:
    assert_same(rows_of(ResilientRuntime(Faulty(real, most=0), lambda: real)), undisturbed)
    assert "too little memory for a single frame" in caplog.text


@pytest.mark.parametrize("faulty", [{"most": 0}, {"lost_at": 3}])
def test_without_leave_to_use_the_processor_it_says_so(faulty: dict[str, Any], real: TorchRuntime) -> None:
    with pytest.raises(RunError, match=r"faulty GPU.*run\.cpu_fallback=true"):
        rows_of(ResilientRuntime(Faulty(real, **faulty)))


def test_a_fallback_that_fails_as_well_ends_the_run(real: TorchRuntime) -> None:
    with pytest.raises(RunError, match="cpu_fallback"):
        rows_of(ResilientRuntime(Faulty(real, lost_at=2), lambda: Faulty(real, most=0)))


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("shapes do not match")])
def test_other_errors_come_through(error: Exception, real: TorchRuntime) -> None:
    with pytest.raises(type(error), match=str(error)):
        rows_of(ResilientRuntime(Faulty(real, lost_at=2, lost=error), lambda: real))


@given(st.lists(st.sampled_from(["fine", "memory"]), max_size=20), st.integers(0, 20))
@hypothesis_settings(deadline=None, max_examples=10)
def test_whenever_it_fails_the_rows_are_the_same(
    real: TorchRuntime, undisturbed: NDArray[np.float64], fates: list[str], lost_at: int
) -> None:
    following = iter(fates)

    class Fateful(Faulty):
        def step(
            self, photons: NDArray[np.float32], state: Any, valid: NDArray[np.bool_], threshold: float
        ) -> tuple[NDArray[np.float32], Any]:
            self.most = 0 if next(following, "fine") == "memory" else 10**6
            return super().step(photons, state, valid, threshold)

    fallback: Callable[[], Runtime] = lambda: real  # noqa: E731 (typed)
    assert_same(rows_of(ResilientRuntime(Fateful(real, lost_at=lost_at), fallback)), undisturbed)
