"""Instance masks as DETR's successors train them: every mask for itself, the sum divided by a number of masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.contract.case import ENGINES, close
from tests.folds.dense.cases import DenseCase

engines = pytest.mark.parametrize("engine", ENGINES)


def dice_by_hand(scores: Tensor, targets: Tensor, num_masks: float) -> Tensor:
    """Masks ``[N, P]``."""
    p = scores.sigmoid()
    return (1 - (2 * (p * targets).sum(1) + 1) / (p.sum(1) + targets.sum(1) + 1)).sum() / num_masks


def bce_by_hand(scores: Tensor, targets: Tensor, num_masks: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(scores, targets, reduction="none").mean(1).sum() / num_masks


def focal_by_hand(scores: Tensor, targets: Tensor, num_masks: float) -> Tensor:
    p, ce = scores.sigmoid(), functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    wrong = p * (1 - targets) + (1 - p) * targets
    return ((0.25 * targets + 0.75 * (1 - targets)) * wrong**2 * ce).mean(1).sum() / num_masks


BY_HAND: dict[str, Any] = {
    "DiceLoss": (dice_by_hand, {"link": "sigmoid"}),
    "BinaryCrossEntropyLoss": (bce_by_hand, {}),
    "FocalLoss": (focal_by_hand, {"link": "sigmoid", "alpha": 0.25}),
}


def masks(shape: tuple[int, ...] = (6, 1, 40), soft: bool = False) -> tuple[Tensor, Tensor]:
    """Seven masks, one of them empty and one full."""
    generator = torch.Generator().manual_seed(2)
    scores = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    targets = torch.rand(shape, generator=generator, dtype=torch.float64)
    targets = targets if soft else (targets < 0.4).double()
    targets[1], targets[2] = 0, 1
    return scores, targets


@engines
@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shape", [(6, 1, 40), (6, 1, 5, 8), (3, 2, 40), (6, 40)], ids=str)
def test_masks_by_hand(name: str, soft: bool, shape: tuple[int, ...], engine: str) -> None:
    """``[N, 1, P]`` with a number and with a scalar tensor; soft targets keep the product form here."""
    by_hand, options = BY_HAND[name]
    loss = lf.LOSSES[name](**options, per_image=True, engine=engine)
    scores, targets = masks(shape, soft)
    if len(shape) == 2:
        scores, targets = scores[:, None], targets[:, None]
    for number in (6, 2.5, torch.tensor(6), torch.tensor(11.0), 0.25):
        leaf, twin = scores.clone().requires_grad_(), scores.clone().requires_grad_()
        rows = shape[0] * (shape[1] if len(shape) > 2 else 1)
        truth = by_hand(twin.reshape(rows, -1), targets.reshape(rows, -1), max(float(number), 1.0))
        result = loss(leaf, targets, normalizer=number)
        close(result, truth)
        close(torch.autograd.grad(result, leaf)[0], torch.autograd.grad(truth, twin)[0])


@engines
@pytest.mark.parametrize("name", BY_HAND)
def test_parts_add_up_to_the_whole(name: str, engine: str) -> None:
    """As over ranks: each divides by the number of masks of all."""
    loss = lf.LOSSES[name](**BY_HAND[name][1], per_image=True, engine=engine)
    scores, targets = masks()
    weight = torch.rand(6, 40, dtype=torch.float64)
    whole = loss(scores, targets, weight, normalizer=6)
    parts = [loss(scores[part], targets[part], weight[part], normalizer=torch.tensor(6)) for part in (slice(0, 2), slice(2, 6))]
    close(parts[0] + parts[1], whole)
    none = loss(scores[:0], targets[:0], normalizer=0)
    assert none == 0


@engines
def test_a_set_shares_the_fold_with_a_normalizer(engine: str) -> None:
    terms = {name: lf.LOSSES[name](**options, per_image=True, engine=engine) for name, (_, options) in BY_HAND.items()}
    scores, targets = masks()
    out = lf.LossSet(terms)(scores, targets, normalizer=4)
    for name, (by_hand, _) in BY_HAND.items():
        close(out.terms[name], by_hand(scores[:, 0], targets[:, 0], 4))


@engines
def test_class_weights_ignored_pixels_and_empty_masks(engine: str) -> None:
    """Each channel's masks have its weight; an ignored pixel is removed; an ignored mask costs as an empty one does."""
    scores, targets = masks((3, 2, 40))
    loss = lf.DiceLoss(link="sigmoid", per_image=True, class_weight=[0.5, 2.0], engine=engine)
    p = scores.sigmoid()
    each = 1 - (2 * (p * targets).sum(2) + 1) / (p.sum(2) + targets.sum(2) + 1)
    close(loss(scores, targets, normalizer=3), (each * torch.tensor([0.5, 2.0])).sum() / 3)
    whole = targets.long()
    whole[:, :, 25:] = -100
    close(loss(scores, whole, normalizer=3), loss(scores[..., :25], targets[..., :25], normalizer=3))
    case = DenseCase("BinaryCrossEntropyLoss", {})
    data = case.make(way=("int", None))
    data.truth[1] = -100
    bce = lf.BinaryCrossEntropyLoss(per_image=True, engine=engine)
    assert torch.isfinite(bce(*data.call, normalizer=2))
