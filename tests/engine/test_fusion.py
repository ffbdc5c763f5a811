"""Fusion: every cell of the canvas becomes the weighted mean of what its views say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.batching import MicroBatches
from engine.fusion import Fusion, plan_fusion, window_weights
from recipe.fields import VIEW_WEIGHTS
from recipe.views import plan_views

HEIGHT, WIDTH, WINDOW = 16, 41, 16


def fuse(
    canvas: torch.Tensor, predict: object, *, kind: str = "uniform", circular: bool = False, batch: int = 4
) -> torch.Tensor:
    views = plan_views(HEIGHT, WIDTH, WINDOW, 4, circular=circular)
    fusion = plan_fusion(views, window_weights(kind, WINDOW), HEIGHT, WIDTH)
    return run(fusion, canvas, predict, batch)


def run(fusion: Fusion, canvas: torch.Tensor, predict: Any, batch: int) -> torch.Tensor:
    fused = fusion.begin(canvas)
    for some in MicroBatches(batch).split(fusion.tiles):
        with some as tiles:
            fused.add(tiles, predict(fused.crops(tiles), tiles))
    return fused.mean()


def canvas_of(seed: int) -> torch.Tensor:
    return torch.randn(1, 4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", VIEW_WEIGHTS)
def test_weights_are_symmetric_fp32_and_never_zero(kind: str) -> None:
    for window in (16, 64, 128):
        weights = window_weights(kind, window)
        assert (weights.shape, weights.dtype) == ((window, window), torch.float32)
        assert float(weights.min()) > 0
        for same in (weights.flip(0), weights.flip(1), weights.T):
            torch.testing.assert_close(weights, same)
        assert float(weights.max()) == pytest.approx(float(weights[window // 2, window // 2]))


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="magic"):
        window_weights("magic", 16)


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("kind", VIEW_WEIGHTS)
def test_views_that_agree_leave_the_canvas_as_it_is(kind: str, circular: bool) -> None:
    canvas = canvas_of(0)
    torch.testing.assert_close(fuse(canvas, lambda crops, _: crops, kind=kind, circular=circular), canvas)


def test_a_cell_becomes_the_mean_of_the_views_that_cover_it() -> None:
    views = plan_views(HEIGHT, WIDTH, WINDOW, 4)
    said = iter(range(len(views)))  # every view says its own number
    fused = fuse(canvas_of(0), lambda crops, _: torch.full_like(crops, next(said)), batch=1)
    for x in range(WIDTH):
        covering = [number for number, view in enumerate(views) if view.left <= x < view.right]
        torch.testing.assert_close(fused[..., x], torch.full_like(fused[..., x], sum(covering) / len(covering)))


def test_predictions_in_16_bits_are_summed_in_fp32() -> None:
    canvas = canvas_of(1)
    fused = fuse(canvas, lambda crops, _: crops.bfloat16())
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused, canvas.bfloat16().float())


def test_a_circular_canvas_rolled_by_a_stride_fuses_to_the_rolled_canvas() -> None:
    def contrast(crops: torch.Tensor, _: object) -> torch.Tensor:
        return crops - crops.mean(dim=(-1, -2), keepdim=True)

    views = plan_views(HEIGHT, 40, WINDOW, 4, circular=True)
    fusion = plan_fusion(views, window_weights("gaussian", WINDOW), HEIGHT, 40)
    canvas = canvas_of(2)[..., :40]
    rolled = run(fusion, canvas.roll(8, -1), contrast, 3)
    torch.testing.assert_close(rolled, run(fusion, canvas, contrast, 3).roll(8, -1))
