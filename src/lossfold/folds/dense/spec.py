"""What a dense fold can be asked for; see :mod:`lossfold.folds.label.spec`."""

from __future__ import annotations

from dataclasses import dataclass

from lossfold.folds.scores import ScoreSpec

# The sums, per channel (w: weight, t: target, m: map, p: probability, q: 1 - p, u: p (1-t) + q t,
# ce: -t log p - (1-t) log q). A kind's code is its place here.
KINDS = (
    "weight",  # sum of w
    "target",  # sum of w t
    "target_sq",  # sum of w t^2
    "map_size",  # sum of w |m|
    "prob",  # sum of w p
    "prob_sq",  # sum of w p^2
    "both",  # sum of w p t
    "apart",  # sum of w |p - t|
    "map_prob",  # sum of w p m
    "nll",  # sum of -w t log p
    "nll_all",  # sum of -w log p
    "nll_not",  # sum of -w (1-t) log q
    "nll_not_all",  # sum of -w log q
    "focal",  # sum of w t u^gamma ce
    "focal_not",  # sum of w (1-t) u^gamma ce
    "focal_weight",  # sum of w u^gamma
)
CONSTANT = ("weight", "target", "target_sq", "map_size")  # kinds that have no part of the scores
LINKS = ("softmax", "sigmoid", "identity")  # how scores become p; a link's code is its place here


@dataclass(frozen=True)
class DenseSpec(ScoreSpec):
    """One dense fold."""

    together: bool = True  # a pixel's channels count together (always with softmax): one weight, one value of the map

    @property
    def reading(self) -> tuple[object, ...]:
        """How scores and targets are read."""
        return self.link, self.ignore_index, self.align_corners, self.together
