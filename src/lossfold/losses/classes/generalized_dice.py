"""Generalised Dice: one overlap of all classes, each weighted by its size."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from lossfold.folds.fold import Fold, Sum
from lossfold.losses.classes.areas import areas, sums_of_areas
from lossfold.losses.classes.averages import included
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import ScoreLoss, times
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class GeneralizedDiceLoss(ScoreLoss):
    r"""Generalised Dice loss: classes taken together, each weighted by its size.

    Over the counted pixels, with ω_c = v_c / (Σt)², v_c / Σt or v_c::

        loss = 1 - (2 Σ_c ω_c Σ w p t + s) / (Σ_c ω_c (Σ w p + Σ w t) + s)

    For float targets 2 Σ w p t is Σ w (p + t - ``|p - t|``), as in :class:`DiceLoss`, so that p = t costs nothing;
    ``soft_overlap="product"`` keeps the product, as Sudre et al. write it.

    Args:
        weighting: ``"square"``, ``"simple"`` or ``"uniform"``: 1/(Σt)², 1/Σt or 1.
        smooth: s >= 0, added above and below.
        absent: the weight of a class without pixels, which would be infinite: none with ``"skip"`` and ``"zero"``, that of
            the smallest present class with ``"count"``.
        include_background: whether class 0 takes part.
        soft_overlap: how float targets overlap with p: ``"distance"`` as above, or ``"product"``, Σ w p t.
        class_weight, link, ignore_index, reduction, per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for
            :class:`DiceLoss`; ``reduction="none"`` gives a scalar, ``[B]`` with ``per_image``.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact. 0 where nothing counts.

    Example:
        >>> GeneralizedDiceLoss()(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Sudre et al., Generalised Dice overlap, DLMIA 2017.
    """

    weighting: str = option("square", words=("square", "simple", "uniform"))
    smooth: float = option(0.0, at_least=0)
    absent: str = option("skip", words=("skip", "count", "zero"))
    include_background: bool = option(True)
    soft_overlap: str = option("distance", words=("distance", "product"))

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"weighting": "simple", "absent": "count", "per_image": True},
        {"weighting": "uniform", "class_weight": "random", "smooth": 1.0, "include_background": False},
        {"link": "identity"},
    )
    takes_normalizer: ClassVar[bool] = False
    dense_links: ClassVar[tuple[str, ...]] = ("softmax", "sigmoid", "identity")
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"link": "sigmoid"},
        {"weighting": "simple", "absent": "count", "per_image": True},
        {"link": "sigmoid", "weighting": "uniform", "class_weight": "random", "smooth": 1.0, "include_background": False},
        {"link": "sigmoid", "soft_overlap": "product"},
    )

    @property
    def joint(self) -> bool:
        """The formula takes the classes together."""
        return True

    @property
    def counts_absent(self) -> bool:
        """An absent class weighs what the smallest present one does, so that there has to be one."""
        return False

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return sums_of_areas(kind, product=self.soft_overlap == "product")

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return the cost of all classes together, and whether anything counts."""
        both, predicted, true, counted = areas(fold, product=self.soft_overlap == "product")
        present = true != 0
        if not self.include_background:
            present = present & (torch.arange(true.shape[1], device=true.device) > 0)
        size = torch.where(present, true, 1.0)
        omega = {"square": 1 / size**2, "simple": 1 / size, "uniform": torch.ones_like(size)}[self.weighting]
        omega = torch.where(present, omega, 0.0)
        if self.absent == "count":
            omega = torch.where(present, omega, omega.amax(1, keepdim=True))
        omega = times(omega, included(self, true))
        above = 2 * (omega * both).sum(1, keepdim=True) + self.smooth
        below = (omega * (predicted + true)).sum(1, keepdim=True) + self.smooth
        something = (below != 0) & (counted != 0).any(1, keepdim=True)
        return Ratio(torch.where(something, 1 - above / torch.where(something, below, 1.0), 0.0), something.to(true))
