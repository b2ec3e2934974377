"""Sets that people know by one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any, ClassVar

from torch import Tensor

from lossfold.compose.loss_set import LossSet
from lossfold.errors import LossError, is_number
from lossfold.losses.base import Configured, take_alias
from lossfold.losses.classes.cross_entropy import CrossEntropyLoss
from lossfold.losses.classes.overlap import DiceLoss
from lossfold.registry import LOSSES


@LOSSES.register
@dataclass(kw_only=True, eq=False, repr=False)
class CEDiceLoss(Configured, LossSet):
    """Cross entropy plus Dice on one pass, a set with the terms ``ce`` and ``dice``.

    Args:
        ce_weight: the weight of the cross entropy.
        dice_weight: the weight of the Dice loss.
        label_smoothing: as for :class:`CrossEntropyLoss`.
        average, smooth, squared, log, absent, include_background: as for :class:`DiceLoss`.
        link, ignore_index, class_weight, reduction, per_image, align_corners, engine, inputs: of both terms.
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

    ce_weight: float = 1.0
    dice_weight: float = 1.0
    label_smoothing: float = 0.0
    average: str = "macro"
    smooth: float = 1.0
    squared: bool = False
    log: bool = False
    absent: str = "skip"
    include_background: bool = True
    link: str = "softmax"
    ignore_index: int = -100
    class_weight: Sequence[float] | Tensor | None = None
    reduction: str = "mean"
    per_image: bool = False
    align_corners: bool = False
    engine: str | None = None
    loss_weight: float = 1.0
    inputs: Mapping[str, str] | None = None
    data_info: InitVar[Mapping[str, str] | None] = None

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"class_weight": "random", "label_smoothing": 0.1, "dice_weight": 0.5, "per_image": True},
    )

    def __post_init__(self, data_info: Mapping[str, str] | None) -> None:
        take_alias(self, data_info)
        for name in ("ce_weight", "dice_weight"):
            self.require(name, is_number(getattr(self, name)), "a number")
        shared = ("link", "ignore_index", "class_weight", "reduction", "per_image", "align_corners", "engine", "inputs")
        overlap = ("average", "smooth", "squared", "log", "absent", "include_background")
        ce = {name: getattr(self, name) for name in (*shared, "label_smoothing")}
        dice = {name: getattr(self, name) for name in (*shared, *overlap)}
        try:
            terms = {
                "ce": CrossEntropyLoss(loss_weight=self.ce_weight, **ce),
                "dice": DiceLoss(loss_weight=self.dice_weight, **dice),
            }
        except LossError as error:
            raise LossError("CEDiceLoss", error.argument, error.expected, error.got, error.hint) from None
        object.__setattr__(self, "class_weight", terms["ce"].class_weight)
        self.take(terms)

    def validate(self) -> None:
        """Pass a changed option on to the terms."""
        self.__post_init__(None)
