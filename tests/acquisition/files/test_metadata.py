"""Camera values out of metadata: taken where they are clear, left alone where they are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from acquisition.files import metadata
from acquisition.recorded import RecordedSource

ANDOR = {"Core-Camera": "Andor", "Andor-Gain": "200"}

EM_GAINS: list[tuple[dict[str, Any], float | None]] = [
    ({"Core-Camera": "Cam", "Cam-EMGain": "150"}, 150.0),
    ({"Camera": "Prime", "Prime-MultiplierGain": 30}, 30.0),
    ({**ANDOR, "Andor-EMSwitch": "On"}, 200.0),
    ({**ANDOR, "Andor-EMSwitch": "Off"}, 1.0),
    ({**ANDOR, "Andor-Output_Amplifier": "Conventional"}, 1.0),
    ({**ANDOR, "Andor-Output_Amplifier": "Electron Multiplying"}, 200.0),
    (ANDOR, None),
    ({"Core-Camera": "Cam", "Cam-Gain": "4"}, None),
    ({"Core-Camera": "Cam", "Cam-EMGain": "0"}, None),
    ({"Core-Camera": "Cam", "Other-EMGain": "150"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("tags", "expected"), EM_GAINS, ids=str)
def test_em_gain_only_where_it_can_be_nothing_else(tags: dict[str, Any], expected: float | None) -> None:
    assert metadata.micromanager_em_gain(tags) == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"PixelSizeUm": 0.107, "BitDepth": "14"}, {"pixel_size": 107.0, "saturation": 16383.0}),
        ({"PixelSize_um": "0.16"}, {"pixel_size": 160.0}),
        ({"PixelSizeUm": 0, "PixelSize_um": 0.0, "BitDepth": "?"}, {}),
    ],
)
def test_micromanager_camera(tags: dict[str, Any], expected: dict[str, float]) -> None:
    assert metadata.micromanager_camera(tags) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(0.16, "µm", 160.0), (0.16, "μm", 160.0), ("0.16", "micron", 160.0), (65, "nm", 65.0), (1, "pixel", None)],
)
def test_lengths(value: object, unit: str, expected: float | None) -> None:
    assert metadata.length_nm(value, unit) == (None if expected is None else pytest.approx(expected))


def test_the_longer_of_interval_and_exposure_separates_frames() -> None:
    assert metadata.micromanager_interval({"Exposure": "10", "Interval_ms": 0}) == 10.0
    assert metadata.micromanager_interval({"Exposure-ms": 10, "Interval_ms": 500.0}) == 500.0
    assert metadata.micromanager_interval({}) is None


def test_times_prefer_the_core_and_a_stopped_clock_is_none() -> None:
    core = [{"ElapsedTime-ms": 0.0, "TimeReceivedByCore": f"2026-11-22 18:03:1{place}.25"} for place in range(3)]
    np.testing.assert_allclose(metadata.micromanager_times(core.__getitem__, range(1, 3)), [1.0, 2.0])
    stopped = [{"ElapsedTime-ms": 0.0}] * 3
    np.testing.assert_array_equal(metadata.micromanager_times(stopped.__getitem__, range(3)), [0.0, np.nan, np.nan])
    assert np.isnan(metadata.micromanager_times([{}].__getitem__, range(1))).all()


def test_picasso_with_nested_micromanager_metadata() -> None:
    nested = {"Core-Camera": "Cam", "Cam-EMGain": 10, "PixelSizeUm": 0.2}
    found = metadata.picasso_camera({"Pixelsize": 130, "Qe": 0.9, "Micro-Manager Metadata": nested})
    assert found == pytest.approx({"pixel_size": 130.0, "quantum_efficiency": 0.9, "em_gain": 10.0})


def test_micromanager_tiff_with_tags_on_every_page(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for place in range(5):
            tags = {"ElapsedTime-ms": 40 + 30 * place, "Exposure-ms": 25, "PixelSizeUm": 0.1, "BitDepth": 16}
            text = json.dumps(tags)
            frame = np.full((12, 16), place, np.uint16)
            writer.write(frame, metadata=None, contiguous=False, extratags=[(51123, 2, 0, text, True)])
    with RecordedSource(tmp_path / "a.tif") as source:
        description = source.open()
        frames = next(source.blocks(9))
    np.testing.assert_allclose(frames.times, np.arange(5) * 0.03)
    assert description.exposure == 25.0
    assert description.camera == {"pixel_size": 100.0, "saturation": 65535.0}
