"""One pass of the compiled engine for value and gradient: what the fold and the unfold say, and where they serve instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.contract.case import close
from tests.contract.cases import native
from tests.internals import Watch

pytestmark = native
LOSSES: dict[str, Callable[..., Any]] = {
    "ssim-valid": lf.SSIMLoss,
    "ssim-zeros": lambda **options: lf.SSIMLoss(padding="zeros", **options),
    "l1-ssim-zeros": lambda **options: lf.L1SSIMLoss(ssim_weight=0.3, **options),
    "l1-ssim-valid": lambda **options: lf.L1SSIMLoss(padding="valid", window_size=7, **options),
}
each = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)


def pictures(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    target = torch.rand(shape, generator=generator, dtype=torch.float64)
    pred = 0.7 * target + 0.3 * torch.rand(shape, generator=generator, dtype=torch.float64)
    pred[..., 3, :] = target[..., 3, :]  # where |p - t| has a corner
    return pred.to(dtype), target.to(dtype)


def found(loss: Any, pred: Tensor, *others: Tensor | None, passes: list[str]) -> tuple[Tensor, Tensor]:
    leaf = pred.clone().requires_grad_()
    with Watch() as watch:
        value = loss(leaf, *others)
        (slope,) = torch.autograd.grad(value, leaf)
    assert [name for name in watch.names if name.startswith("window")] == passes
    return value.detach(), slope


@each
@pytest.mark.parametrize("shape", [(1, 2, 141, 20), (1, 1, 20, 530), (2, 1, 12, 13)], ids=str)
def test_it_says_what_the_definition_says(make: Callable[..., Any], shape: tuple[int, ...]) -> None:
    """Over the borders of tiles, with every kind of weights, as mean and as sum."""
    pred, target = pictures(*shape)
    soft = torch.rand(shape[0], 1, *shape[2:], dtype=torch.float64)
    for weight, reduction in ((None, "mean"), (soft, "mean"), (soft[:, 0] > 0.6, "sum")):
        value, slope = found(make(engine="cpp", reduction=reduction), pred, target, weight, passes=["window_once"])
        truth = found(make(engine="eager", reduction=reduction), pred, target, weight, passes=[])
        close(value, truth[0])
        close(slope, truth[1], 1e-9, 1e-12 * truth[1].abs().max().item())


@each
def test_scaled_twice_and_twice_differentiated(make: Callable[..., Any]) -> None:
    """A factor on the loss, a second backward pass through one graph, and second derivatives are the definition's."""
    pred, target = pictures(1, 1, 14, 15)
    pred[..., 3, :] += 0.01
    leaf = pred.clone().requires_grad_()
    value = 3 * make(engine="cpp")(leaf, target)
    slopes = [torch.autograd.grad(value, leaf, retain_graph=True)[0] for _ in range(2)]
    close(slopes[0], slopes[1], 0, 0)
    (first,) = torch.autograd.grad(value, leaf, create_graph=True)
    close(first.detach(), slopes[0], 1e-9)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    (expected,) = torch.autograd.grad(3 * make(engine="eager")(leaf, target), leaf, create_graph=True)
    close(second, torch.autograd.grad(expected.square().sum(), leaf)[0], 1e-8, 1e-9)


def test_where_two_passes_serve() -> None:
    """Halves, samples with means of their own, reflected borders, sigmoids and other losses over the same window."""
    pred, target = pictures(2, 1, 16, 16, dtype=torch.float32)
    both = ["window_fold", "window_unfold"]
    for loss in (lf.SSIMLoss(sample_wise=True), lf.L1SSIMLoss(padding="reflect"), lf.SSIMLoss(link="sigmoid")):
        found(loss, pred, target, passes=both)
    found(lf.L1SSIMLoss(), pred.half(), target.half(), passes=both)
    together = lf.LossSet(a=lf.SSIMLoss(padding="zeros"), b=lf.L1SSIMLoss())
    found(lambda *call: together(*call).total, pred, target, passes=both)
    found(lambda *call: lf.LossSet(a=lf.SSIMLoss(), b=lf.L1Loss())(*call).total, pred, target, passes=["window_once"])


def test_gaussian_splatting_s_loss() -> None:
    """The mixture is the sum of both losses, with the paper's weights."""
    pred, target = pictures(1, 3, 20, 24, dtype=torch.float32)
    expected = 0.8 * lf.L1Loss()(pred, target) + 0.2 * lf.SSIMLoss(padding="zeros")(pred, target)
    close(lf.L1SSIMLoss()(pred, target), expected, 1e-6)
    close(lf.presets.gaussian_splatting()(pred, target).total, expected, 1e-6)
