"""The focal loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.fold import Sum
from lossfold.folds.scores import Given
from lossfold.losses.classes.areas import TARGET
from lossfold.losses.pixels import PixelLoss
from lossfold.losses.scores import LABELS, SOFT, WEIGHT, Factor
from lossfold.options import configured, option
from lossfold.registry import LOSSES

NLL: Sum = ("nll", 0.0)


@LOSSES.register
@configured
class FocalLoss(PixelLoss):
    r"""Focal loss: cross entropy that looks away from pixels already right.

    With pixel weight w, class weight v and α per class, softmax form::

        loss = Σ w v_y α_y (1 - p_y)^γ (-log p_y) / Σ w v_y

    and for targets t of every channel, sigmoid form, with q = 1 - p::

        loss = Σ w v [α t + (1-α)(1-t)] (p (1-t) + q t)^γ [-t log p - (1-t) log q] / Σ w v

    and for targets t of classes that exclude each other (``link="softmax"``: one-hot, soft, or several at once)::

        loss = Σ w Σ_c v_c α_c t_c (1 - p_c)^γ (-log p_c) / Σ w Σ_c v_c t_c

    which of one-hot targets is the first. α scales values and is not in the denominator; p_y comes from the unweighted cross
    entropy. γ = 0 is cross entropy. The sigmoid form is torchvision's ``sigmoid_focal_loss`` (whose α defaults to 0.25).

    Args:
        gamma: γ >= 0.
        alpha: None, a number for all classes, or C numbers; in the sigmoid form in [0, 1], None for no factor.
        link: ``"softmax"`` for logits and labels, or such targets ``[B, C, *S]``; ``"sigmoid"`` for logits and targets of every
            channel; ``"identity"`` for probabilities and labels, or targets of every channel.
        normalize: ``"pixels"`` for the denominator above, ``"focal"`` for Σ w v_y (1 - p_y)^γ (differentiated as well; not for
            softmax against targets ``[B, C, *S]``).
        class_weight, ignore_index, reduction, per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for
            :class:`CrossEntropyLoss`.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact, and finite where p_y reaches 1 also for 0 < γ < 1.

    Example:
        >>> FocalLoss(gamma=2.0, alpha=0.25)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017. ``normalize="focal"``: Sofiiuk et al., AdaptIS,
        ICCV 2019.
    """

    gamma: float = option(2.0, between=(0, 1e6))
    alpha: float | Sequence[float] | Tensor | None = option(None, of=float, each_class=True)
    normalize: str = option("pixels", words=("pixels", "focal"))

    dense_links: ClassVar[tuple[str, ...]] = ("softmax", "sigmoid", "identity")
    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"gamma": 0.5, "alpha": 0.25},
        {"gamma": 1.5, "alpha": "random", "class_weight": "random", "per_image": True},
        {"gamma": 3.0, "normalize": "focal"},
        {"link": "identity"},
    )
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"link": "sigmoid", "alpha": 0.25},
        {"link": "sigmoid", "gamma": 0.5, "per_image": True},
        {"link": "sigmoid", "gamma": 1.5, "alpha": "random", "class_weight": "random", "normalize": "focal"},
        {"link": "sigmoid", "gamma": 0.0},
        {"link": "identity", "gamma": 3.0},
        {"link": "softmax", "gamma": 1.5, "alpha": "random", "class_weight": "random"},
    )

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        if self.excludes(kind):
            return (TARGET, *self._focal(kind))
        focal_weight = (("focal_weight", float(self.gamma)),) if self.normalize == "focal" else ()
        return (WEIGHT, *self._focal(kind), *focal_weight)

    def excludes(self, kind: str) -> bool:
        """Whether targets of every class are those of classes that exclude each other."""
        return kind != LABELS and self.link == "softmax"

    def _focal(self, kind: str) -> tuple[Sum, ...]:
        gamma = float(self.gamma)
        if kind == LABELS:
            return (("focal", gamma),) if gamma else (NLL,)
        if self.excludes(kind):
            return (("focal_of" if kind == SOFT else "focal", gamma),)
        return (("focal", gamma), ("focal_not", gamma))

    def coefficients(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return v α for the focal sum; and v (1-α) for that of the background, where there is one."""
        weights = self.per_class("class_weight", like)
        v: Factor = 1.0 if weights is None else weights
        alpha = self.alpha if isinstance(self.alpha, (int, float)) else self.per_class("alpha", like)
        shares = (v, v) if alpha is None else (v * alpha, v * (1 - alpha))
        return dict(zip(self._focal(kind), shares, strict=False))

    def check(self, logits: Any, labels: Any, weight: Any = None, normalizer: Any = None, annotated: Any = None) -> Given:
        """Refuse what can't be folded, or does not fit the options."""
        given = super().check(logits, labels, weight, normalizer, annotated)
        if self.alpha is not None:
            numbers = self.alpha if isinstance(self.alpha, tuple) else (self.alpha,)
            if given.kind == LABELS and not any(numbers):
                raise wrong("alpha", "above 0 for some class", repr(self.alpha), "the loss would always be 0")
            if given.kind != LABELS and not self.excludes(given.kind) and not all(0 <= x <= 1 for x in numbers):
                raise wrong("alpha", "in [0, 1] for targets of every channel", repr(self.alpha))
        if self.excludes(given.kind) and self.normalize == "focal":
            raise wrong("normalize", "'pixels' with softmax against targets of every class", repr(self.normalize))
        return given

    def denominators(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return v for the weights, or for the focal ones."""
        factor = super().denominators(like, kind)[WEIGHT]
        if self.excludes(kind):
            return {TARGET: factor}
        return {("focal_weight", float(self.gamma)) if self.normalize == "focal" else WEIGHT: factor}
