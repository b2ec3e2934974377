"""Losses of an image's gradient: held against a target's, and of the prediction alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.pair.given import PairGiven
from lossfold.folds.pair.needs import check_pred
from lossfold.folds.pair.spec import AXES, PADDINGS
from lossfold.losses.pairs import Mean, PairLoss
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class GradientLoss(PairLoss):
    """The absolute error of the image gradient, Σ w·(|Sx p − Sx t| + |Sy p − Sy t|) / Σ w.

    Sx = [-1 0 1; -2 0 2; -1 0 1], Sy its transpose, each channel by itself. In volumes there are three, [-1 0 1] along an axis and
    [1 2 1] along both others.

    Args:
        padding: "zeros" around the image, or "replicate" continues its borders.
        link: "identity" takes ``pred`` as it is, "sigmoid" takes its sigmoid.
        reduction: "mean", "sum", or "none": a weighted value for each pixel.
        sample_wise: every sample has a mean of its own, and the loss is their mean; an empty sample is 0, where ``per_image``
            of losses of scores leaves it out.
        engine: "eager", "triton" or "cpp"; None takes the fastest that can serve.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range; for other than ``[B, C, H, W]`` and ``[B, C, D, H, W]``.

    Gradient:
        Exact; 0 where a response is 0, and where nothing counts.

    Example:
        >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)
        >>> GradientLoss(padding="replicate")(ramp, ramp + 1)
        tensor(0.)

    Reference:
        Sobel and Feldman, A 3x3 isotropic gradient operator for image processing, 1968; as a loss: Eigen and Fergus, ICCV 2015.
    """

    padding: str = option("zeros", words=PADDINGS)

    images_only: ClassVar[bool] = True
    volumes: ClassVar[bool] = True
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"padding": "replicate", "link": "sigmoid"})

    def means(self) -> tuple[Mean, ...]:
        """Return the formula."""
        return (Mean(1, ((1, ("edge", PADDINGS.index(self.padding))),)),)


@LOSSES.register
@configured
class TVLoss(PairLoss):
    """Total variation: Σ w·|p_right − p| / Σ w + Σ w·|p_below − p| / Σ w, with ``order="l2"`` squares.

    In volumes there is a third mean, of the steps from each plane to the next.
    The weight is that of p; the last column has no step to the right and the last row none below, and neither has their weight.
    It takes no target. A set called with ``(pred, target, weight)`` gives it prediction and weight.

    Args:
        order: "l1" for absolute steps, "l2" for squared ones.
        link: "identity" takes ``pred`` as it is, "sigmoid" takes its sigmoid.
        reduction: "mean"; "sum" puts sums for the two means; "none" gives the loss of each sample and channel, ``[B, C]``.
        sample_wise: every sample has means of its own, and the loss is their mean; an empty sample is 0, where ``per_image``
            of losses of scores leaves it out.
        engine: "eager", "triton" or "cpp"; None takes the fastest that can serve.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range; for other than ``[B, C, H, W]`` and ``[B, C, D, H, W]``.

    Gradient:
        Exact; 0 for a step of 0, and where nothing counts. An image of one column (row) has no step to the right (below).

    Example:
        >>> TVLoss()(torch.arange(8.0).expand(1, 1, 8, 8))
        tensor(1.)

    Reference:
        Rudin, Osher and Fatemi, Nonlinear total variation based noise removal algorithms, Physica D 1992 (here anisotropic).
    """

    order: str = option("l1", words=("l1", "l2"))

    images_only: ClassVar[bool] = True
    volumes: ClassVar[bool] = True
    has_map: ClassVar[bool] = False
    has_target: ClassVar[bool] = False
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"order": "l2", "link": "sigmoid"})

    def means(self, axes: int = 2) -> tuple[Mean, ...]:
        """Return the formula."""
        kind = "step_sq" if self.order == "l2" else "step"
        return tuple(Mean(1, ((1, (kind, axis)),), ("step_weight", axis)) for axis in range(axes))

    def means_of(self, given: PairGiven | None) -> tuple[Mean, ...]:
        """Return the formula, for volumes with all axes."""
        return self.means(len(AXES) if given is not None and len(given.shape) == 5 else 2)

    def check(self, pred: Any, weight: Any = None) -> PairGiven:  # type: ignore[override]
        """Refuse what can't be folded, or does not fit the options."""
        return self.checked(check_pred(pred), None, weight)

    def taken(
        self, inputs: tuple[Any, ...], named: Mapping[str, Any], others: tuple[str, ...]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return all but the target; of what is given by name, what it calls so."""
        if inputs and others[1:2] != ("target",):
            came = f"({', '.join(others)}), as other terms have it"
            raise wrong("arguments", "(pred, target, weight) or in one dict", came, "call the set with a dict, give inputs=")
        mine = {name: value for name, value in named.items() if name in self.arguments or name not in others}
        if "weight" in named and self.region_argument not in named:
            mine[self.region_argument] = named["weight"]
        return inputs[:1] + inputs[2:], mine

    def forward(self, pred: Tensor, weight: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the loss.

        Args:
            pred: ``[B, C, H, W]`` predictions (logits with ``link="sigmoid"``), or volumes ``[B, C, D, H, W]``; float16, bfloat16,
                float32 or float64.
            weight: ``[B, 1, *S]``, ``[B, C, *S]`` or ``[B, *S]`` float weights >= 0 or a boolean mask.

        Returns:
            A scalar, float32 (float64 for float64 predictions).
        """
        return self.weigh(self.evaluate(pred, weight))


@LOSSES.register
@configured
class MaskedTVLoss(TVLoss):
    """Total variation within a mask: the mean of |p_right − p| under the mask m, and the mean of |p_below − p| under it.

    Σ m·|p_right − p| / Σ m, m without its last column, + Σ m·|p_below − p| / Σ m, m without its last row.

    Args:
        order, link, reduction, sample_wise, engine, loss_weight, inputs: as for :class:`TVLoss`.

    Raises:
        LossError: as for :class:`TVLoss`.

    Gradient:
        As for :class:`TVLoss`.

    Example:
        >>> MaskedTVLoss()(torch.arange(8.0).expand(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
        tensor(0.)

    Reference:
        Rudin, Osher and Fatemi, Physica D 1992; under a mask: Liu et al., Image Inpainting for Irregular Holes, ECCV 2018.
    """

    region_argument: ClassVar[str] = "mask"

    def check(self, pred: Any, mask: Any = None) -> PairGiven:  # type: ignore[override]
        """Refuse what can't be folded, or does not fit the options."""
        return super().check(pred, mask)

    def forward(self, pred: Tensor, mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the loss.

        Args:
            pred: ``[B, C, H, W]`` predictions (logits with ``link="sigmoid"``); float16, bfloat16, float32 or float64.
            mask: ``[B, 1, H, W]``, ``[B, C, H, W]`` or ``[B, H, W]``, bool or float >= 0, the weight of a step's left (upper) end.

        Returns:
            A scalar, float32 (float64 for float64 predictions).
        """
        return self.weigh(self.evaluate(pred, mask))
