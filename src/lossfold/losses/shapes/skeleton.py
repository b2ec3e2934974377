"""The skeleton recall loss: how much of thin structures' centre lines is found."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.fold import Fold, Sum
from lossfold.folds.scores import Given
from lossfold.losses.scores import LABELS, WEIGHT
from lossfold.losses.shapes.maps import MAP_PROB, MAP_SIZE, MapLoss, counted_labels, counted_masks
from lossfold.options import configured, option
from lossfold.registry import LOSSES
from lossfold.shapes.skeletons import of_labels, of_masks


@LOSSES.register
@configured
class SkeletonRecallLoss(MapLoss):
    r"""Skeleton recall loss: one minus the soft recall on the tubed skeleton of each class.

    Over the counted pixels, with pixel weight w, probability p and s = 1 on the tubed skeleton of the class, else 0::

        loss_c = 1 - (Σ w p_c s_c + smooth) / (Σ w s_c + smooth)

    and the mean over classes weighted by ``class_weight``. It says nothing of what is found too much: take it beside
    :class:`DiceLoss` and :class:`CrossEntropyLoss`. Skeletons are best made where data are loaded, by
    :func:`lossfold.functional.tubed_skeleton`, and given as ``skeleton``; without, they are made in the call, on CPUs.

    Args:
        smooth: >= 0, added above and below.
        do_tube: whether a skeleton made in the call is dilated, as :func:`lossfold.functional.tubed_skeleton` does.
        absent: a class without skeleton: ``"skip"`` leaves it out of the mean, ``"count"`` counts it with the formula's value.
        include_background: whether class 0 takes part; as published it does not.
        class_weight: C numbers >= 0.
        link: ``"softmax"`` for logits, ``"sigmoid"`` for logits of independent channels (targets of their shape, inside above 1/2),
            ``"identity"`` for probabilities.
        ignore_index: the label of pixels that do not count: like pixels of weight 0, they belong to no mask of which a skeleton is
            made.
        reduction: ``"mean"`` over classes, ``"sum"``, or ``"none"``: ``[C]``, ``[B, C]`` with ``per_image``, weighted, 0 for
            classes left out.
        per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for :class:`DiceLoss`.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range, and without ``skeleton`` off the CPU.

    Gradient:
        Exact in the logits; skeletons have none. 0 where nothing counts.

    Example:
        >>> logits, labels = torch.randn(2, 3, 16, 16), torch.randint(0, 3, (2, 16, 16))
        >>> skeleton = lossfold.functional.tubed_skeleton(labels, 3)
        >>> SkeletonRecallLoss()(logits, labels, skeleton=skeleton).shape
        torch.Size([])

    Reference:
        Kirchhoff et al., Skeleton Recall Loss for Connectivity Conserving and Resource Efficient Segmentation of Thin Tubular
        Structures, ECCV 2024.
    """

    smooth: float = option(1.0, at_least=0)
    do_tube: bool = option(True)
    include_background: bool = option(False)

    map_argument: ClassVar[str] = "skeleton"
    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"smooth": 0.0, "absent": "count", "include_background": True, "class_weight": "random", "per_image": True},
    )
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = ({"link": "sigmoid", "include_background": True},)

    @property
    def map_name(self) -> str:
        """How passes tell this map from others."""
        return f"skeleton(do_tube={self.do_tube})"

    def check(
        self, logits: Any, labels: Any, weight: Any = None, normalizer: float | Tensor | None = None, skeleton: Any = None
    ) -> Given:
        """Refuse what can't be folded, or does not fit the options; and find the skeletons."""
        return self.mapped(super().check(logits, labels, weight, normalizer), skeleton)

    def map_of(self, given: Given, *_: Any) -> Tensor:
        """Return the tubed skeleton of each class, or of each mask."""
        scores, targets, _w = given.tensors
        if targets.device.type not in ("cpu", "meta"):
            raise wrong(
                "skeleton",
                "given off the CPU",
                f"labels on {targets.device}",
                "lossfold.functional.tubed_skeleton, where data are loaded",
            )
        if given.kind == LABELS:
            return of_labels(counted_labels(given, self.ignored[0]), scores.shape[1], self.ignored[0], self.do_tube)
        return of_masks(counted_masks(given, self.ignored[0], self.together)[0], self.do_tube)

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (WEIGHT, MAP_PROB, MAP_SIZE)

    def cost(self, fold: Fold, weight: Tensor) -> Tensor:
        """Return 1 - (Σ w p s + smooth) / (Σ w s + smooth); a recall of nothing is 1."""
        size = fold[MAP_SIZE]
        below = size + self.smooth
        nothing = below == 0
        return ((size - fold[MAP_PROB]) / (below + nothing)).masked_fill(nothing, 0.0)

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        normalizer: float | Tensor | None = None,
        skeleton: Tensor | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            logits, labels, weight, normalizer: as for :class:`DiceLoss`.
            skeleton: ``[B, C, *S]``, 1 (or True) on the tubed skeletons of the classes, at the labels' resolution. None: they are
                made of the labels, on CPUs, by scikit-image.

        Returns:
            A scalar, float32 (float64 for float64 logits); with ``reduction="none"`` a value for each class.
        """
        return self.weigh(self.evaluate(logits, labels, weight, normalizer, skeleton))
