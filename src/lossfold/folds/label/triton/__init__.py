"""The label fold on GPUs: the operators' kernels, and what they do not have."""

from __future__ import annotations

import math

from torch import Tensor

from lossfold.engines import MOST_PLACES, Lacks
from lossfold.folds.label.spec import LabelSpec

MOST_CLASSES, MOST_WHOLE = 4096, 192  # at all, and of which a program has all of a pixel's
MOST_WIDE = 64  # labels to a score along a row, which a program has together


def lacks(spec: LabelSpec, scores: Tensor, labels: Tensor) -> Lacks:
    """Return what says of each engine whether it lacks what a call needs."""

    def of(engine: str) -> str:
        if engine != "triton":
            return ""
        if math.prod(labels.shape[1:]) > MOST_PLACES:
            return f"images of more than {MOST_PLACES} labels"
        return f"sums of more than {MOST_CLASSES} classes" if scores.shape[1] > MOST_CLASSES else ""

    return of


def walks_cells(scores: Tensor, labels: Tensor) -> bool:
    """Whether kernels bring scores to labels of another size themselves; others get them in that size."""
    resized = scores.dim() == 4 and scores.shape[2:] != labels.shape[1:]
    return resized and scores.shape[1] <= MOST_WHOLE and labels.shape[2] <= MOST_WIDE * max(1, scores.shape[3] - 1)


def lacks_once(spec: LabelSpec, scores: Tensor, labels: Tensor, engine: str) -> bool:
    """Whether an engine that makes one pass for value and gradient makes two here."""
    return engine == "triton" and (scores.shape[1] > MOST_WHOLE or walks_cells(scores, labels))
