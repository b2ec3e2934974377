"""What a whole keeps of its parts where sums over all of them will not do: images that come in tiles, and the hardest pixels."""

from __future__ import annotations

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
        places = torch.tensor([self.place[image] for image in images])
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
        within = torch.tensor([own.index(image) for image in images])
        places = torch.tensor([self.place[image] for image in own])
        found = []
        for part, whole in zip(fold.tensors, self.fold.tensors, strict=True):
            mine = part.new_zeros(len(own), *part.shape[1:]).index_add(0, within.to(part.device), part)
            found.append(standing(mine, whole[places.to(part.device)]))
        return fold.of(*found)


class Measured(NamedTuple):
    """What the pixels of a part tell.

    Attributes:
        bits: how hard they are; see :class:`Hardness`.
        weights: what they count in the means, pixel weight times class weight.
        sums: of those below the threshold: Σ weight (-log p), Σ weight, their number.
        mark: by which the part is known again.
    """

    bits: Tensor
    weights: Tensor
    sums: Tensor
    mark: Tensor


class Hardest:
    """The pixels of all parts that may be hard: sums of those below the threshold, and of the others the hardest.

    With ``top_k_ratio`` these are all others, 12 bytes each in float32, because a later part may be easier than all.
    """

    def __init__(self, loss: OhemCrossEntropyLoss, needs: LabelNeeds) -> None:
        assert needs.spec.hard is not None
        self.loss, self.needs, self.hard = loss, needs, needs.spec.hard
        self.dtype = torch.float32
        self.kept: list[Tensor] = []  # bits and weights
        self.sums: Tensor | None = None
        self.bound: Tensor | None = None

    def measured(self, given: Given) -> Measured:
        """Look at a part's pixels."""
        bits = hardness(given, self.needs).bits
        scores, labels, weight = given.tensors
        dtype = total_dtype(scores)
        self.dtype = result_dtype(scores)
        weights = torch.ones_like(bits, dtype=dtype) if weight is None else weight.detach().flatten().to(dtype)
        v = self.loss.per_class("class_weight", weights)
        if v is not None:
            weights = weights * v[labels.flatten().clamp(0, len(v) - 1).long()]
        surely = bits == torch.iinfo(bits.dtype).max
        one = scores.new_ones((1, scores.shape[1]), dtype=dtype)
        plain = given._replace(scores=given.scores.detach(), weight=None)
        with torch.no_grad():
            nll = self.needs.asking(sums=(("nll", 0.0),), hard=None).integrate(one, plain).flatten().to(dtype)
        above, below = (torch.where(surely, one, 0.0).sum() for one in (nll * weights, weights))
        sums = torch.stack([above, below, surely.sum().to(dtype)])
        of_all = torch.where(bits >= 0, nll, 0.0).sum()
        return Measured(bits, weights, sums, torch.stack([*sums, of_all]).repeat_interleave(2))  # a mark's magnitudes are its sums

    def add(self, found: Measured) -> None:
        """Add a part's pixels."""
        self.sums = found.sums if self.sums is None else self.sums + found.sums
        others = (found.bits >= 0) & (found.bits != torch.iinfo(found.bits.dtype).max)
        kept = [one[others] for one in found[:2]]
        self.kept = [torch.cat(both) for both in zip(self.kept, kept, strict=True)] if self.kept else kept
        if self.hard.ratio is None and len(self.kept[0]) > self.hard.min_kept:
            least = self.kept[0].topk(max(1, self.hard.min_kept)).values[-1]  # all that are as hard stay
            self.kept = [one[self.kept[0] >= least] for one in self.kept]

    def addends(self) -> Any:
        """Return what adds up over ranks: digits until the bound is known, then the sums of the hard pixels."""
        assert self.sums is not None
        (bits, weights), (above, below, count) = self.kept, self.sums

        def of_hard(bound: Tensor) -> Addends:
            self.bound = bound
            nll = bits.view(torch.float64 if bits.dtype == torch.int64 else torch.float32).to(weights.dtype)
            more, share = (torch.where(bits >= bound, one, 0.0).sum() for one in (nll * weights, weights))
            return Last(above + more, None if self.loss.reduction == "sum" else below + share).addends(self.dtype)

        return bound_of(Hardness(bits, count.long()), self.hard, of_hard)

    def chosen(self, given: Given, found: Measured) -> Given:
        """Return a part's arguments, which know their hard pixels."""
        assert self.bound is not None
        return given._replace(kept=(found.bits >= self.bound).view(given.tensors[1].shape))
