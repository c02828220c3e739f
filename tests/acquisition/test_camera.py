"""ADU to photons and back to known truth; what is missing is named; what is impossible is refused."""

from __future__ import annotations

from math import inf, nan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.camera import WHERE_TO_FIND, Camera, presets
from config.errors import CalibrationMissing, SettingsError
from config.schema import CameraSettings

EMCCD: dict[str, Any] = {
    "baseline": 100.0,
    "e_per_adu": 45.0,
    "em_gain": 300.0,
    "quantum_efficiency": 0.9,
    "pixel_size": 100.0,
}


def camera(known: dict[str, float] | None = None, **fields: Any) -> Camera:
    return Camera.from_settings(CameraSettings(**fields), known or {}, (4, 5), (0, 0))


def test_photons_of_the_challenge_camera() -> None:
    adu = np.full((2, 4, 5), 700, np.uint16)
    photons = camera(**EMCCD).to_photons(adu)
    assert photons.dtype == np.float32
    np.testing.assert_allclose(photons, (700 - 100) * 45 / (300 * 0.9), rtol=1e-6)


def test_below_the_baseline_photons_are_negative() -> None:
    photons = camera(**EMCCD).to_photons(np.full((1, 4, 5), 40, np.uint8))
    np.testing.assert_allclose(photons, -60 / 6, rtol=1e-6)


@given(
    adu=st.integers(0, 65535),
    baseline=st.floats(0, 1000),
    e_per_adu=st.floats(0.01, 100),
    em_gain=st.floats(1, 1000),
    efficiency=st.floats(0.05, 1),
)
def test_conversion_is_the_formula(
    adu: int, baseline: float, e_per_adu: float, em_gain: float, efficiency: float
) -> None:
    found = camera(
        baseline=baseline, e_per_adu=e_per_adu, em_gain=em_gain, quantum_efficiency=efficiency, pixel_size=100.0
    ).to_photons(np.full((1, 1, 1), adu, np.uint16))
    scale = e_per_adu / (em_gain * efficiency)
    assert found[0, 0, 0] == pytest.approx((adu - baseline) * scale, rel=1e-4, abs=0.01 * scale)


@pytest.mark.parametrize(("em_gain", "factor"), [(1.0, 1.0), (2.0, sqrt(2)), (300.0, sqrt(2))])
def test_excess_noise_factor(em_gain: float, factor: float) -> None:
    assert camera(**{**EMCCD, "em_gain": em_gain}).excess_noise_factor == pytest.approx(factor)


def test_settings_win_over_metadata_and_metadata_fills_gaps() -> None:
    made = camera({"pixel_size": 160.0, "em_gain": 50.0}, **{**EMCCD, "pixel_size": None})
    assert (made.pixel_size, made.em_gain) == (160.0, 300.0)


def test_a_difference_between_settings_and_metadata_is_told(caplog: pytest.LogCaptureFixture) -> None:
    camera({"em_gain": 301.0, "pixel_size": 160.0}, **EMCCD)
    assert [record.getMessage() for record in caplog.records] == [
        "camera.pixel_size is 100 in the settings but 160 in the recording's metadata: the settings win"
    ]


def test_saturation_is_the_smaller_of_settings_and_metadata() -> None:
    assert camera({"saturation": 4095.0}, **EMCCD).saturation == 4095.0
    assert camera({"saturation": 65535.0}, **EMCCD, saturation=1000.0).saturation == 1000.0


def test_unknown_noise_counts_as_none() -> None:
    made = camera(**EMCCD)
    assert (made.read_noise, made.spurious_charge) == (0.0, 0.0)


def test_one_error_names_everything_that_is_missing_and_every_way_out() -> None:
    with pytest.raises(CalibrationMissing) as caught:
        camera()
    message = str(caught.value)
    for field, where in WHERE_TO_FIND.items():
        assert f"{field}: {where}" in message
    for way in ("camera=NAME", "challenge_emccd", "camera.baseline=", "camera=estimate", "sCMOS", "dark frames"):
        assert way in message


def test_the_error_names_only_what_is_missing() -> None:
    with pytest.raises(CalibrationMissing, match="em_gain: ") as caught:
        camera(**{**EMCCD, "em_gain": None})
    assert "  baseline: " not in str(caught.value)
    assert "camera.em_gain=1" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quantum_efficiency", 0.0),
        ("quantum_efficiency", 90.0),
        ("e_per_adu", 0.0),
        ("em_gain", 0.5),
        ("pixel_size", -1.0),
        ("baseline", nan),
        ("read_noise", -1.0),
        ("spurious_charge", inf),
        ("saturation", 0.0),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(SettingsError, match=rf"camera\.{field} must be .* but it is"):
        camera(**{**EMCCD, field: value})


def save_maps(path: Path, shape: tuple[int, ...] = (4, 5), **changes: Any) -> str:
    rng = np.random.default_rng(3)
    arrays: dict[str, Any] = {
        "offset": rng.uniform(90, 110, shape),
        "gain": rng.uniform(2, 2.2, shape),
        "variance": rng.uniform(4, 40, shape),
    }
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return str(path)


def scmos(maps: str, shape: tuple[int, int] = (4, 5), origin: tuple[int, int] = (0, 0)) -> Camera:
    settings = CameraSettings(em_gain=1.0, quantum_efficiency=0.8, pixel_size=160.0, maps=maps)
    return Camera.from_settings(settings, {}, shape, origin)


def test_maps_replace_baseline_and_gain_pixel_by_pixel(tmp_path: Path) -> None:
    maps = np.load(save_maps(tmp_path / "maps.npz"))
    made = scmos(str(tmp_path / "maps.npz"))
    adu = np.random.default_rng(0).integers(0, 65535, (3, 4, 5), np.uint16)
    np.testing.assert_allclose(made.to_photons(adu), (adu - maps["offset"]) / maps["gain"] / 0.8, rtol=1e-5)
    np.testing.assert_allclose(made.read_noise, np.sqrt(maps["variance"]) / maps["gain"], rtol=1e-5)
    assert made.to_photons(adu).dtype == np.float32


def test_larger_maps_are_cropped_at_the_origin(tmp_path: Path) -> None:
    path = save_maps(tmp_path / "maps.npz", (20, 30))
    whole = np.load(path)["offset"]
    np.testing.assert_allclose(scmos(path, origin=(7, 3)).baseline, whole[3:7, 7:12], rtol=1e-6)


def test_maps_of_the_cropped_frame_are_taken_as_they_are(tmp_path: Path) -> None:
    path = save_maps(tmp_path / "maps.npz", (4, 5))
    np.testing.assert_allclose(scmos(path, origin=(7, 3)).baseline, np.load(path)["offset"], rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 30), (20, 8), (20,)])
def test_maps_that_do_not_cover_the_frame_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match="have shape"):
        scmos(save_maps(tmp_path / "maps.npz", shape), origin=(7, 3))


def test_maps_without_one_array_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Add gain"):
        scmos(save_maps(tmp_path / "maps.npz", gain=None))


def test_missing_and_foreign_map_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name, message in (("nothing.npz", "no such file"), ("text.npz", "cannot be read"), ("one.npy", "cannot be re")):
        with pytest.raises(SettingsError, match=message):
            scmos(str(tmp_path / name))


def test_pickled_maps_are_not_executed(tmp_path: Path) -> None:
    path = save_maps(tmp_path / "maps.npz", gain=np.array([[{"an": "object"}]], dtype=object))
    with pytest.raises(SettingsError, match="cannot be read"):
        scmos(path)


def test_a_dead_pixel_gets_the_median_and_many_are_refused(tmp_path: Path) -> None:
    gain = np.full((20, 20), 2.0)
    gain[4, 5] = 0.0
    one = scmos(save_maps(tmp_path / "one.npz", (20, 20), gain=gain), shape=(20, 20))
    assert isinstance(one.e_per_adu, np.ndarray)
    assert one.e_per_adu[4, 5] == pytest.approx(0.5)
    gain[:5] = np.nan
    with pytest.raises(SettingsError, match="100 of 400"):
        scmos(save_maps(tmp_path / "many.npz", (20, 20), gain=gain), shape=(20, 20))


def test_presets_are_listed_without_the_two_that_calibrate_nothing() -> None:
    assert presets() == ["challenge_emccd", "ixon888", "ixon897", "scmos"]
