"""How much prediction and truth of each class there is, and how much of it is the same."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from lossfold.folds.fold import Fold, Sum
from lossfold.losses.scores import LABELS, SOFT

WEIGHT: Sum = ("weight", 0.0)
PROB: Sum = ("prob", 0.0)
PROB_SQ: Sum = ("prob_sq", 0.0)
PROB_AT_LABEL: Sum = ("prob_at_label", 0.0)
TARGET: Sum = ("target", 0.0)
TARGET_SQ: Sum = ("target_sq", 0.0)
BOTH: Sum = ("both", 0.0)
APART: Sum = ("apart", 0.0)


class Areas(NamedTuple):
    """Of each class: Σpt, Σp and Σt (squared on demand), and the weight of what was counted, ``[I, C]``."""

    both: Tensor
    predicted: Tensor
    true: Tensor
    counted: Tensor


def sums_of_areas(kind: str, squared: bool = False, product: bool = False) -> tuple[Sum, ...]:
    """Return the sums that :func:`areas` reads."""
    predicted = PROB_SQ if squared else PROB
    if kind == LABELS:
        return (WEIGHT, predicted, PROB_AT_LABEL)
    apart = kind == SOFT and not squared and not product
    return (WEIGHT, predicted, TARGET_SQ if squared else TARGET, APART if apart else BOTH)


def areas(fold: Fold, squared: bool = False, product: bool = False) -> Areas:
    """Return the areas of a fold; soft targets overlap by (Σp + Σt - Σ|p - t|) / 2, so that p = t is perfect, or by Σpt."""
    weight, predicted = fold[WEIGHT], fold[PROB_SQ if squared else PROB]
    if fold.target == LABELS:
        return Areas(fold[PROB_AT_LABEL], predicted, weight, weight.sum(1, keepdim=True).expand_as(weight))
    true = fold[TARGET_SQ if squared else TARGET]
    apart = fold.target == SOFT and not squared and not product
    both = (predicted + true - fold[APART]) / 2 if apart else fold[BOTH]
    return Areas(both, predicted, true, weight)
