"""What every loss over the pair fold is: means of sums over a prediction and a target, inside a region."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.arithmetic import total_dtype
from lossfold.folds.checks import signature
from lossfold.folds.fold import Fold, Sum
from lossfold.folds.pair.given import PairGiven
from lossfold.folds.pair.needs import PairNeeds, check_pair, check_weights
from lossfold.folds.pair.spec import LINKS, PairSpec, PairSum
from lossfold.losses.image_loss import ImageLoss
from lossfold.losses.pixels import one_pass_will_do
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import WEIGHT, times
from lossfold.memory import lasting, recall
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
    volumes: ClassVar[bool] = False  # but [B, C, D, H, W], too
    has_map: ClassVar[bool] = True  # each pixel has a loss of its own
    has_target: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.beside = (cls.region_argument,)

    def means(self) -> tuple[Mean, ...]:
        """Return the formula."""
        raise NotImplementedError

    def means_of(self, given: PairGiven | None) -> tuple[Mean, ...]:
        """Return the formula for a call's arguments."""
        return self.means()

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
        like = signature(pred, target, weight)
        known = self.memory.of(like)
        in_unit = recall(known, "in_unit", lambda: self.checked(*check_pair(pred, target), weight).in_unit)
        regions = {} if weight is None else {self.region_name: weight}
        return PairGiven(pred, target, regions, in_unit, tuple(pred.shape), known)

    def checked(self, pred: Tensor, target: Tensor | None, region: object) -> PairGiven:
        """Return the arguments of a call, the region checked."""
        shape = tuple(pred.shape)
        if self.images_only and len(shape) not in ((4, 5) if self.volumes else (4,)):
            raise wrong(
                "pred",
                "[B, C, H, W] or [B, C, D, H, W]" if self.volumes else "[B, C, H, W]",
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
        for mean in self.means_of(given):
            for kind, number in (*(kind for _, kind in mean.parts), mean.area):
                sums[PairSum(kind, number, where)] = None
        if self.in_unit and where:
            sums[PairSum("weight", 0.0, where)] = None  # reads every pixel of the region, and so finds wrong ones
        return PairNeeds(PairSpec(self.link, tuple(sums)), self.engine, apart=self.apart)

    def formula(self, fold: Fold, given: PairGiven) -> Ratio:
        """Return the means' numerators and denominators, ``[M, I, C]`` (``[I, C]`` of one mean)."""
        where, scale = self.where(given), self.scale(given)
        above, below = [], []
        for mean in self.means_of(given):
            parts = [times(fold[PairSum(*kind, where)], scale * mean.factor * factor) for factor, kind in mean.parts]
            above.append(sum(parts[1:], parts[0]))
            below.append(fold[PairSum(*mean.area, where)])
        return Ratio(above[0], below[0]) if len(above) == 1 else Ratio(torch.stack(above), torch.stack(below))

    def at_once(self, given: PairGiven) -> Tensor | None:
        """Return a mean or sum of one function of p - t over all elements."""
        found = recall(lasting(given.known, given.pred), "once", self.ready_at_once, given)
        return None if found is None else found[0].once(given, found[1])

    @property
    def in_one_pass(self) -> bool:
        """Whether it is a mean or sum of one function of p - t."""
        means = self.means()
        alone = len(means) == 1 and len(means[0].parts) == 1 and means[0].parts[0][1][0] in ALONE and means[0].area == WEIGHT
        return alone and self.one_pass and not self.apart and self.link == "identity"

    def ready_at_once(self, given: PairGiven) -> tuple[PairNeeds, Tensor] | None:
        """Return what makes the pass, and the sums' factors ``[K, 1]``; None if none will do."""
        pred, needs = given.pred, self.needs(given)
        if (
            not isinstance(pred, Tensor)
            or not one_pass_will_do(pred, self.loss_weight)
            or given.regions
            or not self.in_one_pass
            or not needs.has_once(given)
        ):
            return None
        ((mean, ((factor, kind),)),) = ((mean, mean.parts) for mean in self.means())
        factor *= mean.factor * self.scale(given) / (max(1, pred.numel()) if self.reduction == "mean" else 1)
        factors = [factor if one.kind == kind[0] else 0.0 for one in needs.spec.sums]
        return needs, torch.stack([pred.new_full((1,), one, dtype=total_dtype(pred)) for one in factors])

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
