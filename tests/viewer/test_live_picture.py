"""The growing picture, against localisations whose place is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from config.errors import TableError
from engine.localisations import LOCALISATION_SCHEMA
from engine.output.image import render
from engine.output.recorder import Recorder
from viewer.live_picture import LOG, REPORT, LivePicture

FIELD = {"pixel_size_nm": "100", "width_px": "32", "height_px": "16"}
RANDOM = np.random.default_rng(3)


def batch(x: list[float], y: list[float], frame: int = 0) -> pa.RecordBatch:
    table = pa.table({"frame": [frame] * len(x), "x": x, "y": y})
    for name in LOCALISATION_SCHEMA.names:
        if name in ("frame", "x", "y"):
            continue
        table = table.append_column(name, pa.array([None if name in ("z", "sigma_z") else 10.0] * len(x), pa.float32()))
    return table.select(LOCALISATION_SCHEMA.names).cast(LOCALISATION_SCHEMA).combine_chunks().to_batches()[0]


def log(folder: Path, metadata: dict[str, str] | None = None) -> Recorder:
    return Recorder(folder / LOG, FIELD if metadata is None else metadata)


def test_nothing_before_the_run_begins(tmp_path: Path) -> None:
    picture = LivePicture(tmp_path / "not yet")
    assert not picture.update()
    assert picture.localisations == 0
    assert picture.shaded().max() < 16


def test_a_localisation_lies_where_it_was_found(tmp_path: Path) -> None:
    with_log = log(tmp_path)
    with_log.write(batch([2505.0], [405.0], frame=7))
    picture = LivePicture(tmp_path)
    assert picture.update()
    assert picture.image.shape == (160, 320)
    assert picture.image.argmax() == 40 * 320 + 250
    assert (picture.localisations, picture.frame) == (1, 7)
    with_log.close()


def test_growing_in_steps_equals_rendering_at_once(tmp_path: Path) -> None:
    batches = [batch(list(RANDOM.uniform(0, 3200, 20)), list(RANDOM.uniform(0, 1600, 20)), n) for n in range(5)]
    recorder, picture = log(tmp_path), LivePicture(tmp_path)
    for part in batches:
        recorder.write(part)
        assert picture.update()
        assert not picture.update()
    whole = pa.Table.from_batches(batches).replace_schema_metadata(FIELD)
    np.testing.assert_allclose(picture.image, render(whole, 10.0), atol=1e-5)
    assert picture.image.sum() == pytest.approx(100, rel=1e-4)
    recorder.close()


def test_a_late_viewer_catches_up(tmp_path: Path) -> None:
    with_log = log(tmp_path)
    for number in range(4):
        with_log.write(batch([500.0], [500.0], number))
    with_log.close()
    picture = LivePicture(tmp_path)
    picture.update()
    assert (picture.localisations, picture.frame) == (4, 3)


def test_the_brightest_spot_is_brightest_on_screen(tmp_path: Path) -> None:
    recorder = log(tmp_path)
    recorder.write(batch([500.0] * 9 + [2000.0], [500.0] * 9 + [1200.0]))
    recorder.close()
    picture = LivePicture(tmp_path)
    picture.update()
    light = picture.shaded().sum(axis=2)
    assert light[50, 50] > light[120, 200] > 16 > light[10, 300]


def test_a_field_of_unknown_size_grows(tmp_path: Path) -> None:
    recorder, picture = log(tmp_path, {}), LivePicture(tmp_path)
    for x, y in [(300.0, 900.0), (900.0, 300.0)]:
        recorder.write(batch([x], [y]))
        picture.update()
    assert picture.image.shape == (91, 91)
    assert picture.image.sum() == pytest.approx(2, rel=1e-4)
    assert picture.image[30, 89] > 0
    assert picture.image[89, 30] > 0
    recorder.close()


def test_a_large_field_gets_coarser_pixels(tmp_path: Path) -> None:
    recorder = log(tmp_path, FIELD | {"width_px": "2048", "height_px": "2048"})
    recorder.write(batch([500.0], [500.0]))
    recorder.close()
    picture = LivePicture(tmp_path)
    picture.update()
    assert picture.pixel > 10
    assert picture.image.size <= 6_000_000


@pytest.mark.parametrize("text", ["", "{", "{}", '{"end_reason": null}', '{"end_reason": "running"}'])
def test_a_run_without_an_end_reason_goes_on(text: str, tmp_path: Path) -> None:
    (tmp_path / REPORT).write_text(text)
    picture = LivePicture(tmp_path)
    assert not picture.update()
    assert picture.ended is None


def test_the_end_is_seen_once(tmp_path: Path) -> None:
    (tmp_path / REPORT).write_text(json.dumps({"end_reason": "finished"}))
    picture = LivePicture(tmp_path)
    assert picture.update()
    assert picture.ended == "finished"
    assert not picture.update()


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / LOG).write_bytes(pa.schema([("wrong", pa.int8())]).serialize())
    with pytest.raises(TableError):
        LivePicture(tmp_path).update()
