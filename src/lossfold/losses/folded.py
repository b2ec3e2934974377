"""What every loss over a fold is: a needs() and a formula(), from which module, function, set and tests derive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lossfold import engines
from lossfold.errors import LossError, is_number
from lossfold.folds.dense import DenseNeeds, DenseSpec, check_dense_inputs
from lossfold.folds.fold import Fold, Sum
from lossfold.folds.label import LabelNeeds, LabelSpec, check_label_inputs
from lossfold.losses.base import Folded, divide

REDUCTIONS = ("mean", "sum", "none")
LABELS, MASKS, SOFT = "labels", "masks", "soft"
"""What scores are held against: a class for each pixel; or a target for each channel, 0 or 1, or anything between."""


class Given(NamedTuple):
    """A call's arguments, checked."""

    scores: Tensor
    targets: Tensor
    weight: Tensor | None
    kind: str
    normalizer: float | Tensor | None

    def merge(self, other: Given) -> Given:
        """Return the arguments of a pass that two calls share: they are the same."""
        return self

    def having(self, change: Callable[[Tensor], Tensor]) -> Given:
        """Return the arguments with other scores, made of these."""
        return self._replace(scores=change(self.scores))


@dataclass(kw_only=True, eq=False, repr=False)
class FoldLoss(Folded):
    """A loss over a fold: the options that all of them have, and the one way from a fold to a number."""

    link: str = "softmax"
    ignore_index: int = -100
    class_weight: Sequence[float] | Tensor | None = None
    reduction: str = "mean"
    per_image: bool = False
    align_corners: bool = False
    engine: str | None = None

    per_class_options: ClassVar[tuple[str, ...]] = ("class_weight",)
    label_links: ClassVar[tuple[str, ...]] = ("softmax", "identity")  # that read integer labels
    dense_links: ClassVar[tuple[str, ...]] = ()  # that read targets of the scores' shape
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = ()  # as samples, for these
    takes_normalizer: ClassVar[bool] = True
    without_channels = False  # read [N, *S] as N masks [N, 1, *S]; see lossfold.presets

    def validate(self) -> None:
        """Refuse wrong options."""
        super().validate()
        self.require_one_of("link", tuple(dict.fromkeys((*self.label_links, *self.dense_links))))
        integer = isinstance(self.ignore_index, int) and not isinstance(self.ignore_index, bool)
        self.require("ignore_index", integer and -(2**63) <= self.ignore_index < 2**63, "a 64-bit integer")
        self.require_one_of("reduction", REDUCTIONS)
        self.require("per_image", isinstance(self.by_image, bool), "True or False")
        self.require("align_corners", isinstance(self.align_corners, bool), "True or False")
        engines.check_name(type(self).__name__, "engine", self.engine)
        self.keep_per_class("class_weight")

    @property
    def together(self) -> bool:
        """Whether a pixel's channels count together, against targets of the scores' shape."""
        return self.link == "softmax"

    @property
    def by_image(self) -> bool:
        """Whether each image has a loss of its own."""
        return self.per_image

    def kind_of(self, scores: object, targets: object) -> str:
        """Return what the scores are held against: LABELS, MASKS or SOFT."""
        if self.link in self.label_links:
            if self.link not in self.dense_links or not isinstance(scores, Tensor) or not isinstance(targets, Tensor):
                return LABELS
            dense = targets.is_floating_point() or targets.dtype == torch.bool or targets.shape[1:2] == scores.shape[1:2]
            if not dense or targets.dim() != scores.dim():
                return LABELS
        return SOFT if isinstance(targets, Tensor) and targets.is_floating_point() else MASKS

    def check(
        self, loss: str, logits: object, labels: object, weight: object = None, normalizer: float | Tensor | None = None
    ) -> Given:
        """Refuse what can't be folded, or does not fit the options."""
        if self.without_channels:
            logits, labels, weight = as_masks(logits, labels, weight)
        kind = self.kind_of(logits, labels)
        if kind == LABELS:
            tensors = check_label_inputs(loss, logits, labels, weight)
        else:
            tensors = check_dense_inputs(loss, logits, labels, weight, together=self.together)
            if self.link == "softmax" and tensors[0].shape[1] == 1:
                raise LossError(loss, "link", "'sigmoid' for one channel", "'softmax', which makes every probability 1")
        for name in self.per_class_options:
            self.per_class(name, tensors[0].shape[1], loss)
        if normalizer is not None:
            scalar = isinstance(normalizer, Tensor) and normalizer.dim() == 0 and not normalizer.is_complex()
            if not scalar and not (is_number(normalizer) and normalizer >= 0):
                raise LossError(loss, "normalizer", "a number >= 0 or a scalar tensor", f"{normalizer!r}"[:80])
            if not self.takes_normalizer:
                raise LossError(loss, "normalizer", "left out: this loss has none", f"{normalizer!r}"[:80])
            if kind == LABELS or self.together:
                raise LossError(
                    loss, "normalizer", "left out: it is for masks, link='sigmoid' or 'identity'", f"link={self.link!r}"
                )
            if not self.by_image or self.reduction != "mean":
                raise LossError(loss, "normalizer", "given together with per_image=True and reduction='mean'", repr(self))
            kind = MASKS
        return Given(*tensors, kind, normalizer)

    def wanted(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads, for this kind of targets."""
        raise NotImplementedError

    def formula(self, fold: Fold, loss: str) -> tuple[Tensor, Tensor]:
        """Return numerators and denominators ``[I, C]`` (``[I, 1]`` where classes are taken together)."""
        raise NotImplementedError

    def each_mask(self, fold: Fold, loss: str) -> Tensor:
        """Return every mask's own loss, ``[B, K]``: every channel of every image is one."""
        raise NotImplementedError

    def needs(self, kind: str | None = None) -> LabelNeeds | DenseNeeds:
        """Return the fold this loss wants, for a kind of targets (without it, the one that the link is most used with)."""
        if kind is None:
            kind = LABELS if self.link in self.label_links else MASKS
        if kind == LABELS:
            spec = LabelSpec(self.link == "softmax", self.ignore_index, self.align_corners, self.wanted(kind))
            return LabelNeeds(spec, self.engine, per_image=self.by_image)
        link = "sigmoid" if self.link == "hinge" else self.link
        dense = DenseSpec(link, self.together, self.ignore_index, self.align_corners, self.wanted(kind))
        return DenseNeeds(dense, self.engine, kind, per_image=self.by_image)

    def reduce(self, fold: Fold, loss: str, normalizer: float | Tensor | None = None) -> Tensor:
        """Turn a fold into this loss's value, before ``loss_weight``."""
        if normalizer is not None:
            count = torch.as_tensor(normalizer, dtype=fold.sums.dtype, device=fold.sums.device)
            return (self.each_mask(fold, loss).sum() / count.clamp_min(1)).to(fold.dtype)
        return self.settle(*self.formula(fold if self.by_image else fold.sum_images(), loss), fold.dtype)

    def settle(self, numerator: Tensor, denominator: Tensor, dtype: torch.dtype) -> Tensor:
        """Reduce numerators and denominators."""
        if self.reduction == "none":
            rows = numerator.squeeze(1) if numerator.shape[1] == 1 and self.joint else numerator
            return (rows if self.by_image else rows.squeeze(0)).to(dtype)
        if self.reduction == "sum":
            return numerator.sum().to(dtype)
        denominator = denominator.sum(1)
        values = divide(numerator.sum(1), denominator)
        if not self.by_image:
            return values.squeeze(0).to(dtype)
        return (values.sum() / (denominator != 0).sum().clamp_min(1)).to(dtype)

    def asks(self, given: Given | None = None) -> LabelNeeds | DenseNeeds:
        """Return the fold that a call wants."""
        return self.needs(given.kind if given else None)

    def collect(self, needs: LabelNeeds | DenseNeeds, loss: str, given: Given) -> Fold:
        """Make the pass."""
        return needs.collect(loss, *given[:3])

    def value(self, fold: Fold, loss: str, given: Given) -> Tensor:
        """Turn a call's fold into the loss."""
        return self.reduce(fold, loss, given.normalizer)

    def each_sample(self, fold: Fold, loss: str, given: Given) -> Tensor:
        """Turn a call's fold into each image's own loss."""
        numerator, denominator = self.formula(fold, loss)
        return divide(numerator.sum(1), denominator.sum(1)).to(fold.dtype)

    @property
    def joint(self) -> bool:
        """Whether the formula takes the classes together."""
        return False

    def class_factors(self, like: Tensor, loss: str) -> Tensor:
        """Return the class weights ``[C]``, 1 without."""
        v = self.per_class("class_weight", like.shape[1], loss)
        return like.new_ones(like.shape[1]) if v is None else v.to(like)

    def forward(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, normalizer: float | Tensor | None = None
    ) -> Tensor:
        """Return the loss.

        Args:
            logits: ``[B, C, *S]`` logits (probabilities with ``link="identity"``); float16, bfloat16, float32 or float64.
                ``[B, C, h, w]`` of another size than the labels are interpolated to it (bilinearly, ``align_corners``).
            labels: ``[B, *S]`` class indices or ``ignore_index`` (int64, int32 or uint8); or, where the loss takes them, targets
                ``[B, C, *S]`` in [0, 1]: float, bool, or integers 0, 1 and ``ignore_index`` (``[B, *S]`` will do for C = 1).
            weight: ``[B, *S]`` or ``[B, 1, *S]`` float pixel weights or a boolean mask; ``[B, C, *S]`` for such targets, unless
                the link is softmax.
            normalizer: with ``per_image=True`` every channel of every image is a mask, and the loss the sum over the masks of
                each mask's own (times its class weight), divided by max(normalizer, 1): the number of masks of all ranks, say.

        Returns:
            A scalar, float32 (float64 for float64 logits); with ``reduction="none"`` a value for each pixel or class.
        """
        return self.loss_weight * self.raw(logits, labels, weight, normalizer)

    def raw(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, normalizer: float | Tensor | None = None) -> Tensor:
        """Return the loss before ``loss_weight``."""
        name = type(self).__name__
        return self.of(name, self.check(name, logits, labels, weight, normalizer))


@dataclass(kw_only=True, eq=False, repr=False)
class PixelLoss(FoldLoss):
    """A loss that is a sum over pixels: its numerator is linear in the sums, so it also has a map."""

    def coefficients(self, classes: int, loss: str, kind: str) -> dict[Sum, Tensor]:
        """Return the factor ``[C]`` of each sum in the numerator."""
        raise NotImplementedError

    def class_weights(self, classes: int, loss: str) -> Tensor:
        """Return the class weights as float64 ``[C]``, 1 without."""
        v = self.per_class("class_weight", classes, loss)
        return torch.ones(classes, dtype=torch.float64, device="cpu") if v is None else v

    def of(self, name: str, given: Given) -> Tensor:
        """Return the loss of checked arguments; with ``reduction="none"`` its map, 0 where nothing counts."""
        if self.reduction != "none":
            return super().of(name, given)
        coefficients = self.coefficients(given.scores.shape[1], name, given.kind)
        needs = self.needs(given.kind)
        coef = torch.stack([c.to(given.scores.device) for c in coefficients.values()])
        return needs.with_sums(tuple(coefficients)).integrate(name, coef, *given[:3])

    def numerator(self, fold: Fold, loss: str) -> Tensor:
        """Return the sums weighted by the coefficients, ``[I, C]``."""
        weighted = [
            coef.to(fold.sums) * fold[key] for key, coef in self.coefficients(fold.sums.shape[2], loss, fold.target).items()
        ]
        return sum(weighted[1:], weighted[0])

    def each_mask(self, fold: Fold, loss: str) -> Tensor:
        """Return every mask's mean over its pixels, times its class weight."""
        numerator, denominator = self.formula(fold, loss)
        return self.class_factors(numerator, loss) * divide(numerator, denominator)


def as_masks(*tensors: object) -> list[object]:
    """Return logits, masks and weights ``[N, P]`` or ``[N, H, W]`` with a channel; those that have one, as they are."""
    points = any(isinstance(x, Tensor) and x.dim() == 2 for x in tensors)  # then [N, 1, P] has its channel

    def one(x: object) -> object:
        if not isinstance(x, Tensor) or x.dim() not in (2, 3) or (points and x.dim() == 3):
            return x
        return x.unsqueeze(1)

    return [one(x) for x in tensors]
