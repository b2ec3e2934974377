"""Losses over folds in one launch, where each step of a formula would be one: what they are as functions of the sums alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lossfold.engines.transforms import inside_transform
from lossfold.folds.fold import Fold, Rows

if TYPE_CHECKING:
    from lossfold.folds.gpu.fused import Values
    from lossfold.losses.folded import Folded


class Part(NamedTuple):
    """A loss over a fold, and what its value is multiplied with."""

    loss: Folded
    fold: Fold
    given: Any
    every_image: bool
    weigh: Callable[[Tensor], Tensor]
    marks: tuple[object, ...]
    """What else the weight depends on."""


def is_fusible(loss: Folded, fold: Fold | None, given: Any) -> bool:
    """Whether a loss is lossfold's own formula over nothing but a fold, of which each step is a launch."""
    if fold is None or not fold.launches or torch.compiler.is_compiling() or inside_transform():
        return False
    ways = (getattr(type(loss), name) for name in ("formula", "reduce", "settled"))
    own = loss.as_written and all(way.__module__.startswith("lossfold.") for way in ways)
    return loss.of_sums and own and loss.reduction != "none" and given.normalizer is None


def together(parts: Sequence[Part]) -> Values | None:
    """Return the values of losses, all in one launch; None where that can't be done."""
    from lossfold.folds.gpu import fused

    sums: list[Tensor] = []
    places: dict[tuple[int, str], int] = {}
    apart = {id(part.fold) for part in parts if part.every_image or part.loss.apart}
    read: list[tuple[int, int | None]] = []
    key: list[object] = []
    for part in parts:
        loss, fold = part.loss, part.fold
        whole = fold if id(fold) in apart else fold.sum_images()
        own = fold if part.every_image or loss.apart else fold.sum_images()
        of_table = None
        if loss.histogram is not None:
            assert own.table is not None
            if (id(own), "table") not in places:
                places[id(own), "table"] = len(sums)
                sums.append(fused.integral(own.table, loss.histogram, loss.integral))
            of_table = places[id(own), "table"]
        if (id(whole), "sums") not in places:
            places[id(whole), "sums"] = len(sums)
            sums.append(whole.sums)
        read.append((places[id(whole), "sums"], of_table))
        key.append((loss.mark, *read[-1], part.every_image, part.given.kind, fold.wanted, fold.constants, fold.dtype, part.marks))

    def formulas(rows: list[tuple[Tensor, ...]]) -> fused.Values:
        terms, weighted = [], []
        for part, (place, table) in zip(parts, read, strict=True):
            fold = Rows.reading(part.fold, rows[place], None if table is None else rows[table])
            terms.append(part.loss.reduce(fold, part.given, None, part.every_image))
            weighted.append(part.weigh(terms[-1]))
        return fused.Values(terms, weighted, sum(weighted[1:], weighted[0]))

    return fused.evaluate(tuple(key), formulas, sums)


def alone(loss: Folded, fold: Fold, given: Any) -> Tensor | None:
    """Return one loss before its weight, in one launch; None where that can't be done."""
    values = together([Part(loss, fold, given, False, lambda value: value, ())]) if is_fusible(loss, fold, given) else None
    return None if values is None else values.total
