"""Losses of an alpha matte inside or outside of the unknown region."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.pair.given import PairGiven
from lossfold.folds.pair.needs import PairNeeds
from lossfold.folds.pair.spec import PADDINGS
from lossfold.losses.images.pixel import L1Loss, SmoothL1Loss
from lossfold.losses.pairs import Mean, PairLoss
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@configured
class RegionLoss(PairLoss):
    """A loss of ``(pred, target, region)``, the region being the map of the unknown."""

    reference_area: float | None = option(None, more_than=0)
    validate: bool = option(False)

    region_argument: ClassVar[str] = "region"
    in_unit: ClassVar[bool] = True
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"reference_area": 262144, "link": "sigmoid"})

    def settle(self) -> None:
        """Refuse wrong options."""
        super().settle()
        self.require("reference_area", self.reference_area is None or self.reduction == "mean", "None unless reduction='mean'")

    def scale(self, given: PairGiven) -> float:
        """Return reference_area / (H·W)."""
        return 1.0 if self.reference_area is None else self.reference_area / max(1, math.prod(given.shape[2:]))

    def check(self, pred: Any, target: Any, region: Any) -> PairGiven:  # type: ignore[override]
        """Refuse what can't be folded, or does not fit the options."""
        if region is None:
            raise wrong("region", "the map of the unknown, 1 where alpha is unknown", "None")
        return super().check(pred, target, region)

    def needs(self, given: PairGiven | None = None) -> PairNeeds:
        """Return the sums that the formula reads."""
        return replace(super().needs(given), validate=self.validate)

    def where(self, given: PairGiven | None) -> str:
        """Return where the sums are taken."""
        return ("~" if self.outside else "") + self.region_name

    def forward(self, pred: Tensor, target: Tensor, region: Tensor) -> Tensor:  # type: ignore[override]
        """Return the loss.

        Args:
            pred: ``[B, 1, H, W]`` alphas (logits with ``link="sigmoid"``); any number of channels and space will do.
            target: the true alphas, of the same shape.
            region: the map of the unknown, ``[B, 1, H, W]`` or ``[B, H, W]``, bool or float in [0, 1], 1 where alpha is
                unknown; :func:`lossfold.functional.region_from_trimap` makes it from a trimap.

        Returns:
            A scalar, float32 (float64 for float64 predictions); with ``reduction="none"`` a weighted value for each pixel.
        """
        return self.weigh(self.evaluate(pred, target, region))


@LOSSES.register
@configured
class UnknownL1Loss(RegionLoss, L1Loss):
    """The absolute error of alpha in the unknown region r: Σ r·|p − t| / Σ r.

    Args:
        reference_area: A multiplies the mean by A / (H·W); 262144 gives the values of criteria written for 512x512 crops.
        link: "identity" for alphas, "sigmoid" for logits.
        reduction: "mean", "sum", or "none": a weighted value for each pixel.
        sample_wise: every sample has a mean of its own, and the loss is their mean; an empty sample is 0, where ``per_image``
            of losses of scores leaves it out.
        validate: look for wrong values off the CPU too, which waits for the device: alphas outside of [0, 1], or a trimap.
        engine: "eager", "triton" or "cpp"; None takes the fastest that can serve.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes, dtypes or region values that are out of range.

    Gradient:
        The sign of the difference, times r / Σ r; 0 where prediction and target are equal, and for an empty region.

    Example:
        >>> region = torch.zeros(1, 1, 8, 8).index_fill(-1, torch.tensor([3, 4]), 1)
        >>> UnknownL1Loss()(torch.full((1, 1, 8, 8), 0.5), torch.ones(1, 1, 8, 8), region)
        tensor(0.5000)

    Reference:
        Xu et al., Deep Image Matting, CVPR 2017 (alpha prediction loss); Yao et al., ViTMatte, Information Fusion 2024.
    """


@LOSSES.register
@configured
class KnownL1Loss(UnknownL1Loss):
    """The absolute error of alpha where it is known, that is where the region is 0: the mean of |p − t| there.

    Args:
        reference_area, link, reduction, sample_wise, validate, engine, loss_weight, inputs: as for :class:`UnknownL1Loss`.

    Raises:
        LossError: as for :class:`UnknownL1Loss`.

    Gradient:
        As for :class:`UnknownL1Loss`, where the region is 0.

    Example:
        >>> KnownL1Loss()(torch.full((1, 1, 8, 8), 0.5), torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
        tensor(0.5000)

    Reference:
        Yao et al., ViTMatte, Information Fusion 2024.
    """

    outside: ClassVar[bool] = True


@LOSSES.register
@configured
class KnownSmoothL1Loss(RegionLoss, SmoothL1Loss):
    """The smooth absolute error of alpha where it is known: the mean of ρ(p − t) where the region is 0.

    ρ(d) = d²/(2·beta) for |d| < beta, else |d| − beta/2.

    Args:
        beta: where the parabola ends, >= 0.
        reference_area, link, reduction, sample_wise, validate, engine, loss_weight, inputs: as for :class:`UnknownL1Loss`.

    Raises:
        LossError: as for :class:`UnknownL1Loss`.

    Gradient:
        Exact.

    Example:
        >>> KnownSmoothL1Loss()(torch.full((1, 1, 8, 8), 0.5), torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
        tensor(0.1250)

    Reference:
        Girshick, Fast R-CNN, ICCV 2015 (ρ).
    """

    outside: ClassVar[bool] = True


@LOSSES.register
@configured
class MattingGradientLoss(RegionLoss):
    """The error of alpha's gradient in the unknown region, and a share of the gradient itself.

    Σ r·(|Sx p − Sx t| + |Sy p − Sy t| + smoothness·(|Sx p| + |Sy p|)) / Σ r, with Sx = [-1 0 1; -2 0 2; -1 0 1], Sy its
    transpose. The last part is a prior for smooth alphas: a perfect alpha with edges does not cost 0.

    Args:
        smoothness: the share of the gradient itself, >= 0.
        padding: "replicate" continues the borders; "zeros" punishes a perfect opaque alpha there, as published criteria do.
        reference_area, link, reduction, sample_wise, validate, engine, loss_weight, inputs: as for :class:`UnknownL1Loss`.

    Raises:
        LossError: as for :class:`UnknownL1Loss`; for tensors other than ``[B, C, H, W]``.

    Gradient:
        Exact; 0 where a response is 0, and for an empty region.

    Example:
        >>> alpha, region = torch.eye(8)[None, None], torch.ones(1, 1, 8, 8)
        >>> MattingGradientLoss(smoothness=0)(alpha, alpha, region)
        tensor(0.)

    Reference:
        Dai et al., Boosting Robustness of Image Matting with Context Assembling and Strong Data Augmentation, CVPR 2022.
    """

    smoothness: float = option(0.01, at_least=0)
    padding: str = option("replicate", words=PADDINGS)

    images_only: ClassVar[bool] = True
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"padding": "zeros", "smoothness": 0.1, "reference_area": 262144})

    def means(self) -> tuple[Mean, ...]:
        """Return the formula."""
        padding = PADDINGS.index(self.padding)
        prior = ((self.smoothness, ("edge_of_pred", padding)),) if self.smoothness else ()
        return (Mean(1, ((1, ("edge", padding)), *prior)),)
