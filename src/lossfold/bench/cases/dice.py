"""Macro Dice: three passes at least, since the gradient needs the sums over all pixels first."""

from __future__ import annotations

from importlib import import_module

from torch import Tensor

from .. import definitions
from ..case import Case, Entry, LossFunction
from ..inputs import label_sample
from .common import own_entries, plain_entries, with_long_labels

SMP_SMOOTH = 0.5
"""Its Dice adds the smoothing to sum(p t), not to twice the sum: half of it gives the same formula."""

KORNIA_DICE = {"smooth": 0.0, "per_image": True}
KORNIA_DICE_NOTE = "Dice per image and without smoothing, the only form it has"


def monai_dice() -> LossFunction:
    """MONAI's softmax Dice over the batch."""
    losses = import_module("monai.losses")
    loss = losses.DiceLoss(
        softmax=True,
        to_onehot_y=True,
        batch=True,
        smooth_nr=1.0,
        smooth_dr=1.0,
        ignore_index=definitions.IGNORED,
    )
    return with_long_labels(lambda logits, labels: loss(logits, labels.unsqueeze(1)))


def smp_dice() -> LossFunction:
    """segmentation-models-pytorch's multi-class Dice."""
    losses = import_module("segmentation_models_pytorch.losses")
    return with_long_labels(losses.DiceLoss("multiclass", from_logits=True, smooth=SMP_SMOOTH, ignore_index=definitions.IGNORED))


def kornia_dice() -> LossFunction:
    """Macro Dice of kornia."""
    losses = import_module("kornia.losses")

    def run(logits: Tensor, labels: Tensor) -> Tensor:
        result: Tensor = losses.dice_loss(logits, labels, average="macro", ignore_index=definitions.IGNORED)
        return result

    return with_long_labels(run)


def toolbelt_dice() -> LossFunction:
    """pytorch-toolbelt's multi-class Dice."""
    losses = import_module("pytorch_toolbelt.losses")
    return with_long_labels(losses.DiceLoss("multiclass", from_logits=True, smooth=1.0, ignore_index=definitions.IGNORED))


CASES = (
    Case(
        name="dice",
        title="Dice",
        truth=definitions.dice,
        sample=label_sample,
        passes=3,
        entries={
            **own_entries(lambda lf, options: lf.DiceLoss(**options), {"ignore_index": definitions.IGNORED}),
            **plain_entries(definitions.dice),
            "monai": Entry(monai_dice),
            "smp": Entry(smp_dice, note="smooth=0.5: it adds it to sum(p t), not to 2 sum(p t)"),
            "kornia": Entry(kornia_dice, options=KORNIA_DICE, note=KORNIA_DICE_NOTE),
            "toolbelt": Entry(toolbelt_dice),
        },
    ),
)
