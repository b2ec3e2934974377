"""torch.func and forward mode in every fold: the definition serves them, and a forced engine refuses instead of giving 0."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import lossfold as lf
from tests import internals
from tests.contract.case import Case, close, evaluate, run
from tests.contract.cases import A_LOSS, each, native

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:FutureWarning")  # forward mode loads PyTorch's own scripts


@each(A_LOSS)
def test_grad_jvp_and_forward_mode(case: Case) -> None:
    data = case.make(way=case.rich)
    loss = case.build()
    truth, slope = evaluate(case.build(engine="eager"), data)

    def summed(pred: Tensor) -> Tensor:
        return run(loss, data.with_pred(pred)).sum()

    assert slope.abs().max() > 0
    close(torch.func.grad(summed)(data.pred), slope)
    direction = torch.randn_like(data.pred)
    rise = (slope * direction).sum()
    found, tangent = torch.func.jvp(summed, (data.pred,), (direction,))
    close(found, truth.sum(), grain=case.grain)
    close(tangent, rise)
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(summed(forward_ad.make_dual(data.pred, direction)))
    assert dual.tangent is not None
    close(dual.tangent, rise)


@each(A_LOSS)
def test_vmap(case: Case) -> None:
    """Over predictions, with the targets of all; and of gradients."""
    data = case.make(way=case.rich)
    loss = case.build()
    several = torch.stack([data.pred, data.pred.flip(0), 0.5 * data.pred + 0.1])
    each_ = [evaluate(case.build(engine="eager"), data.with_pred(pred)) for pred in several]
    found = torch.func.vmap(lambda pred: run(loss, data.with_pred(pred)))(several)
    close(found, torch.stack([value for value, _ in each_]), grain=case.grain)
    slopes = torch.func.vmap(torch.func.grad(lambda pred: run(loss, data.with_pred(pred)).sum()))(several)
    close(slopes, torch.stack([slope for _, slope in each_]))


@native
@each(A_LOSS, among=lambda case: "cpp" in case.engines)
def test_a_forced_engine_refuses(case: Case) -> None:
    data = case.make(way=case.rich)
    loss = case.build(engine="cpp")

    def summed(pred: Tensor) -> Tensor:
        return run(loss, data.with_pred(pred)).sum()

    for action in (
        lambda: torch.func.grad(summed)(data.pred),
        lambda: torch.func.jvp(summed, (data.pred,), (data.pred,)),
        lambda: torch.func.vmap(summed)(data.pred[None]),
    ):
        with pytest.raises(lf.LossError, match="engine"):
            action()
    with forward_ad.dual_level(), pytest.raises(lf.LossError, match="engine"):
        summed(forward_ad.make_dual(data.pred, data.pred))
    assert torch.isfinite(summed(data.pred))


def test_a_transform_is_known_from_inside() -> None:
    """And left behind: what follows is served by the fastest engine again."""
    seen: list[bool] = []

    def look(x: Tensor) -> Tensor:
        seen.append(internals.inside_transform())
        return x.sum()

    x = torch.randn(3)
    look(x)
    torch.func.grad(look)(x)
    torch.func.vmap(look)(x[None])
    torch.func.jvp(look, (x,), (x,))
    with forward_ad.dual_level():
        look(x)
    look(x)
    assert seen == [False, True, True, True, True, False]
