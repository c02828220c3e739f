"""Known points, drawn without a window: where they land, how bright they are, which are hidden, what colours them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from config.errors import RuntimeUnavailable
from engine.output.image import render
from engine.output.table import describe_field, with_metadata
from tests.viewer.localisations import batch_of, scattered, store_of
from viewer.offscreen import offscreen
from viewer.points import CHUNK_ROWS, PointStore

pytest.importorskip("OpenGL", reason="PyOpenGL is not installed (group viewer)")

if TYPE_CHECKING:
    from viewer.renderer import Drawing, Renderer

SIDE = 64
"""Of the images [pixels]."""
WHERE = np.array([(31.5, 31.5), (20.0, 30.0), (28.13, 35.77), (40.5, 22.25), (33.9, 44.01)])
"""(column, row) of single points [pixels]: middles, corners and in between."""


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    """A renderer in a context of its own; nothing may remain in the context's list of errors."""
    try:
        context = offscreen()
        context.__enter__()
    except RuntimeUnavailable as reason:
        pytest.skip(str(reason))
    from OpenGL import GL  # type: ignore[import-untyped]

    from viewer.renderer import Renderer

    made = Renderer()
    yield made
    made.delete()
    assert GL.glGetError() == GL.GL_NO_ERROR
    context.__exit__(None, None, None)


def drawn(
    renderer: Renderer, store: PointStore, drawing: Drawing, corner: float = 0.0, **more: Any
) -> NDArray[np.float64]:
    """(SIDE, SIDE, channels) sums of the store's points, from ``corner`` [nm] at 10 nm per pixel."""
    from viewer.accumulation import Accumulation, Frame
    from viewer.buffers import PointBuffers
    from viewer.renderer import everything

    buffers = PointBuffers(store)
    buffers.sync(2**62)
    sums = Accumulation(Frame(corner, corner, 10.0, SIDE, SIDE), drawing.coloured)
    renderer.draw(sums, buffers, everything(buffers), drawing, store.filters, **more)
    image = sums.read(0, 0, SIDE, SIDE).astype(np.float64)
    sums.delete()
    buffers.delete()
    return image


def centroid(image: NDArray[np.float64]) -> tuple[float, float]:
    """(column, row) [pixels] from the outer corner of pixel (0, 0)."""
    rows, columns = np.indices(image.shape) + 0.5
    return float((image * columns).sum() / image.sum()), float((image * rows).sum() / image.sum())


def drawings() -> list[Drawing]:
    from viewer.renderer import Drawing

    return [Drawing(), Drawing("fixed", 25.0), Drawing("histogram", 1.0)]


@pytest.mark.parametrize("kind", range(3), ids=["precision", "fixed", "histogram"])
@pytest.mark.parametrize("sigma", [0.5, 3.0, 5.4, 5.6, 6.1, 10.0, 31.0, 60.0])
@pytest.mark.parametrize("where", WHERE, ids=str)
def test_a_point_lands_where_it_is_and_sums_to_one(
    renderer: Renderer, where: NDArray[np.float64], sigma: float, kind: int
) -> None:
    store = store_of(batch_of(*(where[:, None] * 10.0), sigma_x=sigma, sigma_y=sigma))
    image = drawn(renderer, store, drawings()[kind])[..., 0]
    assert image.sum() == pytest.approx(1.0, abs=4e-3)
    column, row = centroid(image)
    assert abs(column - where[0]) < 0.05 + 0.05 * (kind == 2)  # the histogram's bin is a tenth of a pixel
    assert abs(row - where[1]) < 0.05 + 0.05 * (kind == 2)


@pytest.mark.parametrize("sigma", [8.0, 20.0, 45.0])
def test_a_gaussian_is_as_wide_as_its_precision(renderer: Renderer, sigma: float) -> None:
    store = store_of(batch_of([320.0], [320.0], sigma_x=sigma, sigma_y=sigma))
    image = drawn(renderer, store, drawings()[0])[..., 0]
    columns = np.arange(SIDE) + 0.5
    variance = (image.sum(axis=0) * (columns - 32) ** 2).sum()
    assert math.sqrt(variance) * 10 == pytest.approx(sigma, rel=0.02)


def test_rows_run_down_and_columns_to_the_right(renderer: Renderer) -> None:
    image = drawn(renderer, store_of(batch_of([105.0], [405.0])), drawings()[2])[..., 0]
    assert divmod(int(image.argmax()), SIDE) == (40, 10)


def test_points_add_up(renderer: Renderer) -> None:
    one = drawn(renderer, store_of(batch_of([320.0], [320.0])), drawings()[0])
    thousand = drawn(renderer, store_of(batch_of([320.0] * 1000, [320.0] * 1000)), drawings()[0])
    np.testing.assert_allclose(thousand, 1000 * one, rtol=1e-4, atol=1e-6)


def test_it_agrees_with_the_picture_of_the_run_folder(renderer: Renderer) -> None:
    """Two renderers, one drawing by matrix products, the other on the graphics card."""
    rng = np.random.default_rng(3)
    sigma = rng.uniform(8, 25, 400)
    store = store_of(batch_of(*rng.uniform(150, 490, (2, 400)), sigma_x=sigma, sigma_y=sigma))
    table = with_metadata(store.table({}), describe_field(pixel_size=10.0, width=SIDE, height=SIDE))
    np.testing.assert_allclose(drawn(renderer, store, drawings()[0])[..., 0], render(table, 10.0), rtol=0.05, atol=0.05)


def test_a_histogram_counts_in_bins_of_the_sample(renderer: Renderer) -> None:
    """Bins of 40 nm on pixels of 10 nm: squares of 4 pixels, each with a sixteenth of its points."""
    from viewer.renderer import Drawing

    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 640, (2, 500))
    image = drawn(renderer, store_of(batch_of(x, y)), Drawing("histogram", 40.0))[..., 0]
    counts, _, _ = np.histogram2d(y, x, 16, ((0, 640), (0, 640)))
    np.testing.assert_allclose(image, np.kron(counts, np.ones((4, 4))) / 16, atol=1e-3)


def test_unknown_precision_is_drawn_at_the_fixed_width(renderer: Renderer) -> None:
    from viewer.renderer import Drawing

    store = store_of(batch_of([320.0], [320.0], sigma_x=np.nan))
    expected = drawn(renderer, store_of(batch_of([320.0], [320.0])), Drawing("fixed", 30.0))
    np.testing.assert_allclose(drawn(renderer, store, Drawing("precision", 30.0)), expected, atol=1e-6)


def test_a_point_outside_reaches_into_the_image(renderer: Renderer) -> None:
    """What is drawn with a margin has it; the image's own edge cuts points whose middle lies outside."""
    inside = drawn(renderer, store_of(batch_of([2.0], [320.0], sigma_x=20.0, sigma_y=20.0)), drawings()[0])
    assert 0.4 < inside.sum() < 0.6


@pytest.mark.parametrize("name", ["precision", "photons", "background", "probability", "z", "frame", "x", "y"])
def test_filters_in_the_shader_agree_with_the_store(renderer: Renderer, name: str) -> None:
    store = store_of(scattered(4000, field=600.0))
    values = np.concatenate([chunk.column(name) for chunk in store.chunks])
    for low, high in ((-math.inf, np.quantile(values, 0.4)), tuple(np.quantile(values, [0.3, 0.6]))):
        store.set_filter(name, float(low), float(high))
        image = drawn(renderer, store, drawings()[2], corner=-20.0)[..., 0]
        assert 0 < store.shown < 4000
        # the shader's limits are up to 0.07 % wide, and never narrower
        assert store.shown - 0.5 <= image.sum() <= store.shown + 8


def test_unknown_values_are_hidden_by_a_filter(renderer: Renderer) -> None:
    store = store_of(batch_of([320.0], [320.0], probability=np.nan))
    assert drawn(renderer, store, drawings()[0]).sum() == pytest.approx(1, abs=1e-3)
    store.set_filter("probability", 0.0, math.inf)
    assert drawn(renderer, store, drawings()[0]).sum() == 0


@pytest.mark.parametrize(
    ("by", "value"),
    [
        ("precision", 12.5),
        ("photons", 4321.0),
        ("background", 7.25),
        ("probability", 0.625),
        ("z", -250.0),
        ("frame", 9e6),
    ],
)
def test_the_colour_is_the_mean_of_the_column(renderer: Renderer, by: str, value: float) -> None:
    from viewer.renderer import Drawing

    given = {"sigma_x": value, "sigma_y": value} if by == "precision" else {by: value}
    known = batch_of([320.0] * 3, [320.0] * 3, **({"z": 0.0} | given))
    sums = drawn(renderer, store_of(known), Drawing("fixed", 20.0, by)).sum(axis=(0, 1))
    assert sums[0] == pytest.approx(3, abs=1e-2)
    assert sums[1] / sums[2] == pytest.approx(value, rel=1e-3)


def test_a_point_without_a_value_is_seen_and_does_not_pull_the_mean(renderer: Renderer) -> None:
    from viewer.renderer import Drawing

    store = store_of(batch_of([320.0] * 2, [320.0] * 2, z=[400.0, np.nan]))
    sums = drawn(renderer, store, Drawing(by="z")).sum(axis=(0, 1))
    assert sums[0] == pytest.approx(2, abs=1e-2)
    assert sums[1] / sums[2] == pytest.approx(400, rel=1e-3)


@pytest.mark.parametrize("frames", [[0, 70_000, 140_000], [5, 6, 7], [2**31, 2**31 + 1, 2**31 + 2]])
def test_frames_far_apart_are_filtered(renderer: Renderer, frames: list[int]) -> None:
    """One chunk whose frames need more than 16 bits keeps them in strides; these lie strides apart."""
    store = store_of(*(batch_of([320.0], [320.0], frame=frame) for frame in frames))
    store.set_filter("frame", frames[1], frames[1])
    assert drawn(renderer, store, drawings()[0]).sum() == pytest.approx(1, abs=1e-2)
    store.set_filter("frame", frames[1], math.inf)
    assert drawn(renderer, store, drawings()[0]).sum() == pytest.approx(2, abs=1e-2)


def test_points_arrive_in_portions_over_several_chunks(renderer: Renderer) -> None:
    from viewer.buffers import PointBuffers

    store = store_of(scattered(CHUNK_ROWS + 100, deep=False))
    buffers, seen = PointBuffers(store), []
    while buffers.count < store.count:
        assert buffers.sync(60_000) is False
        seen.append(buffers.count)
    assert seen == [60_000, 120_000, CHUNK_ROWS + 100]
    store.clear()
    store.append(scattered(10))
    assert buffers.sync(60_000) is True
    assert (buffers.count, len(buffers.pieces)) == (10, 1)
    buffers.delete()
    assert buffers.nbytes == 0


def test_boxes_limit_what_is_drawn(renderer: Renderer) -> None:
    store = store_of(scattered(2000, field=640.0))
    whole = drawn(renderer, store, drawings()[0])[..., 0]
    part = drawn(renderer, store, drawings()[0], boxes=[(0, 0, SIDE, 10), (5, 10, 20, SIDE)])[..., 0]
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:10], mask[10:, 5:20] = True, True
    np.testing.assert_allclose(part[mask], whole[mask], rtol=1e-4, atol=1e-6)
    assert not part[~mask].any()


def test_memory_of_a_point_stays_below_64_bytes(renderer: Renderer) -> None:
    from viewer.buffers import PointBuffers

    store = store_of(*(scattered(CHUNK_ROWS, seed) for seed in range(2)))
    buffers = PointBuffers(store)
    buffers.sync(2**62)
    assert (store.nbytes + buffers.nbytes) / store.count < 64
    buffers.delete()


def test_a_shader_that_the_driver_refuses_is_an_error_in_words(
    renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from viewer import program

    (tmp_path / "bad.vert").write_text("#version 330 core\nvoid main() { nonsense }", encoding="utf-8")
    monkeypatch.setattr(program, "SHADERS", tmp_path)
    with pytest.raises(RuntimeUnavailable, match=r"bad\.vert"):
        program.Program("bad.vert", "points.frag")
