"""What a weight means: a place counts as much as the pixel in its middle; where nothing counts the loss is 0."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from tests.cases import ENGINES, close, same_bits
from tests.window.cases import WEIGHTS, WindowCase, WindowData, evaluate, every_window_case, make_images, run, samples, window_cases

REDUCED = [case for case in window_cases() if case.options.get("reduction") not in ("sum", "none")]


@every_window_case()
def test_a_weight_of_one_is_none(case: WindowCase) -> None:
    data = make_images(case)
    truth, slope = evaluate(case.build(), data)
    for shape in ((2, 1), (2, 2), (2,)):
        for dtype in (torch.float64, torch.bool, torch.float16):
            ones = torch.ones(*shape, *data.pred.shape[2:], dtype=dtype)
            result, gradient = evaluate(case.build(), WindowData(data.pred, data.target, ones))
            close(result, truth)
            close(gradient, slope)


@every_window_case()
def test_a_boolean_weight_is_zero_and_one(case: WindowCase) -> None:
    data = make_images(case, weight="bool")
    assert data.weight is not None
    truth, slope = evaluate(case.build(), WindowData(data.pred, data.target, data.weight.double()))
    result, gradient = evaluate(case.build(), data)
    same_bits(result, truth)
    same_bits(gradient, slope)


@every_window_case(among=REDUCED)
def test_means_do_not_depend_on_the_weights_size(case: WindowCase) -> None:
    data = make_images(case, weight="soft")
    assert data.weight is not None
    truth, slope = evaluate(case.build(), data)
    result, gradient = evaluate(case.build(), WindowData(data.pred, data.target, 2 * data.weight))
    close(result, truth)
    close(gradient, slope)


@pytest.mark.parametrize("engine", ENGINES)
def test_weight_two_is_the_place_twice(engine: str) -> None:
    loss = lf.SSIMLoss(reduction="sum", engine=engine)
    data = make_images(WindowCase("SSIMLoss", {}), (20, 24), weight="soft")
    assert data.weight is not None
    more = data.weight.clone()
    more[:, :, 9, 11] += 1
    only = torch.zeros_like(more)
    only[:, :, 9, 11] = 1
    (a, slope_a), (b, slope_b), (c, slope_c) = (evaluate(loss, WindowData(*data.call[:2], w)) for w in (data.weight, only, more))
    close(c, a + b)
    close(slope_c, slope_a + slope_b)
    assert b > 0


@every_window_case(among=[case for case in window_cases() if case.name == "SSIMLoss"])
def test_what_no_counting_window_covers_does_not_matter(case: WindowCase) -> None:
    """Not a number either, and in the compiled engine it gets no gradient; the definition multiplies it by 0."""
    data = make_images(case, (40, 40))
    weight = torch.zeros(2, 1, 40, 40, dtype=torch.float64)
    weight[..., :15] = 1
    reach = 15 + int(case.options.get("window_size", 11)) // 2
    truth, slope = evaluate(case.build(), WindowData(data.pred, data.target, weight))
    assert slope[..., reach - 1].abs().max() > 0 and slope[..., reach:].abs().max() == 0
    pred = data.pred.clone()
    pred[..., reach:] = torch.nan
    result, gradient = evaluate(case.build(), WindowData(pred, data.target, weight))
    close(result, truth)
    if case.options["engine"] == "cpp":
        close(gradient, slope)


@every_window_case()
def test_a_sum_over_places_is_a_sum_over_samples(case: WindowCase) -> None:
    """Without a weight, and permuted with the samples."""
    data = make_images(case, batch=3, weight="channels")
    result, gradient = evaluate(case.build(), data.each(lambda one: one.flip(0)))
    truth, slope = evaluate(case.build(), data)
    close(result, truth.flip(0) if result.dim() else truth)
    close(gradient, slope.flip(0))


@every_window_case()
def test_where_nothing_counts(case: WindowCase, dtypes: list[torch.dtype]) -> None:
    """A zero with a graph and a zero gradient."""
    for dtype in dtypes:
        for kind in WEIGHTS:
            data = make_images(case, dtype=dtype, weight=kind)
            assert data.weight is not None
            leaf = WindowData(data.pred, data.target, torch.zeros_like(data.weight)).leaf()
            result = run(case.build(), leaf)
            assert result.requires_grad and result.abs().max() == 0
            assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            (gradient,) = torch.autograd.grad(result.sum(), leaf.pred)
            assert torch.equal(gradient, torch.zeros_like(gradient))


@every_window_case()
def test_no_samples(case: WindowCase) -> None:
    for weight in (None, "bool"):
        leaf = make_images(case, batch=0, weight=weight).leaf()
        result = run(case.build(), leaf)
        assert result.requires_grad and (result.numel() == 0 or result == 0)
        (gradient,) = torch.autograd.grad(result.sum(), leaf.pred)
        assert gradient.shape == leaf.pred.shape


@every_window_case(among=[case for case in window_cases() if case.options.get("reduction") != "none"])
def test_one_empty_sample_beside_a_full_one(case: WindowCase) -> None:
    """It changes nothing of a mean over the batch, and counts as 0 in a mean over samples."""
    data = make_images(case, weight="soft")
    assert data.weight is not None
    weight = torch.cat([data.weight[:1], torch.zeros_like(data.weight[1:])])
    result, gradient = evaluate(case.build(), WindowData(data.pred, data.target, weight))
    truth, slope = evaluate(case.build(), data.each(lambda one: one[:1]))
    share = 0.5 if case.options.get("sample_wise") else 1.0
    close(result, share * truth)
    close(gradient[:1], share * slope)
    assert gradient[1].abs().max() == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_ms_ssim_of_a_weight_that_only_coarse_scales_see(engine: str) -> None:
    """One pixel that counts at the border: no place of the first scale has it in its middle, so the sample counts for nothing."""
    data = make_images(WindowCase("MSSSIMLoss", {"betas": (0.5, 0.5)}), (40, 40))
    for pixel, counts in ((2, False), (20, True)):
        weight = torch.zeros(2, 40, 40, dtype=torch.float64)
        weight[:, pixel, pixel] = 1
        value, gradient = evaluate(lf.MSSSIMLoss(betas=(0.5, 0.5), engine=engine), WindowData(data.pred, data.target, weight))
        assert value.isfinite() and bool(value > 0) == counts and bool(gradient.abs().max() > 0) == counts


@pytest.mark.parametrize("engine", ENGINES)
def test_ms_ssim_of_opposite_images(engine: str) -> None:
    """A negative contrast counts as 0: no root of a negative number, no gradient for that sample, and the other keeps its own."""
    case = WindowCase("MSSSIMLoss", {"betas": (0.3, 0.3, 0.4), "engine": engine})
    data = make_images(case)
    opposite = WindowData(torch.cat([1 - data.target[:1], data.pred[1:]]), data.target)
    result, gradient = evaluate(case.build(), opposite)
    close(evaluate(case.changed(reduction="none").build(), opposite)[0][0], torch.ones(2, dtype=torch.float64), 0, 0)
    truth, slope = evaluate(case.build(), data.each(lambda one: one[1:]))
    close(result, (1 + truth) / 2)
    assert gradient[0].abs().max() == 0
    close(gradient[1:], slope / 2)


@every_window_case(among=samples())
def test_a_perfect_prediction_of_a_weighted_image(case: WindowCase) -> None:
    data = make_images(case, weight="channels")
    result, gradient = evaluate(case.build(), WindowData(data.target, data.target.clone(), data.weight))
    assert result.abs().max() == 0 and gradient.abs().max() == 0
