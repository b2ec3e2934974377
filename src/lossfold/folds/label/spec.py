"""What a label fold can be asked for: plain, hashable descriptions that every engine reads."""

from __future__ import annotations

from dataclasses import dataclass

from lossfold.folds.scores import ScoreSpec

# The sums, per class c (w: pixel weight, p: probability, y: label, m: map). A kind's code is its place here.
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
    "map_prob",  # sum of w p_c m_c
    "map_size",  # sum of w |m_c|
)
CONSTANT = ("weight", "hard_weight", "map_size")  # kinds that have no part of the scores


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
class LabelSpec(ScoreSpec):
    """One label fold; the link is "softmax" for logits or "identity" for probabilities."""

    hard: Hard | None = None

    @property
    def softmax(self) -> bool:
        """Whether scores are logits."""
        return self.link == "softmax"
