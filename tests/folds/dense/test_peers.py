"""What people use now for dense targets, where it is right."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.contract.case import ENGINES, Data, close, evaluate

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    smp = pytest.importorskip("segmentation_models_pytorch.losses")
    torchvision = pytest.importorskip("torchvision.ops")

engines = pytest.mark.parametrize("engine", ENGINES)
SHAPE = (2, 4, 6, 7)


def given(soft: bool = True) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    scores = 2 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    targets = torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    return scores, targets if soft else (targets < 0.4).double()


def same(
    ours: Any, theirs: Callable[[Tensor], Tensor], scores: Tensor, targets: Tensor, *, tolerance: float = 1e-10, **named: Any
) -> None:
    """Values and gradients; maps under a random cotangent."""
    leaf, twin = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    result, expected = ours(leaf, targets, **named), theirs(twin)
    seed = torch.randn(expected.shape, dtype=expected.dtype)
    (gradient,), (slope,) = torch.autograd.grad(result, leaf, seed), torch.autograd.grad(expected, twin, seed)
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient, slope, rtol=tolerance, atol=tolerance)
    assert gradient.abs().max() > 1e-6


@engines
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("soft", [False, True])
def test_torch_binary_cross_entropy(engine: str, reduction: str, soft: bool) -> None:
    """`weight` as pixel weights, whose sum torch's mean does not divide by."""
    scores, targets = given(soft)
    bce = functional.binary_cross_entropy_with_logits
    same(
        lf.BinaryCrossEntropyLoss(engine=engine, reduction=reduction),
        lambda x: bce(x, targets, reduction=reduction),
        scores,
        targets,
    )
    a = torch.tensor([0.5, 3.0, 1.0, 0.0], dtype=torch.float64)
    ours = lf.BinaryCrossEntropyLoss(engine=engine, reduction=reduction, pos_weight=a)
    same(ours, lambda x: bce(x, targets, reduction=reduction, pos_weight=a[:, None, None]), scores, targets)
    weight = torch.rand(SHAPE, dtype=torch.float64)
    if reduction != "mean":
        same(
            lf.BinaryCrossEntropyLoss(engine=engine, reduction=reduction),
            lambda x: bce(x, targets, weight, reduction=reduction),
            scores,
            targets,
            weight=weight,
        )
    identity = lf.BinaryCrossEntropyLoss(engine=engine, reduction=reduction, link="identity")
    same(identity, lambda p: functional.binary_cross_entropy(p, targets, reduction=reduction), scores.sigmoid(), targets)


@engines
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("weighted", [False, True])
def test_torch_cross_entropy_of_probabilities(engine: str, reduction: str, smoothing: float, weighted: bool) -> None:
    scores, targets = given()
    targets = targets / targets.sum(1, keepdim=True)
    v = torch.tensor([0.5, 2.0, 1.0, 0.25], dtype=torch.float64) if weighted else None
    ours = lf.CrossEntropyLoss(engine=engine, reduction=reduction, label_smoothing=smoothing, class_weight=v)

    def theirs(x: Tensor) -> Tensor:
        return functional.cross_entropy(x, targets, weight=v, reduction=reduction, label_smoothing=smoothing)

    same(ours, theirs, scores, targets)


@engines
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 0.5), (-1, 3.0)])
@pytest.mark.parametrize("soft", [False, True])
def test_torchvision_focal_loss(engine: str, reduction: str, alpha: float, gamma: float, soft: bool) -> None:
    scores, targets = given(soft)
    ours = lf.FocalLoss(link="sigmoid", engine=engine, reduction=reduction, gamma=gamma, alpha=None if alpha < 0 else alpha)

    def theirs(x: Tensor) -> Tensor:
        result = torchvision.sigmoid_focal_loss(x, targets, alpha, gamma, reduction)
        assert isinstance(result, Tensor)
        return result

    same(ours, theirs, scores, targets)


@pytest.mark.parametrize("gamma", [0.5])
def test_torchvision_focal_loss_has_no_gradient_at_saturation(gamma: float) -> None:
    """NaN for 0 < γ < 1, where p is 1; ours is 0."""
    scores = torch.tensor([[[200.0]]], dtype=torch.float64, requires_grad=True)
    targets = torch.ones(1, 1, 1, dtype=torch.float64)
    (theirs,) = torch.autograd.grad(torchvision.sigmoid_focal_loss(scores, targets, -1, gamma, "sum"), scores)
    _, ours = evaluate(lf.FocalLoss(link="sigmoid", gamma=gamma), Data(scores, targets))
    assert not torch.isfinite(theirs).all() and torch.isfinite(ours).all()


@engines
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("soft", [False, True])
def test_smp_dice(engine: str, smooth: float, soft: bool) -> None:
    """ "multilabel" averages the channels over the batch; "binary" takes them as one mask. Their smoothing is half of ours."""
    scores, targets = given(soft)
    ours = lf.DiceLoss(link="sigmoid", smooth=2 * smooth, engine=engine)
    theirs = smp.DiceLoss("multilabel", smooth=smooth)
    same(ours, lambda x: theirs(x, targets), scores, targets, tolerance=1e-6)
    flat_scores, flat_targets = scores[:, :1], targets[:, :1]
    binary = smp.DiceLoss("binary", smooth=smooth)
    same(ours, lambda x: binary(x, flat_targets), flat_scores, flat_targets, tolerance=1e-6)
    micro = lf.DiceLoss(link="sigmoid", smooth=2 * smooth, engine=engine, average="micro")
    same(micro, lambda x: binary(x, targets), scores, targets, tolerance=1e-6)


@engines
def test_smp_lovasz_hinge(engine: str) -> None:
    """Per image, exactly; from the histogram within a hundredth of its bound."""
    scores, targets = given(soft=False)
    scores, targets = scores[:, :1].float(), targets[:, :1].float()  # theirs computes steps in float32
    theirs = smp.LovaszLoss("binary", per_image=True)
    same(lf.LovaszLoss(link="hinge", exact=True), lambda x: theirs(x[:, 0], targets[:, 0]), scores, targets, tolerance=1e-6)
    result, _ = evaluate(lf.LovaszLoss(link="hinge", engine=engine), Data(scores, targets))
    close(result, theirs(scores[:, 0], targets[:, 0]), 1e-3, 0)


def test_the_product_form_of_soft_masks_is_not_zero_where_it_is_met() -> None:
    """2 Σpt / (Σp + Σt) of p = t is below 1 between 0 and 1: the trap that the form with |p - t| avoids, as smp does."""
    _, targets = given()
    product = 1 - 2 * (targets * targets).sum((0, 2, 3)) / (2 * targets).sum((0, 2, 3))
    assert product.min() > 0.1
    nothing = torch.zeros((), dtype=torch.float64)
    close(lf.DiceLoss(link="identity")(targets, targets), nothing)
    close(smp.DiceLoss("multilabel", from_logits=False)(targets, targets), nothing)
