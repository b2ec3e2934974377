"""First and second derivatives of the penalties, for the images and for the discriminator's weights; where the gradient is zero."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

import lossfold as lf
from tests.losses.adversarial.critics import NAMES, Dead, Linear, Patches, holes, images, penalties
from tests.losses.adversarial.oracles import number
from tests.seeds import seed

MODES = ("pixel", "HWC")
SMALL = (2, 2, 4, 3)


def small_mask() -> Tensor:
    mask = holes(2, 1, 4, 3)
    mask[1, :, :2] = 1
    return mask


def of_weights(critic: nn.Module, names: list[str], weights: tuple[Tensor, ...]) -> Callable[[Tensor], Any]:
    """The discriminator with these weights."""
    return lambda x: functional_call(critic, dict(zip(names, weights, strict=True)), (x,))


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_the_images(name: str, mode: str, masked: bool) -> None:
    penalty, _ = penalties(mode)[name]
    critic, mask = Patches().double().requires_grad_(False), small_mask() if masked else None
    x = images(*SMALL).requires_grad_()

    def call(y: Tensor) -> Tensor:
        seed()
        return penalty(critic, y, mask)

    assert gradcheck(call, x)
    assert gradgradcheck(call, x)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_the_weights(name: str, mode: str, masked: bool) -> None:
    penalty, _ = penalties(mode)[name]
    critic, mask, x = Patches(width=2).double(), small_mask() if masked else None, images(*SMALL)
    names = [key for key, _ in critic.named_parameters()]
    weights = tuple(p.detach().clone().requires_grad_() for p in critic.parameters())

    def call(*given: Tensor) -> Tensor:
        seed()
        return penalty(of_weights(critic, names, given), x, mask)

    assert gradcheck(call, weights)
    assert gradgradcheck(call, weights)


@pytest.mark.parametrize("mode", MODES)
def test_both_batches_of_the_gradient_penalty(mode: str) -> None:
    """∂/∂real = u·∂/∂x, ∂/∂fake = (1 - u)·∂/∂x: exact for both, and for the weights at once."""
    critic = Patches(width=2).double()
    names = [key for key, _ in critic.named_parameters()]
    weights = tuple(p.detach().clone().requires_grad_() for p in critic.parameters())
    real, fake = images(*SMALL).requires_grad_(), images(*SMALL, seed=4).requires_grad_()
    loss = lf.GradientPenaltyLoss(norm_mode=mode)

    def call(real: Tensor, fake: Tensor, *given: Tensor) -> Tensor:
        seed()
        return loss(of_weights(critic, names, given), real, fake, small_mask())

    assert gradcheck(call, (real, fake, *weights))
    assert gradgradcheck(call, (real, fake, *weights))
    slopes = torch.autograd.grad(call(real, fake, *weights), (real, fake))
    assert all(slope.any() for slope in slopes)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_float32_is_near_float64(name: str, mode: str) -> None:
    penalty, _ = penalties(mode)[name]
    exact, mask, x = Patches().double(), small_mask(), images(*SMALL)
    single = copy.deepcopy(exact).float()
    value, truth = penalty(single, x.float(), mask), penalty(exact, x, mask)
    assert value.dtype == torch.float32 and truth.dtype == torch.float64
    torch.testing.assert_close(value.double(), truth, rtol=1e-5, atol=1e-6)
    found = torch.autograd.grad(value, [*single.parameters()][:3])  # the last is a bias, which no gradient knows
    for actual, expected in zip(found, torch.autograd.grad(truth, [*exact.parameters()][:3]), strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_images_get_a_graph_only_if_they_ask(name: str, mode: str) -> None:
    penalty, _ = penalties(mode)[name]
    critic, x = Patches().double(), images(*SMALL)
    generator = images(*SMALL, seed=7).requires_grad_()
    penalty(critic, x + generator, None).backward()  # as images of a generator
    assert generator.grad.any()
    penalty(critic, x, None).backward()
    assert x.grad is None and not x.requires_grad and critic.first.weight.grad.any()
    leaf = x.clone().requires_grad_()
    before = leaf.clone()
    penalty(critic, leaf, None).backward()
    assert leaf.grad.any() and torch.equal(leaf, before)


def test_one_batch_may_have_a_graph_and_the_other_not() -> None:
    critic, real, fake = Patches().double(), images(*SMALL), images(*SMALL, seed=4).requires_grad_()
    lf.GradientPenaltyLoss()(critic, real, fake).backward()
    assert fake.grad.any() and real.grad is None
    real.requires_grad_()
    lf.GradientPenaltyLoss()(critic, real, fake.detach()).backward()
    assert real.grad.any()


@pytest.mark.parametrize("precision", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_zero_gradients(name: str, mode: str, masked: bool, precision: torch.dtype) -> None:
    """√ has no slope at 0: (0 - 1)² = 1 is the value, and the gradient is finite."""
    penalty, center = penalties(mode)[name]
    critic, x = Dead(), images().to(precision).requires_grad_()
    value = penalty(critic, x, holes() if masked else None)
    assert number(value) == pytest.approx(center, abs=1e-4)
    slopes = torch.autograd.grad(value, (critic.w, x), create_graph=True, allow_unused=True)
    assert all(slope is None or torch.isfinite(slope).all() for slope in slopes)
    if slopes[0] is not None and slopes[0].requires_grad:
        second = torch.autograd.grad(slopes[0].sum(), critic.w, allow_unused=True)[0]
        assert second is None or torch.isfinite(second).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_pixels_of_zero_gradient_among_others(name: str, mode: str) -> None:
    """They leave the others' gradients as they are."""
    penalty, center = penalties(mode)[name]
    critic, x = Linear(), images()
    with torch.no_grad():
        critic.w[:, :2] = 0
    (slope,) = torch.autograd.grad(penalty(critic, x, None), critic.w)
    assert torch.isfinite(slope).all()
    w = critic.w.detach()[:, 2:]
    norm = w.square().sum(0).sqrt() if mode == "pixel" else w.square().sum().sqrt()
    expected = 2 * (norm - center) * w / norm / (20 if mode == "pixel" else 1)
    torch.testing.assert_close(slope[:, 2:], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-18, 1e-6, 1e6, 1e15])
@pytest.mark.parametrize("mode", MODES)
def test_tiny_and_large_gradients_in_float32(mode: str, scale: float) -> None:
    """Squares of 1e-18 are 1e-36, near the least number of float32: finite, and of the right size."""
    critic = Linear().float()
    with torch.no_grad():
        critic.w.mul_(scale)
    for name, (penalty, center) in penalties(mode).items():
        value = penalty(critic, images().float(), None)
        (slope,) = torch.autograd.grad(value, critic.w)
        assert torch.isfinite(value) and torch.isfinite(slope).all(), name
        w = critic.w.detach().double()
        norm = w.square().sum(0).sqrt() if mode == "pixel" else w.square().sum().sqrt()
        assert number(value) == pytest.approx(number((norm - center).square().mean()), rel=1e-4, abs=1e-30), name


def test_penalties_of_samples_that_normalise_over_the_batch_are_the_sums() -> None:
    """g is the gradient of the sum over the batch: samples that do not meet in D do not meet in g."""
    critic, x = Patches().double(), images(4, 2, 4, 3)
    for name, (penalty, _) in penalties("HWC").items():
        each = [penalty(critic, x[i : i + 1], None) for i in range(4)]
        torch.testing.assert_close(penalty(critic, x, None), sum(each) / 4, msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_under_no_grad(name: str) -> None:
    """Validation may ask for the value: it is that of training, without a graph."""
    penalty, _ = penalties()[name]
    critic, x = Patches().double(), images(*SMALL)
    expected = penalty(critic, x, None)
    with torch.no_grad():
        value = penalty(critic, x, None)
    assert not value.requires_grad
    torch.testing.assert_close(value, expected.detach())
    with torch.inference_mode():
        torch.testing.assert_close(penalty(critic, x, None).clone(), expected.detach())
