"""Cross entropy over dense logits: two passes at least, one to read the logits, one to write the gradient."""

from __future__ import annotations

from importlib import import_module

from .. import definitions
from ..case import Case, Entry, LossFunction
from ..inputs import label_sample
from .common import own_entries, plain_entries, with_long_labels


def smp_cross_entropy() -> LossFunction:
    """segmentation-models-pytorch's replacement of torch.nn.CrossEntropyLoss."""
    losses = import_module("segmentation_models_pytorch.losses")
    return with_long_labels(losses.SoftCrossEntropyLoss(smooth_factor=0.0))


def toolbelt_cross_entropy() -> LossFunction:
    """pytorch-toolbelt's replacement of torch.nn.CrossEntropyLoss."""
    losses = import_module("pytorch_toolbelt.losses")
    return with_long_labels(losses.SoftCrossEntropyLoss(smooth_factor=0.0))


CASES = (
    Case(
        name="ce",
        title="CE",
        truth=definitions.cross_entropy,
        sample=label_sample,
        passes=2,
        entries={
            **own_entries(
                lambda lf, options: lf.CrossEntropyLoss(**options),
                {"ignore_index": definitions.IGNORED},
            ),
            **plain_entries(definitions.cross_entropy),
            "smp": Entry(
                smp_cross_entropy,
                inputs={"ignored": False},
                note="no ignored pixels: its mean divides by them too",
            ),
            "toolbelt": Entry(
                toolbelt_cross_entropy,
                inputs={"ignored": False},
                note="no ignored pixels: its mean divides by them too",
            ),
        },
        lacking={
            "monai": "has no cross entropy of its own",
            "kornia": "has no cross entropy of its own",
        },
    ),
)
