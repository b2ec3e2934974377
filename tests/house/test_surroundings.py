"""What is remembered of calls, and what they are made by, where something else than tensors and options differs."""

from __future__ import annotations

import os
import pickle
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import lossfold as lf
from lossfold.losses.reduce import Last
from tests.contract.case import close

torch.manual_seed(0)
SCORES, LABELS = torch.randn(2, 3, 12, 12), torch.randint(3, (2, 12, 12))
IMAGE = torch.rand(2, 3, 12, 12)


@pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning"
)
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "DiceLoss", "L1Loss", "SSIMLoss"])
def test_traced(name: str, grad: bool) -> None:
    """`torch.jit.trace` sees an operator whose arguments are tensors."""
    loss, other = lf.LOSSES[name](), LABELS if name in ("CrossEntropyLoss", "DiceLoss") else IMAGE
    scores = SCORES.clone().requires_grad_(grad)
    traced = torch.jit.trace(lambda a, b: loss(a, b), (scores, other), check_trace=False)
    given = SCORES.flip(0).clone().requires_grad_(grad)
    close(traced(given, other), loss(given, other), rtol=1e-6)
    if grad:
        (found,), (expected,) = (torch.autograd.grad(one(given, other), given) for one in (traced, loss))
        close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "loss", [lf.CrossEntropyLoss(), lf.L1Loss(), lf.BinaryCrossEntropyLoss()], ids=lambda loss: type(loss).__name__
)
def test_fake_tensors_are_not_remembered(loss: Any) -> None:
    other = LABELS if isinstance(loss, lf.CrossEntropyLoss) else IMAGE
    with FakeTensorMode(allow_non_fake_inputs=True):
        loss(SCORES, other)
    assert type(loss(SCORES, other)) is Tensor


def test_the_environment_is_asked_at_every_call() -> None:
    loss = lf.CrossEntropyLoss()
    loss(SCORES, LABELS)
    with mock.patch.dict(os.environ, {"LOSSFOLD_ENGINE": "none"}), pytest.raises(lf.LossError, match="LOSSFOLD_ENGINE"):
        loss(SCORES, LABELS)
    with mock.patch("os.environ", {**os.environ, "LOSSFOLD_ENGINE": "none"}), pytest.raises(lf.LossError, match="LOSSFOLD_ENGINE"):
        loss(SCORES, LABELS)
    loss(SCORES, LABELS)


def test_a_loss_with_another_last_step_is_asked() -> None:
    class Tenfold(lf.CrossEntropyLoss):
        def last(self, *given: Any, **named: Any) -> Last:
            above, below = super().last(*given, **named)
            return Last(10 * above, below)

    for grad in (False, True):
        scores = SCORES.clone().requires_grad_(grad)
        close(Tenfold()(scores, LABELS), 10 * lf.CrossEntropyLoss()(scores, LABELS), rtol=1e-6)


def test_specs_carry_nothing_along() -> None:
    loss = lf.DiceLoss()
    before = pickle.dumps(loss.needs().spec)
    loss(SCORES, LABELS)
    assert pickle.dumps(loss.needs().spec) == before
