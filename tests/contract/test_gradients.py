"""First and second derivatives by finite differences, and what carries a gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import Case, Data, cases, close, every_case, make, value
from tests.steps import settled


def function(case: Case, data: Data) -> Callable[[Tensor], Tensor]:
    loss = case.build()
    return lambda scores: value(loss(scores, data.labels, data.weight))


def step(case: Case) -> float:
    """For finite differences. A histogram's value has steps of 2^-24 of a bin: go a sixteenth of one, a million times as far."""
    return 1 / 16 / case.bins if case.bins else 1e-6


def smooth(case: Case, weight: str | None, spread: float) -> Data:
    """Pixels that no step of this size takes over a step of the gradient."""
    data = settled(case, make(case, (4,), weight=weight, spread=spread), distance=step(case))
    assert (data.labels != case.ignore_index).sum() >= 3
    return data.leaf()


@every_case()
@pytest.mark.parametrize("weight", [None, "float"])
def test_gradcheck(case: Case, weight: str | None) -> None:
    data = smooth(case, weight, 2.0)
    assert torch.autograd.gradcheck(function(case, data), (data.scores,), eps=step(case))


@every_case()
@pytest.mark.parametrize("weight", [None, "float"])
def test_gradgradcheck(case: Case, weight: str | None) -> None:
    data = smooth(case, weight, 1.0)
    assert torch.autograd.gradgradcheck(function(case, data), (data.scores,))


@every_case()
def test_create_graph_gives_the_same_first_derivative(case: Case) -> None:
    data = make(case, weight="float").leaf()
    result = value(case.build()(*data.call)).sum()
    (graphed,) = torch.autograd.grad(result, data.scores, create_graph=True)
    (plain,) = torch.autograd.grad(result, data.scores)
    assert graphed.requires_grad != case.linear and not plain.requires_grad
    close(graphed.detach(), plain)


@every_case()
def test_the_incoming_gradient_scales_the_outgoing(case: Case) -> None:
    data = make(case).leaf()
    result = value(case.build()(*data.call))
    seed = torch.ones((), dtype=torch.float64).expand(result.shape)
    (once,) = torch.autograd.grad(result, data.scores, seed, retain_graph=True)
    (thrice,) = torch.autograd.grad(result, data.scores, 3 * seed, retain_graph=True)
    close(thrice, 3 * once)
    (again,) = torch.autograd.grad(result, data.scores, seed)
    close(again, once, 0, 0)
    assert once.abs().max() > 0


@every_case()
def test_inputs_are_left_as_they_were(case: Case) -> None:
    data = make(case, weight="float").leaf()
    before = [tensor.detach().clone() for tensor in data.call if tensor is not None]
    value(case.build()(*data.call)).sum().backward()
    after = [tensor.detach() for tensor in data.call if tensor is not None]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new)


@every_case(engines=["eager"], among=[case for case in cases() if case.differentiates_weights])
def test_a_weight_that_requires_a_gradient_is_served_by_the_definition(case: Case) -> None:
    data = make(case, (3,), weight="float").leaf()
    assert data.weight is not None
    weight = data.weight.requires_grad_()
    for engine in (None, "eager"):
        loss = case.build(engine=engine)
        assert torch.autograd.gradcheck(
            lambda scores, given, loss=loss: value(loss(scores, data.labels, given)), (data.scores, weight)
        )


@pytest.mark.skipif("cpp" not in lf.engines.available(), reason="no compiled engine here")
@every_case(engines=["cpp"])
def test_a_forced_engine_refuses_a_weight_that_requires_a_gradient(case: Case) -> None:
    data = make(case, weight="float")
    assert data.weight is not None
    with pytest.raises(lf.LossError, match=r"(?s)weight.*gradient|gradient.*weight"):
        case.build()(data.scores, data.labels, data.weight.requires_grad_())


@every_case(among=[case for case in cases() if not case.differentiates_weights])
def test_a_loss_that_counts_weights_refuses_one_that_requires_a_gradient(case: Case) -> None:
    data = make(case, weight="float")
    assert data.weight is not None
    with pytest.raises(lf.LossError, match=r"weight.*gradient"):
        case.build(engine=None)(data.scores, data.labels, data.weight.requires_grad_())
    with torch.no_grad():
        assert torch.isfinite(value(case.build(engine=None)(*data.call))).all()


@every_case()
def test_no_graph_without_a_request(case: Case) -> None:
    data = make(case)
    assert not value(case.build()(*data.call)).requires_grad
    with torch.no_grad():
        assert not value(case.build()(*data.leaf().call)).requires_grad
    with torch.inference_mode():
        result = value(case.build()(*data.call))
    truth = value(case.build()(*data.call))
    close(result.clone(), truth, 0, 0)
