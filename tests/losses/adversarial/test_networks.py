"""Networks that are not plain: attention, half precision of their own, what stands outside of a hole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import lossfold as lf
from tests.seeds import seed


class Attention(nn.Module):
    """A discriminator, or a generator, with PyTorch's fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(8, 24)

    def forward(self, images: Tensor) -> Tensor:
        q, k, v = (part[:, None] for part in self.inputs(images[:, 0]).chunk(3, -1))
        return functional.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize("name", ["R1GradientPenalty", "R2GradientPenalty", "GradientPenaltyLoss", "GeneratorPathRegularizer"])
def test_attention_has_its_second_derivative(name: str) -> None:
    seed()
    network, images = Attention(), torch.randn(2, 1, 8, 8)
    given = (images, torch.randn(2, 1, 8, 8)) if name == "GradientPenaltyLoss" else (images,)
    lf.LOSSES[name]()(network, *given).backward()
    slope = network.inputs.weight.grad
    assert slope is not None and slope.isfinite().all() and slope.any()


def test_half_networks_under_autocast() -> None:
    """A network whose weights are half itself is called with what it takes, whether autocast is on or not."""
    seed()
    disc = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)).bfloat16()
    gen = nn.Sequential(nn.Linear(6, 16), nn.Unflatten(1, (1, 4, 4))).bfloat16()
    images, latents = torch.randn(2, 3, 2, 2).bfloat16(), torch.randn(2, 6).bfloat16()

    def values() -> list[Tensor]:
        seed(1)
        penalties = [lf.R1GradientPenalty()(disc, images), lf.GradientPenaltyLoss()(disc, images, images + 1)]
        return [*penalties, lf.GeneratorPathRegularizer()(gen, latents)]

    plain = values()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = values()
    assert all(torch.equal(one, other) and one.dtype == torch.float32 for one, other in zip(plain, mixed, strict=True))


def test_what_stands_outside_of_the_hole_may_be_anything() -> None:
    logits = torch.zeros(1, 1, 4, 4)
    logits[0, 0, 0, 0] = float("inf")
    logits.requires_grad_()
    hole = torch.ones(1, 1, 4, 4)
    hole[0, 0, 0, 0] = 0
    value = lf.GANLoss("smgan")(logits, True, mask=hole)
    value.backward()
    assert value == 1 and logits.grad is not None and logits.grad[0, 0, 0, 0] == 0 and logits.grad.isfinite().all()


def test_made_in_an_evaluation() -> None:
    with torch.inference_mode():
        loss = lf.GeneratorPathRegularizer()
    loss(nn.Sequential(nn.Linear(6, 16), nn.Unflatten(1, (1, 4, 4))), torch.randn(4, 6)).backward()
    assert loss.get_buffer("mean_path_length") > 0


@pytest.mark.parametrize("mean", ["a", None, torch.zeros(3), float("nan")])
def test_means_that_are_no_numbers(mean: object) -> None:
    with pytest.raises(lf.LossError, match="mean_path_length must be a number or a scalar"):
        lf.functional.generator_path_regularizer(nn.Unflatten(1, (1, 2, 3)), torch.randn(4, 6), mean)  # type: ignore[arg-type]
