"""The Laplacian pyramid loss."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from lossfold.folds.pair.given import PairGiven
from lossfold.losses.pairs import Mean, PairLoss
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class LaplacianPyramidLoss(PairLoss):
    """The absolute error of the Laplacian pyramid: (1 / levels)·Σ_l 2^l · mean |L_l(p) − L_l(t)|.

    A pyramid is linear, so that of the difference is built. Binomial 5x5 filter, reflected borders; an odd side is cut by one at
    each level, an image with a side under 4 has no further level (the sum is divided by ``levels`` all the same). Without
    ``residual`` a constant offset costs nothing.

    Args:
        levels: how many, 1 to 16.
        residual: add the image that is left, with the weight 2^levels.
        link: "identity" for alphas and images, "sigmoid" for logits.
        reduction: "mean"; "sum" puts sums for the means; "none" gives the loss of each sample and channel, ``[B, C]``.
        sample_wise: every sample has means of its own, and the loss is their mean; an empty sample is 0, where ``per_image``
            of losses of scores leaves it out.
        engine: "eager", "triton" or "cpp"; None takes the fastest that can serve.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range; for other than ``[B, C, H, W]`` and ``[B, C, D, H, W]``.

    Gradient:
        Exact; 0 where a coefficient is 0, and where nothing counts.

    Example:
        >>> LaplacianPyramidLoss()(torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64))
        tensor(0.)

    Reference:
        Hou and Liu, Context-Aware Image Matting, ICCV 2019; the pyramid: Burt and Adelson, IEEE Trans. Communications 1983.
    """

    levels: int = option(5, between=(1, 16))
    residual: bool = option(False)

    region_argument: ClassVar[str] = "region"
    in_unit: ClassVar[bool] = True
    images_only: ClassVar[bool] = True
    volumes: ClassVar[bool] = True
    has_map: ClassVar[bool] = False
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"levels": 3, "residual": True, "link": "sigmoid"})

    def means(self) -> tuple[Mean, ...]:
        """Return the formula."""
        means = [
            Mean(2**level / self.levels, ((1, ("laplacian", level)),), ("laplacian_weight", level)) for level in range(self.levels)
        ]
        if self.residual:
            means.append(Mean(2**self.levels / self.levels, ((1, ("low_pass", self.levels)),), ("low_pass_weight", self.levels)))
        return tuple(means)

    def check(self, pred: Any, target: Any, region: Any = None) -> PairGiven:
        """Refuse what can't be folded, or does not fit the options."""
        return super().check(pred, target, region)

    def forward(self, pred: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            pred: ``[B, C, H, W]`` alphas or images (logits with ``link="sigmoid"``), or volumes ``[B, C, D, H, W]``.
            target: of the same shape.
            region: ``[B, 1, H, W]``, ``[B, C, H, W]`` or ``[B, H, W]``, bool or float in [0, 1]: a weight on the coefficients,
                at each level the means of its 2x2 blocks.

        Returns:
            A scalar, float32 (float64 for float64 predictions).
        """
        return self.weigh(self.evaluate(pred, target, region))
