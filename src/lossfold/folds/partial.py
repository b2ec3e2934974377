"""Labels that say less than a class: several that do not count, and classes that an image was not searched for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.arithmetic import computed_in, equals
from lossfold.folds.fold import describe

Tensors = tuple[Tensor, Tensor, Tensor | None]
INDEPENDENT = ("sigmoid", "hinge")  # links whose channels exclude nothing


class Partial:
    """How a call's tensors are read before the pass, which knows one ignored label and nothing of annotations.

    Args:
        ignored: the labels that do not count; all become the first.
        annotated: ``[B, C]`` bool, which classes an image was searched for; None for all.
        link: how scores are read.
        positive: ``[B, C, *S]``, what each element's positive part is multiplied with; None for 1.
    """

    def __init__(self, ignored: tuple[int, ...], annotated: Tensor | None, link: str, positive: Tensor | None = None) -> None:
        self.ignored, self.annotated, self.link, self.positive = ignored, annotated, link, positive
        self.made: Tensors | None = None
        self.counted: Tensor | None = None  # the weights of elements that a mean is divided by, where a pass has others

    def same(self, other: Partial | None) -> bool:
        """Whether both read alike."""
        if other is None:
            return False
        alike = self.ignored == other.ignored and self.link == other.link
        return alike and self.annotated is other.annotated and self.positive is other.positive

    def again(self) -> Partial:
        """Return the same for other tensors."""
        return Partial(self.ignored, self.annotated, self.link, self.positive)

    def read(self, scores: Tensor, targets: Tensor, weight: Tensor | None, labels: bool) -> Tensors:
        """Return scores, targets and weight as a pass takes them; once for all that ask."""
        if self.made is None:
            targets = self.with_one_ignored(targets)
            self.made = (scores, targets, weight)
            if self.annotated is not None:
                alone = self.link in INDEPENDENT or (self.link == "identity" and not labels)
                self.made = self.channels(scores, targets, weight) if alone else self.merged(scores, targets, weight, labels)
            if self.positive is not None:
                self.made = self.weighted(self.positive, *self.made)
        return self.made

    def with_one_ignored(self, targets: Tensor) -> Tensor:
        """Return integer targets in which the first ignored label stands for all."""
        if targets.is_floating_point() or targets.dtype == torch.bool:
            return targets
        first, *others = self.ignored
        for other in others:
            if targets.dtype != torch.uint8 or 0 <= other <= 255:
                targets = torch.where(targets == other, first, targets)
        return targets

    def channels(self, scores: Tensor, targets: Tensor, weight: Tensor | None) -> Tensors:
        """Return a weight of elements, 0 for what was not searched for."""
        assert self.annotated is not None
        known = self.annotated.view(*self.annotated.shape, *[1] * (targets.dim() - 2))
        if weight is None:
            return scores, targets, known.expand(targets.shape).contiguous()
        weight = weight if weight.dim() == targets.dim() else weight.unsqueeze(1)
        return scores, targets, torch.where(known, weight, torch.zeros_like(weight))

    def weighted(self, positive: Tensor, scores: Tensor, targets: Tensor, weight: Tensor | None) -> Tensors:
        """Return a t (-log p) + (1-t) (-log q) as cross entropy with the weight a t + 1 - t and the target a t over it."""
        dtype = computed_in(scores)
        whole = not targets.is_floating_point() and targets.dtype != torch.bool
        counts = ~equals(targets, self.ignored[0]) if whole else torch.ones((), dtype=torch.bool, device=targets.device)
        w = torch.ones((), dtype=dtype, device=scores.device)
        if weight is not None:
            w = (weight if weight.dim() == targets.dim() else weight.unsqueeze(1)).to(dtype)
        self.counted = torch.where(counts, w, 0.0).expand(targets.shape)
        seen = counts if weight is None or weight.requires_grad else counts & (w != 0)  # elsewhere any number may stand, and NaN
        t = torch.where(seen, targets.to(dtype), 0.0)
        above = torch.where(seen, positive.to(dtype), 1.0) * t
        factor = above + (1 - t)
        return scores, torch.where(factor == 0, 0.0, above / torch.where(factor == 0, 1.0, factor)), self.counted * factor

    def merged(self, scores: Tensor, targets: Tensor, weight: Tensor | None, labels: bool) -> Tensors:
        """Return scores and targets whose background has the probability of all that was not searched for."""
        assert self.annotated is not None
        classes = torch.arange(self.annotated.shape[1], device=scores.device)
        known = self.annotated & (classes > 0)
        apart = known.view(*known.shape, *[1] * (scores.dim() - 2))
        background = (classes == 0).view(-1, *[1] * (scores.dim() - 2))
        if self.link == "identity":
            rest = torch.where(apart, 0.0, scores).sum(1, keepdim=True)
            scores = torch.where(apart, scores, torch.where(background, rest, 0.0))
        else:
            scores = scores.to(computed_in(scores))  # halves would round the sum
            never = torch.finfo(scores.dtype).min / 2  # whose exponential is 0, and which is no infinity
            rest = torch.where(apart, -torch.inf, scores).logsumexp(1, keepdim=True)
            scores = torch.where(apart, scores, torch.where(background, rest, never))
        if labels:
            inside = ~equals(targets, self.ignored[0]) & (targets >= 0) & (targets < known.shape[1])
            index = torch.where(inside, targets, 0).long().flatten(1)
            found = known.gather(1, index).view(targets.shape) | ~inside
            return scores, torch.where(found, targets, torch.zeros_like(targets)), weight
        rest = torch.where(apart, torch.zeros_like(targets), targets).sum(1, keepdim=True).to(targets.dtype)
        read = torch.where(apart, targets, torch.where(background, rest, torch.zeros_like(targets)))
        if not targets.is_floating_point() and targets.dtype != torch.bool:  # what does not count adds nothing up
            read = torch.where(equals(targets, self.ignored[0]).any(1, keepdim=True), self.ignored[0], read)
        return scores, read, weight


def check_annotated(annotated: Any, scores: Tensor, targets: Tensor) -> Tensor:
    """Refuse what does not say of each image and class whether it was searched for."""
    expected = f"a bool tensor {list(scores.shape[:2])}, which classes each image was searched for"
    if not isinstance(annotated, Tensor) or annotated.dtype != torch.bool or annotated.shape != scores.shape[:2]:
        raise wrong("annotated", expected, describe(annotated), "of numbers, annotated > 0")
    if annotated.device != scores.device:
        raise wrong("annotated", f"on the logits' device {scores.device}", str(annotated.device))
    if scores.shape[2:] != (targets.shape[2:] if targets.dim() == scores.dim() else targets.shape[1:]):
        raise wrong("annotated", "left out where logits are interpolated", describe(annotated), "interpolate them before")
    return annotated


def check_positive(positive: Any, scores: Tensor, targets: Tensor) -> Tensor:
    """Refuse weights of positive parts that are none of elements."""
    shape = tuple(targets.shape if targets.dim() == scores.dim() else targets.unsqueeze(1).shape)
    if not isinstance(positive, Tensor) or not positive.is_floating_point():
        raise wrong("pos_weight_map", f"a float tensor {list(shape)}", describe(positive), "one a channel is an option")
    if tuple(positive.shape) not in (shape, (1, *shape[1:]), shape[1:]):
        raise wrong("pos_weight_map", f"of shape {list(shape)}, or {list(shape[1:])}", describe(positive))
    if positive.device != scores.device:
        raise wrong("pos_weight_map", f"on the logits' device {scores.device}", str(positive.device))
    return positive
