"""Images without a window: from a store and from files, in tiles, as PNG and TIFF."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from config.errors import RuntimeUnavailable, SettingsError, TableError
from engine.output.formats import write_table
from engine.output.table import describe_field, with_metadata
from tests.viewer.localisations import batch_of, scattered, store_of
from viewer import tiles
from viewer.look import Look, automatic, colour_table
from viewer.offscreen import offscreen
from viewer.points import PointStore, Rectangle
from viewer.render import colours, recorded_field, render_file, render_store, write_png, write_tiff
from viewer.rendered import Rendered
from viewer.renderer import Drawing

TABLES = Path(__file__).parents[3] / "shared" / "data" / "tables"
FIELD = Rectangle(0.0, 0.0, 10_000.0, 8_000.0)


@pytest.fixture(scope="module", autouse=True)
def _needs_opengl() -> None:
    try:
        with offscreen():
            pass
    except RuntimeUnavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def image() -> Rendered:
    density = np.zeros((100, 200), np.float32)
    density[20, 30], density[60, 150] = 0.5, 2.0
    return Rendered(density, None, 10.0)


def test_the_whole_field_holds_every_point() -> None:
    store = store_of(scattered(5000))
    rendered = render_store(store, 20.0, Rectangle(-200, -200, 10_200, 10_200))
    assert rendered.density.shape == (520, 520)
    assert rendered.density.sum() == pytest.approx(5000, rel=1e-3)


def test_tiles_make_the_untiled_image(monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(scattered(3000))
    for drawing in (Drawing(), Drawing("histogram", 30.0, "z")):
        whole = render_store(store, 25.0, FIELD, drawing)
        with monkeypatch.context() as patch:
            patch.setattr(tiles, "TILE", 150)
            tiled = render_store(store, 25.0, FIELD, drawing)
        np.testing.assert_allclose(tiled.density, whole.density, rtol=1e-3, atol=1e-5)
        if whole.values is not None and tiled.values is not None:
            known = whole.density > 1e-3
            np.testing.assert_allclose(tiled.values[known], whole.values[known], rtol=1e-3, atol=1.0)


def test_no_seam_runs_through_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE", 64)
    store = store_of(batch_of([640.0], [640.0], sigma_x=100.0, sigma_y=100.0))
    rendered = render_store(store, 10.0, Rectangle(0, 0, 1280, 1280)).density
    assert rendered.sum() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(rendered, rendered[::-1], atol=1e-9)
    np.testing.assert_allclose(rendered, rendered.T, atol=1e-9)


def test_row_0_is_the_smallest_y() -> None:
    store = store_of(batch_of([155.0], [25.0]))
    rendered = render_store(store, 10.0, Rectangle(0, 0, 300, 200), Drawing("histogram", 10.0))
    assert rendered.density.shape == (20, 30)
    assert rendered.density[2, 15] == pytest.approx(1)


def test_filters_of_the_store_hold() -> None:
    store = store_of(batch_of([100.0, 500.0], [100.0] * 2, photons=[10.0, 900.0]))
    store.set_filter("photons", 100, math.inf)
    assert render_store(store, 10.0, Rectangle(0, 0, 600, 200)).density.sum() == pytest.approx(1, abs=1e-3)


def test_values_are_the_mean_of_the_column() -> None:
    store = store_of(batch_of([55.0, 55.0, 255.0], [55.0] * 3, photons=[100.0, 300.0, 50.0]))
    values = render_store(store, 10.0, Rectangle(0, 0, 300, 100), Drawing("histogram", 10.0, "photons")).values
    assert values is not None
    assert values[5, 5] == pytest.approx(200, rel=1e-3)
    assert values[5, 25] == pytest.approx(50, rel=1e-3)
    assert np.isnan(values[0, 0])


def test_what_cannot_be_rendered_is_said() -> None:
    with pytest.raises(TableError, match="no localisations to render"):
        render_store(PointStore(), 10.0)
    with pytest.raises(TableError, match="Choose more nm per pixel"):
        render_store(store_of(scattered(10)), 0.01, FIELD)
    with pytest.raises(TableError, match="Choose more nm per pixel"):
        render_store(store_of(scattered(10)), -1.0, FIELD)


def test_png_shows_points_in_the_map_s_colours(tmp_path: Path, image: Rendered) -> None:
    path = tmp_path / "new folder" / "a.png"
    write_png(path, image, Look(colours="viridis", gamma=1.0, limits=(0.0, 20_000.0)), scale_bar=False)
    pixels = np.asarray(Image.open(path))
    map_ = np.rint(colour_table("viridis") * 255).astype(int)
    np.testing.assert_array_equal(pixels[0, 0], map_[0])
    np.testing.assert_array_equal(pixels[60, 150], map_[-1])
    np.testing.assert_allclose(pixels[20, 30], map_[64], atol=3)


def test_the_scale_bar_is_in_the_png_or_not(tmp_path: Path, image: Rendered) -> None:
    write_png(tmp_path / "with.png", image, Look(), scale_bar=True)
    write_png(tmp_path / "without.png", image, Look(), scale_bar=False)
    with_bar, without = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("with", "without"))
    changed = np.argwhere((with_bar != without).any(axis=2))
    assert changed.min(axis=0)[0] > 60
    assert changed.min(axis=0)[1] > 120


@pytest.mark.parametrize("bits", [16, 32])
def test_tiff_keeps_the_density_and_the_pixel_size(tmp_path: Path, image: Rendered, bits: int) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, image, bits)
    with tifffile.TiffFile(path) as file:
        pixels, about = file.asarray(), file.imagej_metadata
        numbers = file.pages[0].tags["XResolution"].value  # type: ignore[union-attr]
    assert about is not None
    assert about["unit"] == "um"
    assert numbers[0] / numbers[1] == pytest.approx(100)
    factor = float(about["Info"].split("×")[1].split(";")[0])
    np.testing.assert_allclose(pixels / factor, image.density, atol=1.0 / factor if bits == 16 else 1e-7)
    assert pixels.dtype == (np.uint16 if bits == 16 else np.float32)


def test_the_scale_bar_in_a_tiff_is_as_bright_as_the_brightest(tmp_path: Path, image: Rendered) -> None:
    write_tiff(tmp_path / "a.tif", image, 32, scale_bar=True)
    pixels: NDArray[np.float32] = tifffile.imread(tmp_path / "a.tif")
    assert pixels.max() == image.density.max()
    assert np.count_nonzero(pixels == pixels.max()) > 20
    assert np.count_nonzero(image.density) == 2  # and the image itself is untouched


def test_a_disk_that_refuses_is_said(tmp_path: Path, image: Rendered) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(TableError, match="cannot be written"):
        write_png(tmp_path / "file" / "a.png", image, Look())
    with pytest.raises(TableError, match="cannot be written"):
        write_tiff(tmp_path / "file" / "a.tif", image)


def test_an_empty_image_is_dark(image: Rendered) -> None:
    painted = colours(Rendered(np.zeros_like(image.density), None, 10.0), Look(colours="gray"))
    assert not painted.any()
    assert automatic(np.zeros((3, 3), np.float32)) == (0.0, 0.0)


def test_unknown_values_are_grey() -> None:
    density = np.full((1, 3), 1.0, np.float32)
    values = np.array([[0.0, np.nan, 1.0]], np.float32)
    painted = colours(Rendered(density, values, 10.0), Look("bwr", 1.0, (0.0, 1.0), (0.0, 1.0)))[0]
    assert painted[0].tolist() == [0, 0, 255]
    assert painted[1].tolist() == [191, 191, 191]
    assert painted[2].tolist() == [255, 0, 0]


def test_an_unknown_colour_map_is_said() -> None:
    with pytest.raises(SettingsError, match="no colour map 'glow'"):
        colour_table("glow")


def test_a_table_becomes_a_picture(tmp_path: Path) -> None:
    table = with_metadata(store_of(scattered(500)).table({}), describe_field(pixel_size=100, width=110, height=105))
    write_table(table, tmp_path / "a.parquet")
    rendered = render_file(tmp_path / "a.parquet", tmp_path / "a.png", 20.0, filters={"photons": (0.0, 1e9)})
    assert rendered.density.shape == (525, 550)
    assert Image.open(tmp_path / "a.png").size == (550, 525)
    render_file(tmp_path / "a.parquet", tmp_path / "a.tif", 20.0)
    assert tifffile.imread(tmp_path / "a.tif").shape == (525, 550)
    with pytest.raises(TableError, match=r"\.png, \.tif or \.tiff"):
        render_file(tmp_path / "a.parquet", tmp_path / "a.jpg")


def test_a_run_folder_becomes_a_picture(tmp_path: Path) -> None:
    write_table(store_of(scattered(500)).table({}), tmp_path / "run" / "localisations.arrows")
    rendered = render_file(tmp_path / "run", tmp_path / "a.png", 50.0)
    assert rendered.density.sum() == pytest.approx(500, rel=0.02)


@pytest.mark.parametrize(
    "metadata", [{}, {"pixel_size_nm": "x", "width_px": "1", "height_px": "1"}, describe_field(None, 0.0, 1, 1)]
)
def test_a_field_that_is_not_recorded(metadata: dict[str, str]) -> None:
    assert recorded_field(metadata) is None


@pytest.mark.parametrize("name", ["lacy_eyfp_thunderstorm.csv", "thunderstorm_3d.csv", "picasso_locs.hdf5"])
def test_tables_of_other_programs(tmp_path: Path, name: str) -> None:
    if not TABLES.is_dir():
        pytest.skip(f"there is no {TABLES}")
    rendered = render_file(TABLES / name, tmp_path / "a.png", 50.0)
    assert rendered.density.sum() > 2000
    assert np.asarray(Image.open(tmp_path / "a.png")).max() > 200
