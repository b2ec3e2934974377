"""Derivatives of losses of a pair where they are known, and what has none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.contract.case import ENGINES, Case, Data, close, evaluate, run
from tests.contract.cases import A_LOSS, CASES, every
from tests.folds.pair.cases import PairCase

PAIRS = [case for case in CASES if case.fold == "pair"]


@pytest.mark.parametrize("engine", ENGINES)
def test_second_derivatives(engine: str) -> None:
    """Of a square 2 w, whatever the difference; of an absolute value none."""
    data = PairCase("MSELoss", {}).make((5,)).leaf()
    assert data.weight is not None
    for name, expected in (("MSELoss", 2 * data.weight), ("L1Loss", 0 * data.weight)):
        (slope,) = torch.autograd.grad(run(lf.LOSSES[name](reduction="sum", engine=engine), data), data.pred, create_graph=True)
        if not slope.requires_grad:
            assert name == "L1Loss"
            continue
        (curvature,) = torch.autograd.grad(slope.sum(), data.pred)
        close(curvature, expected)


@every(A_LOSS, among=lambda case: "Comp" in case.name)
def test_composition_gives_gradients_to_foreground_and_background(case: Case) -> None:
    data = case.make((5,))
    alpha, fg, bg = (one.detach().requires_grad_() for one in (data.pred, *data.images))
    loss = case.build()

    def call(alpha: Tensor, fg: Tensor, bg: Tensor) -> Tensor:
        return run(loss, Data(alpha, data.target, data.weight, (fg, bg)))

    assert torch.autograd.gradcheck(call, (alpha, fg, bg), fast_mode=True)


@every(PAIRS, among=lambda case: not case.is_set and "Charbonnier" not in case.name and case.options.get("smoothness") is None)
def test_the_gradient_is_zero_where_all_is_right(case: Case) -> None:
    """|d|, d² and the coefficients of the pyramid have slope 0 at 0; without the smoothness that MattingGradientLoss adds."""
    case = case.changed(smoothness=0.0) if case.name == "MattingGradientLoss" else case
    data = case.make((8, 9))
    if data.target is None:  # flat images
        result, gradient = evaluate(case.build(), Data(torch.full_like(data.pred, 0.3), None, data.weight))
        assert gradient.abs().max() == 0 and result.abs().max() == 0
        return
    with torch.no_grad():
        p = data.pred.sigmoid() if case.link == "sigmoid" else data.pred
        perfect = p * data.images[0] + (1 - p) * data.images[1] if data.images else p.clone()
    result, gradient = evaluate(case.build(), data.with_target(perfect))
    best = -80.0 * (2 if case.options.get("reduction") == "sum" else 1) if case.name == "PSNRLoss" else 0.0
    close(result, torch.full_like(result, best), 0, 1e-12)
    if case.link == "identity" and not data.images:
        assert gradient.abs().max() == 0 and (result == best).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_charbonnier_at_equal_inputs(engine: str, dtype: torch.dtype) -> None:
    """eps = 1e-12 is 0 in float16: the root would have an infinite slope there."""
    pred = torch.rand(2, 3, 8, 8).to(dtype)
    for name, images in (("CharbonnierLoss", ()), ("CharbonnierCompLoss", (pred, torch.zeros_like(pred)))):
        alpha = torch.ones(2, 1, 8, 8, dtype=dtype) if images else pred
        result, gradient = evaluate(lf.LOSSES[name](engine=engine), Data(alpha, pred.clone(), None, images))
        assert gradient.abs().max() == 0 and gradient.dtype == dtype
        close(result.double(), torch.tensor(1e-6, dtype=torch.float64), 1e-6, 0)
        result, gradient = evaluate(lf.LOSSES[name](engine=engine), Data(alpha * 0.5, pred.clone(), None, images))
        assert torch.isfinite(result) and torch.isfinite(gradient).all() and (gradient < 0).all()
