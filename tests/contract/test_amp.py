"""Mixed precision: inside and outside of autocast, half inputs, and gradients that are scaled.

A loss reads half inputs exactly and computes in float32: its value is that of the same numbers in float32, to the bit, and its
gradient that gradient rounded once for each of its passes.
"""

from __future__ import annotations

import pytest
import torch

from tests.contract.case import Case, Data, both_same, evaluate, run, same_bits, slope_of
from tests.contract.cases import CASES, each, first_of
from tests.contract.scaling import HALVES, train

SEVERAL_PASSES = {"ExpLogLoss", "MSSSIMLoss", "L1SSIMLoss", "MattingLoss", "MixedMattingLoss"}
"""Scales, and terms of two kinds: their gradients are rounded before they add up."""
SCALARS = first_of(lambda case: (case.name, case.fold), (case for case in CASES if case.reduction == "mean"))


def space_of(case: Case) -> tuple[int, ...]:
    return case.spaces[0] if case.fold == "window" else (9, 7)


def wide(data: Data) -> Data:
    """The same numbers in float32."""
    return data.each(lambda one: one.float() if one.is_floating_point() else one)


@each()
def test_half_inputs_are_read_exactly(case: Case) -> None:
    """Inside of autocast and outside; float32 inputs inside of it give the same bits as outside."""
    half = HALVES[CASES.index(case) % 2]
    for engine in case.engines:
        loss = case.build(engine=engine)
        data = case.make(space_of(case), dtype=half, way=case.rich)
        truth, slope = evaluate(loss, wide(data))
        assert torch.isfinite(truth).all() and torch.isfinite(slope).all()
        leaf, single = data.leaf(), wide(data).leaf()
        with torch.autocast("cpu", half):
            inside, exact = run(loss, leaf), run(loss, single)
        both_same((exact.detach(), slope_of(exact, single.pred)), (truth, slope))
        for result, gradient in ((inside.detach(), slope_of(inside, leaf.pred)), evaluate(loss, data)):
            if case.linear and half == torch.float16:  # which takes two passes in place of one
                torch.testing.assert_close(result, truth, rtol=1e-6, atol=0)
                if case.name not in SEVERAL_PASSES:
                    torch.testing.assert_close(gradient.float(), slope, rtol=torch.finfo(half).eps, atol=2**-24)
                    continue
            else:
                same_bits(result, truth)
            if case.name not in SEVERAL_PASSES:
                same_bits(gradient, slope.to(half))
            else:
                assert gradient.dtype == half
                assert (gradient.float() - slope).norm() < torch.finfo(half).eps * slope.norm()


@pytest.mark.parametrize("case", SCALARS, ids=lambda case: case.id)
def test_scaled_gradients(case: Case) -> None:
    """fp16 with GradScaler: three steps are those of float32, and what overflows is skipped and scaled down."""
    area = {"reference_area": 63} if "reference_area" in case.options else {}  # the picture's, in place of a crop's
    loss, data = case.build(**area), case.make(space_of(case), dtype=torch.float32)
    train(lambda x: run(loss, data.with_pred(x)), data.pred)
