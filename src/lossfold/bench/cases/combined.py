"""Sums of label losses: lossfold folds once for all terms, everybody else pays for each."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import Tensor
from torch.nn import functional

from .. import definitions
from ..case import Case, Entry, LossFunction
from ..inputs import label_sample
from .common import own_entries, plain_entries, with_long_labels
from .cross_entropy import smp_cross_entropy, toolbelt_cross_entropy
from .dice import KORNIA_DICE, KORNIA_DICE_NOTE, kornia_dice, smp_dice, toolbelt_dice
from .focal import DIVIDES_BY_CLASSES, SIGMOID_SUM, kornia_focal, monai_focal, smp_focal
from .lovasz import LOVASZ_TOLERANCE, kornia_lovasz

NO_IGNORED = {"ignored": False}


def add(*functions: LossFunction) -> LossFunction:
    """The sum of several losses on the same inputs."""

    def run(*inputs: Tensor) -> Tensor:
        total = functions[0](*inputs)
        for function in functions[1:]:
            total = total + function(*inputs)
        return total

    return run


def monai_cross_entropy_dice() -> LossFunction:
    """MONAI's own pair."""
    losses = import_module("monai.losses")
    loss = losses.DiceCELoss(softmax=True, to_onehot_y=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)
    return with_long_labels(lambda logits, labels: loss(logits, labels.unsqueeze(1)))


def torch_cross_entropy() -> LossFunction:
    """PyTorch's cross entropy, which users of kornia add to its losses."""
    return with_long_labels(lambda logits, labels: functional.cross_entropy(logits, labels, ignore_index=definitions.IGNORED))


def own_pair(lf: Any, options: dict[str, Any]) -> Any:
    """CE + Dice in one fold."""
    return lf.LossSet(ce=lf.CrossEntropyLoss(**options), dice=lf.DiceLoss(**options))


def own_triple(lf: Any, options: dict[str, Any]) -> Any:
    """CE + Dice + focal in one fold."""
    return lf.LossSet(
        ce=lf.CrossEntropyLoss(**options),
        dice=lf.DiceLoss(**options),
        focal=lf.FocalLoss(gamma=2.0, **options),
    )


def own_four(lf: Any, options: dict[str, Any]) -> Any:
    """CE + Dice + Lovász + focal in one fold."""
    return lf.LossSet(
        ce=lf.CrossEntropyLoss(**options),
        dice=lf.DiceLoss(**options),
        lovasz=lf.LovaszLoss(**options),
        focal=lf.FocalLoss(gamma=2.0, **options),
    )


CASES = (
    Case(
        name="ce-dice",
        title="CE + Dice",
        truth=definitions.cross_entropy_dice,
        sample=label_sample,
        passes=3,
        entries={
            **own_entries(own_pair, {"ignore_index": definitions.IGNORED}),
            **plain_entries(definitions.cross_entropy_dice),
            "monai": Entry(
                monai_cross_entropy_dice,
                inputs=NO_IGNORED,
                note="DiceCELoss; no ignored pixels: it has no ignore label",
            ),
            "smp": Entry(
                lambda: add(smp_cross_entropy(), smp_dice()),
                inputs=NO_IGNORED,
                note="no ignored pixels: its cross entropy divides by them too",
            ),
            "kornia": Entry(
                lambda: add(torch_cross_entropy(), kornia_dice()),
                options=KORNIA_DICE,
                note=f"PyTorch's CE; {KORNIA_DICE_NOTE}",
            ),
            "toolbelt": Entry(
                lambda: add(toolbelt_cross_entropy(), toolbelt_dice()),
                inputs=NO_IGNORED,
                note="no ignored pixels: its cross entropy divides by them too",
            ),
        },
    ),
    Case(
        name="ce-dice-focal",
        title="CE + Dice + focal",
        truth=definitions.cross_entropy_dice_focal,
        sample=label_sample,
        passes=3,
        entries={
            **own_entries(own_triple, {"ignore_index": definitions.IGNORED}),
            **plain_entries(definitions.cross_entropy_dice_focal),
            "monai": Entry(
                lambda: add(monai_cross_entropy_dice(), monai_focal()),
                inputs=NO_IGNORED,
                note=f"DiceCELoss + FocalLoss; no ignored pixels; focal {DIVIDES_BY_CLASSES}",
            ),
            "smp": Entry(
                lambda: add(smp_cross_entropy(), smp_dice(), smp_focal()),
                inputs=NO_IGNORED,
                note="no ignored pixels; its focal is a sum of sigmoid losses",
            ),
            "kornia": Entry(
                lambda: add(torch_cross_entropy(), kornia_dice(), kornia_focal()),
                inputs=NO_IGNORED,
                options=KORNIA_DICE,
                note=f"PyTorch's CE; no ignored pixels; {KORNIA_DICE_NOTE}; focal {DIVIDES_BY_CLASSES}",
            ),
        },
        lacking={"toolbelt": SIGMOID_SUM},
    ),
    Case(
        name="four",
        title="CE + Dice + Lovász + focal",
        truth=definitions.cross_entropy_dice_lovasz_focal,
        sample=label_sample,
        passes=3,
        entries={
            **own_entries(own_four, {"ignore_index": definitions.IGNORED}, "Lovász from a histogram"),
            **plain_entries(definitions.cross_entropy_dice_lovasz_focal),
            "kornia": Entry(
                lambda: add(torch_cross_entropy(), kornia_dice(), kornia_lovasz(), kornia_focal()),
                inputs=NO_IGNORED,
                options=KORNIA_DICE,
                note=f"PyTorch's CE; no ignored pixels; {KORNIA_DICE_NOTE}; Lovász per image; focal {DIVIDES_BY_CLASSES}",
            ),
        },
        lacking={"monai": "has no Lovász loss", "smp": SIGMOID_SUM, "toolbelt": SIGMOID_SUM},
        tolerance=LOVASZ_TOLERANCE,
        parts=("ce", "dice", "lovasz", "focal"),
    ),
)
