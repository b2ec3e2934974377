"""What the folds of scores have in common, whether these are held against labels or against targets of their own shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from lossfold import engines
from lossfold.errors import wrong
from lossfold.folds.fold import MOST_SUMS, Needs, Sum, more_of, texts_of
from lossfold.folds.histogram import Bins
from lossfold.folds.partial import Partial


class Given(NamedTuple):
    """A call's arguments, checked, and as they came: one pass serves calls that were given the same tensors."""

    scores: Tensor
    targets: Tensor
    weight: Tensor | None
    kind: str  # what the scores are held against
    normalizer: float | Tensor | None
    as_masks: bool = False  # [N, *S] are N masks, and have no channels yet
    kept: Tensor | None = None  # [B, *S], the hard pixels, where they have been chosen among those of other parts, too
    known: dict[Any, Any] | None = None  # what a loss remembers of calls like this one
    partial: Partial | None = None  # how the tensors are read before, where labels say less than a class
    maps: Tensor | None = None  # [B, C, *S], what is made of the targets' side for each class and pixel: distances, say

    def same(self, other: Given) -> bool:
        """Whether both hold the same tensors, read alike; a pass has one map, and those that read none share it too."""
        alike = self.scores is other.scores and self.targets is other.targets and self.weight is other.weight
        alike = alike and self.kind == other.kind and self.as_masks == other.as_masks and self.kept is other.kept
        alike = alike and (self.partial.same(other.partial) if self.partial else other.partial is None)
        return alike and (self.maps is other.maps or self.maps is None or other.maps is None)

    def merge(self, other: Given) -> Given:
        """Return the arguments of a pass that two calls share: they are the same, with the map of the one that has it."""
        return self if other.maps is None or self.maps is not None else self.other(maps=other.maps)

    def other(self, **parts: Any) -> Given:
        """Return the arguments with other tensors among them."""
        return self._replace(known=None, partial=self.partial and self.partial.again(), **parts)

    def having(self, change: Callable[[Tensor], Tensor]) -> Given:
        """Return the arguments with other scores, made of these."""
        return self.other(scores=change(self.scores))

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scores ``[B, C, *S]``, targets ``[B, *S]`` or ``[B, C, *S]`` and the weight ``[B, *S]`` or ``[B, C, *S]``."""
        scores, targets, weight = with_channel(*self[:3]) if self.as_masks else self[:3]
        if self.kind != "labels" and targets.dim() == scores.dim() - 1:
            targets = targets.unsqueeze(1)
        pixels = targets.dim() - (self.kind != "labels")  # dimensions of a weight of pixels
        if weight is not None and weight.dim() == pixels + 1 and weight.shape[1] == 1:
            weight = weight.squeeze(1)
        if self.partial is not None:
            return self.partial.read(scores, targets, weight, self.kind == "labels")
        return scores, targets, weight


def with_channel(*tensors: Any) -> Any:
    """Return logits, masks and weights ``[N, P]`` or ``[N, H, W]`` with a channel; those that have one, as they are."""
    points = any(isinstance(x, Tensor) and x.dim() == 2 for x in tensors)  # then [N, 1, P] has its channel

    def one(x: Any) -> Any:
        if not isinstance(x, Tensor) or x.dim() not in (2, 3) or (points and x.dim() == 3):
            return x
        return x.unsqueeze(1)

    return tuple(one(x) for x in tensors)


@dataclass(frozen=True)
class ScoreSpec:
    """How scores and targets are read, and what is collected."""

    link: str
    ignore_index: int
    align_corners: bool
    sums: tuple[Sum, ...]
    bins: Bins | None = None
    maps: str = field(default="", kw_only=True)  # what the map is, of those sums that read one

    @property
    def reading(self) -> tuple[object, ...]:
        """How scores and targets are read."""
        return self.link, self.ignore_index, self.align_corners


AnyScoreSpec = TypeVar("AnyScoreSpec", bound=ScoreSpec)


@dataclass(frozen=True)
class ScoreNeeds(Needs[AnyScoreSpec]):
    """What a loss of scores wants collected."""

    def each_image(self) -> Any:
        """Return the same fold, of each image apart."""
        return super().each_image().asking(bins=self.spec.bins and replace(self.spec.bins, per_image=True))

    def adding(self) -> Any:
        """Return the same fold as one of a part: histograms add up, errors that are to be sorted do not."""
        bins = self.spec.bins
        if bins is None or (bins.sort and bins.per_image):  # each image is sorted by itself, and is in one part
            return self
        if bins.sort:
            raise wrong("exact", "left out where folds of parts or ranks are added", "True", "errors are sorted all together")
        return self.asking(bins=replace(bins, sort=False))

    def sorts(self, scores: Tensor, space: torch.Size) -> bool:
        """Whether errors of scores, at targets of this space, are to be sorted, in plain PyTorch and at the targets' resolution.

        By size alone they are not where another engine is forced, or would spare the scores of that resolution.
        """
        bins = self.spec.bins
        if bins is None or (
            bins.sort is None and (scores.shape[2:] != space or engines.forced(self.engine) not in (None, "eager"))
        ):
            return False
        return bins.sorts(len(scores), math.prod(space))

    def maps_of(self, given: Given) -> Tensor | None:
        """Return the map of a call, of which each sum that reads one has to have it."""
        assert given.maps is not None or not any(kind.startswith("map_") for kind, _ in self.spec.sums), "sums of a map without one"
        return given.maps

    def reads_alike(self, other: AnyScoreSpec) -> bool:
        """Whether one pass can read scores and targets for both, and collect their sums and histograms."""
        mine, yours = self.spec.bins, other.bins
        return (
            self.spec.reading == other.reading
            and (mine is None or yours is None or replace(mine, per_image=False) == replace(yours, per_image=False))
            and len(self.spec.sums) + len(other.sums) <= MOST_SUMS
            and (not self.spec.maps or not other.maps or self.spec.maps == other.maps)
        )

    def joined(self, other: AnyScoreSpec) -> AnyScoreSpec:
        """Return the spec with the sums and the histogram of both."""
        mine, yours = self.spec.bins, other.bins
        bins = mine or yours
        if mine and yours:
            bins = replace(mine, per_image=mine.per_image or yours.per_image)
        return replace(self.spec, sums=more_of(self.spec.sums, other.sums), bins=bins, maps=self.spec.maps or other.maps)

    def describe(self) -> tuple[str, str, list[str]]:
        """Return the fold's name, how it reads what it is given, and what it collects."""
        texts = texts_of(self.spec.sums) + ([f"bins({self.spec.bins.count})"] if self.spec.bins else [])
        map_ = f", map={self.spec.maps}" if self.spec.maps else ""
        return "scores", f"link={self.spec.link}, ignore_index={self.spec.ignore_index}{map_}", texts
