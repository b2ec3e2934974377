"""Cross entropy."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.folds.fold import Sum
from lossfold.losses.pixels import PixelLoss
from lossfold.losses.scores import LABELS, WEIGHT, Factor
from lossfold.options import configured, option
from lossfold.registry import LOSSES

NLL: Sum = ("nll", 0.0)
NLL_ALL: Sum = ("nll_all", 0.0)


@LOSSES.register
@configured
class CrossEntropyLoss(PixelLoss):
    r"""Cross entropy between class scores and integer or soft labels.

    With pixel weight w, class weight v and smoothing ε, over the pixels that are not ignored::

        loss = Σ w [(1-ε) v_y (-log p_y) + ε/C Σ_c v_c (-log p_c)] / Σ w v_y
        loss = Σ w Σ_c v_c [(1-ε) t_c + ε/C] (-log p_c) / Σ w               for soft labels t ``[B, C, *S]``

    Equals :class:`torch.nn.CrossEntropyLoss` for class indices and for class probabilities (whose mean does not divide by class
    weights), except that it is 0, not NaN, when nothing counts.

    Args:
        label_smoothing: ε in [0, 1].
        class_weight: C numbers >= 0.
        link: ``"softmax"`` for logits, ``"identity"`` for probabilities; then -log p is -log(max(p, 1e-12)).
        ignore_index: the label of pixels that do not count, or a list of such labels.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for the map ``[B, *S]``.
        per_image: the mean of each image's own loss over the images in which something counts; an empty one is left out, where
            ``sample_wise`` of losses of images counts it as 0.
        align_corners: how logits of another size than the labels are interpolated to it (bilinearly; volumes trilinearly).
        resize: False refuses logits of another size than the labels, in place of interpolating them.
        validate: look for wrong values off the CPU too, which waits for the device: probabilities outside of [0, 1], say.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in a dict of outputs, from names to dotted paths; the loss then takes that dict.
        engine: ``"eager"``, ``"triton"``, ``"cpp"``, or None for the fastest that can serve.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact. 0 where nothing counts, and for probabilities under the floor.

    Example:
        >>> loss = CrossEntropyLoss(ignore_index=255, label_smoothing=0.1)
        >>> loss(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Label smoothing: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016.
    """

    label_smoothing: float = option(0.0, between=(0, 1))

    dense_links: ClassVar[tuple[str, ...]] = ("softmax", "identity")
    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"label_smoothing": 0.1},
        {"class_weight": "random", "label_smoothing": 0.2, "per_image": True},
        {"link": "identity", "label_smoothing": 0.1},
    )
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, *samples[2:])

    @property
    def together(self) -> bool:
        """A pixel's soft labels are those of one choice."""
        return True

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (WEIGHT, NLL, NLL_ALL) if self.label_smoothing else (WEIGHT, NLL)

    def coefficients(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return v (1-ε) for the label's nll and v ε/C for that of every class."""
        v = self.per_class("class_weight", like)
        factor: Factor = 1.0 if v is None else v
        smooth = self.label_smoothing
        return {NLL: (1 - smooth) * factor, NLL_ALL: smooth / like.shape[-1] * factor} if smooth else {NLL: factor}

    def denominators(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return v for the weights; with soft labels 1, of one channel, because every pixel counts in all of them."""
        if kind == LABELS:
            return super().denominators(like, kind)
        return {WEIGHT: (torch.arange(like.shape[-1], device=like.device) == 0).to(like.dtype)}
