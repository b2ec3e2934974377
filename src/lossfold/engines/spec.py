"""What a pass over the pixels is asked for: plain, hashable descriptions that every engine reads."""

from __future__ import annotations

from dataclasses import dataclass

Sum = tuple[str, float]  # a kind of KINDS and its gamma (0 where it has none)

# The sums of a label fold, per class c (w: pixel weight, p: probability, y: label). A kind's code is its place here.
KINDS = (
    "weight",  # sum of w where y = c
    "prob",  # sum of w p_c
    "prob_sq",  # sum of w p_c^2
    "prob_at_label",  # sum of w p_c where y = c
    "nll",  # sum of -w log p_c where y = c
    "nll_all",  # sum of -w log p_c over all counted pixels
    "focal",  # sum of -w (1 - p_c)^gamma log p_c where y = c
    "focal_weight",  # sum of w (1 - p_c)^gamma where y = c
    "hard_weight",  # sum of w over the hard pixels where y = c
    "hard_nll",  # sum of -w log p_c over the hard pixels where y = c
)
PROBABILITY_FLOOR = 1e-12  # with link="identity": -log p is -log(max(p, floor)), flat below
UNIT = 2.0**24  # histograms hold weights and positions as integers of 1 / UNIT


@dataclass(frozen=True)
class Bins:
    """A histogram of the errors |[y = c] - p_c| for each class, foreground (y = c) and background apart."""

    count: int
    per_image: bool


@dataclass(frozen=True)
class Hard:
    """Which pixels are hard: those with p_y < thresh, and in any case the hardest.

    At least ``min_kept``, or the share ``ratio`` where it is given, of the counted pixels of the batch, or of each image;
    pixels as hard as the last of them are hard too.
    """

    thresh: float
    min_kept: int
    ratio: float | None
    per_image: bool


@dataclass(frozen=True)
class LabelSpec:
    """One label fold: how scores and labels are read, and what is collected."""

    softmax: bool
    ignore_index: int
    align_corners: bool
    sums: tuple[Sum, ...]
    bins: Bins | None = None
    hard: Hard | None = None
