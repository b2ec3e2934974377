"""Where nothing counts a loss of a pair is 0, with a graph and a zero gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.cases import close
from tests.pair.cases import PairCase, PairData, evaluate, every_pair_case, make_pair, pair_cases, run

LEAVES = [case for case in pair_cases() if not case.is_set]


def nothing(case: PairCase, data: PairData) -> Tensor:
    """Asserts a finite zero with a finite zero gradient; returns the value."""
    leaf = data.leaf()
    result = run(case.build(), leaf)
    assert result.requires_grad
    assert torch.equal(result, torch.zeros_like(result))
    (gradient,) = torch.autograd.grad(result.sum(), leaf.pred)
    assert torch.equal(gradient, torch.zeros_like(gradient))
    return result


def blank(case: PairCase, region: Tensor) -> Tensor:
    """A region of the loss in which nothing counts: of the unknown all, for a loss of what is known."""
    outside = case.name.startswith("Known")
    return torch.ones_like(region) if outside else torch.zeros_like(region)


@every_pair_case(among=LEAVES)
def test_an_empty_region(case: PairCase, dtypes: list[torch.dtype]) -> None:
    for dtype in dtypes:
        for kind in ("soft", "bool", "channels", "flat"):
            data = make_pair(case, (8, 9), dtype=dtype, region=kind)
            assert data.region is not None
            result = nothing(case, PairData(data.pred, data.others, blank(case, data.region)))
            assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@every_pair_case()
def test_zero_sized_batch_or_space(case: PairCase) -> None:
    for shape in ((0, 8, 8), (2, 0, 8), (2, 8, 0), (0, 0, 0)):
        for region in (None, "bool"):
            nothing(case, make_pair(case, shape[1:], batch=shape[0], region=region))


@every_pair_case(among=[case for case in LEAVES if case.pixelwise])
def test_zero_sized_rows_and_points(case: PairCase) -> None:
    for shape in ((0, 5), (3, 0), (0,)):
        for region in (None, "soft"):
            nothing(case, make_pair(case, shape[1:], batch=shape[0], region=region))


@every_pair_case(among=[case for case in LEAVES if case.options.get("reduction") != "none"])
def test_one_empty_sample_beside_a_full_one(case: PairCase) -> None:
    """It changes nothing of a mean over the batch, and counts as 0 in a mean over samples."""
    data = make_pair(case, (9, 8))
    assert data.region is not None
    region = torch.cat([data.region[:1], blank(case, data.region[1:])])
    result, gradient = evaluate(case.build(), PairData(data.pred, data.others, region))
    alone = PairData(data.pred[:1], tuple(one[:1] for one in data.others), data.region[:1])
    truth, slope = evaluate(case.build(), alone)
    share = 0.5 if case.options.get("sample_wise") else 1.0
    close(result, share * truth)
    close(gradient[:1], share * slope)
    assert gradient[1].abs().max() == 0


@every_pair_case(among=LEAVES)
def test_one_pixel(case: PairCase) -> None:
    """All other pixels have the weight 0, or there are none; a filter reaches beyond the pixel, and a pyramid has no level."""
    if not case.pixelwise:
        data = make_pair(case, (1, 1), batch=1)
        result, gradient = evaluate(case.build(), data)
        assert torch.isfinite(result).all() and torch.isfinite(gradient).all()
        return
    data = make_pair(case, (1,), batch=1, region="bool")
    assert data.region is not None
    here = 1 - blank(case, data.region.double())
    many = PairData(data.pred, data.others, here).each(lambda one: one.expand(*one.shape[:2], 6).clone())
    assert many.region is not None
    many.region[..., 1:] = blank(case, many.region[..., 1:])
    if case.options.get("reference_area"):  # another area, of six pixels
        case = case.changed(reference_area=None)
    result, gradient = evaluate(case.build(), PairData(data.pred, data.others, here))
    truth, slope = evaluate(case.build(), many)
    close(result, truth[..., :1] if case.maps else truth)
    close(gradient, slope[..., :1])
    assert slope[..., 1:].abs().max() == 0
