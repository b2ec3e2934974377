"""Where a loss is a mean over pixels: weights count, order does not, and a weight of 0 is not there; images likewise."""

from __future__ import annotations

import itertools

import pytest
import torch

import lossfold as lf
from tests.cases import ENGINES, close
from tests.pair.cases import PairCase, PairData, evaluate, every_pair_case, make_pair, pair_cases

PIXELS = [case for case in pair_cases() if case.pixelwise and case.options.get("reference_area") is None]
WEIGHTED = [case for case in PIXELS if case.region_argument == "weight"]
MEANS = [case for case in pair_cases() if not case.is_set and "reduction" not in case.options]


def counted(case: PairCase, data: PairData) -> torch.Tensor:
    """Which pixels of a row count."""
    assert data.region is not None
    return (data.region == 0) if case.name.startswith("Known") else (data.region != 0)


@every_pair_case(among=PIXELS)
def test_a_weight_of_0_is_a_pixel_that_is_not_there(case: PairCase) -> None:
    """Whatever stands there, in the prediction and in the target."""
    data = make_pair(case, (12,), batch=1)
    here = counted(case, data)[0, 0]
    assert 0 < here.sum() < 12
    truth, slope = evaluate(case.build(), data.each(lambda one: one[..., here]))
    for poison, where in itertools.product((torch.nan, torch.inf, 1e30), ("prediction", "target")):
        if where == "prediction":
            spoiled = PairData(data.pred.where(here, poison), data.others, data.region)
        else:
            spoiled = PairData(data.pred, (*data.others[:-1], data.target.where(here, poison)), data.region)
        result, gradient = evaluate(case.build(), spoiled)
        close(result[..., here] if case.maps else result, truth)
        close(gradient[..., here], slope)
        assert (gradient[..., ~here] == 0).all()


@every_pair_case(among=WEIGHTED)
def test_a_weight_of_2_is_the_pixel_twice(case: PairCase) -> None:
    data = make_pair(case, (6,), region="channels")
    twice = PairData(data.pred, data.others, torch.ones_like(data.target))
    assert twice.region is not None
    twice.region[..., :2] = 2
    repeated = torch.tensor([0, 0, 1, 1, 2, 3, 4, 5])
    many = PairData(data.pred, data.others, torch.ones_like(data.target)).each(lambda one: one[..., repeated])
    result, gradient = evaluate(case.build(), twice)
    truth, slope = evaluate(case.build(), many)
    if case.maps:
        close(result[..., 2:], truth[..., 4:])
        close(result[..., :2], 2 * truth[..., :4:2])
    else:
        close(result, truth)
    close(gradient[..., :2], slope[..., :4:2] + slope[..., 1:4:2])
    close(gradient[..., 2:], slope[..., 4:])


@every_pair_case(among=PIXELS)
def test_the_order_of_pixels_is_of_no_account(case: PairCase) -> None:
    """Nor is the space that they are laid out in."""
    data = make_pair(case, (24,))
    order = torch.randperm(24)
    truth, slope = evaluate(case.build(), data)
    result, gradient = evaluate(case.build(), data.each(lambda one: one[..., order]))
    close(result, truth[..., order] if case.maps else truth)
    close(gradient, slope[..., order])
    for space in ((4, 6), (2, 3, 4), (1, 24, 1)):
        result, gradient = evaluate(case.build(), data.each(lambda one, space=space: one.unflatten(-1, space)))
        close(result.flatten(2) if case.maps else result, truth)
        close(gradient.flatten(2), slope)


@every_pair_case(among=MEANS)
def test_the_order_of_samples_is_of_no_account(case: PairCase) -> None:
    data = make_pair(case, (9, 8), batch=3)
    truth, slope = evaluate(case.build(), data)
    result, gradient = evaluate(case.build(), data.each(lambda one: one[[2, 0, 1]]))
    close(result, truth)
    close(gradient, slope[[2, 0, 1]])


@every_pair_case(among=MEANS)
def test_mirrored_and_transposed_images(case: PairCase) -> None:
    """Even sides, whose pyramids are mirrored only in their columns' parity: those have no such symmetry.

    Nor have steps, whose weight is that of their left or upper end.
    """
    data = make_pair(case, (9, 8))
    truth, slope = evaluate(case.build(), data)
    one_way = case.name == "LaplacianPyramidLoss" or case.steps
    ways = [lambda one: one.mT] if one_way else [lambda one: one.mT, lambda one: one.flip(-1)]
    for way in ways:
        result, gradient = evaluate(case.build(), data.each(way))
        close(result, truth)
        close(way(gradient), slope)


@every_pair_case(among=MEANS)
def test_no_region_is_all_ones_and_a_boolean_one_0_and_1(case: PairCase) -> None:
    data = make_pair(case, (9, 8), region="bool")
    assert data.region is not None
    truth, slope = evaluate(case.build(), data)
    result, gradient = evaluate(case.build(), PairData(data.pred, data.others, data.region.float()))
    close(result, truth)
    close(gradient, slope)
    if case.needs_region:
        return
    truth, slope = evaluate(case.build(), PairData(data.pred, data.others))
    for shape in (data.region.shape, data.target.shape, data.region[:, 0].shape):
        for ones in (torch.ones(shape), torch.ones(shape, dtype=torch.bool)):
            result, gradient = evaluate(case.build(), PairData(data.pred, data.others, ones))
            close(result, truth)
            close(gradient, slope)


@every_pair_case(among=[case for case in MEANS if case.region_argument == "weight"])
def test_the_scale_of_weights_is_of_no_account_to_a_mean(case: PairCase) -> None:
    data = make_pair(case)
    assert data.region is not None
    truth, slope = evaluate(case.build(), data)
    result, gradient = evaluate(case.build(), PairData(data.pred, data.others, 1000 * data.region))
    close(result, truth)
    close(gradient, slope)


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_stays_visible(engine: str, dtype: torch.dtype) -> None:
    """Where it counts, in the value; in a map at its pixel alone."""
    for case in (case for case in pair_cases() if engine in case.engines):
        data = make_pair(case, (9, 8), dtype=dtype, region="bool")
        assert data.region is not None
        data.pred[1, 0, 4, 4] = torch.nan
        region = torch.zeros_like(data.region) if "Known" in case.name else torch.ones_like(data.region)
        result, _ = evaluate(case.changed(engine=engine).build(), PairData(data.pred, data.others, region))
        assert result.isnan().any(), case.id
        if case.maps and case.pixelwise:
            assert torch.equal(result.isnan().any(1).nonzero(), torch.tensor([[1, 4, 4]]))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("large", [3e4, 6e4])
def test_large_halves(engine: str, large: float) -> None:
    """Squares of 10^9 and sums far above 65504 are nothing to float32."""
    pred = torch.full((1, 1, 64, 64), large, dtype=torch.float16)
    data = PairData(pred, (torch.zeros_like(pred),))
    size = pred[0, 0, 0, 0].double()
    for name, expected in (("L1Loss", size), ("MSELoss", size**2), ("CharbonnierLoss", size), ("SmoothL1Loss", size - 0.5)):
        result, gradient = evaluate(lf.LOSSES[name](engine=engine), data)
        close(result.double(), expected, 1e-6, 0)
        assert torch.isfinite(gradient).all() and (gradient > 0).all()
