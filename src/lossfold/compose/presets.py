"""Sets that people know by one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar
from typing import Any, ClassVar

from torch import Tensor, nn

from lossfold.compose.loss_set import LossSet
from lossfold.errors import LossError, naming
from lossfold.losses.base import take_alias
from lossfold.losses.classes.asymmetric import AsymmetricFocalLoss, AsymmetricFocalTverskyLoss
from lossfold.losses.classes.cross_entropy import CrossEntropyLoss
from lossfold.losses.classes.exp_log import PowerCrossEntropy
from lossfold.losses.classes.overlap import DiceLoss, TverskyLoss
from lossfold.losses.configured import Configured
from lossfold.options import configured, option, same_as
from lossfold.registry import LOSSES


class NamedSet(Configured, LossSet):
    """A set whose terms are built from its options."""

    def __post_init__(self, data_info: Mapping[str, str] | None) -> None:
        take_alias(self, data_info)
        with naming(type(self).__name__):
            self.settle()

    def take_terms(self, build: Callable[[], Mapping[str, nn.Module]]) -> None:
        """Take the terms; what they refuse, the set does."""
        try:
            self.take(build())
        except LossError as error:
            raise LossError(type(self).__name__, error.argument, error.expected, error.got, error.hint) from None


OF_BOTH = ("link", "ignore_index", "class_weight", "reduction", "per_image", "align_corners", "resize", "validate", "engine")


@configured
class ScoreSet(NamedSet):
    """A set of losses of scores: the options that its terms have in common."""

    link: str
    ignore_index: int | Sequence[int] = same_as(DiceLoss, "ignore_index")
    class_weight: Sequence[float] | Tensor | None = same_as(DiceLoss, "class_weight")
    reduction: str = same_as(DiceLoss, "reduction")
    per_image: bool = same_as(DiceLoss, "per_image")
    align_corners: bool = same_as(DiceLoss, "align_corners")
    resize: bool = same_as(DiceLoss, "resize")
    validate: bool = same_as(DiceLoss, "validate")
    engine: str | None = same_as(DiceLoss, "engine")
    loss_weight: float = option(1.0)
    inputs: Mapping[str, str] | None = None
    data_info: InitVar[Mapping[str, str] | None] = None

    def given(self, *own: str) -> dict[str, Any]:
        """Return the options that all terms have, and others of one term's own."""
        return {name: getattr(self, name) for name in (*OF_BOTH, "inputs", *own)}


@LOSSES.register
@configured
class CEDiceLoss(ScoreSet):
    """Cross entropy plus Dice on one pass, a set with the terms ``ce`` and ``dice``.

    Args:
        ce_weight: the weight of the cross entropy.
        dice_weight: the weight of the Dice loss.
        label_smoothing: as for :class:`CrossEntropyLoss`.
        average, smooth, eps, squared, log, log_cosh, absent, include_background: as for :class:`DiceLoss`.
        link, ignore_index, class_weight, reduction, per_image, align_corners, resize, validate, engine, inputs: of both terms.
        loss_weight: a factor on both.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact. 0 where nothing counts.

    Example:
        >>> out = CEDiceLoss(ignore_index=255)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8)))
        >>> out.total.shape, sorted(out.terms)
        (torch.Size([]), ['ce', 'dice'])

    Reference:
        The combination: Isensee et al., nnU-Net, Nature Methods 2021.
    """

    ce_weight: float = option(1.0)
    dice_weight: float = option(1.0)
    label_smoothing: float = same_as(CrossEntropyLoss, "label_smoothing")
    average: str = same_as(DiceLoss, "average")
    smooth: float = same_as(DiceLoss, "smooth")
    eps: float = same_as(DiceLoss, "eps")
    squared: bool = same_as(DiceLoss, "squared")
    log: bool = same_as(DiceLoss, "log")
    log_cosh: bool = same_as(DiceLoss, "log_cosh")
    absent: str = same_as(DiceLoss, "absent")
    include_background: bool = same_as(DiceLoss, "include_background")
    link: str = same_as(CrossEntropyLoss, "link")

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"class_weight": "random", "label_smoothing": 0.1, "dice_weight": 0.5, "per_image": True},
    )

    def settle(self) -> None:
        """Refuse wrong options, and build the terms from them."""
        super().settle()
        overlap = ("average", "smooth", "eps", "squared", "log", "log_cosh", "absent", "include_background")
        ce, dice = self.given("label_smoothing"), self.given(*overlap)
        self.take_terms(
            lambda: {
                "ce": CrossEntropyLoss(loss_weight=self.ce_weight, **ce),
                "dice": DiceLoss(loss_weight=self.dice_weight, **dice),
            }
        )


@LOSSES.register
@configured
class UnifiedFocalLoss(ScoreSet):
    """Asymmetric unified focal loss: a set with the terms ``focal`` and ``tversky`` on one pass.

    λ :class:`AsymmetricFocalLoss` + (1-λ) :class:`AsymmetricFocalTverskyLoss`, both with δ and γ.

    Args:
        balance: λ in [0, 1].
        delta: δ in (0, 1).
        gamma: γ in [0, 1).
        smooth, absent, include_background: as for :class:`AsymmetricFocalTverskyLoss`.
        link, ignore_index, class_weight, reduction, per_image, align_corners, resize, validate, engine, inputs: of both terms.
        loss_weight: a factor on both.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact. 0 where nothing counts.

    Example:
        >>> out = UnifiedFocalLoss(ignore_index=255)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8)))
        >>> out.total.shape, sorted(out.terms)
        (torch.Size([]), ['focal', 'tversky'])

    Reference:
        Yeung et al., Unified Focal Loss, Computerized Medical Imaging and Graphics 2022, whose δ and γ are the defaults.
    """

    balance: float = option(0.5, between=(0, 1))
    delta: float = option(0.6, more_than=0, less_than=1)
    gamma: float = option(0.5, at_least=0, less_than=1)
    smooth: float = same_as(AsymmetricFocalTverskyLoss, "smooth")
    absent: str = same_as(AsymmetricFocalTverskyLoss, "absent")
    include_background: bool = same_as(AsymmetricFocalTverskyLoss, "include_background")
    link: str = same_as(AsymmetricFocalLoss, "link")

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"balance": 0.25, "class_weight": "random"},)

    def settle(self) -> None:
        """Refuse wrong options, and build the terms from them."""
        super().settle()
        focal = self.given("delta", "gamma")
        tversky = self.given("delta", "gamma", "smooth", "absent", "include_background")
        self.take_terms(
            lambda: {
                "focal": AsymmetricFocalLoss(loss_weight=self.balance, **focal),
                "tversky": AsymmetricFocalTverskyLoss(loss_weight=1 - self.balance, **tversky),
            }
        )


@LOSSES.register
@configured
class ExpLogLoss(ScoreSet):
    """Exponential logarithmic loss: a set with the terms ``dice`` and ``ce``.

    With Dice scores D_c (smoothed by s) and class weight v::

        dice = Σ_c v_c (-log D_c)^γ_dice / Σ_c v_c,    ce = Σ w v_y max(-log p_y, 1e-7)^γ_ce / Σ w v_y

    Args:
        dice_weight, ce_weight: the terms' weights.
        dice_exponent, ce_exponent: γ > 0. Below 1 hard pixels and easy ones both weigh; Wong et al. take 0.3.
        smooth, absent, include_background: as for :class:`DiceLoss`.
        link, ignore_index, class_weight, reduction, per_image, align_corners, resize, validate, engine, inputs: of both terms.
        loss_weight: a factor on both.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact, and never steeper than at -log p = 1e-7: a pixel's p counts as exp(-1e-7) at most, above which float32 does not tell
        it from 1, and a class's -log D below 1e-7 goes to 0 on a straight line. 0 where nothing counts.

    Example:
        >>> out = ExpLogLoss(ignore_index=255)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8)))
        >>> out.total.shape, sorted(out.terms)
        (torch.Size([]), ['ce', 'dice'])

    Reference:
        Wong et al., 3D Segmentation with Exponential Logarithmic Loss for Highly Unbalanced Object Sizes, MICCAI 2018.
    """

    dice_weight: float = option(0.8)
    ce_weight: float = option(0.2)
    dice_exponent: float = option(0.3, more_than=0)
    ce_exponent: float = option(0.3, more_than=0)
    smooth: float = same_as(DiceLoss, "smooth")
    absent: str = same_as(DiceLoss, "absent")
    include_background: bool = same_as(DiceLoss, "include_background")
    link: str = same_as(AsymmetricFocalLoss, "link")

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"class_weight": "random"},)

    def settle(self) -> None:
        """Refuse wrong options, and build the terms from them."""
        super().settle()
        ce, dice = self.given(), self.given("absent", "include_background")
        smooth, exponent = self.smooth / 2, self.dice_exponent  # Tversky's score has half of Dice's numerator
        self.take_terms(
            lambda: {
                "dice": TverskyLoss(loss_weight=self.dice_weight, log=True, smooth=smooth, exponent=exponent, **dice),
                "ce": PowerCrossEntropy(loss_weight=self.ce_weight, exponent=self.ce_exponent, **ce),
            }
        )
