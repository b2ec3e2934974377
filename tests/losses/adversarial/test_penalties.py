"""Gradient penalties of linear and quadratic discriminators, in closed form; masks; what u is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.losses.adversarial import oracles
from tests.losses.adversarial.critics import NAMES, SHAPE, Linear, Patches, Quadratic, holes, images, penalties
from tests.losses.adversarial.oracles import array, number

MODES = ("pixel", "HWC")


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_a_linear_discriminator(name: str, mode: str, masked: bool) -> None:
    """Its gradient is w at every image: pixel mode compares ‖w_p‖ over the channels, HWC mode the norm of all of w."""
    penalty, center = penalties(mode)[name]
    critic, mask = Linear(), holes() if masked else None
    expected = oracles.gradient_penalty(array(critic.w.expand(SHAPE)), None if mask is None else array(mask), mode, center)
    value = penalty(critic, images(), mask)
    assert value.dim() == 0 and value.dtype == torch.float64
    assert number(value) == pytest.approx(expected, rel=1e-12)
    w = critic.w.detach()
    if not masked:
        norms = w.square().sum(0).sqrt() if mode == "pixel" else w.square().sum().sqrt()
        assert expected == pytest.approx(number((norms - center).square().mean()), rel=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_derivatives_for_a_linear_discriminator(name: str, mode: str) -> None:
    """∂/∂w of the closed form: pixel 2(‖w_p‖ - c) w_p/‖w_p‖ · Σ_b m_bp / Σm, HWC the mean of 2(‖w·m_b‖ - c) w·m_b²/‖w·m_b‖."""
    penalty, center = penalties(mode)[name]
    critic, mask = Linear(), holes()
    (gradient,) = torch.autograd.grad(penalty(critic, images(), mask), critic.w)
    w = critic.w.detach()
    if mode == "pixel":
        norm = w.square().sum(0, keepdim=True).sqrt()
        expected = 2 * (norm - center) * w / norm * mask.sum(0) / mask.sum()
    else:
        each = []
        for m in mask[:2]:  # the third counts nothing
            norm = (w * m).square().sum().sqrt()
            each.append(2 * (norm - center) * w * m**2 / norm)
        expected = sum(each) / 2
    torch.testing.assert_close(gradient, expected, rtol=1e-11, atol=1e-14)
    outside = (mask.sum(0) == 0).expand_as(w)
    assert outside.any() and torch.count_nonzero(gradient[outside]) == 0


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_a_quadratic_discriminator(name: str, mode: str, masked: bool) -> None:
    """Value, and the derivatives for A and for the images, which are those of the closed form in A and x."""
    penalty, center = penalties(mode)[name]
    critic, mask = Quadratic(40), holes() if masked else None
    x = images().requires_grad_()
    value = penalty(critic, x, mask)
    g = critic.slope(x)
    expected = oracles.gradient_penalty(array(g), None if mask is None else array(mask), mode, center)
    assert number(value) == pytest.approx(expected, rel=1e-11)
    m = torch.ones_like(g[:, :1]) if mask is None else mask
    if mode == "pixel":
        closed = ((g.square().sum(1, keepdim=True).sqrt() - center).square() * m).sum() / m.sum()
    else:
        counted = m.flatten(1).any(1)
        closed = ((g * m)[counted].square().flatten(1).sum(1).sqrt() - center).square().mean()
    found = torch.autograd.grad(value, (critic.a, x))
    for actual, wanted in zip(found, torch.autograd.grad(closed, (critic.a, x)), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_masked_out_pixels_cost_nothing(name: str, mode: str) -> None:
    """Whatever the discriminator's gradient is there."""
    penalty, _ = penalties(mode)[name]
    critic, mask, x = Linear(), holes(), images()
    before = penalty(critic, x, mask)
    with torch.no_grad():
        outside = (mask.sum(0) == 0).expand_as(critic.w)
        assert 0 < outside.sum() < outside.numel()
        critic.w[outside] = 1e3
    torch.testing.assert_close(penalty(critic, x, mask), before, rtol=0, atol=0)
    with torch.no_grad():
        critic.w[~outside] += 1
    assert number(penalty(critic, x, mask)) != number(before)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_masks_of_all_kinds(name: str, mode: str) -> None:
    penalty, center = penalties(mode)[name]
    critic, mask, x = Quadratic(40), holes(), images()
    expected = penalty(critic, x, mask)
    for same in (mask.bool(), mask[:, 0], mask[:, 0].bool(), mask.float(), mask.half()):
        torch.testing.assert_close(penalty(critic, x, same), expected)
    whole = penalty(critic, x, torch.ones(3, 1, 4, 5))
    torch.testing.assert_close(whole, penalty(critic, x, None))
    soft = holes() * (0.25 + images(3, 1, 4, 5).square())
    value = oracles.gradient_penalty(array(critic.slope(x)), array(soft), mode, center)
    assert number(penalty(critic, x, soft)) == pytest.approx(value, rel=1e-11)
    leaf = x.clone().requires_grad_()
    nothing = penalty(critic, leaf, torch.zeros(3, 1, 4, 5))
    assert number(nothing) == 0
    for gradient in torch.autograd.grad(nothing, (leaf, critic.a), allow_unused=True):
        assert gradient is None or torch.count_nonzero(gradient) == 0
    nothing = penalty(critic, x, torch.zeros(3, 1, 4, 5))
    nothing.backward()  # it has a graph even if only the weights ask for one
    assert critic.a.grad is None or torch.count_nonzero(critic.a.grad) == 0


@pytest.mark.parametrize("shape", [(4, 7), (2, 3, 9), (2, 1, 3, 4), (2, 2, 3, 2, 3)], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_shapes(name: str, mode: str, shape: tuple[int, ...]) -> None:
    """Vectors have one pixel, of as many channels as they are long."""
    penalty, center = penalties(mode)[name]
    x = images(*shape)
    critic = Quadratic(x[0].numel())
    g = array(critic.slope(x))
    assert number(penalty(critic, x, None)) == pytest.approx(oracles.gradient_penalty(g, None, mode, center), rel=1e-11)
    mask = holes(shape[0], 1, *shape[2:])
    mask[0] = 1
    expected = oracles.gradient_penalty(g, array(mask), mode, center)
    assert number(penalty(critic, x, mask)) == pytest.approx(expected, rel=1e-11)
    assert number(penalty(critic, x, mask[:, 0])) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_lists_of_outputs(name: str, mode: str) -> None:
    """The penalty of each output, averaged; not the penalty of their sum."""
    penalty, _ = penalties(mode)[name]
    first, second, x, mask = Linear(seed=1), Linear(seed=9), images(), holes()
    for mask_or_none in (None, mask):
        expected = (penalty(first, x, mask_or_none) + penalty(second, x, mask_or_none)) / 2
        for container in (list, tuple):
            both = penalty(lambda y, c=container: c((first(y), second(y))), x, mask_or_none)
            torch.testing.assert_close(both, expected)
    slopes = torch.autograd.grad(both, (first.w, second.w))
    for slope, critic in zip(slopes, (first, second), strict=True):
        torch.testing.assert_close(slope, torch.autograd.grad(penalty(critic, x, mask), critic.w)[0] / 2)


@pytest.mark.parametrize("name", NAMES)
def test_patches_are_summed(name: str) -> None:
    """The gradient is that of the sum over all of a sample's outputs."""
    penalty, center = penalties("pixel")[name]
    critic, x = Patches().double(), images(2, 2, 7, 6)
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(critic(leaf).sum(), leaf)
    assert critic(x).shape[2:] != (1, 1)
    assert number(penalty(critic, x, None)) == pytest.approx(oracles.gradient_penalty(array(g), None, "pixel", center), rel=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_functional_forms(name: str) -> None:
    x, critic = images(), Quadratic(40)
    given = (x, x) if name == "GradientPenaltyLoss" else (x,)
    plain = lf.LOSSES[name](norm_mode="HWC")(critic, *given)
    torch.testing.assert_close(lf.LOSSES[name](norm_mode="HWC", loss_weight=10.0)(critic, *given), 10 * plain)
    torch.testing.assert_close((0.5 * lf.LOSSES[name](norm_mode="HWC"))(critic, *given), 0.5 * plain)
    function = getattr(lf.functional, lf.functional.snake_case(name))
    torch.testing.assert_close(function(critic, *given, norm_mode="HWC"), plain)
    assert lf.LOSSES[name]().norm_mode == "pixel"


def recorded(real: Tensor, fake: Tensor, seed: int = 0) -> Tensor:
    """The place where a gradient penalty looks."""
    seen: list[Tensor] = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return x.square().flatten(1).sum(1)

    torch.default_generator.manual_seed(seed)
    lf.GradientPenaltyLoss()(critic, real, fake)
    assert len(seen) == 1
    return seen[0]


@pytest.mark.parametrize("shape", [(400, 2, 3, 4), (400, 5), (400, 1, 2, 2, 2)], ids=str)
def test_u_is_one_uniform_number_for_each_sample(shape: tuple[int, ...]) -> None:
    u = torch.cat([recorded(torch.ones(shape), torch.zeros(shape), seed).flatten(1) for seed in range(5)])
    assert torch.equal(u, u[:, :1].expand_as(u))
    u = u[:, 0].sort().values.double()
    assert u.min() >= 0 and u.max() <= 1 and len(u.unique()) > 1900
    distance = (u - torch.linspace(0, 1, len(u), dtype=torch.float64)).abs().max()
    assert distance < 1.63 / len(u) ** 0.5  # Kolmogorov and Smirnov: a chance of 1 in 100, and the seeds are fixed


def test_what_is_drawn_is_seeded_and_between_the_batches() -> None:
    real, fake = images().float(), images(seed=1).float()
    first, again, other = recorded(real, fake), recorded(real, fake), recorded(real, fake, seed=1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    u = (first - fake) / (real - fake)
    torch.testing.assert_close(u, u[:, :1, :1, :1].expand_as(u), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(recorded(real, real), real)


def test_r1_and_r2_look_at_the_images_themselves() -> None:
    for penalty in (lf.R1GradientPenalty(), lf.R2GradientPenalty()):
        seen: list[Tensor] = []
        x = images()

        def critic(y: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(y.detach().clone())
            return y.square().sum((1, 2, 3))

        state = torch.get_rng_state()
        torch.testing.assert_close(penalty(critic, x), (2 * x).square().sum(1).mean())
        assert len(seen) == 1 and torch.equal(seen[0], x) and torch.equal(torch.get_rng_state(), state)


def test_a_discriminator_keeps_its_mode_and_its_parameters_their_gradients() -> None:
    critic, x = nn.Sequential(nn.Flatten(), nn.Linear(40, 3), nn.Tanh(), nn.Linear(3, 1)).double(), images()
    for name, (penalty, _) in penalties().items():
        for training in (True, False):
            critic.train(training).zero_grad()
            penalty(critic, x, None)
            assert all(module.training is training for module in critic.modules()), name
            assert all(parameter.grad is None for parameter in critic.parameters()), name
            assert not x.requires_grad and x.grad is None


def test_infinities_behind_a_mask() -> None:
    """Where a discriminator's gradient is infinite or NaN, masked out, the value stays what it was."""
    mask = holes()
    outside = (mask.sum(0) == 0).expand(2, 4, 5)
    for mode in MODES:
        for name, (penalty, _) in penalties(mode).items():
            critic = Linear()
            expected = penalty(critic, images(), mask)
            for broken in (float("inf"), float("nan")):
                with torch.no_grad():
                    critic.w[outside] = broken
                torch.testing.assert_close(penalty(critic, images(), mask), expected, msg=name)
