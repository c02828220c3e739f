"""Structures against their geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from config.errors import SettingsError
from config.schema import DatasetSettings
from simulation.structures import STRUCTURES, Places, dyes

PIXEL = 100.0


def draw(structure: str, **more: object) -> Places:
    dataset = DatasetSettings(height=48, width=64, structure=structure, **more)  # type: ignore[arg-type]
    places = dyes(dataset, PIXEL, torch.Generator().manual_seed(5))
    assert places is not None
    return places


def picture(folder: Path, ground: str = "white", ink: str = "black") -> str:
    image = Image.new("RGB", (200, 100), ground)
    ImageDraw.Draw(image).rectangle((20, 40, 59, 59), fill=ink)
    image.save(folder / "logo.png")
    return str(folder / "logo.png")


@pytest.mark.parametrize("structure", sorted(set(STRUCTURES) - {"image"}))
def test_a_structure_has_its_labels_within_the_field(structure: str) -> None:
    places = draw(structure, labels=640, depth=[-300.0, 300.0])
    assert len(places) == 640
    slack = 0.3  # a tube's radius and a step of it
    assert -slack <= float(places.x.min())
    assert float(places.x.max()) <= 64 + slack
    assert -slack <= float(places.y.min())
    assert float(places.y.max()) <= 48 + slack
    assert float(places.z.abs().max()) <= 300


def test_random_emitters_have_no_places_of_their_own() -> None:
    assert dyes(DatasetSettings(), PIXEL, torch.Generator()) is None


def test_a_pore_is_eight_corners_in_two_rings() -> None:
    pore = draw("pores", labels=32, depth=[-200.0, 100.0])
    x, y = pore.x * PIXEL, pore.y * PIXEL
    x, y = x - x.mean(), y - y.mean()
    assert np.allclose(torch.hypot(x, y), 53.5, atol=1e-2)
    assert sorted(set(pore.z.tolist())) == [-75.0, -25.0]
    corner = torch.round((torch.atan2(y, x) - torch.atan2(y[0] + y[1], x[0] + x[1])) / (np.pi / 4)) % 8
    assert torch.bincount(corner.long()).tolist() == [4] * 8
    flat = draw("pores", labels=32)
    assert set(flat.z.tolist()) == {0.0}


def test_pores_stand_apart_and_too_many_are_refused() -> None:
    many = draw("pores", labels=32 * 100)
    middle = torch.stack([many.x.view(100, 32).mean(1), many.y.view(100, 32).mean(1)], 1) * PIXEL
    assert float((torch.cdist(middle, middle) + 1e9 * torch.eye(100)).min()) > 107
    with pytest.raises(SettingsError, match="do not fit"):
        draw("pores", labels=32 * 10_000)


def test_pairs_are_as_far_apart_as_was_asked() -> None:
    places = draw("pairs", labels=80, pair_distances=[30.0, 80.0])
    x, y = places.x.view(-1, 2) * PIXEL, places.y.view(-1, 2) * PIXEL
    apart = torch.hypot(x[:, 0] - x[:, 1], y[:, 0] - y[:, 1])
    assert np.allclose(apart, [30.0, 80.0] * 20, atol=0.02)


def test_lines_approach_each_other() -> None:
    places = draw("approaching", labels=4000)
    away = (places.y - 24).abs() * PIXEL
    begin, end = away[places.x < 2], away[places.x > 60]
    assert float(begin.mean()) > 1500
    assert float(end.max()) < 40


def test_a_star_has_as_much_spoke_as_gap() -> None:
    places = draw("star", labels=20_000)
    angle = torch.atan2(places.y - 24, places.x - 32) % (2 * np.pi / 12)
    assert float(angle.max()) < np.pi / 12 + 1e-4
    radius = torch.hypot(places.x - 32, places.y - 24) / (0.45 * 48)
    assert float((radius**2).mean()) == pytest.approx(0.5, abs=0.01)  # evenly over the area


def test_tubes_are_hollow_in_3d() -> None:
    tubes = draw("microtubules", labels=5000, depth=[-400.0, 400.0])
    assert float(tubes.z.max() - tubes.z.min()) > 300
    thin = draw("microtubules", labels=5000)
    assert set(thin.z.tolist()) == {0.0}


@pytest.mark.parametrize(("ground", "ink"), [("white", "black"), ("black", "white"), ("#20a040", "#d0e8d8")])
def test_a_picture_is_its_smaller_part(tmp_path: Path, ground: str, ink: str) -> None:
    places = draw("image", labels=4000, structure_file=picture(tmp_path, ground, ink))
    scale = 0.9 * 64 / 200
    assert float(places.x.min()) == pytest.approx(32 + (20 - 100) * scale, abs=0.05)
    assert float(places.x.max()) == pytest.approx(32 + (60 - 100) * scale, abs=0.05)
    assert float(places.y.min()) == pytest.approx(24 + (40 - 50) * scale, abs=0.05)
    assert float(places.y.max()) == pytest.approx(24 + (60 - 50) * scale, abs=0.05)


def test_a_logo_on_nothing_is_its_opaque_part(tmp_path: Path) -> None:
    image = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((0, 0, 9, 99), fill=(255, 255, 255, 255))
    image.save(tmp_path / "logo.png")
    places = draw("image", labels=500, structure_file=str(tmp_path / "logo.png"))
    assert np.ptp(places.x.numpy()) < 0.1 * 0.9 * 48 + 0.01


def test_pictures_without_a_structure_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="structure_file"):
        draw("image")
    with pytest.raises(SettingsError, match="no such file"):
        draw("image", structure_file=str(tmp_path / "none.png"))
    Image.new("L", (20, 20), 7).save(tmp_path / "blank.png")
    with pytest.raises(SettingsError, match="blank"):
        draw("image", structure_file=str(tmp_path / "blank.png"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(SettingsError, match="cannot be read"):
        draw("image", structure_file=str(tmp_path / "text.png"))


def test_labelling_leaves_sites_empty_and_linkage_moves_dyes() -> None:
    assert len(draw("ring", labels=10_000, labelling=0.3)) == pytest.approx(3000, abs=150)
    assert len(draw("ring", labels=1, labelling=1e-6)) == 1
    off = draw("ring", labels=20_000, linkage=20.0, depth=[-100.0, 100.0])
    away = torch.hypot(off.x - 32, off.y - 24) * PIXEL - 0.3 * 4800
    assert float(away.std()) == pytest.approx(20, rel=0.03)
    assert float(off.z.std()) == pytest.approx(20, rel=0.03)
    assert float(draw("ring", labels=100, linkage=20.0).z.abs().max()) == 0
