"""Adversarial losses of extreme logits, in halves and under autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.contract.case import same_bits
from tests.losses.adversarial import oracles
from tests.losses.adversarial.oracles import POINTWISE, array, number
from tests.losses.adversarial.test_types import NAMED, SIDES, logits, run

HALVES = [torch.bfloat16, torch.float16]
EXTREME = torch.tensor([1e4, -1e4, 0.0, 1.0, -1.0, 88.0, -104.0, 6e4, -6e4])


def every_call(x: Tensor) -> list[tuple[str, Any]]:
    """Each type, as a function of its logits."""
    mask = (torch.rand(x.shape[0], 1, 9, 7) < 0.5).float()
    other = x.detach().float().flip(0)
    found: list[tuple[str, Any]] = []
    for real, disc in SIDES:
        for kind in POINTWISE:
            found.append((kind, lambda y, k=kind, r=real, d=disc: lf.GANLoss(k)(y, r, d)))
        found.append(("ragan", lambda y, r=real, d=disc: lf.GANLoss("ragan")(y, r, d, other=other)))
        found.append(("smgan", lambda y, r=real, d=disc: lf.GANLoss("smgan")(y, r or not d, d, mask)))
    found.append(("shift", lf.DiscShiftLoss()))
    return found


@pytest.mark.parametrize(("real", "disc"), SIDES, ids=NAMED)
@pytest.mark.parametrize("kind", POINTWISE)
def test_extreme_logits(kind: str, real: bool, disc: bool, dtype: torch.dtype) -> None:
    """Of each alone: the value is the formula's, the gradient finite and of the right sign."""
    for x in EXTREME.to(dtype):
        value, gradient = run(lf.GANLoss(kind), x.reshape(1, 1), real, disc)
        expected, slope = oracles.gan(kind, array(x.reshape(1, 1)), real, disc)
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert number(value) == pytest.approx(expected, rel=1e-6, abs=1e-30)
        if abs(slope.item()) < torch.finfo(dtype).max:  # 2(x - t) of 6e4 leaves float16
            assert number(gradient) == pytest.approx(slope.item(), rel=4e-3 if dtype in HALVES else 1e-6, abs=1e-7)


def test_squares_of_halves_do_not_overflow() -> None:
    """1e4² leaves float16, and a sum of 70 000 ones leaves it too."""
    x = torch.full((1, 1, 270, 270), 1e4, dtype=torch.float16)
    for loss in (lambda y: lf.GANLoss("lsgan")(y, True), lf.DiscShiftLoss(loss_weight=1.0)):
        value, gradient = run(loss, x)
        assert value.dtype == torch.float32 and number(value) == pytest.approx(1e8, rel=1e-3)
        assert torch.isfinite(gradient).all()
    ones = torch.ones(1, 1, 270, 270, dtype=torch.float16)
    assert number(lf.GANLoss("wgan")(ones, False)) == 1.0
    mask = torch.ones(1, 1, 270, 270, dtype=torch.float16)
    assert number(lf.GANLoss("smgan")(2 * ones, True, False, mask)) == 1.0


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_half_logits_are_read_exactly_inside_of_autocast_and_outside(half: torch.dtype) -> None:
    x = logits(3, 1, 9, 7).to(half)
    for name, call in every_call(x):
        truth, slope = run(call, x.float())
        outside = run(call, x)
        with torch.autocast("cpu", half):
            inside = run(call, x)
            single = run(call, x.float())
        for value, gradient in (inside, outside):
            same_bits(value, truth)
            assert gradient.dtype == half, name
            torch.testing.assert_close(gradient.float(), slope, rtol=2 * torch.finfo(half).eps, atol=1e-6)
        same_bits(single[0], truth)
        same_bits(single[1], slope)


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_half_logits_are_resized_in_float32(half: torch.dtype) -> None:
    x, mask = logits(2, 1, 4, 4).to(half), (torch.rand(2, 1, 17, 13) < 0.5).float()
    for side in ((True, True), (False, True), (True, False)):
        truth = lf.GANLoss("smgan")(x.float(), *side, mask)
        with torch.autocast("cpu", half):
            same_bits(lf.GANLoss("smgan")(x, *side, mask), truth)
        same_bits(lf.GANLoss("smgan")(x, *side, mask.to(half)), truth)


def test_layouts() -> None:
    """What is not contiguous has the same value and gradient."""
    x = logits(2, 3, 8, 6)
    views = [x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3), x.flip(3).flip(3)]
    for kind in POINTWISE:
        loss = lf.GANLoss(kind)
        value, gradient = run(loss, x, True, True)
        for view in views:
            again, slope = run(loss, view, True, True)
            torch.testing.assert_close(again, value, rtol=1e-14, atol=0)
            torch.testing.assert_close(slope, gradient, rtol=1e-14, atol=0)


def test_scaled_gradients_of_a_discriminator() -> None:
    """fp16 autocast with GradScaler: the unscaled gradients are those of float32, within what fp16 layers round."""
    images = torch.rand(4, 3, 8, 8)
    layer = torch.nn.Conv2d(3, 1, 3)
    for _, call in every_call(torch.empty(4, 1, 6, 6)):
        if _ == "ragan":
            continue  # its other logits are those of the other call
        exact = torch.autograd.grad(call(layer(images)), layer.weight)[0]
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
        scaler: Any = torch.amp.GradScaler("cpu", init_scale=256.0)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            scores = layer(images)
            assert scores.dtype == torch.float16
            value = call(scores)
        assert value.dtype == torch.float32
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        assert torch.isfinite(layer.weight.grad).all()
        assert number((layer.weight.grad - exact).norm()) <= 1e-2 * number(exact.norm()) + 1e-7
