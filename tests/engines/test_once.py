"""Losses that are linear in their sums: one pass finds value and gradient, and nothing else changes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import lossfold as lf
from lossfold.losses.reduce import Ratio
from tests.contract.cases import native

pytestmark = native
LABELS, MASKS, IMAGES = torch.arange(24).reshape(2, 3, 4) % 3, torch.arange(72).reshape(2, 3, 3, 4) % 2, torch.linspace(0, 1, 72)
LINEAR = {
    "ce": (lf.CrossEntropyLoss(label_smoothing=0.1, class_weight=[1, 2, 3], ignore_index=1), LABELS),
    "soft": (lf.CrossEntropyLoss(), MASKS.float()),
    "focal": (lf.FocalLoss(reduction="sum"), LABELS),
    "bce": (lf.BinaryCrossEntropyLoss(pos_weight=3.0, ignore_index=0), MASKS),
    "l1": (lf.L1Loss(), IMAGES.reshape(2, 3, 3, 4)),
    "charbonnier": (lf.CharbonnierLoss(), IMAGES.reshape(2, 3, 3, 4)),
}
each = pytest.mark.parametrize(("loss", "target"), LINEAR.values(), ids=LINEAR)


class Passes(TorchDispatchMode):
    """Counts the operators of lossfold that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace.startswith("lossfold"):
            self.names[func._opname.split("_")[1]] += 1
        return func(*args, **(kwargs or {}))


def scores(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()


def passes(loss: torch.nn.Module, x: Tensor, target: Tensor) -> Counter[str]:
    with Passes() as seen:
        result = loss(x, target)
        torch.autograd.grad(result.total if isinstance(loss, lf.LossSet) else result.sum(), x)
    return seen.names


@each
def test_one_pass(loss: Any, target: Tensor) -> None:
    assert passes(loss, scores(), target) == passes(lf.LossSet(a=loss), scores(), target) == {"once": 1}
    together = lf.LossSet(a=loss, b=1 * loss)  # two formulas over one fold
    assert passes(together, scores(), target) == {"fold": 1, "unfold": 1}
    assert passes(loss, scores(torch.float16), target) == {"fold": 1, "unfold": 1}  # its gradient has to be scaled first


@each
def test_the_same_as_two(loss: Any, target: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    x, seeds = scores(torch.float64), torch.tensor([1.0, 2.5, -3.0], dtype=torch.float64)

    def found() -> tuple[Tensor, Tensor]:
        value = loss(x, target)
        return value, torch.autograd.grad(2.5 * value, x)[0]

    once = found()
    many = torch.autograd.grad(loss(x, target), x, seeds, is_grads_batched=True)[0]
    torch.testing.assert_close(many[1], once[1])
    monkeypatch.setattr(type(loss), "one_pass", False)
    for mine, others in zip(once, found(), strict=True):
        torch.testing.assert_close(mine, others, rtol=1e-13, atol=1e-15)


def test_another_formula_is_heard() -> None:
    class Halved(lf.CrossEntropyLoss):
        def formula(self, fold: Any, given: object) -> Ratio:
            above, below = super().formula(fold, given)
            return Ratio(above / 2, below)

    torch.testing.assert_close(Halved()(scores(), LABELS), lf.CrossEntropyLoss()(scores(), LABELS) / 2)
    assert not lf.PSNRLoss.one_pass and lf.CrossEntropyLoss.one_pass
    assert passes(lf.DiceLoss(), scores(), LABELS) == {"fold": 1, "unfold": 1}
    assert passes(lf.CrossEntropyLoss(per_image=True), scores(), LABELS) == {"fold": 1, "unfold": 1}
