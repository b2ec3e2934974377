"""First and second derivatives of the dense losses by finite differences, and what carries a gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import ENGINES, Data, close, evaluate
from tests.dense.cases import DenseCase, call, dense_cases, every_dense_case, make_dense, samples
from tests.dense.steps import settled

SIZE = (4,)


def step(case: DenseCase) -> float:
    """For finite differences: the value of a histogram has steps of 2^-24 of a bin, so go a sixteenth of one."""
    return 1 / 16 / case.bins if case.bins else 1e-6


def smooth(case: DenseCase, target: str, weight: str | None, spread: float) -> Data:
    """Elements that no step of this size takes over a step of the gradient."""
    data = settled(case, make_dense(case, SIZE, target=target, weight=weight, spread=spread), distance=2 * step(case))
    assert data.weight is None or (data.weight != 0).sum() >= 3
    return data.leaf()


def function(case: DenseCase, data: Data) -> Callable[[Tensor], Tensor]:
    loss = case.build()
    return lambda scores: loss(scores, data.labels, data.weight)


@every_dense_case(among=samples())
@pytest.mark.parametrize(("target", "weight"), [("soft", None), ("int", "element")])
def test_gradcheck(case: DenseCase, target: str, weight: str | None) -> None:
    data = smooth(case, target, weight, 2.0)
    assert torch.autograd.gradcheck(function(case, data), (data.scores,), eps=step(case), fast_mode=True)


@every_dense_case(among=samples())
@pytest.mark.parametrize(("target", "weight"), [("soft", "element"), ("bool", None)])
def test_gradgradcheck(case: DenseCase, target: str, weight: str | None) -> None:
    data = smooth(case, target, weight, 1.0)
    assert torch.autograd.gradgradcheck(function(case, data), (data.scores,), fast_mode=True)


@every_dense_case(among=samples())
def test_create_graph_gives_the_same_first_derivative(case: DenseCase) -> None:
    data = make_dense(case, weight="element").leaf()
    result = call(case.build(), data).sum()
    (graphed,) = torch.autograd.grad(result, data.scores, create_graph=True)
    (plain,) = torch.autograd.grad(result, data.scores)
    assert graphed.requires_grad != case.linear and not plain.requires_grad
    close(graphed.detach(), plain)


@every_dense_case(among=samples())
def test_the_incoming_gradient_scales_the_outgoing(case: DenseCase) -> None:
    data = make_dense(case, weight="element").leaf()
    result = call(case.build(), data)
    seed = torch.ones((), dtype=torch.float64).expand(result.shape)
    (once,) = torch.autograd.grad(result, data.scores, seed, retain_graph=True)
    (thrice,) = torch.autograd.grad(result, data.scores, 3 * seed)
    close(thrice, 3 * once)
    assert once.abs().max() > 0


@every_dense_case(among=samples())
def test_inputs_are_left_as_they_were(case: DenseCase) -> None:
    for target in ("soft", "int"):
        data = make_dense(case, target=target, weight="element").leaf()
        before = [tensor.detach().clone() for tensor in data.call if tensor is not None]
        call(case.build(), data).sum().backward()
        after = [tensor.detach() for tensor in data.call if tensor is not None]
        assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@every_dense_case(engines=["eager"], among=[case for case in dense_cases() if case.differentiates_weights])
def test_weights_and_targets_that_require_a_gradient_are_served_by_the_definition(case: DenseCase) -> None:
    """The weight a pixel's or an element's; the targets not at 0 or 1, where they would leave their range."""
    data = settled(case, make_dense(case, (3,), weight="element"), distance=1e-4).leaf()
    assert data.weight is not None
    targets = 0.05 + 0.9 * data.labels
    data = settled(case, Data(data.scores, targets, data.weight), distance=1e-4).leaf()
    assert data.weight is not None
    for engine in (None, "eager"):
        loss = case.build(engine=engine)
        inputs = (data.scores, data.labels.clone().requires_grad_(), (data.weight + 0.1).requires_grad_())
        assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
@every_dense_case(engines=["cpp"], among=[case for case in dense_cases() if case.differentiates_weights])
def test_a_forced_engine_refuses_weights_and_targets_that_require_a_gradient(case: DenseCase) -> None:
    data = make_dense(case, weight="element")
    assert data.weight is not None
    for targets, weight in ((data.labels.clone().requires_grad_(), None), (data.labels, data.weight.clone().requires_grad_())):
        with pytest.raises(lf.LossError, match=r"(?s)engine.*gradient"):
            case.build()(data.scores, targets, weight)


@every_dense_case(among=[case for case in dense_cases() if not case.differentiates_weights])
def test_lovasz_refuses_a_weight_that_requires_a_gradient(case: DenseCase) -> None:
    data = make_dense(case, weight="element")
    assert data.weight is not None
    with pytest.raises(lf.LossError, match=r"weight.*gradient"):
        case.build(engine=None)(data.scores, data.labels, data.weight.requires_grad_())


@every_dense_case(among=samples())
def test_no_graph_without_a_request(case: DenseCase) -> None:
    data = make_dense(case)
    assert not call(case.build(), data).requires_grad
    with torch.inference_mode():
        result = call(case.build(), data)
    close(result.clone(), call(case.build(), data), 0, 0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["DiceLoss", "JaccardLoss", "TverskyLoss", "GeneralizedDiceLoss"])
def test_a_soft_target_that_is_met_costs_nothing(name: str, engine: str) -> None:
    """Value and gradient are 0 where p = t, as |p - t| has its least there; one element off costs in its direction alone."""
    t = (torch.rand(2, 3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 256).round() / 256
    loss = lf.LOSSES[name](link="identity", engine=engine)
    result, gradient = evaluate(loss, Data(t, t))
    close(result, torch.zeros_like(result))
    close(gradient, torch.zeros_like(gradient))
    off = t.clone()
    off[0, 0, 0] += 0.25
    result, gradient = evaluate(loss, Data(off, t.clone()))
    assert result > 0 and gradient[0, 0, 0] > 0
    off[0, 0, 0] -= 0.5
    result, gradient = evaluate(loss, Data(off, t.clone()))
    assert result > 0 and gradient[0, 0, 0] < 0
