"""What a weight means: a place counts as much as the pixel in its middle."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from tests.contract.case import ENGINES, Case, Data, close, evaluate
from tests.contract.cases import CASES, every
from tests.folds.window.cases import WindowCase

WINDOWS = [case for case in CASES if case.fold == "window"]


@pytest.mark.parametrize("engine", ENGINES)
def test_weight_two_is_the_place_twice(engine: str) -> None:
    loss = lf.SSIMLoss(reduction="sum", engine=engine)
    data = WindowCase("SSIMLoss", {}).make((20, 24), way=("", "soft"))
    assert data.weight is not None
    more = data.weight.clone()
    more[:, :, 9, 11] += 1
    only = torch.zeros_like(more)
    only[:, :, 9, 11] = 1
    (a, slope_a), (b, slope_b), (c, slope_c) = (evaluate(loss, Data(*data.call[:2], w)) for w in (data.weight, only, more))
    close(c, a + b)
    close(slope_c, slope_a + slope_b)
    assert b > 0


@every(WINDOWS, among=lambda case: case.name == "SSIMLoss")
def test_what_no_counting_window_covers_does_not_matter(case: Case) -> None:
    """Not a number either, and in the compiled engine it gets no gradient; the definition multiplies it by 0."""
    data = case.make((40, 40))
    weight = torch.zeros(2, 1, 40, 40, dtype=torch.float64)
    weight[..., :15] = 1
    reach = 15 + int(case.options.get("window_size", 11)) // 2
    truth, slope = evaluate(case.build(), Data(data.pred, data.target, weight))
    assert slope[..., reach - 1].abs().max() > 0 and slope[..., reach:].abs().max() == 0
    pred = data.pred.clone()
    pred[..., reach:] = torch.nan
    result, gradient = evaluate(case.build(), Data(pred, data.target, weight))
    close(result, truth)
    if case.options["engine"] == "cpp":
        close(gradient, slope)


@pytest.mark.parametrize("engine", ENGINES)
def test_ms_ssim_of_a_weight_that_only_coarse_scales_see(engine: str) -> None:
    """One pixel that counts at the border: no place of the first scale has it in its middle, so the sample counts for nothing."""
    data = WindowCase("MSSSIMLoss", {"betas": (0.5, 0.5)}).make((40, 40))
    for pixel, counts in ((2, False), (20, True)):
        weight = torch.zeros(2, 40, 40, dtype=torch.float64)
        weight[:, pixel, pixel] = 1
        value, gradient = evaluate(lf.MSSSIMLoss(betas=(0.5, 0.5), engine=engine), Data(data.pred, data.target, weight))
        assert value.isfinite() and bool(value > 0) == counts and bool(gradient.abs().max() > 0) == counts


@pytest.mark.parametrize("engine", ENGINES)
def test_ms_ssim_of_opposite_images(engine: str) -> None:
    """A negative contrast counts as 0: no root of a negative number, no gradient for that sample, and the other keeps its own."""
    case = WindowCase("MSSSIMLoss", {"betas": (0.3, 0.3, 0.4), "engine": engine})
    data = case.make()
    opposite = Data(torch.cat([1 - data.target[:1], data.pred[1:]]), data.target)
    result, gradient = evaluate(case.build(), opposite)
    close(evaluate(case.changed(reduction="none").build(), opposite)[0][0], torch.ones(2, dtype=torch.float64), 0, 0)
    truth, slope = evaluate(case.build(), data.each(lambda one: one[1:]))
    close(result, (1 + truth) / 2)
    assert gradient[0].abs().max() == 0
    close(gradient[1:], slope / 2)


@every(WINDOWS)
def test_a_perfect_prediction_of_a_weighted_image(case: Case) -> None:
    data = case.make(way=("", "channels"))
    result, gradient = evaluate(case.build(), Data(data.target, data.target.clone(), data.weight))
    assert result.abs().max() == 0 and gradient.abs().max() == 0
