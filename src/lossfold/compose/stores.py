"""What a whole keeps of its parts where sums over all of them will not do: images that come in tiles, and the hardest pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossfold.compose.standing import standing
from lossfold.folds.arithmetic import total_dtype
from lossfold.folds.checks import result_dtype
from lossfold.folds.fold import Fold
from lossfold.folds.label.needs import LabelNeeds
from lossfold.folds.scores import Given
from lossfold.losses.classes.hardest import Hardness, bound_of, hardness
from lossfold.losses.classes.ohem import OhemCrossEntropyLoss
from lossfold.losses.reduce import Addends, Last


class Rows:
    """The fold of images whose rows come in several parts, each image's sums apart."""

    def __init__(self) -> None:
        self.place: dict[int, int] = {}
        self.fold: Fold | None = None

    def add(self, fold: Fold, images: Sequence[int]) -> None:
        """Add a part's fold, whose rows belong to these images."""
        for image in images:
            self.place.setdefault(image, len(self.place))
        places = torch.tensor([self.place[image] for image in images], dtype=torch.int64)
        kept = self.fold
        missing = len(self.place) - (0 if kept is None else len(kept.sums))
        parts = []
        for index, part in enumerate(fold.tensors):
            new = part.new_zeros(missing, *part.shape[1:])
            held = new if kept is None else torch.cat([kept.tensors[index], new])
            parts.append(held.index_add(0, places.to(part.device), part))
        self.fold = fold.of(*parts)

    def standing(self, fold: Fold, images: Sequence[int]) -> Fold:
        """Return the whole fold of a part's images, which takes its gradient to the part's."""
        assert self.fold is not None
        own = list(dict.fromkeys(images))
        within = torch.tensor([own.index(image) for image in images], dtype=torch.int64)
        places = torch.tensor([self.place[image] for image in own], dtype=torch.int64)
        found = []
        for part, whole in zip(fold.tensors, self.fold.tensors, strict=True):
            mine = part.new_zeros(len(own), *part.shape[1:]).index_add(0, within.to(part.device), part)
            found.append(standing(mine, whole[places.to(part.device)]))
        return fold.of(*found)


class Measured(NamedTuple):
    """What the pixels of a part tell.

    Attributes:
        bits: how hard they are; see :class:`Hardness`.
        weights: what they count in the means, pixel weight times class weight; None for 1.
        sums: of those below the threshold: Σ weight (-log p), Σ weight, their number.
        mark: by which the part is known again.
    """

    bits: Tensor
    weights: Tensor | None
    sums: Tensor
    mark: Tensor


class Hardest:
    """The pixels of all parts that may be hard: sums of those below the threshold, and of the others the hardest.

    With ``top_k_ratio`` these are all others (4 bytes each in float32, 8 with weights): a later part may be easier than all.
    """

    def __init__(self, loss: OhemCrossEntropyLoss, needs: LabelNeeds) -> None:
        assert needs.spec.hard is not None
        self.loss, self.needs, self.hard = loss, needs, needs.spec.hard
        self.dtype = torch.float32
        self.kept: list[Tensor] = []  # bits and weights
        self.sums: Tensor | None = None
        self.bound: Tensor | None = None

    @torch.no_grad()
    def measured(self, given: Given) -> Measured:
        """Look at a part's pixels."""
        scores, labels, weight = given.tensors
        self.dtype = result_dtype(scores)
        bits, nll = hardness(given, self.needs)
        v = self.loss.per_class("class_weight", scores.new_empty((), dtype=nll.dtype))
        weights = None if weight is None else weight.flatten().to(nll.dtype)
        if v is not None:
            at_label = v[labels.flatten().clamp(0, len(v) - 1).long()]
            weights = at_label if weights is None else weights * at_label
        surely = bits == torch.iinfo(bits.dtype).max
        sums = [self._sum(surely, nll, weights), self._sum(surely, None, weights), surely.sum()]
        mark = [*sums, self._sum(bits >= 0, nll, None)]
        dtype = total_dtype(scores)
        return Measured(bits, weights, *(torch.stack([one.to(dtype) for one in some]) for some in (sums, mark)))

    @staticmethod
    def _sum(here: Tensor, values: Tensor | None, weights: Tensor | None) -> Tensor:
        """Return the sum, where a mask says so, of values times weights, each 1 if there are none."""
        factors = [one[here] for one in (values, weights) if one is not None]
        dtype = total_dtype(here)
        return math.prod(factors[1:], start=factors[0]).sum(dtype=dtype) if factors else here.sum().to(dtype)

    def add(self, found: Measured) -> None:
        """Add a part's pixels."""
        self.sums = found.sums if self.sums is None else self.sums + found.sums
        others = (found.bits >= 0) & (found.bits != torch.iinfo(found.bits.dtype).max)
        kept = [one[others] for one in found[:2] if one is not None]
        self.kept = [torch.cat(both) for both in zip(self.kept, kept, strict=True)] if self.kept else kept
        if self.hard.ratio is None and len(self.kept[0]) > self.hard.min_kept:
            least = self.kept[0].topk(max(1, self.hard.min_kept)).values[-1]  # all that are as hard stay
            self.kept = [one[self.kept[0] >= least] for one in self.kept]

    def addends(self) -> Any:
        """Return what adds up over ranks: digits until the bound is known, then the sums of the hard pixels."""
        assert self.sums is not None
        (bits, *weights), (above, below, count) = self.kept, self.sums

        def of_hard(bound: Tensor) -> Addends:
            self.bound = bound
            nll = bits.view(torch.float64 if bits.dtype == torch.int64 else torch.float32)
            more, share = (self._sum(bits >= bound, one, weights[0] if weights else None) for one in (nll, None))
            return Last(above + more, None if self.loss.reduction == "sum" else below + share).addends(self.dtype)

        return bound_of(Hardness(bits, count.long()), self.hard, of_hard)

    def chosen(self, given: Given, found: Measured) -> Given:
        """Return a part's arguments, which know their hard pixels."""
        assert self.bound is not None
        return given.other(kept=(found.bits >= self.bound).view(given.tensors[1].shape))
