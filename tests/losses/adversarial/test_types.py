"""Every type of GANLoss against float64 NumPy and against torch's own functions, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.losses.adversarial import oracles
from tests.losses.adversarial.oracles import POINTWISE, array, number

SIDES = [(True, True), (False, True), (True, False), (False, False)]
NAMED = ["real-disc", "fake-disc", "real-gen", "fake-gen"]
LABELS = [(1.0, 0.0), (0.9, 0.1), (2.0, -1.0)]
SHAPES = [(4,), (4, 1), (2, 1, 5, 7), (2, 3, 4, 5, 2)]


def logits(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def run(loss: Any, x: Tensor, *others: Any, **named: Any) -> tuple[Tensor, Tensor]:
    leaf = x.detach().clone().requires_grad_()
    value = loss(leaf, *others, **named)
    assert value.dim() == 0
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("labels", LABELS, ids=str)
@pytest.mark.parametrize(("real", "disc"), SIDES, ids=NAMED)
@pytest.mark.parametrize("kind", POINTWISE)
def test_pointwise_types(kind: str, real: bool, disc: bool, labels: tuple[float, float], shape: tuple[int, ...]) -> None:
    loss = lf.GANLoss(kind, real_label_val=labels[0], fake_label_val=labels[1])
    x = logits(*shape)
    value, gradient = run(loss, x, real, disc)
    expected, slope = oracles.gan(kind, array(x), real, disc, labels)
    assert value.dtype == gradient.dtype == torch.float64
    assert number(value) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(gradient, torch.from_numpy(slope), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", POINTWISE)
def test_float32_is_near_float64(kind: str) -> None:
    x = logits(3, 1, 6, 6)
    for real, disc in SIDES:
        value, gradient = run(lf.GANLoss(kind), x.float(), real, disc)
        expected, slope = oracles.gan(kind, array(x.float()), real, disc)
        assert value.dtype == gradient.dtype == torch.float32
        assert number(value) == pytest.approx(expected, rel=2e-6, abs=2e-7)
        torch.testing.assert_close(gradient.double(), torch.from_numpy(slope), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("real", [True, False], ids=["real", "fake"])
def test_torch_says_the_same(real: bool) -> None:
    x = logits(3, 1, 4, 5).float()
    target = torch.full_like(x, number(real))
    sign = 1.0 if real else -1.0
    peers = {
        "vanilla": functional.binary_cross_entropy_with_logits(x, target),
        "lsgan": functional.mse_loss(x, target),
        "l1": functional.l1_loss(x, target),
        "wgan-logistic-ns": functional.softplus(-sign * x).mean(),
        "hinge": functional.relu(1 - sign * x).mean(),
        "wgan": -sign * x.mean(),
    }
    for kind, expected in peers.items():
        torch.testing.assert_close(lf.GANLoss(kind)(x, real, is_disc=True), expected, rtol=1e-6, atol=1e-7)


def test_the_generators_hinge_does_not_ask_what_is_real() -> None:
    x = logits(5, 1)
    for real in (True, False):
        torch.testing.assert_close(lf.GANLoss("hinge")(x, real, False), -x.mean())
    torch.testing.assert_close(lf.GANLoss("hinge")(x, True), -x.mean())  # is_disc is False without a word
    assert number(lf.GANLoss("hinge")(x, True, True)) >= 0


@pytest.mark.parametrize("kind", POINTWISE)
def test_the_weight_is_the_generators(kind: str) -> None:
    x = logits(2, 1, 3, 3)
    for real, disc in SIDES:
        plain, slope = run(lf.GANLoss(kind), x, real, disc)
        for loss in (lf.GANLoss(kind, loss_weight=0.25), 0.25 * lf.GANLoss(kind)):
            value, gradient = run(loss, x, real, disc)
            torch.testing.assert_close(value, plain * (1.0 if disc else 0.25))
            torch.testing.assert_close(gradient, slope * (1.0 if disc else 0.25))


@pytest.mark.parametrize("kind", POINTWISE)
@pytest.mark.parametrize("container", [list, tuple])
def test_lists_are_averaged_over_the_list(kind: str, container: type) -> None:
    """Each output counts the same, however many logits it has."""
    outputs = [logits(2, 1, 8, 8, seed=1), logits(2, 1, 3, 4, seed=2), logits(2, 1, seed=3)]
    for real, disc in SIDES:
        leaves = container(x.clone().requires_grad_() for x in outputs)
        value = lf.GANLoss(kind, loss_weight=0.5)(leaves, real, disc)
        each = [run(lf.GANLoss(kind, loss_weight=0.5), x, real, disc) for x in outputs]
        torch.testing.assert_close(value, sum(v for v, _ in each) / 3)
        for gradient, (_, expected) in zip(torch.autograd.grad(value, leaves), each, strict=True):
            torch.testing.assert_close(gradient, expected / 3)


@pytest.mark.parametrize("labels", LABELS, ids=str)
@pytest.mark.parametrize("real", [True, False], ids=["real", "fake"])
def test_ragan(real: bool, labels: tuple[float, float]) -> None:
    """The mean is over everything in the other logits, whose shape is their own; both get a gradient."""
    x, other = logits(2, 1, 3, 4), logits(3, 1, 2, 5, seed=1) + 1
    loss = lf.GANLoss("ragan", real_label_val=labels[0], fake_label_val=labels[1], loss_weight=0.5)
    expected, slope, other_slope = oracles.ragan(array(x), array(other), real, labels)
    for disc, factor in ((True, 1.0), (False, 0.5)):
        leaf, leaf_other = x.clone().requires_grad_(), other.clone().requires_grad_()
        value = loss(leaf, real, disc, other=leaf_other)
        gradient, gradient_other = torch.autograd.grad(value, (leaf, leaf_other))
        assert number(value) == pytest.approx(factor * expected, rel=1e-12)
        torch.testing.assert_close(gradient, torch.from_numpy(factor * slope), rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(gradient_other, torch.from_numpy(factor * other_slope), rtol=1e-12, atol=1e-15)


def test_ragan_of_lists_pairs_the_scales() -> None:
    fake, real = [logits(2, 1, n, n, seed=n) for n in (4, 2)], [logits(2, 1, n, n, seed=10 + n) for n in (4, 2)]
    loss = lf.GANLoss("ragan")
    each = [oracles.ragan(array(x), array(y), True)[0] for x, y in zip(fake, real, strict=True)]
    assert number(loss(fake, True, True, other=real)) == pytest.approx(sum(each) / 2, rel=1e-12)


def test_options_stand_in_for_arguments() -> None:
    """What the call leaves out, or gives as None, is the option; what it says goes before."""
    x = logits(4, 1)
    for real, disc in SIDES:
        expected = oracles.gan("hinge", array(x), real, disc)[0]
        set_up = lf.GANLoss("hinge", target_is_real=real, is_disc=disc)
        for value in (set_up(x), set_up(x, None, None), set_up(x, target_is_real=None), lf.GANLoss("hinge")(x, real, disc)):
            assert number(value) == pytest.approx(expected, rel=1e-12)
        other_way = lf.GANLoss("hinge", target_is_real=not real, is_disc=not disc)
        assert number(other_way(x, real, disc)) == pytest.approx(expected, rel=1e-12)
        half = lf.GANLoss(gan_type="hinge", target_is_real=real)
        assert number(half(x, is_disc=disc)) == pytest.approx(expected, rel=1e-12)


def test_the_functional_form() -> None:
    x = logits(4, 1)
    for kind in POINTWISE:
        for real, disc in SIDES:
            value = lf.functional.gan_loss(x, real, disc, gan_type=kind, loss_weight=2.0)
            torch.testing.assert_close(value, lf.GANLoss(kind, loss_weight=2.0)(x, real, disc))
    torch.testing.assert_close(
        lf.functional.gan_loss(x, True, True, other=x + 1, gan_type="ragan"), lf.GANLoss("ragan")(x, True, True, other=x + 1)
    )


@pytest.mark.parametrize("kind", POINTWISE)
def test_second_derivatives(kind: str) -> None:
    x = logits(2, 3).requires_grad_()
    for real, disc in SIDES:
        loss = lf.GANLoss(kind)
        assert torch.autograd.gradcheck(lambda y: loss(y, real, disc), x)  # noqa: B023
        if kind in ("vanilla", "lsgan", "wgan-logistic-ns"):  # the others are linear
            assert torch.autograd.gradgradcheck(lambda y: loss(y, real, disc), x)  # noqa: B023


def test_disc_shift() -> None:
    x, others = logits(3, 1, 4, 4), [logits(2, 1, seed=1), logits(2, 1, 6, 6, seed=2)]
    value, gradient = run(lf.DiscShiftLoss(), x)
    assert number(value) == pytest.approx(0.1 * number((array(x) ** 2).mean()), rel=1e-12)  # MMagic's weight is the default
    torch.testing.assert_close(gradient, 0.2 * x / x.numel())
    torch.testing.assert_close(lf.DiscShiftLoss(loss_weight=1.0)(others), sum(y.square().mean() for y in others) / 2)
    torch.testing.assert_close(lf.functional.disc_shift_loss(x, loss_weight=3.0), 3 * x.square().mean())
    assert torch.autograd.gradgradcheck(lf.DiscShiftLoss(), x.requires_grad_())


def test_nothing_costs_nothing() -> None:
    x = torch.zeros(0, 1, requires_grad=True)
    for kind in POINTWISE:
        for side in SIDES:
            value = lf.GANLoss(kind)(x, *side)
            assert number(value) == 0 and not torch.autograd.grad(value, x)[0].any()


def test_a_set_weighs_the_discriminator_too() -> None:
    """What a set, a schedule or an interval says holds for both networks; the loss's own weight is the generator's."""
    x = logits(4, 1)
    loss = lf.GANLoss("lsgan", loss_weight=0.25, inputs={"input": "x", "target_is_real": "real", "is_disc": "disc"})
    for disc, factor in ((True, 1.0), (False, 0.25)):
        out = lf.LossSet(one=loss, loss_weight=3.0)({"x": x, "real": True, "disc": disc})
        torch.testing.assert_close(out.terms["one"], (x - 1).square().mean())
        torch.testing.assert_close(out.weighted["one"], 3 * factor * (x - 1).square().mean())
        out = (0.5 * lf.LossSet(one=loss))({"x": x, "real": True, "disc": disc})
        torch.testing.assert_close(out.total, 0.5 * factor * (x - 1).square().mean())
