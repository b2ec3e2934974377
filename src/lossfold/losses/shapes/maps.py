"""What losses have in common that weigh probabilities by a map of the targets' side."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.arithmetic import equals
from lossfold.folds.checks import SCORE_DTYPES, check_dense
from lossfold.folds.dense.needs import DenseNeeds
from lossfold.folds.fold import Fold, Sum, describe
from lossfold.folds.label.needs import LabelNeeds
from lossfold.folds.looks import can_look
from lossfold.folds.scores import Given, with_channel
from lossfold.losses.classes.averages import included
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import LABELS, WEIGHT, ScoreLoss, times
from lossfold.options import configured, option

MAP_PROB: Sum = ("map_prob", 0.0)
MAP_SIZE: Sum = ("map_size", 0.0)


@configured
class MapLoss(ScoreLoss):
    """The mean over classes of a formula of Σ w p m, with a number m of each class and pixel that has no part of the scores.

    A class that has no map, since it is absent or covers all, is left out, or counts.
    """

    absent: str = option("skip", words=("skip", "count"))
    include_background: bool = option(True)

    dense_links: ClassVar[tuple[str, ...]] = ("softmax", "sigmoid", "identity")
    map_argument: ClassVar[str]  # of a call: a map that is there already
    of_whole_images: ClassVar[bool] = True  # so that tiles have no part of it

    @property
    def map_name(self) -> str:
        """How passes tell this map from others."""
        raise NotImplementedError

    def map_of(self, given: Given, *how: Any) -> Tensor:
        """Return what is made of the targets of a call, ``[B, C, *S]``; what else the call says of it follows."""
        raise NotImplementedError

    def present(self, fold: Fold, weight: Tensor) -> Tensor:
        """Return which classes ``[I, C]`` have a map."""
        return fold[MAP_SIZE] != 0

    def cost(self, fold: Fold, weight: Tensor) -> Tensor:
        """Return each class's loss ``[I, C]``, of its sums and of the weight of what counts."""
        raise NotImplementedError

    def mapped(self, given: Given, ready: object, *how: Any) -> Given:
        """Return a call's arguments with their map: one that is ready, or what is made of the targets."""
        if ready is None:
            with torch.no_grad():
                return given.other(maps=self.map_of(given, *how))
        scores, targets, _ = given.tensors
        space = targets.shape[1 if given.kind == LABELS else 2 :]
        found = with_channel(ready) if given.as_masks else (ready,)
        return given.other(maps=check_map(self.map_argument, found[0], scores, space))

    def needs_for(self, kind: str) -> LabelNeeds | DenseNeeds:
        """Return the fold that a kind of targets wants."""
        return super().needs_for(kind).asking(maps=self.map_name)

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return the classes' costs and weights."""
        weight = weight_of_each(fold)
        v = included(self, weight)
        counts = self.present(fold, weight) if self.absent == "skip" else weight != 0
        weights = counts.to(weight.dtype) if v is None else torch.where(counts, v, 0.0)
        return Ratio(torch.where(weights != 0, times(self.cost(fold, weight), v), 0.0), weights)

    def masks(self, fold: Fold) -> Tensor:
        """Return every mask's cost, times its class weight."""
        weight = weight_of_each(fold)
        return times(self.cost(fold, weight), included(self, weight))


def weight_of_each(fold: Fold) -> Tensor:
    """Return the weight of what counts in each class's plane, ``[I, C]``: in those of labels it is the same."""
    weight = fold[WEIGHT]
    return weight.sum(1, keepdim=True).expand_as(weight) if fold.target == LABELS else weight


def check_map(argument: str, ready: Any, scores: Tensor, space: torch.Size) -> Tensor:
    """Refuse a map of another shape, dtype or device than targets of the scores' channels would have."""
    expected = [*scores.shape[:2], *space]
    if not isinstance(ready, Tensor) or ready.dtype not in (*SCORE_DTYPES, torch.uint8, torch.bool):
        hint = "call .float()" if isinstance(ready, Tensor) else ""
        raise wrong(argument, f"a float, uint8 or bool tensor {expected}, a number for each class and pixel", describe(ready), hint)
    check_dense(argument, ready)
    if list(ready.shape) != expected:
        raise wrong(argument, f"of shape {expected}, a number for each class and pixel", describe(ready))
    if ready.device != scores.device:
        raise wrong(argument, f"on the logits' device {scores.device}", str(ready.device))
    return ready


def counted_labels(given: Given, ignore_index: int) -> Tensor:
    """Return labels ``[B, *S]`` that are ignored where a weight says so: what weighs nothing is nowhere."""
    _, targets, weight = given.tensors
    nothing = weightless(weight)
    return targets if nothing is None else targets.long().masked_fill(nothing, ignore_index)


def counted_masks(given: Given, ignore_index: int, together: bool) -> tuple[Tensor, Tensor | None]:
    """Return which elements ``[B, K, *S]`` are inside of their masks, and which do not count; None: all do."""
    _, targets, weight = given.tensors
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    inside = targets == 1 if whole else targets > 0.5 if targets.is_floating_point() else targets
    ignored, nothing = equals(targets, ignore_index) if whole else None, weightless(weight)
    if nothing is not None:
        nothing = nothing if nothing.dim() == targets.dim() else nothing.unsqueeze(1)
        ignored = nothing if ignored is None else ignored | nothing
    if ignored is None or (can_look(ignored, False) and not bool(ignored.any())):
        return inside, None
    ignored = (ignored.any(1, keepdim=True) if together else ignored).expand_as(inside)
    return inside & ~ignored, ignored


def weightless(weight: Tensor | None) -> Tensor | None:
    """Return where a weight is 0; None without one, and for one that is to have a gradient and may leave 0."""
    return None if weight is None or weight.requires_grad else weight == 0
