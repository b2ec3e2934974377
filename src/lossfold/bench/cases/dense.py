"""Losses of targets that every channel has for itself: binary cross entropy, and its sum with Dice and focal; the Lovász hinge."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import Tensor
from torch.nn import functional

from .. import definitions
from ..case import Case, Entry, LossFunction
from ..inputs import dense_sample
from .combined import add
from .common import own_entries, plain_entries
from .dice import SMP_SMOOTH
from .lovasz import FLOAT32_COUNTS, LOVASZ_TOLERANCE

PLAIN_DICE = "PyTorch's BCE and a plain Dice: it has its focal loss only"
NO_DICE = "its Dice takes integer labels only"
ALPHA = 0.25


def own_triple(lf: Any, options: dict[str, Any]) -> Any:
    """BCE + Dice + focal in one fold."""
    return lf.LossSet(
        bce=lf.BinaryCrossEntropyLoss(**options),
        dice=lf.DiceLoss(link="sigmoid", **options),
        focal=lf.FocalLoss(link="sigmoid", alpha=ALPHA, **options),
    )


def torch_bce() -> LossFunction:
    """PyTorch's binary cross entropy."""
    return lambda logits, targets: functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))


def torchvision_focal() -> LossFunction:
    """Sigmoid focal loss of torchvision."""
    loss = import_module("torchvision.ops").sigmoid_focal_loss
    return lambda logits, targets: loss(logits, targets.to(logits.dtype), alpha=ALPHA, gamma=2.0, reduction="mean")


def monai_triple() -> LossFunction:
    """PyTorch's BCE, MONAI's Dice over the batch and its sigmoid focal loss."""
    losses = import_module("monai.losses")
    dice = losses.DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)
    return add(torch_bce(), dice, losses.FocalLoss(gamma=2.0, alpha=ALPHA))


def smp_triple() -> LossFunction:
    """segmentation-models-pytorch's BCE, multi-label Dice and binary focal loss."""
    losses = import_module("segmentation_models_pytorch.losses")
    dice = losses.DiceLoss("multilabel", from_logits=True, smooth=SMP_SMOOTH)
    return add(losses.SoftBCEWithLogitsLoss(), dice, losses.FocalLoss("multilabel", alpha=ALPHA, gamma=2.0))


def toolbelt_triple() -> LossFunction:
    """pytorch-toolbelt's BCE, multi-label Dice and binary focal loss."""
    losses = import_module("pytorch_toolbelt.losses")
    dice = losses.DiceLoss("multilabel", from_logits=True, smooth=1.0)
    return add(losses.SoftBCEWithLogitsLoss(), dice, losses.BinaryFocalLoss(alpha=ALPHA, gamma=2.0))


def each_mask(loss: Callable[[Tensor, Tensor], Tensor]) -> LossFunction:
    """Hand every channel of every image over as an image of its own."""
    return lambda logits, targets: loss(logits.flatten(0, 1), targets.flatten(0, 1))


def smp_hinge() -> LossFunction:
    """segmentation-models-pytorch's Lovász hinge."""
    return each_mask(import_module("segmentation_models_pytorch.losses").LovaszLoss("binary", per_image=True))


def kornia_hinge() -> LossFunction:
    """Lovász hinge of kornia."""
    loss = import_module("kornia.losses").lovasz_hinge_loss
    return lambda logits, targets: loss(logits.flatten(0, 1)[:, None], targets.flatten(0, 1))


def toolbelt_hinge() -> LossFunction:
    """pytorch-toolbelt's Lovász hinge."""
    return each_mask(import_module("pytorch_toolbelt.losses").BinaryLovaszLoss(per_image=True))


CASES = (
    Case(
        name="bce",
        title="BCE",
        truth=definitions.binary_cross_entropy,
        sample=dense_sample,
        passes=2,
        entries={
            **own_entries(lambda lf, options: lf.BinaryCrossEntropyLoss(**options), {}),
            **plain_entries(definitions.binary_cross_entropy),
        },
        lacking=dict.fromkeys(("torchvision", "monai", "smp", "kornia", "toolbelt"), "uses PyTorch's"),
    ),
    Case(
        name="bce-dice-focal",
        title="BCE + Dice + focal",
        truth=definitions.binary_cross_entropy_dice_focal,
        sample=dense_sample,
        passes=3,
        entries={
            **own_entries(own_triple, {}),
            **plain_entries(definitions.binary_cross_entropy_dice_focal),
            "torchvision": Entry(
                lambda: add(torch_bce(), torchvision_focal(), definitions.binary_dice),
                note=PLAIN_DICE,
            ),
            "monai": Entry(monai_triple, note="PyTorch's BCE"),
            "smp": Entry(smp_triple),
            "toolbelt": Entry(toolbelt_triple),
        },
        lacking={"kornia": NO_DICE},
    ),
    Case(
        name="lovasz-hinge",
        title="Lovász hinge",
        truth=definitions.lovasz_hinge,
        sample=dense_sample,
        passes=3,
        entries={
            **own_entries(
                lambda lf, options: lf.LovaszLoss(link="hinge", **options), {}, "a histogram, one gradient for a bin's pixels"
            ),
            **plain_entries(definitions.lovasz_hinge),
            "smp": Entry(smp_hinge, note=FLOAT32_COUNTS),
            "kornia": Entry(kornia_hinge),
            "toolbelt": Entry(toolbelt_hinge, note=FLOAT32_COUNTS),
        },
        lacking={
            "torchvision": "has no Lovász loss",
            "monai": "has no Lovász loss",
        },
        tolerance=LOVASZ_TOLERANCE,
    ),
)
