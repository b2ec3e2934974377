"""What losses of whole masks have in common: which classes count, and how a call is read."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.fold import Fold, Sum
from lossfold.folds.shape.needs import ShapeGiven, ShapeNeeds
from lossfold.folds.shape.spec import ShapeSpec
from lossfold.losses.classes.averages import included
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import LABELS, ScoreLoss
from lossfold.options import configured, option
from lossfold.shapes.distances import spacing_of

WEIGHT: Sum = ("weight", 0.0)
TARGET: Sum = ("target", 0.0)
MOST = 3  # dimensions of space


@configured
class ShapeLoss(ScoreLoss):
    """A loss over the shape fold: the options that all of them have."""

    absent: str = option("skip", words=("skip", "count", "zero"))
    include_background: bool = option(True)

    takes_normalizer: ClassVar[bool] = False
    dense_links: ClassVar[tuple[str, ...]] = ("softmax", "sigmoid", "identity")

    def check(self, logits: Any, labels: Any, weight: Any = None, spacings: Any = None) -> Any:  # type: ignore[override]
        """Refuse what can't be folded, or does not fit the options."""
        read = super().check(logits, labels, weight)
        axes = read.tensors[0].dim() - 2
        if not 1 <= axes <= MOST:
            raise wrong("logits", "[B, C, *S] with S of one to three sizes", f"a tensor {list(logits.shape)}")
        return ShapeGiven(read, spacing_of(spacings, len(read.tensors[0]), axes))

    def asked(self) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        raise NotImplementedError

    def needs_for(self, kind: str) -> Any:
        """Return the fold that a kind of targets wants."""
        together = self.together and kind != LABELS
        spec = ShapeSpec(self.link, self.ignored[0], self.align_corners, self.asked(), together=together)
        return ShapeNeeds(spec, self.engine, apart=self.by_image, validate=self.validate)

    def weights_of(self, fold: Fold) -> tuple[Tensor, Tensor]:
        """Return which classes cost something, ``[I, C]``, and their weights in the mean."""
        counted, true = fold[WEIGHT], fold[TARGET]
        v = included(self, true)
        present, anything = true.detach() != 0, counted.detach() != 0
        costs, counts = present if self.absent != "count" else anything, present if self.absent == "skip" else anything
        weights = counts.to(true.dtype) if v is None else torch.where(counts, v, 0.0)
        return costs & (weights != 0), weights

    def macro(self, cost: Tensor, fold: Fold) -> Ratio:
        """Return the classes' costs, ``[I, C]``, times their weights, and the weights."""
        costs, weights = self.weights_of(fold)
        return Ratio(torch.where(costs, cost * weights, 0.0), weights)
