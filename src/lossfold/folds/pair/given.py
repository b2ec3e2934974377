"""What losses of a prediction and a target are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from lossfold.folds.fold import Arguments


class Made(NamedTuple):
    """A tensor that is yet to be made, in the pass, of others: of what, and how."""

    make: Callable[..., Tensor]
    of: tuple[Tensor, ...]
    options: tuple[Any, ...] = ()

    def tensor(self) -> Tensor:
        """Make it."""
        return self.make(*self.of, *self.options)


def tensor_of(value: Tensor | Made) -> Tensor:
    """Return a tensor, made if it has to be."""
    return value.tensor() if isinstance(value, Made) else value


def is_same(one: Tensor | Made | None, other: Tensor | Made | None) -> bool:
    """Whether both are the same tensor, or made alike of the same ones."""
    if not isinstance(one, Made) or not isinstance(other, Made):
        return one is other
    alike = one.make is other.make and one.options == other.options and len(one.of) == len(other.of)
    return alike and all(a is b for a, b in zip(one.of, other.of, strict=True))


@dataclass(frozen=True)
class PairGiven(Arguments):
    """A call's arguments, checked, and as they came: one pass serves calls that were given the same prediction and target.

    Without a target no sum reads one, and a pass may be shared with losses that have one.

    Attributes:
        pred: ``[B, C, *S]``.
        target: the same.
        regions: weights ``[B, *S]``, ``[B, 1, *S]`` or ``[B, C, *S]``, by the names that sums know them by.
        in_unit: which of them must lie in [0, 1].
        shape: that of the prediction.
        known: what a loss remembers of calls like this one.
    """

    pred: Tensor | Made
    target: Tensor | Made | None
    regions: Mapping[str, Tensor]
    in_unit: frozenset[str]
    shape: tuple[int, ...]
    known: dict[Any, Any] | None = None

    def same(self, other: PairGiven) -> bool:
        """Whether both hold the same tensors; a region of the same name has to be the same as well."""
        if not is_same(self.pred, other.pred):
            return False
        targets = self.target is None or other.target is None or is_same(self.target, other.target)
        common = [name for name in self.regions if name in other.regions]
        return targets and all(self.regions[name] is other.regions[name] for name in common)

    def merge(self, other: PairGiven) -> PairGiven:
        """Return the arguments with another call's regions of the same prediction and target."""
        target = other.target if self.target is None else self.target
        regions = {**self.regions, **other.regions}
        return replace(self, target=target, regions=regions, in_unit=self.in_unit | other.in_unit, known=None)

    def having(self, change: Callable[[Tensor], Tensor]) -> PairGiven:
        """Return the arguments with another prediction, and another target if that takes a gradient, made of these."""

        def changed(value: Tensor | Made) -> Tensor | Made:
            return value._replace(of=tuple(map(change, value.of))) if isinstance(value, Made) else change(value)

        target = self.target
        if isinstance(target, Made) or (target is not None and target.requires_grad):
            target = changed(target)
        return replace(self, pred=changed(self.pred), target=target, known=None)

    def tensors(self, in_one_row: bool = False, volumes: bool = False) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return prediction, target and regions as ``[B, C, H, W]`` (regions may have one channel).

        Args:
            in_one_row: whether many small images, whose sums are added anyway, may become one.
            volumes: whether ``[B, C, D, H, W]`` stay what they are, because neighbours matter.
        """
        flat = as_they_are if volumes and len(self.shape) == 5 else as_images
        pred = flat(tensor_of(self.pred))
        target = flat(tensor_of(self.target)) if self.target is not None else pred.detach()  # which no sum reads
        regions = {name: flat(one if one.dim() == len(self.shape) else one[:, None]) for name, one in self.regions.items()}
        if pred.dim() == 5:
            return pred, target, regions
        images, channels, rows, columns = pred.shape
        if not in_one_row or images * channels <= 256 or rows * columns >= 1024 or pred.numel() > MOST_IN_ONE_ROW:
            return pred, target, regions

        def row(tensor: Tensor) -> Tensor:
            return tensor.expand(-1, channels, -1, -1).reshape(1, 1, 1, images * channels * rows * columns)

        return row(pred), row(target), {name: row(region) for name, region in regions.items()}


MOST_IN_ONE_ROW = 1 << 30  # numbers: places in a row are counted in 32 bits


def as_they_are(tensor: Tensor) -> Tensor:
    """Return a tensor."""
    return tensor


def as_images(tensor: Tensor) -> Tensor:
    """Return ``[B, C, *S]`` as ``[B, C, H, W]``; other spaces than two-dimensional ones become one row."""
    return tensor if tensor.dim() == 4 else tensor.reshape(*tensor.shape[:2], 1, math.prod(tensor.shape[2:]))
