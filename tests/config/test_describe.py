"""The meaning of each setting."""

from __future__ import annotations

from config.compose import keys
from config.describe import meanings


def test_every_setting_has_a_meaning() -> None:
    found = meanings()
    assert list(found) == keys()
    assert all(len(text) > 5 for text in found.values())


def test_units_are_told() -> None:
    found = meanings()
    assert "[ADU]" in found["camera.baseline"]
    assert "[nm]" in found["optics.psf_sigma"]
    assert "[ms]" in found["dataset.on_time"]
