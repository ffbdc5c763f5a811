"""The plan of views: every cell covered, for every size that is accepted."""

from __future__ import annotations

import pytest

from recipe.views import plan_views
from testkit.article import article_views


def covered(height: int, width: int, window: int, stride: int, *, circular: bool = False) -> set[tuple[int, int]]:
    views = plan_views(height, width, window, stride, circular=circular)
    assert all(view.bottom - view.top == view.right - view.left == window for view in views)
    assert all(view.top >= 0 and view.bottom <= height and 0 <= view.left < width for view in views)
    return {
        (y, x % width) for view in views for y in range(view.top, view.bottom) for x in range(view.left, view.right)
    }


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3, 5, 8])
def test_every_cell_of_every_size_is_covered(stride: int, circular: bool) -> None:
    for height in (8, 9, 13):
        for width in range(8, 34):
            assert len(covered(height, width, 8, stride, circular=circular)) == height * width


def test_views_of_a_flat_canvas_stay_inside_it() -> None:
    assert all(view.right <= 255 for view in plan_views(64, 255, 64, 8))


@pytest.mark.parametrize(
    ("width", "stride", "circular", "count"),
    [(256, 8, False, 25), (256, 16, False, 13), (256, 64, False, 4), (512, 8, False, 57), (256, 8, True, 32)],
)
def test_the_number_of_views_is_the_articles(width: int, stride: int, circular: bool, count: int) -> None:
    assert len(plan_views(64, width, 64, stride, circular=circular)) == count


def test_where_the_stride_divides_the_canvas_the_views_are_the_articles_in_its_order() -> None:
    ours = [(view.top, view.bottom, view.left, view.right) for view in plan_views(80, 128, 64, 8)]
    assert ours == article_views(80, 128)


@pytest.mark.parametrize(("width", "stride"), [(250, 8), (100, 24), (71, 32), (65, 64), (256, 8)])
def test_the_views_of_a_ring_are_spread_evenly(width: int, stride: int) -> None:
    lefts = [view.left for view in plan_views(64, width, 64, stride, circular=True)]
    gaps = [after - before for before, after in zip(lefts, [*lefts[1:], lefts[0] + width], strict=True)]
    assert max(gaps) - min(gaps) <= 1
    assert max(gaps) <= stride
    assert len(lefts) == len(range(0, width, stride))


def test_a_canvas_that_is_one_view_has_one() -> None:
    assert len(plan_views(64, 64, 64, 8)) == 1


@pytest.mark.parametrize(("side", "stride"), [(63, 8), (64, 65), (64, 0)])
def test_a_plan_that_would_leave_holes_is_refused(side: int, stride: int) -> None:
    with pytest.raises(ValueError, match="view"):
        plan_views(64, side, 64, stride)
