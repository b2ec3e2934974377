"""First and second derivatives by finite differences, and what carries a gradient."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from tests.contract.case import Case, close, random_cotangent, run, same_bits
from tests.contract.cases import each, every, native


def twice_the_same(case: Case) -> bool:
    """The sum of an image's loss is its mean, times a number."""
    return case.fold in ("pair", "window") and case.reduction == "sum"


@every(among=lambda case: not twice_the_same(case))
def test_first_and_second_derivatives(case: Case) -> None:
    """With two kinds of targets and weights."""
    engine = case.options["engine"]
    turn = len(case.id)
    case = case.small()
    for i, spread in enumerate((2.0, 1.0)):
        way = case.ways[(turn + i * (1 + len(engine))) % len(case.ways)]
        data, loss = case.tiny(way, spread), case.build()
        function = lambda pred, loss=loss, data=data: run(loss, data.with_pred(pred))  # noqa: E731
        assert torch.autograd.gradcheck(function, (data.pred,), eps=case.step, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (data.pred,), fast_mode=True)


@every()
def test_gradients_of_one_result(case: Case) -> None:
    """Whatever comes in scales what goes out, however it is laid out and as often as it is asked; inputs stay as they were."""
    data, loss = case.make(way=case.rich).leaf(), case.build()
    before = [one.detach().clone() for one in data.tensors]
    result = run(loss, data)
    ones = torch.ones((), dtype=torch.float64).expand(result.shape)

    def slope(seed: torch.Tensor, **options: bool) -> torch.Tensor:
        return torch.autograd.grad(result, data.pred, seed, retain_graph=True, **options)[0]

    once = slope(ones)
    assert once.abs().max() > 0 and not once.requires_grad
    close(slope(3 * ones), 3 * once)
    graphed = slope(ones, create_graph=True)
    close(graphed.detach(), once)
    assert case.curved is None or graphed.requires_grad == case.curved
    seed = random_cotangent(result.shape)
    weighted = slope(seed)
    same_bits(slope(seed.mT.contiguous().mT if seed.dim() > 1 else seed), weighted)
    assert result.dim() == 0 or not torch.equal(weighted, once)
    same_bits(slope(ones), once)
    result.sum().backward()
    assert data.pred.grad is not None
    close(data.pred.grad, once)
    for old, new in zip(before, data.tensors, strict=True):
        assert torch.equal(old, new.detach())


@every()
def test_no_graph_without_a_request(case: Case) -> None:
    data, loss = case.make(way=case.rich), case.build()
    truth = run(loss, data)
    assert not truth.requires_grad
    with torch.no_grad():
        same_bits(run(loss, data.leaf()), truth)
    with torch.inference_mode():
        same_bits(run(loss, data).clone(), truth)


@each(among=lambda case: case.differentiates_weights)
def test_weights_and_targets_that_require_a_gradient_are_served_by_the_definition(case: Case) -> None:
    case = case.small()
    data = case.requests()
    asking: list[torch.Tensor] = []
    data.each(lambda one: asking.append(one) or one if one.requires_grad else one)  # type: ignore[func-returns-value]
    assert data.pred.requires_grad and (len(asking) > 1 or case.weights_are_regions or data.target is None)
    for engine in (None, "eager"):
        loss = case.build(engine=engine)

        def function(*given: torch.Tensor, loss: torch.nn.Module = loss) -> torch.Tensor:
            left = iter(given)
            return run(loss, data.each(lambda one: next(left) if one.requires_grad else one))

        assert torch.autograd.gradcheck(function, tuple(asking), fast_mode=True)


@native
@every(engines=["cpp"], among=lambda case: case.differentiates_weights)
def test_a_forced_engine_refuses_weights_and_targets_that_require_a_gradient(case: Case) -> None:
    data = case.make(way=case.rich)
    assert data.weight is not None
    wrong = [data.with_weight(data.weight.clone().requires_grad_())]
    if case.differentiates_targets and data.target is not None:
        wrong.append(data.with_target(data.target.clone().requires_grad_()))
    for one in wrong:
        with pytest.raises(lf.LossError, match=r"(?s)engine.*gradient"):
            run(case.build(), one)
        with torch.no_grad():
            same_bits(run(case.build(), one), run(case.build(), data))


@every(among=lambda case: not case.differentiates_weights)
def test_a_loss_that_counts_weights_refuses_one_that_requires_a_gradient(case: Case) -> None:
    data = case.make(way=case.rich)
    assert data.weight is not None
    data = data.with_weight(data.weight.clone().requires_grad_())
    with pytest.raises(lf.LossError, match=r"weight.*gradient"):
        run(case.build(engine=None), data)
    with torch.no_grad():
        assert torch.isfinite(run(case.build(engine=None), data)).all()
