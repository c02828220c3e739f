"""The picture that refines itself: by whatever path, the same in the end, and never empty on the way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from config.errors import RuntimeUnavailable
from tests.viewer.localisations import batch_of, scattered, store_of
from viewer.look import Look
from viewer.offscreen import offscreen
from viewer.points import CHUNK_ROWS, PointStore
from viewer.view import View

pytest.importorskip("OpenGL", reason="PyOpenGL is not installed (group viewer)")

if TYPE_CHECKING:
    from viewer.scene import Scene

SIZE = (160, 120)
"""Of the window [pixels]."""
VIEW = View(5000.0, 5000.0, 50.0)
STEPS = 2000
"""Advances after which a scene must have settled."""


@pytest.fixture(scope="module", autouse=True)
def context() -> Iterator[None]:
    """An OpenGL context without a window."""
    try:
        made = offscreen()
        made.__enter__()
    except RuntimeUnavailable as reason:
        pytest.skip(str(reason))
    yield
    from OpenGL import GL  # type: ignore[import-untyped]

    assert GL.glGetError() == GL.GL_NO_ERROR
    made.__exit__(None, None, None)


def scene_of(store: PointStore) -> Scene:
    from viewer.scene import Scene

    return Scene(store)


def settle(scene: Scene, view: View = VIEW, size: tuple[int, int] = SIZE, seconds: float = 10.0) -> int:
    """Advance until nothing changes any more; the number of advances."""
    for step in range(1, STEPS):
        wait = scene.advance(view, size, seconds)
        if wait == math.inf:
            assert scene.settled
            return step
        scene._looked -= wait  # rather than to wait for the next look at the contrast
    raise AssertionError("the scene does not settle")


def shown(scene: Scene, size: tuple[int, int] = SIZE) -> NDArray[np.float32]:
    """(H, W, 3) colours from 0 to 1, row 0 at the top, as a screen would show them."""
    from viewer.accumulation import Accumulation, Frame

    target = Accumulation(Frame(0.0, 0.0, 1.0, *size), coloured=True)
    target.bind()
    scene.show()
    picture = target.read(0, 0, *size)[::-1, :, :3]
    target.delete()
    return picture


def fresh(store: PointStore, view: View = VIEW, like: Scene | None = None) -> NDArray[np.float32]:
    """What a scene that has never shown anything else shows, with the contrast of another one."""
    scene = scene_of(store)
    if like:
        scene.drawing, scene.look = like.drawing, replace(like.look, limits=like.limits)
    settle(scene, view)
    picture = shown(scene)
    scene.delete()
    return picture


def fix_contrast(scene: Scene) -> None:
    scene.look = Look(limits=(0.0, 3000.0))


def assert_same(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    assert one.max() > 0.5
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_drawn_in_slices_it_becomes_the_same_picture() -> None:
    store = store_of(scattered(30_000))
    scene = scene_of(store)
    fix_contrast(scene)
    assert settle(scene, seconds=0.0) > 3
    assert_same(shown(scene), fresh(store, like=scene))
    assert scene.drawn == 30_000
    scene.delete()


def test_points_that_come_cost_themselves_and_give_the_same_picture() -> None:
    store = store_of(scattered(20_000))
    scene = scene_of(store)
    fix_contrast(scene)
    settle(scene)
    for seed in range(1, 6):
        store.append(scattered(100, seed))
        settle(scene)
    assert scene.drawn == 20_500
    assert_same(shown(scene), fresh(store, like=scene))
    scene.delete()


def test_points_may_come_while_a_picture_is_drawn_and_across_a_chunk() -> None:
    store = store_of(scattered(CHUNK_ROWS - 50, deep=False))
    scene = scene_of(store)
    fix_contrast(scene)
    for seed in range(1, 4):
        scene.advance(VIEW, SIZE, 0.0)
        store.append(scattered(1000, seed))
    settle(scene)
    assert scene.drawn == store.count == CHUNK_ROWS + 2950
    assert_same(shown(scene), fresh(store, like=scene))
    scene.delete()


@pytest.mark.parametrize(("columns", "rows"), [(7, 0), (0, -9), (-20, 13), (500, 500)])
def test_panning_shows_what_was_there_at_once_and_draws_the_rest(columns: int, rows: int) -> None:
    store = store_of(scattered(20_000))
    scene = scene_of(store)
    fix_contrast(scene)
    settle(scene)
    before = shown(scene)
    view = VIEW.moved(columns, rows)
    scene.advance(view, SIZE, 0.0)
    if abs(columns) < SIZE[0]:
        at_once = np.roll(shown(scene), (-rows, -columns), axis=(0, 1))
        kept = (slice(max(0, -rows), SIZE[1] - max(0, rows)), slice(max(0, -columns), SIZE[0] - max(0, columns)))
        np.testing.assert_allclose(at_once[kept], before[kept], atol=2e-3)
    settle(scene, view)
    np.testing.assert_allclose(shown(scene), fresh(store, view, scene), atol=2e-3)
    scene.delete()


def test_panning_back_and_forth_before_it_is_drawn_ends_in_the_same_picture() -> None:
    store = store_of(scattered(20_000))
    scene = scene_of(store)
    fix_contrast(scene)
    settle(scene)
    for step in range(12):
        scene.advance(VIEW.moved(3 * step, -2 * step), SIZE, 0.0)
        store.append(scattered(50, step))
    settle(scene)
    assert_same(shown(scene), fresh(store, like=scene))
    scene.delete()


@pytest.mark.parametrize("factor", [0.03, 0.3, 3.0])
def test_zooming_shows_something_at_once_and_ends_in_the_same_picture(factor: float) -> None:
    store = store_of(scattered(20_000))
    scene = scene_of(store)
    fix_contrast(scene)
    settle(scene)
    view = VIEW.zoomed(factor, 20, 90, SIZE)
    scene.advance(view, SIZE, 0.0)
    assert shown(scene).max() > 0.2
    settle(scene, view)
    assert_same(shown(scene), fresh(store, view, scene))
    scene.delete()


def test_the_first_share_of_a_picture_is_as_bright_as_the_whole() -> None:
    store = store_of(scattered(60_000))
    scene = scene_of(store)
    fix_contrast(scene)
    scene.look = replace(scene.look, gamma=1.0, colours="gray", limits=(0.0, 200_000.0))
    scene.advance(VIEW, SIZE, 0.0)
    first = shown(scene).mean()
    assert scene.drawn < 20_000
    settle(scene)
    assert first == pytest.approx(shown(scene).mean(), rel=0.3)
    scene.delete()


def test_a_filter_acts_at_once() -> None:
    store = store_of(batch_of([3000.0, 7000.0], [5000.0] * 2, photons=[100.0, 900.0], sigma_x=60.0, sigma_y=60.0))
    scene = scene_of(store)
    settle(scene)
    assert (shown(scene)[60, 40].max(), shown(scene)[60, 120].max()) > (0.5, 0.5)
    store.set_filter("photons", 500, math.inf)
    scene.advance(VIEW, SIZE, 0.0)
    picture = shown(scene)
    assert picture[60, 40].max() < 0.1
    assert picture[60, 120].max() > 0.5
    scene.delete()


def test_up_is_up_and_left_is_left_on_the_screen() -> None:
    store = store_of(batch_of([2000.0], [3000.0], sigma_x=30.0, sigma_y=30.0))
    scene = scene_of(store)
    settle(scene)
    row, column = np.unravel_index(shown(scene).sum(axis=2).argmax(), SIZE[::-1])
    assert (column, row) == pytest.approx(VIEW.pixel(2000.0, 3000.0, SIZE), abs=1.0)
    scene.delete()


def test_deep_in_a_point_it_is_round_and_in_its_place() -> None:
    """Wider than the largest square that the card draws: drawn in coarser pixels, which nobody sees."""
    store = store_of(batch_of([5000.0], [5000.0], sigma_x=20.0, sigma_y=20.0))
    scene = scene_of(store)
    scene.look = Look(colours="gray", gamma=1.0, limits=(0.0, 400.0))
    view = View(5007.0, 4996.0, 0.5)
    settle(scene, view)
    picture = shown(scene)[..., 0].astype(np.float64)
    x = view.sample(0, 0, SIZE)[0] + (np.arange(SIZE[0]) + 0.5) * view.scale
    y = view.sample(0, 0, SIZE)[1] + (np.arange(SIZE[1]) + 0.5) * view.scale
    squares = (x[None, :] - 5000) ** 2 + (y[:, None] - 5000) ** 2
    expected = np.exp(-squares / 800) / (2 * math.pi * 400) * 1e6 / 400
    np.testing.assert_allclose(picture, np.clip(expected, 0, 1), atol=0.02)
    scene.delete()


def test_deep_in_a_histogram_its_bins_are_squares() -> None:
    """A bin of 400 pixels, wider than the largest square that the card draws."""
    from viewer.renderer import Drawing

    store = store_of(batch_of([5010.0] * 2, [5010.0] * 2))
    scene = scene_of(store)
    scene.drawing, scene.look = Drawing("histogram", 20.0), Look(colours="gray", gamma=1.0, limits=(0.0, 10_000.0))
    settle(scene, View(5000.0, 5005.0, 0.05))  # shows 8 by 6 nm; the bin begins at 5000
    picture = shown(scene)[..., 0]
    assert picture[:, 84:].min() == pytest.approx(0.5, abs=0.01)
    assert picture[:, :76].max() == 0
    scene.delete()


def test_contrast_finds_its_level_and_keeps_still() -> None:
    store = store_of(scattered(20_000))
    scene = scene_of(store)
    settle(scene)
    limits = scene.limits
    assert limits[0] == 0 < limits[1]
    store.append(scattered(20, 9))
    settle(scene)
    assert scene.limits == limits
    for seed in range(3):
        store.append(scattered(20_000, 10 + seed))
    settle(scene)
    assert 2 < scene.limits[1] / limits[1] < 6
    scene.delete()


def test_density_under_the_pointer() -> None:
    store = store_of(batch_of([5000.0] * 10, [5000.0] * 10, sigma_x=100.0, sigma_y=100.0))
    scene = scene_of(store)
    assert math.isnan(scene.density(5000, 5000))
    settle(scene)
    assert scene.density(5000, 5000) == pytest.approx(10 / (2 * math.pi * 0.1**2), rel=0.1)
    assert scene.density(7000, 5000) == 0
    assert math.isnan(scene.density(50_000, 5000))
    scene.delete()


def test_colour_by_a_column_and_grey_where_it_is_not_known() -> None:
    store = store_of(
        batch_of([2000.0, 5000.0, 8000.0], [5000.0] * 3, z=[-400.0, np.nan, 400.0], sigma_x=60.0, sigma_y=60.0)
    )
    scene = scene_of(store)
    scene.drawing, scene.look = replace(scene.drawing, by="z"), Look(colours="bwr", gamma=1.0, values=(-400.0, 400.0))
    settle(scene)
    picture = shown(scene)
    left, middle, right = (picture[60, column] for column in (20, 80, 140))
    assert left[2] > 3 * left[0]
    assert right[0] > 3 * right[2]
    assert middle[0] == pytest.approx(middle[2], abs=0.01)
    assert middle[0] > 0.5
    scene.delete()


def test_cleared_it_is_dark_and_begins_again() -> None:
    store = store_of(scattered(5000))
    scene = scene_of(store)
    settle(scene)
    store.clear()
    settle(scene)
    assert shown(scene).max() < 0.1
    assert scene.nbytes == 0
    store.append(scattered(3000))
    settle(scene)
    assert shown(scene).max() > 0.5
    scene.delete()


def test_a_window_of_another_size() -> None:
    store = store_of(scattered(5000))
    scene = scene_of(store)
    fix_contrast(scene)
    settle(scene)
    settle(scene, size=(90, 70))
    assert_same(shown(scene, (90, 70)), shown_at(store, (90, 70), scene))
    scene.delete()


def shown_at(store: PointStore, size: tuple[int, int], like: Scene) -> NDArray[np.float32]:
    scene = scene_of(store)
    scene.look = like.look
    settle(scene, size=size)
    picture = shown(scene, size)
    scene.delete()
    return picture
