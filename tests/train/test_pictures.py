"""Pictures of the reports: curves that show what matters, and foregrounds that are estimated fast."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("lightning")

from torch.nn import functional

from lossfold.train.matting.pictures import LARGEST, _mean, on_backdrop
from lossfold.train.pictures import bound, loss_curves, new_panel


@pytest.mark.parametrize(("first", "said"), [(1e6, True), (-1e5, True), (1.5, False)])
def test_a_huge_early_value_does_not_flatten_a_curve(first: float, said: bool) -> None:
    values = [first, *(1 / (1 + step / 10) for step in range(99))]
    _, axes = new_panel("$total_[/x]")
    axes.plot(values)
    bound(axes, values, [0.5, math.nan])
    low, high = axes.get_ylim()
    assert low <= 0 and (high < 2 and low > -2) and bool(axes.texts) == said
    assert not said or f"{first:.3g}" in axes.texts[0].get_text()


def test_a_curve_without_values_is_drawn() -> None:
    _, axes = new_panel("nothing")
    bound(axes, [], [math.nan])
    rows = [{"step": float(step), "train/total": 1.0, "train/a": math.inf} for step in range(3)]
    assert len(loss_curves(rows)) == 2 and loss_curves([]) == []


@pytest.mark.parametrize("reach", [0, 3, 20])
def test_means_along_rows_and_columns_are_those_of_squares(reach: int) -> None:
    image, weight = torch.rand(3, 41, 50, dtype=torch.float64), torch.rand(1, 41, 50, dtype=torch.float64)
    total, share = (
        functional.avg_pool2d(part[None], 2 * reach + 1, 1, padding=reach, count_include_pad=False)[0]
        for part in (image * weight, weight)
    )
    torch.testing.assert_close(_mean(image, weight, reach), total / (share + 1e-5))


def test_a_large_matte_is_estimated_at_the_size_of_its_picture() -> None:
    image, alpha = torch.randint(0, 255, (3, 700, 1100), dtype=torch.uint8), torch.rand(1, 700, 1100)
    backdrop = torch.zeros(3, 700, 1100, dtype=torch.uint8)
    assert on_backdrop(image, None, alpha, backdrop).shape == on_backdrop(image, image, alpha, backdrop).shape == (326, LARGEST, 3)
