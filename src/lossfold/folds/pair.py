"""The pair fold: sums over a prediction and a target of the same kind, ``[B, C, *S]`` both, inside named regions.

What is summed are functions of their difference at each pixel, Sobel responses, and the coefficients of the difference's
Laplacian pyramid: one pass for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lossfold import engines
from lossfold.engines import cpp_pair, eager_pair
from lossfold.engines.spec import PairSpec as PairSpec
from lossfold.engines.spec import PairSum as PairSum
from lossfold.errors import LossError
from lossfold.folds.fold import MOST_SUMS, SCORE_DTYPES, check_gate, describe, result_dtype


@dataclass
class PairFold:
    """What was collected: ``fold[sum]`` is ``[B, C]``. Folds of the same batch's tiles add up."""

    sums: Tensor  # [B, K, C] float64
    wanted: tuple[PairSum, ...]
    dtype: torch.dtype  # of the results
    fixed: bool = True  # regions need no gradient
    rows: tuple[Tensor, ...] | None = None
    totals: tuple[Tensor, ...] | None = None

    def __getitem__(self, key: PairSum) -> Tensor:
        if self.rows is None:
            self.rows = self.sums.unbind(1)
        return self._constant(self.rows[place(self.wanted, key)], key)

    def total(self, key: PairSum) -> Tensor:
        """Return a sum over samples and channels."""
        if self.totals is None:  # once for all losses, because each small step costs as much as a small image
            self.totals = self.sums.sum((0, 2)).unbind(0)
        return self._constant(self.totals[place(self.wanted, key)], key)

    def only(self, loss: str, gate: Tensor) -> PairFold:
        """Return the fold of the images that a gate ``[B]`` lets through."""
        keep = check_gate(loss, gate, self.sums)
        return replace(self, sums=torch.where(keep, self.sums, 0.0), rows=None, totals=None)

    def _constant(self, row: Tensor, key: PairSum) -> Tensor:
        return row.detach() if self.fixed and key.kind.endswith("weight") else row

    def __add__(self, other: PairFold) -> PairFold:
        if self.wanted != other.wanted or self.sums.shape != other.sums.shape:
            raise LossError("PairFold", "other", f"a fold of {self.wanted} {tuple(self.sums.shape)}", f"{other.wanted}")
        return replace(self, sums=self.sums + other.sums, rows=None, totals=None)


def place(sums: tuple[PairSum, ...], wanted: PairSum) -> int:
    """Return where a sum stands, or -1 (spelled out, because torch.compile does not trace ``tuple.index`` with tuples)."""
    for index, one in enumerate(sums):
        if one.kind == wanted.kind and one.number == wanted.number and one.where == wanted.where:
            return index
    return -1


@dataclass(frozen=True)
class PairGiven:
    """A call's arguments, checked; regions by the names that sums know them by.

    Predictions, targets and regions are ``[B, C, H, W]`` (regions may have one channel), ``shape`` is what came. Without a target
    no sum reads one, and a pass may be shared with losses that have one.
    """

    pred: Tensor
    target: Tensor | None
    regions: Mapping[str, Tensor]
    in_unit: frozenset[str]
    shape: tuple[int, ...]

    def merge(self, other: PairGiven) -> PairGiven:
        """Return the arguments with another call's regions of the same prediction and target."""
        target = other.target if self.target is None else self.target
        return replace(self, target=target, regions={**self.regions, **other.regions}, in_unit=self.in_unit | other.in_unit)

    @property
    def held_against(self) -> Tensor:
        """The target; where there is none, something like it that no sum reads."""
        return self.pred.detach() if self.target is None else self.target

    def having(self, change: Callable[[Tensor], Tensor]) -> PairGiven:
        """Return the arguments with another prediction, and another target if that takes a gradient, made of these."""
        target = self.target
        target = change(target) if target is not None and target.requires_grad else target
        return replace(self, pred=change(self.pred), target=target)

    def in_one_row(self) -> PairGiven:
        """Return many small images, whose sums are added anyway, as one."""
        images, channels, rows, columns = self.pred.shape
        if images * channels <= 256 or rows * columns >= 1024:
            return self

        def row(tensor: Tensor) -> Tensor:
            return tensor.expand(-1, channels, -1, -1).reshape(1, 1, 1, images * channels * rows * columns)

        regions = {name: row(region) for name, region in self.regions.items()}
        return replace(self, pred=row(self.pred), target=row(self.held_against), regions=regions)


@dataclass(frozen=True)
class PairNeeds:
    """What a loss wants collected. Losses whose needs :meth:`agree` share one pass, which collects all they want."""

    spec: PairSpec
    engine: str | None
    apart: bool = False  # whether anyone asks for the samples apart

    def agree(self, other: object) -> bool:
        """Whether one pass can serve both."""
        return (
            isinstance(other, PairNeeds)
            and (self.spec.link, self.engine) == (other.spec.link, other.engine)
            and len(self.spec.sums) + len(other.spec.sums) <= MOST_SUMS
        )

    def merge(self, other: PairNeeds) -> PairNeeds:
        """Return the needs of both."""
        more = tuple(one for one in other.spec.sums if place(self.spec.sums, one) < 0)
        return replace(self, spec=replace(self.spec, sums=self.spec.sums + more), apart=self.apart or other.apart)

    def each_image(self) -> PairNeeds:
        """Return the same fold, of each image apart."""
        return replace(self, apart=True)

    def collect(self, loss: str, given: PairGiven) -> PairFold:
        """Make the pass over tensors that have been checked."""
        fixed = not any(region.requires_grad for region in given.regions.values())
        if not self.apart and all(one.alone for one in self.spec.sums):
            given = given.in_one_row()
        serves = engines.select(loss, self.engine, given.pred, given.held_against, *given.regions.values())
        run = cpp_pair.pair_fold if serves == "cpp" else eager_pair.pair_fold
        with refusing_regions(loss, given):
            sums = run(given.pred, given.held_against, given.regions, given.in_unit, self.spec)
        return PairFold(sums, self.spec.sums, result_dtype(given.pred), fixed)


class refusing_regions:  # noqa: N801 - reads as a verb
    """Turn an engine's complaint about a region's value into a LossError (compiled code keeps the RuntimeError)."""

    def __init__(self, loss: str, given: PairGiven) -> None:
        self.loss, self.given = loss, given

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, RuntimeError) or "lossfold: a region value" not in str(error):
            return
        for name in sorted(self.given.in_unit):
            values = self.given.regions[name].detach().double()
            wrong = values[~((values >= 0) & (values <= 1))]
            if len(wrong):
                found = sorted({round(x, 4) for x in wrong[:1000].tolist()})[:5]
                hint = "region_from_trimap makes it from a trimap" if wrong.max() > 1 else ""
                raise LossError(self.loss, "region", "in [0, 1], 1 where alpha is unknown", f"also {found}", hint) from None


def check_pair(loss: str, pred: object, target: object, names: tuple[str, str] = ("pred", "target")) -> tuple[Tensor, Tensor]:
    """Refuse a prediction and a target that can't be folded, by shape, dtype and device."""
    pred = check_pred(loss, pred, names[0])
    check_beside(loss, names[1], target, pred, (tuple(pred.shape),), names[0])
    return pred, target  # type: ignore[return-value]  # checked above


def check_pred(loss: str, pred: object, name: str = "pred") -> Tensor:
    """Refuse a prediction that can't be folded, by shape, dtype and layout."""
    if not isinstance(pred, Tensor) or pred.dtype not in SCORE_DTYPES:
        raise LossError(loss, name, "a float tensor [B, C, *S]", describe(pred), integers(pred))
    check_dense(loss, name, pred)
    if pred.dim() < 2 or pred.shape[1] == 0:
        raise LossError(loss, name, "[B, C, *S] with at least one channel", describe(pred))
    return pred


def check_dense(loss: str, argument: str, tensor: Tensor) -> None:
    """Refuse sparse and nested tensors."""
    if tensor.layout != torch.strided or tensor.is_nested:
        raise LossError(loss, argument, "a dense strided tensor", f"layout {tensor.layout}", "call .to_dense()")


def check_beside(loss: str, name: str, tensor: object, like: Tensor, shapes: tuple[tuple[int, ...], ...], whose: str) -> None:
    """Refuse a tensor of none of these shapes, or of another device; nothing is broadcast silently."""
    if not isinstance(tensor, Tensor):
        raise LossError(loss, name, f"a tensor {list(shapes[0])}", describe(tensor))
    check_dense(loss, name, tensor)
    if tensor.dtype not in (*SCORE_DTYPES, torch.bool):
        hint = "region_from_trimap makes it from a trimap" if name == "region" else integers(tensor)
        raise LossError(loss, name, "a float or bool tensor", describe(tensor), hint)
    if tuple(tensor.shape) not in shapes:
        expected = " or ".join(str(list(shape)) for shape in dict.fromkeys(shapes))
        raise LossError(loss, name, f"of shape {expected}, as {whose} is {list(like.shape)}", describe(tensor))
    if tensor.device != like.device:
        raise LossError(loss, name, f"on {whose}'s device {like.device}", str(tensor.device))


def check_weights(loss: str, name: str, weight: object, pred: Tensor) -> Tensor:
    """Refuse weights that would be broadcast other than over the channels; return them as ``[B, 1 or C, *S]``."""
    shape = tuple(pred.shape)
    check_beside(loss, name, weight, pred, ((shape[0], 1, *shape[2:]), shape, (shape[0], *shape[2:])), "pred")
    assert isinstance(weight, Tensor)
    return weight if weight.dim() == len(shape) else weight.unsqueeze(1)


def integers(tensor: object) -> str:
    """Say what to do with integers."""
    return "divide by 255, or call .float()" if isinstance(tensor, Tensor) and not tensor.is_floating_point() else ""


def as_images(tensor: Tensor) -> Tensor:
    """Return ``[B, C, *S]`` as ``[B, C, H, W]``; other spaces than two-dimensional ones become one row."""
    return tensor if tensor.dim() == 4 else tensor.reshape(*tensor.shape[:2], 1, math.prod(tensor.shape[2:]))
