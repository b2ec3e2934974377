"""Lovász-Softmax: three passes at least, since a pixel's gradient needs the order of all errors first."""

from __future__ import annotations

from importlib import import_module

from .. import definitions
from ..case import Case, Entry, LossFunction, Tolerance
from ..inputs import label_sample
from .common import own_entries, plain_entries, with_long_labels

# Nobody here is sharp to float32: the sorted form subtracts neighbours of a cumulative sum (an error of 6e-8 in steps of 1 / P;
# 2e-3 of the gradient at a million pixels), the histogram gives the pixels of a bin one gradient (5e-3 where few pixels share
# few bins, 1e-4 at a million).
LOVASZ_TOLERANCE = Tolerance(value=1e-4, gradient=1e-2)
OWN_NOTE = "a histogram of 4096 bins: within 1/4096 of the sorted value, one gradient for a bin's pixels"
FLOAT32_COUNTS = "counts in float32 whatever the dtype"
KORNIA_LOVASZ = {"per_image": True}
KORNIA_LOVASZ_NOTE = "per image, mean over all classes, present or not, and no ignored pixels: the only form it has"


def smp_lovasz() -> LossFunction:
    """segmentation-models-pytorch's Lovász-Softmax."""
    losses = import_module("segmentation_models_pytorch.losses")
    return with_long_labels(losses.LovaszLoss("multiclass", ignore_index=definitions.IGNORED))


def kornia_lovasz() -> LossFunction:
    """Lovász-Softmax of kornia."""
    return with_long_labels(import_module("kornia.losses").lovasz_softmax_loss)


def toolbelt_lovasz() -> LossFunction:
    """pytorch-toolbelt's Lovász-Softmax, which takes probabilities."""
    loss = import_module("pytorch_toolbelt.losses").LovaszLoss(ignore=definitions.IGNORED)
    return with_long_labels(lambda logits, labels: loss(logits.softmax(dim=1), labels))


CASES = (
    Case(
        name="lovasz",
        title="Lovász-Softmax",
        truth=definitions.lovasz,
        sample=label_sample,
        passes=3,
        entries={
            **own_entries(lambda lf, options: lf.LovaszLoss(**options), {"ignore_index": definitions.IGNORED}, OWN_NOTE),
            **plain_entries(definitions.lovasz),
            "smp": Entry(smp_lovasz, note=FLOAT32_COUNTS),
            "kornia": Entry(
                kornia_lovasz,
                inputs={"ignored": False},
                options=KORNIA_LOVASZ,
                note=KORNIA_LOVASZ_NOTE,
            ),
            "toolbelt": Entry(toolbelt_lovasz, note=FLOAT32_COUNTS),
        },
        lacking={"monai": "has no Lovász loss"},
        tolerance=LOVASZ_TOLERANCE,
    ),
)
