"""Losses over folds in one launch, where each step of a formula would be one: what they are as functions of the sums alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lossfold.engines.transforms import inside_transform
from lossfold.folds.fold import Fold, Rows
from lossfold.folds.formulas import Program, program_of, values_of
from lossfold.folds.traces import Source, Values
from lossfold.memory import Known, recall

if TYPE_CHECKING:
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


REPEATED = 3
"""Calls alike from which on a formula is worth being traced where its steps are no launches."""


def is_fusible(loss: Folded, fold: Fold | None, given: Any) -> bool:
    """Whether a loss is lossfold's own formula over nothing but a fold, in many steps."""
    if fold is None or torch.compiler.is_compiling() or inside_transform():
        return False
    if not fold.launches and (fold.sums.device.type != "cpu" or loss.histogram is not None or fold.sums.dtype != torch.float64):
        return False
    plain = type(fold.sums) is Tensor  # what has no numbers runs the formulas as they are
    return plain and loss.of_sums and loss.own_formula and loss.reduction != "none" and given.normalizer is None


def is_repeated(fold: Fold, known: Known | None) -> bool:
    """Whether it is time to trace formulas over a fold: at once where each step is a launch."""
    if fold.launches:
        return True
    if known is None:
        return False
    known["calls"] = known.get("calls", 0) + 1
    return bool(known["calls"] >= REPEATED)


def reading_of(parts: Sequence[Part]) -> Reading:
    """Return what formulas read, each tensor once."""
    found: dict[tuple[int, bool, bool], int] = {}
    # A kernel reads sums once, and adds images itself where another loss reads them apart; elsewhere bits are to stay.
    apart = {id(part.fold) for part in parts if part.fold.launches and (part.every_image or part.loss.apart)}
    first: dict[int, int] = {}
    places: list[tuple[int, int | None]] = []
    key: list[object] = []
    for number, part in enumerate(parts):
        loss, fold = part.loss, part.fold
        owner = first.setdefault(id(fold), number)
        table = None
        if loss.histogram is not None:
            table = found.setdefault((owner, not (part.every_image or loss.apart), True), len(found))
        summed = id(fold) not in apart if fold.launches else not (part.every_image or loss.apart)
        places.append((found.setdefault((owner, summed, False), len(found)), table))
        of_fold = fold.wanted, fold.constants, fold.dtype
        key.append((loss.memory, *places[-1], part.every_image, part.given.kind, *of_fold, part.marks))
    return Reading(list(found), places, tuple(key))


def together(parts: Sequence[Part], known: Known | None = None) -> Values | None:
    """Return the values of losses, all in one launch; None where that can't be done.

    Args:
        parts: the losses.
        known: what is remembered of the same losses' calls on tensors like these.
    """
    reading = recall(known, "reading", reading_of, parts)
    sources: list[Source] = []
    for number, summed, is_table in reading.sources:
        part = parts[number]
        sums = part.fold.sums
        if is_table:
            loss = next(one.loss for one, (_, at) in zip(parts, reading.places, strict=True) if at == len(sources))
            sums, summed = integrated(part.fold, loss, summed), False
        sources.append(Source(sums, summed))

    def formulas(rows: list[tuple[Tensor, ...]]) -> Values:
        terms, weighted = [], []
        for part, (place, table) in zip(parts, reading.places, strict=True):
            fold = Rows.reading(part.fold, rows[place], None if table is None else rows[table])
            terms.append(part.loss.reduce(fold, part.given, None, part.every_image))
            weighted.append(part.weigh(terms[-1]))
        return Values(terms, weighted, sum(weighted[1:], weighted[0]))

    launches = parts[0].fold.launches

    def program() -> Program | None:
        for part in parts:
            for name in part.loss.per_class_options:  # numbers that move to the device within a trace can't be written
                part.loss.per_class(name, part.fold.sums)
        return program_of(reading.key, formulas, sources, launches)

    found = recall(known, "program", program)
    return None if found is None else values_of(found, formulas, sources)


def integrated(fold: Fold, loss: Folded, summed: bool) -> Tensor:
    """Return ``[1 or I, 3, C]`` of a fold's histogram: what a loss reads of it, and the weights of both sides."""
    from lossfold.folds.gpu.fused import integral

    table, bins = fold.table, loss.histogram
    assert table is not None and bins is not None
    return integral(table.sum(0, keepdim=True) if summed and len(table) != 1 else table, bins, loss.integral)


def alone(loss: Folded, fold: Fold, given: Any) -> Tensor | None:
    """Return one loss before its weight, in one launch; None where that can't be done."""
    if not is_fusible(loss, fold, given) or not is_repeated(fold, given.known):
        return None
    values = together([Part(loss, fold, given, False, lambda value: value, ())], given.known)
    return None if values is None else values.total
