"""What every loss over the pair fold is: means of sums over a prediction and a target, inside a region."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from lossfold.engines import eager_pair
from lossfold.engines.spec import PAIR_LINKS
from lossfold.errors import LossError
from lossfold.folds.pair import (
    PairFold,
    PairGiven,
    PairNeeds,
    PairSpec,
    PairSum,
    as_images,
    check_pair,
    check_weights,
    refusing_regions,
)
from lossfold.losses.base import UNREAD, divide
from lossfold.losses.images import ImageLoss

Kind = tuple[str, float]  # of a sum, and its number


class Mean(NamedTuple):
    """A part of a loss: ``factor`` * (the sum of ``parts``, each times its own factor) / ``area``."""

    factor: float
    parts: tuple[tuple[float, Kind], ...]
    area: Kind = ("weight", 0.0)


@dataclass(kw_only=True, eq=False, repr=False)
class PairLoss(ImageLoss):
    """A loss of ``(pred, target, weight=None)``: the options that all of them have, and the one way from a fold to a number.

    A weight multiplies each pixel's loss, and the mean divides by its sum; ``[B, 1, *S]`` counts for every channel. With
    ``sample_wise`` every sample has a mean of its own, 0 where nothing counts, and the loss is their mean.
    """

    link: str = "identity"
    reduction: str = "mean"
    sample_wise: bool = False
    engine: str | None = None

    region_argument: ClassVar[str] = "weight"
    in_unit: ClassVar[bool] = False  # whether the region's values must lie in [0, 1]
    outside: ClassVar[bool] = False  # whether the loss is taken where the region is 0
    images_only: ClassVar[bool] = False  # [B, C, H, W], no other space
    has_map: ClassVar[bool] = True  # each pixel has a loss of its own
    has_target: ClassVar[bool] = True
    scope = ""  # of the region's name: a set that hands its own dict to its terms has one
    apart = False  # whether somebody asks for the samples' losses

    def validate(self) -> None:
        """Refuse wrong options."""
        super().validate()
        self.require_one_of("link", PAIR_LINKS)

    def means(self) -> tuple[Mean, ...]:
        """Return the formula."""
        raise NotImplementedError

    def scale(self, given: PairGiven) -> float:
        """Return a factor on the mean."""
        return 1.0

    @property
    def read(self) -> tuple[tuple[str, str], ...]:
        """What else makes the fold's prediction another one."""
        return ()

    @property
    def source(self) -> tuple[tuple[str, str], ...]:
        """Where prediction and target stand; regions may differ within a pass, and so may a target that is not read."""
        places = self.inputs or {}
        found = tuple((name, places.get(name, name)) for name in self.arguments if name != self.region_argument)
        return *found, *(() if self.has_target else (("target", UNREAD),)), *self.read

    @property
    def folds(self) -> bool:
        """Whether the loss is a formula over its fold, so that a set may make the pass for it."""
        return self.reduction != "none" or not self.has_map

    @property
    def region_name(self) -> str:
        """What the sums call the region."""
        return self.scope + (self.inputs or {}).get(self.region_argument, self.region_argument)

    def check(self, loss: str, pred: object, target: object, weight: object = None) -> PairGiven:
        """Refuse what can't be folded, or does not fit the options."""
        return self.checked(loss, *check_pair(loss, pred, target), weight)

    def checked(self, loss: str, pred: Tensor, target: Tensor | None, region: object) -> PairGiven:
        """Return the arguments of a call, the region checked."""
        shape = tuple(pred.shape)
        if self.images_only and len(shape) != 4:
            raise LossError(loss, "pred", "[B, C, H, W]", f"a tensor {list(shape)}")
        regions: dict[str, Tensor] = {}
        if region is not None:
            regions[self.region_name] = as_images(check_weights(loss, self.region_argument, region, pred))
        in_unit = frozenset(regions if self.in_unit else ())
        return PairGiven(as_images(pred), None if target is None else as_images(target), regions, in_unit, shape)

    def where(self, given: PairGiven | None) -> str:
        """Return where the sums are taken, as a :class:`PairSum` has it."""
        if given is None or not given.regions:
            return ""
        return ("~" if self.outside else "") + self.region_name

    def asks(self, given: PairGiven | None = None) -> PairNeeds:
        """Return the sums that the formula reads."""
        where = self.where(given)
        sums: dict[PairSum, None] = {}
        for mean in self.means():
            for kind, number in (*(kind for _, kind in mean.parts), mean.area):
                sums[PairSum(kind, number, where)] = None
        if self.in_unit and where:
            sums[PairSum("weight", 0.0, where)] = None  # reads every pixel of the region, and so finds wrong ones
        apart = self.apart or self.sample_wise or self.reduction == "none"
        return PairNeeds(PairSpec(self.link, tuple(sums)), self.engine, apart)

    def collect(self, needs: PairNeeds, loss: str, given: PairGiven) -> PairFold:
        """Make the pass."""
        return needs.collect(loss, given)

    def parts(self, given: PairGiven, read: Callable[[PairSum], Tensor]) -> Tensor:
        """Return the sum of the means, of sums that ``read`` gives."""
        where, scale = self.where(given), self.scale(given)
        shares = []
        for mean in self.means():
            area = read(PairSum(*mean.area, where))
            each = divide(scale * mean.factor, area) if self.reduction != "sum" else mean.factor
            shares += [factor * each * read(PairSum(*kind, where)) for factor, kind in mean.parts]
        return sum(shares[1:], shares[0])

    def value(self, fold: PairFold, loss: str, given: PairGiven) -> Tensor:
        """Turn a call's fold into the loss; with ``reduction="none"``, of each sample and channel."""
        if self.sample_wise:
            return self.mean_of_samples(fold, loss, given)
        return self.parts(given, fold.__getitem__ if self.reduction == "none" else fold.total).to(fold.dtype)

    def each_sample(self, fold: PairFold, loss: str, given: PairGiven) -> Tensor:
        """Turn a call's fold into the mean of each sample."""
        return self.parts(given, lambda key: fold[key].sum(1)).to(fold.dtype)

    def of(self, loss: str, given: PairGiven) -> Tensor:
        """Return the loss of checked arguments; with ``reduction="none"`` its map, where it has one."""
        if self.folds:
            return super().of(loss, given)
        spec, factors = self.asks(given).spec, {}
        for mean in self.means():
            factors.update({kind: mean.factor * factor for factor, kind in mean.parts})
        kept = tuple(one for one in spec.sums if (one.kind, one.number) in factors)
        ordered = tuple(factors[one.kind, one.number] for one in kept)
        self.check_map(loss)
        with refusing_regions(loss, given):
            values = eager_pair.pair_map(
                given.pred, given.held_against, given.regions, given.in_unit, PairSpec(spec.link, kept), ordered
            )
        return values.reshape(given.shape)

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            pred: ``[B, C, *S]`` predictions (logits with ``link="sigmoid"``); float16, bfloat16, float32 or float64.
            target: of the same shape, float or bool.
            weight: ``[B, 1, *S]``, ``[B, C, *S]`` or ``[B, *S]`` float weights >= 0 or a boolean mask.

        Returns:
            A scalar, float32 (float64 for float64 predictions); with ``reduction="none"`` a weighted value for each pixel.
        """
        return self.loss_weight * self.raw(pred, target, weight)
