"""Where nothing counts a loss is 0 with a zero gradient: never NaN, never a constant without a graph."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.contract.case import Case, Data, both_close, close, evaluate, result_dtype, run, slope_of
from tests.contract.cases import A_LOSS, every


def nothing(case: Case, data: Data) -> Tensor:
    """Asserts a finite zero with a finite zero gradient; returns the value."""
    leaf = data.leaf()
    result = run(case.build(), leaf)
    assert result.requires_grad
    assert torch.equal(result, torch.zeros_like(result))
    gradient = slope_of(result.sum(), leaf.pred)
    assert torch.equal(gradient, torch.zeros_like(gradient))
    return result


@every(among=lambda case: case.blanks)
def test_nothing_counted(case: Case, dtypes: list[torch.dtype]) -> None:
    """Also of samples that have means of their own."""
    apart = case.apart() if case.reduction == "mean" else case
    for i, dtype in enumerate(dtypes):
        for j, data in enumerate(case.empties(dtype)):
            assert nothing((case, apart)[(i + j) % 2], data).dtype == result_dtype(dtype)


@every()
def test_zero_sized_batch_or_space(case: Case) -> None:
    for i, (batch, space) in enumerate(case.hollow):
        for way in (case.ways[i % len(case.ways)], case.rich):
            nothing(case, case.make(space, batch=batch, way=way))


@every(among=lambda case: case.blanks)
def test_one_empty_image_beside_a_full_one(case: Case) -> None:
    """It changes nothing of the sum and of a mean over the batch, and counts as 0 in a mean over samples."""
    case = case.changed(reduction="mean") if case.reduction == "none" else case
    loss = case.build()
    data = case.make(way=case.rich)
    assert data.weight is not None
    empty = case.blank(data).weight
    assert empty is not None
    ways = [data.with_weight(torch.cat([data.weight[:1], empty[1:].to(data.weight)]))]
    if case.fold in ("label", "dense"):
        data = case.make(way=("int64" if case.fold == "label" else "int", None), ignored=0.0)
        target = data.truth.clone()
        target[1] = getattr(case, "ignore_index")  # noqa: B009 - of scores alone
        ways.append(data.with_target(target))
    for one in ways:
        result, gradient = evaluate(loss, one)
        truth, slope = evaluate(loss, one.each(lambda tensor: tensor[:1]))
        close(result, case.empty_share * truth, grain=case.grain)
        close(gradient[:1], case.empty_share * slope)
        assert gradient[1].abs().max() == 0 and slope.abs().max() > 0


@every(among=lambda case: case.blanks and case.pixelwise and not case.scales_with_area)
def test_one_pixel(case: Case) -> None:
    """One pixel with nothing else is the pixel among five that don't count."""
    data = case.make((1,), batch=1, way=(case.rich[0], "bool"), ignored=0.0)
    if case.fold == "label":
        data = data.with_target(1 + data.pred[:, 1:].argmin(1))  # hard, and foreground
    data = case.full(data)
    many = data.each(lambda one: one.expand(*one.shape[:-1], 6).clone())
    empty = case.blank(many).weight
    assert many.weight is not None and empty is not None
    many.weight[..., 1:] = empty[..., 1:]
    result, gradient = evaluate(case.build(), data)
    truth, slope = evaluate(case.build(), many)
    both_close((result, gradient), (truth[..., :1] if case.maps else truth, slope[..., :1]), grain=case.grain)
    assert torch.isfinite(result).all() and torch.isfinite(gradient).all() and slope[..., 1:].abs().max() == 0
    constant = case.options.get("average") == "joint"  # a correlation of one pixel
    assert gradient.abs().max() > 0 or case.fold != "label" or constant


@every(A_LOSS, among=lambda case: case.fold == "pair" and not case.pixelwise)
def test_one_pixel_under_a_filter(case: Case) -> None:
    """Which reaches beyond it; and a pyramid has no level."""
    result, gradient = evaluate(case.build(), case.make((1, 1), batch=1))
    assert torch.isfinite(result).all() and torch.isfinite(gradient).all()
