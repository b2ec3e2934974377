"""Losses over folds in one launch, where each step of a formula would be one: what they are as functions of the sums alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lossfold.engines.transforms import inside_transform
from lossfold.folds.fold import Fold, Rows
from lossfold.memory import Known, recall

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


class Reading(NamedTuple):
    """What formulas read.

    Attributes:
        sources: of each tensor of sums, which part's fold it is of, whether its images are added, and whether it is its histogram.
        places: of each part, where its sums stand among these, and its histogram, if it reads one.
        key: tells these formulas from others.
    """

    sources: list[tuple[int, bool, bool]]
    places: list[tuple[int, int | None]]
    key: tuple[object, ...]


def is_fusible(loss: Folded, fold: Fold | None, given: Any) -> bool:
    """Whether a loss is lossfold's own formula over nothing but a fold, of which each step is a launch."""
    if fold is None or not fold.launches or torch.compiler.is_compiling() or inside_transform():
        return False
    plain = type(fold.sums) is Tensor  # what has no numbers runs the formulas as they are
    return plain and loss.of_sums and loss.own_formula and loss.reduction != "none" and given.normalizer is None


def reading_of(parts: Sequence[Part]) -> Reading:
    """Return what formulas read, each tensor once."""
    found: dict[tuple[int, bool, bool], int] = {}
    apart = {id(part.fold) for part in parts if part.every_image or part.loss.apart}
    first: dict[int, int] = {}
    places: list[tuple[int, int | None]] = []
    key: list[object] = []
    for number, part in enumerate(parts):
        loss, fold = part.loss, part.fold
        owner = first.setdefault(id(fold), number)
        table = None
        if loss.histogram is not None:
            table = found.setdefault((owner, not (part.every_image or loss.apart), True), len(found))
        places.append((found.setdefault((owner, id(fold) not in apart, False), len(found)), table))
        of_fold = fold.wanted, fold.constants, fold.dtype
        key.append((loss.memory, *places[-1], part.every_image, part.given.kind, *of_fold, part.marks))
    return Reading(list(found), places, tuple(key))


def together(parts: Sequence[Part], known: Known | None = None) -> Values | None:
    """Return the values of losses, all in one launch; None where that can't be done.

    Args:
        parts: the losses.
        known: what is remembered of the same losses' calls on tensors like these.
    """
    from lossfold.folds.gpu import fused

    reading = recall(known, "reading", lambda: reading_of(parts))
    sums: list[Tensor] = []
    for number, summed, is_table in reading.sources:
        part = parts[number]
        fold = part.fold.sum_images() if summed else part.fold
        if is_table:
            loss = next(one.loss for one, (_, at) in zip(parts, reading.places, strict=True) if at == len(sums))
            assert fold.table is not None and loss.histogram is not None
            sums.append(fused.integral(fold.table, loss.histogram, loss.integral))
        else:
            sums.append(fold.sums)

    def formulas(rows: list[tuple[Tensor, ...]]) -> fused.Values:
        terms, weighted = [], []
        for part, (place, table) in zip(parts, reading.places, strict=True):
            fold = Rows.reading(part.fold, rows[place], None if table is None else rows[table])
            terms.append(part.loss.reduce(fold, part.given, None, part.every_image))
            weighted.append(part.weigh(terms[-1]))
        return fused.Values(terms, weighted, sum(weighted[1:], weighted[0]))

    kernel = recall(known, "kernel", lambda: fused.kernel_of(reading.key, formulas, sums))
    return None if kernel is None else fused.values_of(kernel, formulas, sums)


def alone(loss: Folded, fold: Fold, given: Any) -> Tensor | None:
    """Return one loss before its weight, in one launch; None where that can't be done."""
    if not is_fusible(loss, fold, given):
        return None
    values = together([Part(loss, fold, given, False, lambda value: value, ())], given.known)
    return None if values is None else values.total
