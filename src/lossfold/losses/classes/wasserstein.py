"""Generalised Wasserstein Dice: mistaking a class for one that is near costs less."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.folds.arithmetic import total_dtype
from lossfold.folds.dense.needs import DenseNeeds
from lossfold.folds.dense.spec import DenseSpec
from lossfold.folds.scores import Given
from lossfold.losses.classes.areas import BOTH
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import SOFT
from lossfold.losses.summed import SummedLoss
from lossfold.options import KIND, Matrix, configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class GeneralizedWassersteinDiceLoss(SummedLoss):
    r"""Dice of how far the predicted distribution of each pixel is from its label.

    With distances M between classes (divided by the largest), pixel weight w, and δ = Σ_c M[y, c] p_c at every counted pixel::

        loss = 1 - (2 Σ w α_y (1 - δ) + s) / (2 Σ w α_y (1 - δ) + Σ w δ + s)

    where α is 0 for class 0, the background, and v_c for the others; with ``weighting="volume"`` α_c = v_c / (Σ w [y = c] + 1) of
    every class, and the last sum is Σ w α_y δ.

    Args:
        distances: C x C numbers >= 0: ``distances[y][c]`` is what predicting class c costs where y is true; None for 1 between
            any two.
        weighting: ``"foreground"`` (Fidon et al.) or ``"volume"`` (Tilborghs et al.).
        smooth: s >= 0.
        class_weight: C numbers >= 0, v.
        link, ignore_index, reduction, per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for
            :class:`DiceLoss`; ``reduction="none"`` gives a scalar, ``[B]`` with ``per_image``.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact. 0 where nothing counts.

    Example:
        >>> loss = GeneralizedWassersteinDiceLoss(distances=[[0, 1, 1], [1, 0, 0.5], [1, 0.5, 0]])
        >>> loss(torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Fidon et al., Generalised Wasserstein Dice Score for Imbalanced Multi-class Segmentation, BrainLes 2017; ``"volume"``:
        Tilborghs et al., Comparative study of deep learning methods for COVID-19 lesion segmentation, 2020.
    """

    distances: Sequence[Sequence[float]] | Tensor | None = dataclasses.field(default=None, metadata={KIND: Matrix()})
    weighting: str = option("foreground", words=("foreground", "volume"))
    smooth: float = option(1e-5, at_least=0)

    takes_normalizer: ClassVar[bool] = False
    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"distances": "random", "class_weight": "random"},
        {"distances": "random", "weighting": "volume", "per_image": True},
    )

    def settle(self) -> None:
        """Refuse wrong options, and a matrix that is none of distances."""
        super().settle()
        rows: Any = self.distances
        if rows is not None:
            self.require("distances", max(map(max, rows)) > 0, "above 0 somewhere", "the loss would always be 0")
            own = all(row[c] == 0 for c, row in enumerate(rows))
            self.require("distances", own, "0 on the diagonal", "what is right costs nothing")

    @property
    def joint(self) -> bool:
        """The formula takes the classes together."""
        return True

    @property
    def counts_absent(self) -> bool:
        """Errors cost something whatever classes there are."""
        return True

    def sums_of(self, given: Given) -> tuple[Tensor, ...]:
        """Return Σ w δ and Σ w within the pixels of each class."""
        labels, w = self.counted_pixels(given)
        scores = given.tensors[0]
        matrix = self.numbers_for("distances", scores)
        if matrix is None:
            matrix = 1 - torch.eye(scores.shape[1], dtype=total_dtype(scores), device=scores.device)
        rows = functional.embedding(labels, (matrix / matrix.max()).to(w.dtype)).movedim(-1, 1)  # [B, C, *S] of M[y, c]
        spec = DenseSpec(self.link, self.ignored[0], self.align_corners, (BOTH,), None, True)
        needs = DenseNeeds(spec, self.engine, apart=self.by_image, validate=self.validate)
        held = Given(scores, rows, w, SOFT, None)
        delta = needs.integrate(matrix.new_ones((1, scores.shape[1])), held)
        classes = scores.shape[1]
        return self.by_class(delta, labels, classes), self.by_class(w, labels, classes)

    def ratio_of(self, *sums: Tensor) -> Ratio:
        """Return the loss of all classes together, and whether anything counts."""
        wrong, size = sums
        v = self.numbers_for("class_weight", wrong)
        if self.weighting == "volume":
            alpha = 1 / (size + 1) if v is None else v / (size + 1)
            errors = (alpha * wrong).sum(1, keepdim=True)
        else:
            alpha = (torch.arange(wrong.shape[1], device=wrong.device) > 0).to(wrong)
            alpha, errors = alpha if v is None else alpha * v, wrong.sum(1, keepdim=True)
        right = 2 * (alpha * (size - wrong)).sum(1, keepdim=True)
        something = (size != 0).any(1, keepdim=True)
        below = right + errors + self.smooth
        cost = errors / torch.where(below == 0, 1.0, below)
        return Ratio(torch.where(something, cost, 0.0), something.to(cost))
