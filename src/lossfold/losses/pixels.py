"""Losses that are sums over pixels: linear in the sums of a pass, so that they have maps, and one pass finds value and gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from lossfold.engines.transforms import is_recorded
from lossfold.folds.arithmetic import total_dtype
from lossfold.folds.dense.needs import DenseNeeds
from lossfold.folds.fold import Fold, Sum
from lossfold.folds.label.needs import LabelNeeds
from lossfold.folds.scores import Given
from lossfold.losses.reduce import Ratio, divide
from lossfold.losses.scores import LABELS, WEIGHT, Factor, ScoreLoss, times
from lossfold.memory import lasting, recall
from lossfold.options import configured

OF_LOGARITHMS = ("nll", "nll_all", "nll_not", "nll_not_all", "focal", "focal_not")
"""Sums whose value follows from their slopes, so that one pass finds both."""


@configured
class PixelLoss(ScoreLoss):
    """A loss that is a sum over pixels: its numerator is linear in the sums, so it also has a map."""

    by_element: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def coefficients(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return the factor of each sum in the numerator, with the dtype and on the device of ``like [..., C]``."""
        raise NotImplementedError

    def denominators(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return the factor of each sum that the mean is divided by: the weights, each class's times its own."""
        v = self.per_class("class_weight", like)
        return {WEIGHT: 1.0 if v is None else v}

    @property
    def folds(self) -> bool:
        """Whether the loss is a formula over its fold; its map is not."""
        return self.reduction != "none"

    def direct(self, given: Given) -> Tensor:
        """Return the loss's map, 0 where nothing counts."""
        scores, *_ = given.tensors
        like = scores.new_empty(scores.shape[1], dtype=total_dtype(scores))
        factors = self.coefficients(like, given.kind)
        return self.needs(given).asking(sums=tuple(factors)).integrate(stacked(factors.values(), like), given)

    def at_once(self, given: Given) -> Tensor | None:
        """Return a mean or sum over all pixels whose denominator follows from labels and weights alone."""
        if given.normalizer is not None or (given.partial is not None and given.partial.positive is not None):
            return None
        found = recall(lasting(given.known, given.scores), "once", self.ready_at_once, given)
        return None if found is None else found[0].once(given, *found[1:])

    @property
    def in_one_pass(self) -> bool:
        """Whether it is a mean or sum over all pixels whose denominator follows from labels and weights."""
        if not self.one_pass or not self.folds or self.by_image or tuple(self.denominators(torch.zeros(1), LABELS)) != (WEIGHT,):
            return False
        return all(kind in OF_LOGARITHMS for kind, _ in self.sums(LABELS) if kind != "weight")

    def ready_at_once(self, given: Given) -> tuple[LabelNeeds | DenseNeeds, Tensor, Tensor | None] | None:
        """Return what makes the pass, with the factors of numerator ``[K, C]`` and denominator ``[C]``; None if none will do."""
        scores, needs = given.scores, self.needs(given)
        if self.by_image or given.normalizer is not None or not one_pass_will_do(scores, self.loss_weight):
            return None
        if not needs.has_once(given):
            return None
        like = scores.new_empty(1 if self.without_channels else scores.shape[1], dtype=total_dtype(scores))
        factors, denominators = self.coefficients(like, given.kind), self.denominators(like, given.kind)
        if tuple(denominators) != (WEIGHT,) or not all(kind in OF_LOGARITHMS for kind, _ in factors):
            return None
        table = stacked([*(factors.get(key, 0.0) for key in needs.spec.sums), denominators[WEIGHT]], like)
        return needs, table[:-1], None if self.reduction == "sum" else table[-1]

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return the coefficients times the sums, and what they are divided by."""
        above, below = (choose(fold.sums, fold.target) for choose in (self.coefficients, self.denominators))
        return Ratio(weighted(fold, above), weighted(fold, below))

    def masks(self, fold: Fold) -> Tensor:
        """Return every mask's mean over its pixels, times its class weight."""
        ratio = self.formula(fold, None)
        return times(divide(*ratio), self.per_class("class_weight", fold.sums))


def one_pass_will_do(scores: Tensor, weight: float, few: int = 1 << 16) -> bool:
    """Whether the gradient is wanted as well, and may be multiplied later: in float16 it has to be scaled before it is rounded.

    A weight multiplies it. On GPUs, where memory is what passes cost, that takes as long as a second one. Of few scores on a CPU
    a gradient that nobody wants costs less than a fold and its formula.
    """
    if torch.compiler.is_compiling():
        return False
    if not is_recorded(scores):
        return scores.device.type == "cpu" and scores.numel() < few
    return scores.dtype != torch.float16 and (weight == 1 or scores.device.type == "cpu")


def weighted(fold: Fold, factors: Mapping[Sum, Factor]) -> Tensor:
    """Return the sum of the fold's sums times their factors, ``[I, C]``."""
    parts = [times(fold[key], factor) for key, factor in factors.items()]
    return sum(parts[1:], parts[0])


def stacked(factors: Iterable[Factor], like: Tensor) -> Tensor:
    """Return factors as a table ``[K, C]``, made on the device."""
    return torch.stack([f if isinstance(f, Tensor) else torch.full_like(like, f) for f in factors])
