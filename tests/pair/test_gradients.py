"""First and second derivatives of the losses of a pair by finite differences, and what carries a gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import ENGINES, close, same_bits
from tests.pair.cases import PairCase, PairData, evaluate, every_pair_case, make_pair, one_case_a_loss, pair_cases, run

UNSUMMED = [case for case in pair_cases() if case.options.get("reduction") != "sum"]
LEAVES = [case for case in pair_cases() if not case.is_set]


def small(case: PairCase, region: str | None = "soft") -> PairData:
    """Random numbers: no difference, response or coefficient is as near to 0 as a step of finite differences."""
    return make_pair(case, (9, 8) if case.images_only else (5,), region=region, channels=2 if case.pixelwise else 1).leaf()


def function(case: PairCase, data: PairData) -> Callable[[Tensor], Tensor]:
    loss = case.build()
    return lambda pred: run(loss, PairData(pred, data.others, data.region))


@every_pair_case(among=UNSUMMED)
def test_gradcheck(case: PairCase) -> None:
    data = small(case)
    assert torch.autograd.gradcheck(function(case, data), (data.pred,), fast_mode=True)


@every_pair_case(among=UNSUMMED)
def test_gradgradcheck(case: PairCase) -> None:
    data = small(case)
    assert torch.autograd.gradgradcheck(function(case, data), (data.pred,), fast_mode=True)


@every_pair_case(among=one_case_a_loss())
def test_create_graph_gives_the_same_first_derivative(case: PairCase) -> None:
    data = make_pair(case).leaf()
    result = run(case.build(), data).sum()
    (graphed,) = torch.autograd.grad(result, data.pred, create_graph=True)
    (plain,) = torch.autograd.grad(result, data.pred)
    assert not plain.requires_grad
    close(graphed.detach(), plain)


@pytest.mark.parametrize("engine", ENGINES)
def test_second_derivatives(engine: str) -> None:
    """Of a square 2 w, whatever the difference; of an absolute value none."""
    data = make_pair(PairCase("MSELoss", {}), (5,)).leaf()
    assert data.region is not None
    for name, expected in (("MSELoss", 2 * data.region), ("L1Loss", 0 * data.region)):
        (slope,) = torch.autograd.grad(run(lf.LOSSES[name](reduction="sum", engine=engine), data), data.pred, create_graph=True)
        if not slope.requires_grad:
            assert name == "L1Loss"
            continue
        (curvature,) = torch.autograd.grad(slope.sum(), data.pred)
        close(curvature, expected)


@every_pair_case(among=one_case_a_loss())
def test_the_incoming_gradient_scales_the_outgoing(case: PairCase) -> None:
    data = make_pair(case).leaf()
    result = run(case.build(), data)
    seed = torch.ones((), dtype=torch.float64).expand(result.shape)
    (once,) = torch.autograd.grad(result, data.pred, seed, retain_graph=True)
    (thrice,) = torch.autograd.grad(result, data.pred, 3 * seed)
    close(thrice, 3 * once)
    assert once.abs().max() > 0


@every_pair_case(among=one_case_a_loss())
def test_inputs_are_left_as_they_were(case: PairCase) -> None:
    data = make_pair(case, (16, 12), region="channels").leaf()
    before = [tensor.detach().clone() for tensor in data.call if tensor is not None]
    run(case.build(), data).sum().backward()
    after = [tensor.detach() for tensor in data.call if tensor is not None]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@every_pair_case(engines=["eager"])
def test_targets_and_regions_that_require_a_gradient_are_served_by_the_definition(case: PairCase) -> None:
    """The region keeps from 0 and 1: where it is 0 is no smooth thing, and beyond 1 it is refused."""
    data = small(case)
    region = torch.rand(data.region.shape, dtype=torch.float64) * 0.9 + 0.05 if data.region is not None else None
    others = tuple(one.clone() * 0.9 + 0.05 for one in data.others)
    for engine in (None, "eager"):
        loss = case.build(engine=engine)
        inputs = (data.pred, *(one.detach().requires_grad_() for one in others))
        outside = bool(getattr(loss, "outside", False))
        where = data.region if outside or region is None else region.detach().requires_grad_()
        given = inputs if where is None or outside else (*inputs, where)

        def call(*tensors: Tensor, loss: object = loss, rest: tuple[Tensor | None, ...] = (where,) if outside else ()) -> Tensor:
            return run(loss, PairData(tensors[0], (*tensors[1:], *rest)[:-1], (*tensors[1:], *rest)[-1]))  # type: ignore[arg-type]

        assert torch.autograd.gradcheck(call, given, fast_mode=True)


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
@every_pair_case(engines=["cpp"], among=[case for case in one_case_a_loss() if not case.maps])
def test_a_forced_engine_refuses_targets_and_regions_that_require_a_gradient(case: PairCase) -> None:
    data = make_pair(case)
    assert data.region is not None
    target, region = data.target.clone().requires_grad_(), data.region.clone().requires_grad_()
    changed = [PairData(data.pred, (*data.others[:-1], target), data.region)] if case.has_target else []
    for wrong in (*changed, PairData(data.pred, data.others, region)):
        with pytest.raises(lf.LossError, match=r"(?s)engine.*gradient"):
            run(case.build(), wrong)
        with torch.no_grad():
            same_bits(run(case.build(), wrong), run(case.build(), data))


@every_pair_case(among=[case for case in one_case_a_loss() if case.composes])
def test_composition_gives_gradients_to_foreground_and_background(case: PairCase) -> None:
    data = make_pair(case, (5,))
    alpha, fg, bg = (one.detach().requires_grad_() for one in (data.pred, *data.others[:2]))
    loss = case.build()

    def call(alpha: Tensor, fg: Tensor, bg: Tensor) -> Tensor:
        return run(loss, PairData(alpha, (fg, bg, data.target), data.region))

    assert torch.autograd.gradcheck(call, (alpha, fg, bg), fast_mode=True)


@every_pair_case(among=one_case_a_loss())
def test_no_graph_without_a_request(case: PairCase) -> None:
    data = make_pair(case)
    assert not run(case.build(), data).requires_grad
    with torch.inference_mode():
        result = run(case.build(), data)
    close(result.clone(), run(case.build(), data), 0, 0)


@every_pair_case(among=[case for case in LEAVES if "Charbonnier" not in case.name and case.options.get("smoothness") is None])
def test_the_gradient_is_zero_where_all_is_right(case: PairCase) -> None:
    """|d|, d² and the coefficients of the pyramid have slope 0 at 0; without the smoothness that MattingGradientLoss adds."""
    case = case.changed(smoothness=0.0) if case.name == "MattingGradientLoss" else case
    data = make_pair(case, (8, 9))
    if not case.has_target:  # flat images
        result, gradient = evaluate(case.build(), PairData(torch.full_like(data.pred, 0.3), (), data.region))
        assert gradient.abs().max() == 0 and result.abs().max() == 0
        return
    with torch.no_grad():
        p = data.pred.sigmoid() if case.link == "sigmoid" else data.pred
        perfect = p * data.others[0] + (1 - p) * data.others[1] if case.composes else p.clone()
    result, gradient = evaluate(case.build(), PairData(data.pred, (*data.others[:-1], perfect), data.region))
    best = -80.0 * (2 if case.options.get("reduction") == "sum" else 1) if case.name == "PSNRLoss" else 0.0
    close(result, torch.full_like(result, best), 0, 1e-12)
    if case.link == "identity" and not case.composes:
        assert gradient.abs().max() == 0 and (result == best).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_charbonnier_at_equal_inputs(engine: str, dtype: torch.dtype) -> None:
    """eps = 1e-12 is 0 in float16: the root would have an infinite slope there."""
    pred = torch.rand(2, 3, 8, 8).to(dtype)
    for name, others in (("CharbonnierLoss", (pred.clone(),)), ("CharbonnierCompLoss", (pred, torch.zeros_like(pred), pred * 1))):
        alpha = torch.ones(2, 1, 8, 8, dtype=dtype) if len(others) == 3 else pred
        result, gradient = evaluate(lf.LOSSES[name](engine=engine), PairData(alpha, others))
        assert gradient.abs().max() == 0 and gradient.dtype == dtype
        close(result.double(), torch.tensor(1e-6, dtype=torch.float64), 1e-6, 0)
        result, gradient = evaluate(lf.LOSSES[name](engine=engine), PairData(alpha * 0.5, others))
        assert torch.isfinite(result) and torch.isfinite(gradient).all() and (gradient < 0).all()
