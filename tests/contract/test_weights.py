"""Ways to write weights: ones are none, masks are 0 and 1, and one channel counts for all."""

from __future__ import annotations

import torch

from tests.contract.case import Case, both_close, both_same, evaluate
from tests.contract.cases import every
from tests.contract.refusals import refused


@every()
def test_ways_to_write_the_same_weights(case: Case) -> None:
    """With a channel and without, for each channel, in floats of every size, as a mask."""
    data = case.make(way=(case.rich[0], "bool"))
    assert data.weight is not None and data.weight.dtype == torch.bool
    assert 0 < data.weight.sum() < data.weight.numel()
    loss = case.build()
    flat = data.weight.reshape(data.pred.shape[0], *data.pred.shape[2:])
    masked = evaluate(loss, data.with_weight(flat))
    both_close(evaluate(loss, data.with_weight(flat.double())), masked, grain=case.grain)
    both_same(evaluate(loss, data.with_weight(flat[:, None])), masked)
    both_same(evaluate(loss, data.with_weight(flat[:, None].half())), evaluate(loss, data.with_weight(flat.half())))
    shape = (data.truth if data.target is not None and case.fold != "label" else data.pred).shape
    apart = case.fold != "label" and not getattr(case, "together", False)
    if apart:
        both_close(evaluate(loss, data.with_weight(flat[:, None].expand(shape))), masked, grain=case.grain)
    ones = torch.ones_like(flat)
    whole = evaluate(loss, data.with_weight(ones))
    assert not torch.equal(whole[0], masked[0])
    forms = [ones.float(), ones.double(), ones[:, None], ones[:, None].half()]
    forms += [ones[:, None].expand(shape), ones[:, None].expand(shape).double()] if apart else []
    for weight in forms:
        both_close(evaluate(loss, data.with_weight(weight)), whole, grain=case.grain)
    if not case.needs_weight:
        both_close(evaluate(loss, data.with_weight(None)), whole, grain=case.grain)


@every(among=lambda case: case.elsewhere)
def test_weights_below_0_are_refused(case: Case) -> None:
    """Where values are looked at, which is on CPUs; regions are refused outside of [0, 1] anyway."""
    data = case.make(way=(case.rich[0], "float"))
    assert data.weight is not None
    weight = data.weight.clone()
    weight.flatten()[-1] = -0.25
    refused(
        lambda: evaluate(case.build(), data.with_weight(weight)),
        r"(weight|region|mask) must be|must be in \[0, 1\]",
        r"got (values from -|also \[-)",
    )


@every(
    among=lambda case: (
        case.fold in ("pair", "window") and not case.weights_are_regions and not case.is_set and case.reduction == "mean"
    )
)
def test_the_scale_of_weights_is_of_no_account_to_a_mean(case: Case) -> None:
    data = case.make(way=case.rich)
    assert data.weight is not None
    both_close(evaluate(case.build(), data.with_weight(1000 * data.weight)), evaluate(case.build(), data))
