"""What every loss over the pair fold is: means of sums over a prediction and a target, inside a region."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.fold import Fold, Sum
from lossfold.folds.pair.given import PairGiven
from lossfold.folds.pair.needs import PairNeeds, check_pair, check_weights
from lossfold.folds.pair.spec import LINKS, PairSpec, PairSum
from lossfold.losses.image_loss import ImageLoss
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import WEIGHT, one_pass_will_do, times
from lossfold.options import configured, option

ALONE = ("abs", "square", "smooth_abs", "charbonnier")  # sums of functions of p - t at each pixel


class Mean(NamedTuple):
    """A part of a loss: ``factor`` * (the sum of ``parts``, each times its own factor) / ``area``."""

    factor: float
    parts: tuple[tuple[float, Sum], ...]
    area: Sum = ("weight", 0.0)


@configured
class PairLoss(ImageLoss):
    """A loss of ``(pred, target, weight=None)``: the options that all of them have, and the one way from a fold to a number.

    A weight multiplies each pixel's loss, and the mean divides by its sum; ``[B, 1, *S]`` counts for every channel. With
    ``sample_wise`` every sample has a mean of its own, 0 where nothing counts, and the loss is their mean.
    """

    link: str = option("identity", words=LINKS)

    region_argument: ClassVar[str] = "weight"
    in_unit: ClassVar[bool] = False  # whether the region's values must lie in [0, 1]
    outside: ClassVar[bool] = False  # whether the loss is taken where the region is 0
    images_only: ClassVar[bool] = False  # [B, C, H, W], no other space
    has_map: ClassVar[bool] = True  # each pixel has a loss of its own
    has_target: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.beside = (cls.region_argument,)

    def means(self) -> tuple[Mean, ...]:
        """Return the formula."""
        raise NotImplementedError

    def scale(self, given: PairGiven) -> float:
        """Return a factor on the mean."""
        return 1.0

    @property
    def folds(self) -> bool:
        """Whether the loss is a formula over its fold, so that a set may make the pass for it; a map is not."""
        return self.reduction != "none" or not self.has_map

    @property
    def lasts(self) -> int:
        """How many numbers the last ratio has: two for each mean."""
        return super().lasts * (1 if self.apart or self.reduction == "sum" else len(self.means()))

    @property
    def region_name(self) -> str:
        """What the sums call the region."""
        return (self.inputs or {}).get(self.region_argument, self.region_argument)

    def check(self, pred: Any, target: Any, weight: Any = None) -> PairGiven:
        """Refuse what can't be folded, or does not fit the options."""
        return self.checked(*check_pair(pred, target), weight)

    def checked(self, pred: Tensor, target: Tensor | None, region: object) -> PairGiven:
        """Return the arguments of a call, the region checked."""
        shape = tuple(pred.shape)
        if self.images_only and len(shape) != 4:
            raise wrong(
                "pred",
                "[B, C, H, W]",
                f"a tensor {list(shape)}",
                "the batch dimension is required: pred[None]" if len(shape) == 3 else "",
            )
        regions: dict[str, Tensor] = {}
        if region is not None:
            regions[self.region_name] = check_weights(self.region_argument, region, pred)
        return PairGiven(pred, target, regions, frozenset(regions if self.in_unit else ()), shape)

    def where(self, given: PairGiven | None) -> str:
        """Return where the sums are taken, as a :class:`PairSum` has it."""
        if given is None or not given.regions:
            return ""
        return ("~" if self.outside else "") + self.region_name

    def needs(self, given: PairGiven | None = None) -> PairNeeds:
        """Return the sums that the formula reads."""
        where = self.where(given)
        sums: dict[PairSum, None] = {}
        for mean in self.means():
            for kind, number in (*(kind for _, kind in mean.parts), mean.area):
                sums[PairSum(kind, number, where)] = None
        if self.in_unit and where:
            sums[PairSum("weight", 0.0, where)] = None  # reads every pixel of the region, and so finds wrong ones
        return PairNeeds(PairSpec(self.link, tuple(sums)), self.engine, apart=self.apart)

    def formula(self, fold: Fold, given: PairGiven) -> Ratio:
        """Return the means' numerators and denominators, ``[M, I, C]`` (``[I, C]`` of one mean)."""
        where, scale = self.where(given), self.scale(given)
        above, below = [], []
        for mean in self.means():
            parts = [times(fold[PairSum(*kind, where)], scale * mean.factor * factor) for factor, kind in mean.parts]
            above.append(sum(parts[1:], parts[0]))
            below.append(fold[PairSum(*mean.area, where)])
        return Ratio(above[0], below[0]) if len(above) == 1 else Ratio(torch.stack(above), torch.stack(below))

    def at_once(self, given: PairGiven) -> Tensor | None:
        """Return a mean or sum of one function of p - t over all elements."""
        pred, means = given.pred, self.means()
        if not isinstance(pred, Tensor) or given.regions or self.apart or self.link != "identity":
            return None
        if not one_pass_will_do(pred, self.loss_weight):
            return None
        if len(means) != 1 or len(means[0].parts) != 1 or means[0].parts[0][1][0] not in ALONE or means[0].area != WEIGHT:
            return None
        ((factor, kind),) = means[0].parts
        factor *= means[0].factor * self.scale(given) / (max(1, pred.numel()) if self.reduction == "mean" else 1)
        needs = self.needs(given)
        return needs.once(tuple(factor if one.kind == kind[0] else 0.0 for one in needs.spec.sums), given)

    def direct(self, given: PairGiven) -> Tensor:
        """Return the loss's map."""
        factors: dict[Sum, float] = {}
        for mean in self.means():
            factors.update({kind: mean.factor * factor for factor, kind in mean.parts})
        needs = self.needs(given)
        kept = tuple(one for one in needs.spec.sums if (one.kind, one.number) in factors)
        self.check_map()
        return needs.asking(sums=kept).integrate(given, tuple(factors[one.kind, one.number] for one in kept))

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            pred: ``[B, C, *S]`` predictions (logits with ``link="sigmoid"``); float16, bfloat16, float32 or float64.
            target: of the same shape, float or bool.
            weight: ``[B, 1, *S]``, ``[B, C, *S]`` or ``[B, *S]`` float weights >= 0 or a boolean mask.

        Returns:
            A scalar, float32 (float64 for float64 predictions); with ``reduction="none"`` a weighted value for each pixel.
        """
        return self.weigh(self.evaluate(pred, target, weight))
