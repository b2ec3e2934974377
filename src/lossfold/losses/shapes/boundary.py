"""The boundary loss: probabilities times their distance to where the truth ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import LossError, wrong
from lossfold.folds.fold import Fold, Sum
from lossfold.folds.scores import Given
from lossfold.losses.reduce import divide
from lossfold.losses.scores import LABELS, WEIGHT
from lossfold.losses.shapes.maps import MAP_PROB, MAP_SIZE, MapLoss, counted_labels, counted_masks
from lossfold.options import configured, option
from lossfold.registry import LOSSES
from lossfold.shapes.distances import AT, signed_distance, spacing_of


@LOSSES.register
@configured
class BoundaryLoss(MapLoss):
    r"""Boundary loss: how far from the true boundary the probability of each class lies.

    Over the counted pixels, with pixel weight w, probability p and the signed distance φ to the end of the class, negative inside::

        loss_c = Σ w p_c φ_c / Σ w

    and the mean over classes weighted by ``class_weight``. It is not bounded below and has no scale of its own: take it beside
    :class:`DiceLoss` or :class:`CrossEntropyLoss`, with a weight that grows. Distances are found in the call unless they are given;
    they are those of whole images, and a pixel that is ignored, or of weight 0, neither is part of a class nor of what surrounds
    it: no distance is measured to it.

    Args:
        boundary: where φ is 0: ``"inner"``, at the outermost pixels inside, as published and as in MONAI; ``"both"``, between
            pixels; ``"outer"``, at the innermost pixels outside. See :func:`lossfold.functional.signed_distance`.
        spacing: from pixel to pixel, > 0: a number, or one for each axis of space; None for 1.
        normalize: ``"none"`` for φ in the units of ``spacing``; ``"extent"`` divides it by the length of the image's diagonal in
            them, so that it lies in [-1, 1].
        absent: a class that is absent, or covers all, has no boundary and φ = 0: ``"skip"`` leaves it out of the mean, ``"count"``
            counts it at no cost.
        include_background: whether class 0 takes part.
        class_weight: C numbers >= 0.
        link: ``"softmax"`` for logits, ``"sigmoid"`` for logits of independent channels (targets of their shape, inside above
            1/2), ``"identity"`` for probabilities.
        ignore_index: the label of pixels that do not count.
        reduction: ``"mean"`` over classes, ``"sum"``, or ``"none"``: ``[C]``, ``[B, C]`` with ``per_image``, weighted, 0 for
            classes left out.
        per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for :class:`DiceLoss`.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact in the logits; distances have none, but those given as ``distance`` have theirs. 0 where nothing counts.

    Example:
        >>> logits, labels = torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))
        >>> growing = Term(BoundaryLoss(), schedule=LinearSchedule(start=0.0, end=1.0, steps=1000))
        >>> criterion = LossSet(dice=DiceLoss(), boundary=growing)
        >>> criterion(logits, labels).total.shape  # one pass serves both
        torch.Size([])

    Reference:
        Kervadec et al., Boundary loss for highly unbalanced segmentation, MIDL 2019.
    """

    boundary: str = option("inner", words=tuple(AT))
    spacing: float | Sequence[float] | None = option(None, each_axis=True)
    normalize: str = option("none", words=("none", "extent"))

    map_argument: ClassVar[str] = "distance"
    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"boundary": "both", "spacing": 0.7, "absent": "count", "class_weight": "random", "per_image": True},
        {"normalize": "extent", "include_background": False},
    )
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"link": "sigmoid", "boundary": "both", "class_weight": "random"},
        {"link": "softmax", "absent": "count", "per_image": True},
    )

    @property
    def map_name(self) -> str:
        """How passes tell this map from others."""
        return f"distance(boundary={self.boundary}, spacing={self.spacing}, normalize={self.normalize})"

    def check(
        self,
        logits: Any,
        labels: Any,
        weight: Any = None,
        normalizer: float | Tensor | None = None,
        distance: Any = None,
        spacings: Any = None,
    ) -> Given:
        """Refuse what can't be folded, or does not fit the options; and find the distances."""
        given = super().check(logits, labels, weight, normalizer)
        if distance is not None and spacings is not None:
            raise wrong("spacings", "left out beside distance, which has them", type(spacings).__name__)
        return self.mapped(given, distance, spacings)

    def map_of(self, given: Given, spacings: Tensor | Sequence[Sequence[float]] | None = None, *_: Any) -> Tensor:
        """Return the signed distance of each class, or of each mask."""
        scores, targets, _w = given.tensors
        space = targets.shape[1 if given.kind == LABELS else 2 :]
        if not space:  # a pixel by itself has no boundary
            return torch.zeros_like(scores, dtype=torch.float32)
        if len(space) > 3:
            raise wrong("labels", "with one to three dimensions in space", str(list(targets.shape)))
        spacing = self.rows_of(spacings, len(targets), space)
        if given.kind == LABELS:
            try:
                labels = counted_labels(given, self.ignored[0])
                return signed_distance(
                    labels, scores.shape[1], ignore_index=self.ignored[0], spacing=spacing, boundary=self.boundary
                )
            except LossError as error:
                expected = f"in [0, {scores.shape[1]}) or ignore_index={self.ignored[0]}"
                raise wrong("labels", expected, error.got) from None
        inside, ignored = counted_masks(given, self.ignored[0], self.together)
        if ignored is None:
            return signed_distance(inside, spacing=spacing, boundary=self.boundary)
        codes = torch.where(ignored, 2, inside.to(torch.uint8)).flatten(0, 1)
        spacing = [own for own in spacing for _ in range(scores.shape[1])]
        both = signed_distance(codes, 2, ignore_index=2, spacing=spacing, boundary=self.boundary)
        return both[:, 1].reshape(inside.shape)

    def rows_of(self, spacings: Tensor | Sequence[Sequence[float]] | None, samples: int, space: torch.Size) -> list[list[float]]:
        """Return each sample's spacing along each axis, in the units that distances are wanted in."""
        given = self.spacing if spacings is None else spacings
        rows = spacing_of(given, samples, len(space))
        if self.normalize == "none":
            return rows
        extents = [math.hypot(*(step * size for step, size in zip(row, space, strict=True))) or 1.0 for row in rows]
        return [[step / extent for step in row] for row, extent in zip(rows, extents, strict=True)]

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads: labels say by themselves which classes end somewhere."""
        return (WEIGHT, MAP_PROB) if kind == LABELS else (WEIGHT, MAP_PROB, MAP_SIZE)

    def present(self, fold: Fold, weight: Tensor) -> Tensor:
        """Return which classes ``[I, C]`` are neither absent nor all of what counts."""
        own = fold[WEIGHT]
        return (own != 0) & (own != weight) if fold.target == LABELS else fold[MAP_SIZE] != 0

    def cost(self, fold: Fold, weight: Tensor) -> Tensor:
        """Return Σ w p φ / Σ w."""
        return divide(fold[MAP_PROB], weight)

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        normalizer: float | Tensor | None = None,
        distance: Tensor | None = None,
        spacings: Tensor | Sequence[Sequence[float]] | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            logits, labels, weight, normalizer: as for :class:`DiceLoss`.
            distance: ``[B, C, *S]``, the signed distances, as floats of any kind (float16 halves what is read); at the labels'
                resolution. None: they are made of the labels.
            spacings: ``[B, len(S)]``, each sample's own spacing, in place of the option, on the host.

        Returns:
            A scalar, float32 (float64 for float64 logits); with ``reduction="none"`` a value for each class.
        """
        return self.weigh(self.evaluate(logits, labels, weight, normalizer, distance, spacings))
