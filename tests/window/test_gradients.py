"""First and second derivatives of the window losses by finite differences, and what carries a gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import lossfold as lf
from tests.cases import ENGINES, close, same_bits
from tests.window.cases import WindowCase, WindowData, evaluate, every_window_case, make_images, run, samples, small, window_cases

SMALL = [small(case) for case in window_cases() if case.options.get("reduction") != "sum"]
native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")


def tiny(case: WindowCase, weight: str | None = "soft") -> WindowData:
    return make_images(case, (case.side + 2, case.side + 1), channels=1, weight=weight).leaf()


def function(case: WindowCase, data: WindowData) -> Callable[[Tensor], Tensor]:
    loss = case.build()
    return lambda pred: run(loss, WindowData(pred, data.target, data.weight))


@every_window_case(among=SMALL)
def test_gradcheck(case: WindowCase) -> None:
    data = tiny(case)
    assert torch.autograd.gradcheck(function(case, data), (data.pred,), fast_mode=True)


@every_window_case(among=SMALL)
def test_gradgradcheck(case: WindowCase) -> None:
    data = tiny(case)
    assert torch.autograd.gradgradcheck(function(case, data), (data.pred,), fast_mode=True)


@every_window_case(among=samples())
def test_create_graph_gives_the_same_first_derivative(case: WindowCase) -> None:
    data = make_images(case, weight="soft").leaf()
    result = run(case.build(), data).sum()
    (graphed,) = torch.autograd.grad(result, data.pred, create_graph=True)
    (plain,) = torch.autograd.grad(result, data.pred)
    assert graphed.requires_grad and not plain.requires_grad
    close(graphed.detach(), plain)


@every_window_case(among=samples())
def test_the_incoming_gradient_scales_the_outgoing(case: WindowCase) -> None:
    data = make_images(case).leaf()
    result = run(case.build(), data)
    seed = torch.ones((), dtype=torch.float64).expand(result.shape)
    (once,) = torch.autograd.grad(result, data.pred, seed, retain_graph=True)
    (thrice,) = torch.autograd.grad(result, data.pred, 3 * seed)
    close(thrice, 3 * once)
    assert once.abs().max() > 0


@every_window_case(among=samples())
def test_inputs_are_left_as_they_were(case: WindowCase) -> None:
    data = make_images(case, weight="channels").leaf()
    before = [tensor.detach().clone() for tensor in data.call if tensor is not None]
    run(case.build(), data).sum().backward()
    after = [tensor.detach() for tensor in data.call if tensor is not None]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@every_window_case(engines=["eager"], among=SMALL)
def test_targets_and_weights_that_require_a_gradient_are_served_by_the_definition(case: WindowCase) -> None:
    data = tiny(case)
    weight = 0.25 + torch.rand(data.pred.shape, dtype=torch.float64)  # where it is 0 is no smooth thing
    inputs = data.pred, data.target.clone().requires_grad_(), weight.requires_grad_()
    for engine in (None, "eager"):
        loss = case.build(engine=engine)
        assert torch.autograd.gradcheck(lambda *given, loss=loss: run(loss, WindowData(*given)), inputs, fast_mode=True)


@native
@every_window_case(engines=["cpp"], among=samples())
def test_a_forced_engine_refuses_targets_and_weights_that_require_a_gradient(case: WindowCase) -> None:
    data = make_images(case, weight="soft")
    assert data.weight is not None
    for wrong in (
        WindowData(data.pred, data.target.clone().requires_grad_(), data.weight),
        WindowData(data.pred, data.target, data.weight.clone().requires_grad_()),
    ):
        with pytest.raises(lf.LossError, match=r"(?s)engine.*gradient"):
            run(case.build(), wrong)
        with torch.no_grad():
            same_bits(run(case.build(), wrong), run(case.build(), data))


@every_window_case(among=samples())
def test_no_graph_without_a_request(case: WindowCase) -> None:
    data = make_images(case)
    assert not run(case.build(), data).requires_grad
    with torch.inference_mode():
        result = run(case.build(), data)
    close(result.clone(), run(case.build(), data), 0, 0)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:FutureWarning")  # forward mode loads PyTorch's own scripts
@pytest.mark.parametrize("case", samples(), ids=lambda case: case.id)
def test_transforms_and_forward_derivatives_are_served_by_the_definition(case: WindowCase) -> None:
    data = make_images(case)
    slope = evaluate(case.build(engine="eager"), data)[1]

    def summed(pred: Tensor) -> Tensor:
        return run(case.build(), WindowData(pred, data.target)).sum()

    close(torch.func.grad(summed)(data.pred), slope)
    direction = torch.randn_like(data.pred)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(summed(forward_ad.make_dual(data.pred, direction))).tangent
    close(tangent, (slope * direction).sum())
    if "cpp" in case.engines:
        with pytest.raises(lf.LossError, match="engine"):
            torch.func.grad(lambda pred: run(case.build(engine="cpp"), WindowData(pred, data.target)))(data.pred)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_prediction_that_is_its_own_target(engine: str) -> None:
    """The same tensor twice, with a gradient: the definition serves, and both sides cancel."""
    leaf = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    if engine == "cpp":
        with pytest.raises(lf.LossError, match="gradient"):
            lf.SSIMLoss(engine=engine)(leaf, leaf)
        return
    result = lf.SSIMLoss()(leaf, leaf)
    (gradient,) = torch.autograd.grad(result, leaf)
    assert result == 0 and gradient.abs().max() == 0
