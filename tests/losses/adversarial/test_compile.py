"""GAN losses in compiled code: one graph, the values and gradients of eager code; functions that build their loss inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.losses.adversarial.test_types import logits

MASK = (torch.rand(2, 1, 12, 10, generator=torch.Generator().manual_seed(0)) < 0.5).double()
LABELS = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(0))


def same(call: Callable[[Tensor], Any], x: Tensor) -> None:
    """Value and gradient in one graph are those of eager code."""
    found = []
    for function in (torch.compile(call, backend="aot_eager", fullgraph=True), call):
        leaf = x.clone().requires_grad_()
        value = function(leaf)
        found += [value.detach(), torch.autograd.grad(value, leaf)[0]]
    for compiled, eager in zip(found[:2], found[2:], strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-12, atol=1e-14)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


ONE, LIST = (lambda y: y), (lambda y: [y, 2 * y[:1]])
EVERY: dict[str, tuple[lf.GANLoss, Any, Callable[[Tensor], dict[str, Any]]]] = {
    kind: (lf.GANLoss(kind), LIST, lambda y: {"target_is_real": False, "is_disc": True})
    for kind in ("vanilla", "lsgan", "l1", "wgan", "wgan-logistic-ns", "hinge")
} | {
    "a generator's hinge": (lf.GANLoss("hinge", loss_weight=0.5), ONE, lambda y: {"target_is_real": True}),
    "ragan": (lf.GANLoss("ragan"), ONE, lambda y: {"target_is_real": True, "other": y.flip(0) - 1}),
    "a discriminator's smgan": (lf.GANLoss("smgan"), ONE, lambda y: {"target_is_real": False, "is_disc": True, "mask": MASK}),
    "a generator's smgan": (lf.GANLoss("smgan"), ONE, lambda y: {"target_is_real": True, "mask": MASK}),
}


@pytest.mark.parametrize("what", EVERY)
def test_one_graph(what: str) -> None:
    loss, outputs, others = EVERY[what]
    same(lambda y: loss(outputs(y), **others(y)), logits(2, 1, 6, 5))


def test_one_graph_of_a_set_of_a_dict() -> None:
    criterion = lf.LossSet(
        fool=lf.GANLoss("wgan-logistic-ns", target_is_real=True, loss_weight=0.5, inputs={"input": "fake"}),
        shift=lf.DiscShiftLoss(inputs={"pred": "fake"}),
    )
    same(lambda y: criterion({"fake": y}).total, logits(2, 1, 6, 5))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "cross_entropy_loss": lambda y: lf.functional.cross_entropy_loss(y, LABELS),
    "dice_loss": lambda y: lf.functional.dice_loss(y, LABELS, smooth=0.5),
    "disc_shift_loss": lambda y: lf.functional.disc_shift_loss(y),
    "gan_loss": lambda y: lf.functional.gan_loss(y, True, gan_type="hinge"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_build_their_loss_in_the_graph(name: str) -> None:
    same(FUNCTIONS[name], logits(2, 3, 4, 5))
