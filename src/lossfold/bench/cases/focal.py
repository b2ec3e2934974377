"""Softmax focal loss with gamma 2: two passes at least, as cross entropy."""

from __future__ import annotations

from importlib import import_module

from torch import Tensor

from .. import definitions
from ..case import Case, Entry, LossFunction
from ..inputs import label_sample
from .common import own_entries, plain_entries, with_long_labels

SIGMOID_SUM = "its focal loss is a sum of sigmoid losses"

DIVIDES_BY_CLASSES = "times C: its mean divides by the classes too"


def monai_focal() -> LossFunction:
    """MONAI's softmax focal loss."""
    losses = import_module("monai.losses")
    loss = losses.FocalLoss(gamma=2.0, to_onehot_y=True, use_softmax=True)

    def run(logits: Tensor, labels: Tensor) -> Tensor:
        result: Tensor = loss(logits, labels.unsqueeze(1)) * logits.shape[1]
        return result

    return with_long_labels(run)


def smp_focal() -> LossFunction:
    """segmentation-models-pytorch's multi-class focal loss."""
    losses = import_module("segmentation_models_pytorch.losses")
    return with_long_labels(losses.FocalLoss("multiclass", gamma=2.0, ignore_index=definitions.IGNORED))


def kornia_focal() -> LossFunction:
    """Softmax focal loss of kornia."""
    losses = import_module("kornia.losses")

    def run(logits: Tensor, labels: Tensor) -> Tensor:
        result: Tensor = losses.focal_loss(logits, labels, alpha=None, gamma=2.0, reduction="mean")
        return result * logits.shape[1]

    return with_long_labels(run)


CASES = (
    Case(
        name="focal",
        title="Focal",
        truth=definitions.focal,
        sample=label_sample,
        passes=2,
        entries={
            **own_entries(
                lambda lf, options: lf.FocalLoss(gamma=2.0, **options),
                {"ignore_index": definitions.IGNORED},
            ),
            **plain_entries(definitions.focal),
            "monai": Entry(
                monai_focal,
                inputs={"ignored": False},
                note=f"no ignored pixels; {DIVIDES_BY_CLASSES}",
            ),
            "smp": Entry(smp_focal, note=SIGMOID_SUM),
            "kornia": Entry(
                kornia_focal,
                inputs={"ignored": False},
                note=f"no ignored pixels: its mean counts them; {DIVIDES_BY_CLASSES}",
            ),
        },
        lacking={"toolbelt": SIGMOID_SUM},
    ),
)
