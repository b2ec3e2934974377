"""Online hard example mining: cross entropy over the hard pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.folds.fold import Sum
from lossfold.folds.label.needs import LabelNeeds
from lossfold.folds.label.spec import Hard
from lossfold.folds.scores import Given
from lossfold.losses.classes.hardest import WIDTH, of_all
from lossfold.losses.pixels import PixelLoss
from lossfold.losses.reduce import Addends
from lossfold.losses.scores import WEIGHT, Factor
from lossfold.options import configured, option
from lossfold.registry import LOSSES

HARD_WEIGHT: Sum = ("hard_weight", 0.0)
HARD_NLL: Sum = ("hard_nll", 0.0)


@LOSSES.register
@configured
class OhemCrossEntropyLoss(PixelLoss):
    r"""Cross entropy over the hard pixels: those the network is not sure of.

    A pixel is hard if p_y < ``thresh`` or if it is among the ``min_kept`` smallest p_y of all counted pixels; pixels equal to
    the last of these are hard too, and with fewer than ``min_kept`` pixels all are. With pixel weight w and class weight v::

        loss = Σ_hard w v_y (-log p_y) / Σ_hard w v_y

    Neither weight takes part in the selection, except that a pixel of weight 0 is not counted.

    Args:
        thresh: in [0, 1]; pixels with p_y below it are hard.
        min_kept: how many pixels of the batch are hard in any case; of each image with ``per_image``.
        top_k_ratio: in (0, 1]; instead of both, the share of the counted pixels that is hard (rounded up).
        class_weight, link, ignore_index, reduction, per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for
            :class:`CrossEntropyLoss`; the map of ``reduction="none"`` is 0 where a pixel is not hard.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact with the selection held fixed. 0 where nothing counts.

    Example:
        >>> OhemCrossEntropyLoss(thresh=0.7, min_kept=50)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016; for pixels:
        Wu et al., High-performance Semantic Segmentation Using Very Deep Fully Convolutional Networks, 2016.
    """

    thresh: float = option(0.7, between=(0, 1))
    min_kept: int = option(100000, at_least=0)
    top_k_ratio: float | None = option(None, more_than=0, at_most=1)

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"thresh": 0.3, "min_kept": 5},
        {"thresh": 0.2, "min_kept": 3, "per_image": True, "class_weight": "random"},
        {"top_k_ratio": 0.4, "class_weight": "random"},
        {"thresh": 0.4, "min_kept": 0, "link": "identity"},
    )

    def settle(self) -> None:
        """Refuse wrong options, and those under which no pixel is hard."""
        super().settle()
        some = self.thresh > 0 or self.min_kept > 0 or self.top_k_ratio is not None
        self.require("min_kept", some, ">= 1 with thresh=0", "no pixel would be hard, and the loss always 0")

    @property
    def rounds(self) -> int:  # type: ignore[override]
        """In how many rounds parts of a batch add up, for float32: three digits of the bound come before the sums."""
        return 1 if self.per_image or (self.min_kept == 0 and self.top_k_ratio is None) else 1 + -(-31 // WIDTH)

    @property
    def selects(self) -> bool:
        """Whether the hard pixels are those of the batch, and not of each image."""
        return not self.per_image

    def gated(self, given: Given, gate: Tensor) -> Given:
        """Return a call's arguments without the pixels of the images that a gate ``[B]`` holds back."""
        labels, weight = given.targets, given.weight
        keep = gate.view(-1, *[1] * (labels.dim() - 1)).expand(labels.shape)
        return given.other(weight=keep if weight is None else torch.where(keep, weight, torch.zeros_like(weight)))

    def chosen(self, given: Given, needs: LabelNeeds, then: Callable[[Given], Addends]) -> Addends:
        """Return what adds up until the hard pixels are chosen among those of all parts; what follows is linear in sums."""
        found: Addends = of_all(given, needs, then)
        return found

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (HARD_WEIGHT, HARD_NLL)

    def needs_for(self, kind: str) -> LabelNeeds:
        """Return the fold that a kind of targets wants."""
        needs = super().needs_for(kind)
        assert isinstance(needs, LabelNeeds)
        hard = Hard(float(self.thresh), self.min_kept, None, self.per_image)
        if self.top_k_ratio is not None:
            hard = Hard(0.0, 0, float(self.top_k_ratio), self.per_image)
        return needs.asking(hard=hard)

    def coefficients(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return v for the hard pixels' nll."""
        v = self.per_class("class_weight", like)
        return {HARD_NLL: 1.0 if v is None else v}

    def denominators(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return v for the hard pixels' weights."""
        return {HARD_WEIGHT: super().denominators(like, kind)[WEIGHT]}
