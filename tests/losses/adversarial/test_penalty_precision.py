"""Penalties under autocast and with GradScaler: the values and the gradients of float32 without either."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.contract.case import same_bits
from tests.losses.adversarial.critics import NAMES, Patches, images, penalties
from tests.losses.adversarial.oracles import number
from tests.seeds import seed

HALVES = [torch.bfloat16, torch.float16]
MODES = ("pixel", "HWC")


def setting() -> tuple[nn.Module, Tensor, Tensor]:
    return Patches(), images(4, 2, 6, 5).float(), (images(4, 1, 6, 5, seed=8) > -0.3).float()


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_autocast_is_off_inside(name: str, mode: str, half: torch.dtype) -> None:
    """To the bit: the discriminator runs in float32; and autocast is on again afterwards."""
    penalty, _ = penalties(mode)[name]
    critic, x, mask = setting()
    seed()
    truth = penalty(critic, x, mask)
    slopes = torch.autograd.grad(truth, critic.first.weight)
    with torch.autocast("cpu", half):
        seed()
        value = penalty(critic, x, mask)
        assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == half
        assert critic(x).dtype == half
    same_bits(value.detach(), truth.detach())
    same_bits(torch.autograd.grad(value, critic.first.weight)[0], slopes[0])


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_half_images_are_read_exactly(name: str, half: torch.dtype) -> None:
    """A generator under autocast makes them; a penalty of the same numbers in float32 has the same value."""
    penalty, _ = penalties()[name]
    critic, x, mask = setting()
    x = x.to(half)
    truth = penalty(critic, x.float(), mask)
    with torch.autocast("cpu", half):
        value = penalty(critic, x, mask)
    assert value.dtype == torch.float32
    same_bits(value.detach(), truth.detach())
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", half):
        penalty(critic, leaf, mask).backward()
    assert leaf.grad.dtype == half and torch.isfinite(leaf.grad).all() and leaf.grad.any()


@pytest.mark.parametrize("real", [torch.float32, torch.bfloat16], ids=str)
def test_between_halves_is_not_rounded(real: torch.dtype) -> None:
    """A generator under autocast makes fakes of halves; the place between them and the real images is one of float32."""
    critic, x, _ = setting()
    x, fake = x.to(real), images(4, 2, 6, 5, seed=3).bfloat16()
    seed()
    truth = lf.GradientPenaltyLoss()(critic, x.float(), fake.float())
    seed()
    with torch.autocast("cpu", torch.bfloat16):
        same_bits(lf.GradientPenaltyLoss()(critic, x, fake).detach(), truth.detach())


@pytest.mark.parametrize("scale", [256.0, 2.0**24])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_a_scaler_needs_no_unscaling_by_hand(name: str, mode: str, scale: float) -> None:
    """Scale, backward, unscale: the gradients of float32, to the bit, because the scale is a power of two."""
    penalty, _ = penalties(mode)[name]
    critic, x, mask = setting()
    seed()
    expected = torch.autograd.grad(penalty(critic, x, mask), critic.first.weight)[0]
    optimizer = torch.optim.SGD([critic.first.weight, critic.second.weight], lr=0.1)
    scaler: Any = torch.amp.GradScaler("cpu", init_scale=scale)
    seed()
    with torch.autocast("cpu", torch.float16):
        value = penalty(critic, x, mask)
    scaler.scale(value).backward()
    scaler.unscale_(optimizer)
    same_bits(critic.first.weight.grad, expected)
    before = critic.first.weight.detach().clone()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == scale  # no step was skipped
    torch.testing.assert_close(before - critic.first.weight.detach(), 0.1 * expected, rtol=1e-4, atol=1e-6)


class Synthesis(nn.Module):
    """A tiny generator that returns its styles too."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping, self.spread = nn.Linear(4, 6), nn.Linear(6, 2 * 9)
        self.paint = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        styles = self.mapping(latents)
        maps = nn.functional.interpolate(self.spread(styles).tanh().unflatten(1, (2, 3, 3)), scale_factor=2.0)
        return self.paint(maps), styles


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_the_path_regulariser_is_that_of_float32(half: torch.dtype) -> None:
    generator, latents = Synthesis(), torch.randn(6, 4)
    results = []
    for enabled in (False, True):
        regulariser = lf.GeneratorPathRegularizer()
        seed()
        with torch.autocast("cpu", half, enabled=enabled):
            value = regulariser(generator, latents)
        results.append((value.detach(), regulariser.mean_path_length, torch.autograd.grad(value, generator.paint.weight)[0]))
    for plain, mixed in zip(*results, strict=True):
        same_bits(mixed, plain)


@pytest.mark.parametrize("half", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)], ids=str)
def test_two_hundred_steps(half: torch.dtype) -> None:
    """A GAN in mixed precision with every penalty, from a cold start: no number is ever NaN, and it learns."""
    seed()
    generator = Synthesis()
    critic = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))
    disc_loss = {
        "real": lf.GANLoss("wgan-logistic-ns", target_is_real=True, is_disc=True, inputs={"input": "disc_pred_real"}),
        "fake": lf.GANLoss("wgan-logistic-ns", target_is_real=False, is_disc=True, inputs={"input": "disc_pred_fake"}),
        "shift": lf.DiscShiftLoss(inputs={"pred": "disc_pred_real"}),
    }
    paths = {"discriminator": "disc", "real": "real_imgs", "fake": "fake_imgs"}
    for name, kind in (("gp", lf.GradientPenaltyLoss), ("r1", lf.R1GradientPenalty), ("r2", lf.R2GradientPenalty)):
        for mode in MODES:
            takes = {key: path for key, path in paths.items() if key in kind.arguments}
            disc_loss[f"{name}_{mode.lower()}"] = kind(norm_mode=mode, loss_weight=0.1, inputs=takes)
    gen_loss = {
        "fool": lf.GANLoss("wgan-logistic-ns", target_is_real=True, inputs={"input": "disc_pred_fake"}),
        "path": lf.GeneratorPathRegularizer(loss_weight=0.1, inputs={"generator": "gen", "latents": "latents"}),
    }
    sides = [
        (lf.LossSet(loss), torch.optim.Adam(net.parameters(), 3e-3, betas=(0.0, 0.99)))
        for loss, net in ((disc_loss, critic), (gen_loss, generator))
    ]
    scalers: list[Any] = [torch.amp.GradScaler("cpu", enabled=half == torch.float16, init_scale=1024.0) for _ in sides]
    start = [p.detach().clone() for p in (*critic.parameters(), *generator.parameters())]
    for step in range(200):
        real = torch.randn(8, 1, 6, 6) * 0.1 + torch.linspace(-1, 1, 6)
        for (criterion, optimizer), scaler, of_generator in zip(sides, scalers, (False, True), strict=True):
            optimizer.zero_grad()
            latents = torch.randn(8, 4)
            with torch.autocast("cpu", half):
                fake = generator(latents)[0] if of_generator else generator(latents)[0].detach()
                outputs = {"gen": generator, "disc": critic, "latents": latents, "fake_imgs": fake, "real_imgs": real}
                out = criterion(outputs | {"disc_pred_fake": critic(fake), "disc_pred_real": critic(real), "iteration": step})
            assert torch.isfinite(out.total), (step, out.terms)
            assert all(torch.isfinite(value) for value in out.terms.values()), (step, out.terms)
            scaler.scale(out.total).backward()
            scaler.unscale_(optimizer)
            grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            assert grads and all(torch.isfinite(g).all() for g in grads), step
            scaler.step(optimizer)
            scaler.update()
    assert sides[1][0].members[1].mean_path_length > 0
    moved = [number((p - q).abs().max()) for p, q in zip((*critic.parameters(), *generator.parameters()), start, strict=True)]
    assert min(moved) > 0 and all(torch.isfinite(p).all() for p in (*critic.parameters(), *generator.parameters()))
