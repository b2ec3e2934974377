"""The adaptive weight of a term: VQGAN's formula, its limits, half precision, and where there is none."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.contract.case import close


class Decoder(nn.Module):
    """A generator of two layers, and what it is to be like."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)
        self.critic = nn.Conv2d(1, 1, 3)

    def step(self) -> dict[str, Any]:
        latents, target = (torch.rand(2, c, 8, 8, generator=torch.Generator().manual_seed(c)) for c in (2, 1))
        pred = self.last(self.first(latents).relu())
        return {"pred": pred, "target": target, "score": self.critic(pred), "gen": self}


def criterion(**options: Any) -> lf.LossSet:
    given = {"balance": "rec", "balance_at": "gen.last.weight", **options}
    gan = lf.GANLoss("hinge", target_is_real=True, loss_weight=0.8, inputs={"input": "score"})
    return lf.LossSet(
        rec=0.5 * lf.LossSet(l1=lf.L1Loss(), ssim=lf.SSIMLoss(window_size=3)),
        gan=lf.Term(gan, **given),
    )


def adaptive(made: dict[str, Any], gen: Decoder) -> Tensor:
    """The paper's: the norm of the reconstruction's gradient over that of the adversarial loss's, at the last layer."""
    rec = 0.5 * (lf.L1Loss()(made["pred"], made["target"]) + lf.SSIMLoss(window_size=3)(made["pred"], made["target"]))
    one, other = (torch.autograd.grad(loss, gen.last.weight, retain_graph=True)[0].norm() for loss in (rec, -made["score"].mean()))
    return one / (other + 1e-4)


@pytest.mark.parametrize("at", ["gen.last.weight", lambda outputs: outputs["gen"].last.weight], ids=["path", "function"])
def test_it_is_the_papers_formula(at: Any) -> None:
    gen = Decoder()
    made = gen.step()
    expected = adaptive(made, gen)
    loss = criterion(balance_at=at)
    out = loss(made)
    close(out.weighted["gan"], expected * 0.8 * -made["score"].mean(), 1e-5)
    close(out.terms["gan"], -made["score"].mean(), 1e-6)
    close(out.total, sum(out.weighted.values()), 1e-6)
    out.total.backward()  # the graphs are still there, and the weight has no gradient
    fresh = Decoder()
    again = fresh.step()
    held = lf.LossSet(l1=0.5 * lf.L1Loss(), ssim=0.5 * lf.SSIMLoss(window_size=3))(again["pred"], again["target"]).total
    (held - 0.8 * expected * again["score"].mean()).backward()
    for one, other in zip(gen.parameters(), fresh.parameters(), strict=True):
        close(one.grad, other.grad, 1e-4, 1e-7)
    close(loss["gan"].balanced, expected.double().detach(), 1e-5)


def test_its_limit_and_where_no_gradients_are() -> None:
    gen = Decoder()
    loss = criterion(balance_limit=0.01)
    made = gen.step()
    close(loss(made).weighted["gan"], 0.01 * 0.8 * -made["score"].mean(), 1e-5)
    with torch.no_grad():
        held = gen.step()
        close(loss(held).weighted["gan"], 0.01 * 0.8 * -held["score"].mean(), 1e-5)  # the last one
        close(criterion()(held).weighted["gan"], 0.8 * -held["score"].mean(), 1e-6)  # 1 at first
    dead = gen.step() | {"score": torch.zeros(2, 1, 6, 6, requires_grad=True)}  # which does not depend on the layer
    assert loss(dead).total.isfinite()
    spoilt = gen.step()
    spoilt["score"] = spoilt["score"] * torch.nan
    weight = loss["gan"].balanced.clone()
    loss(spoilt)
    close(loss["gan"].balanced, weight, 0, 0)  # GradScaler skips such a step


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_in_half_precision(half: torch.dtype) -> None:
    """Gradients of 1e-7 vanish in float16, and the quotient of nothing and nothing is not what is meant."""
    gen = Decoder()
    with torch.no_grad():
        gen.critic.weight.mul_(1e-3)
    expected = adaptive(gen.step(), gen)
    loss = criterion()
    with torch.autocast("cpu", half):
        out = loss(gen.step())
    assert out.total.isfinite()
    close(loss["gan"].balanced, expected.double().detach(), 0.1)


def test_what_is_refused_and_what_is_kept() -> None:
    gan = lf.GANLoss("hinge", target_is_real=True)
    for options, message in (
        ({"balance": "rec"}, "balance_at must be a path"),
        ({"balance_at": "x"}, "balance_at must be left out without balance="),
        ({"balance": "", "balance_at": "x"}, "balance must be the name"),
        ({"balance": "rec", "balance_at": "x", "balance_limit": 0.0}, "balance_limit"),
    ):
        with pytest.raises(lf.LossError, match=message):
            lf.Term(gan, **options)
    term = lf.Term(gan, balance="rec", balance_at="gen.last.weight")
    with pytest.raises(lf.LossError, match=r"balance must be the name of another term, got 'rec'.*did you mean 'recs'"):
        lf.LossSet(recs=lf.L1Loss(), gan=copy.deepcopy(term))
    with pytest.raises(lf.LossError, match="left out of a set"):
        lf.LossSet(rec=lf.L1Loss(), gan=lf.Term(lf.LossSet(a=gan), balance="rec", balance_at="x"))
    with pytest.raises(lf.LossError, match="its adaptive weight is that of one call's gradients"):
        lf.LossSet(rec=lf.L1Loss(), gan=copy.deepcopy(term), sync=True)
    loss = criterion()
    made = Decoder().step()
    with pytest.raises(lf.LossError, match="no 'lost'"):
        criterion(balance_at="gen.lost.weight")(made)
    for other in (copy.deepcopy(loss), eval(repr(loss), vars(lf)), lf.build(lf.to_config(loss))):
        close(other(made).total, loss(made).total, 1e-6)
