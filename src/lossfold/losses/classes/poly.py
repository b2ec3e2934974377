"""Cross entropy and focal loss with another first coefficient of their expansion in powers of 1 - p."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from lossfold.folds.fold import Sum
from lossfold.losses.pixels import PixelLoss
from lossfold.losses.scores import LABELS, WEIGHT, Factor
from lossfold.options import configured, option
from lossfold.registry import LOSSES

NLL: Sum = ("nll", 0.0)
NLL_NOT: Sum = ("nll_not", 0.0)


@LOSSES.register
@configured
class PolyLoss(PixelLoss):
    r"""Poly-1: cross entropy, or focal loss, plus a multiple of 1 - p.

    With pixel weight w and class weight v::

        loss = Σ w v_y [(1 - p_y)^γ (-log p_y) + ε (1 - p_y)^(γ+1)] / Σ w v_y

    and for targets t of every channel, with u = p (1-t) + (1-p) t::

        loss = Σ w v [u^γ (-t log p - (1-t) log (1-p)) + ε u^(γ+1)] / Σ w v

    ε = 0 is cross entropy (γ = 0) or :class:`FocalLoss`.

    Args:
        epsilon: ε, -1 or more, below which the loss would fall as p does.
        gamma: γ >= 0; 0 for Poly-1 of cross entropy.
        link: ``"softmax"`` for logits and labels, ``"sigmoid"`` for logits and targets ``[B, C, *S]``, ``"identity"`` for
            probabilities and either.
        class_weight, ignore_index, reduction, per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for
            :class:`CrossEntropyLoss`.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact.

    Example:
        >>> PolyLoss(epsilon=2.0)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Leng et al., PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions, ICLR 2022.
    """

    epsilon: float = option(1.0, at_least=-1)
    gamma: float = option(0.0, between=(0, 1e6))

    dense_links: ClassVar[tuple[str, ...]] = ("sigmoid", "identity")
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"epsilon": 2.0, "gamma": 1.5, "class_weight": "random"},)
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = ({"link": "sigmoid", "epsilon": -0.5},)

    @property
    def step(self) -> Sum:
        """The sum of (1 - p)^(γ+1)."""
        return ("focal_weight", float(self.gamma) + 1)

    def entropy(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums of cross entropy, or of the focal loss."""
        gamma = float(self.gamma)
        if kind == LABELS:
            return (("focal", gamma),) if gamma else (NLL,)
        return (("focal", gamma), ("focal_not", gamma)) if gamma else (NLL, NLL_NOT)

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (WEIGHT, *self.entropy(kind), self.step)

    def coefficients(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return v for cross entropy and v ε for what is added."""
        weights = self.per_class("class_weight", like)
        v: Factor = 1.0 if weights is None else weights
        return {**dict.fromkeys(self.entropy(kind), v), self.step: self.epsilon * v}
