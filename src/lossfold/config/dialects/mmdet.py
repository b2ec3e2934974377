"""MMDetection's dicts that MMSegmentation's configs name, and the dialect of both: ``mmdet.DiceLoss`` beside ``DiceLoss``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from lossfold.config.dialects.converted import Converted, Converter, Dialect, refuse
from lossfold.config.dialects.mmseg import CALLED, LOSSES, REFUSED, Weights, cross_entropy, dice, focal

T = TypeVar("T")
A_COST = "it is a cost that predictions are matched by, no loss"


def of_classes(
    use_sigmoid: bool = False,
    use_mask: bool = False,
    reduction: str = "mean",
    class_weight: Weights = None,
    ignore_index: int | None = None,
    loss_weight: float = 1.0,
    avg_non_ignore: bool = False,
) -> Converted:
    """MMDetection's: class weights are not in its denominator."""
    shared = (use_sigmoid, use_mask, reduction, class_weight, loss_weight, "loss_ce", avg_non_ignore, ignore_index)
    return cross_entropy(*shared, detection=True)


def of_masks(
    use_sigmoid: bool = True,
    activate: bool = True,
    reduction: str = "mean",
    naive_dice: bool = False,
    loss_weight: float = 1.0,
    eps: float = 1e-3,
) -> Converted:
    """MMDetection's, of masks."""
    if not use_sigmoid and activate:
        raise refuse("use_sigmoid", "True, or activate=False", use_sigmoid)
    found = dice(use_sigmoid, activate, reduction, naive_dice, loss_weight, None, eps)
    options = {name: value for name, value in found.options.items() if name not in ("average", "loss_name")}
    return Converted("DiceLoss", options | {"absent": "count"}, (CALLED,), make=found.make)


def of_channels(
    use_sigmoid: bool = True,
    gamma: float = 2.0,
    alpha: float = 0.25,
    reduction: str = "mean",
    loss_weight: float = 1.0,
    activated: bool = False,
) -> Converted:
    """MMDetection's: label C is the background."""
    if activated:
        raise refuse("activated", "False", activated, "link='identity' reads probabilities")
    return focal(use_sigmoid, gamma, alpha, reduction, None, loss_weight, ignore=-1, changes=(CALLED,))


COSTS = dict.fromkeys(("CrossEntropyLossCost", "DiceCost", "FocalLossCost", "ClassificationCost", "BBoxL1Cost", "IoUCost"), A_COST)
LOSSES_THERE: dict[str, Converter] = {"CrossEntropyLoss": of_classes, "DiceLoss": of_masks, "FocalLoss": of_channels}


def scoped(table: Mapping[str, T]) -> dict[str, T]:
    """Return a table whose names have their library's before them."""
    return {f"mmdet.{name}": value for name, value in table.items()}


MMDET = Dialect("mmdet", LOSSES_THERE, refused=COSTS, scopes=("mmdet",), heads=True)
MMSEG = Dialect(
    "mmseg", {**LOSSES, **scoped(LOSSES_THERE)}, refused={**REFUSED, **COSTS, **scoped(COSTS)}, scopes=("mmseg",), heads=True
)
