"""The pair fold's operators; see :mod:`lossfold.folds.label.operators`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lossfold.engines.native import check_codes
from lossfold.engines.operators import FoldOperators
from lossfold.folds.fold import code_of
from lossfold.folds.pair import definition
from lossfold.folds.pair.spec import KINDS, LINKS, SMALLEST_SIDE, PairSpec, PairSum

# in_unit: a bit for each map that must lie in [0, 1]; where: -1 everywhere, 2m times map m, 2m + 1 where map m is 0.
OPTIONS = "int in_unit, int link, int[] kinds, float[] numbers, int[] where"


def fold(pred: Tensor, target: Tensor, regions: Mapping[str, Tensor], in_unit: frozenset[str], spec: PairSpec) -> Tensor:
    """Compute :func:`lossfold.folds.pair.definition.fold` by an operator."""
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    maps = definition.at_levels({name: region.detach() for name, region in regions.items()}, spec, dtype)
    keys = list(maps)
    where = [2 * keys.index((one.region, one.level or 0)) + one.where.startswith("~") if one.where else -1 for one in spec.sums]
    limited = sum(1 << place for place, (name, level) in enumerate(keys) if name in in_unit and not level)
    kinds, numbers = [code_of(KINDS, one.kind) for one in spec.sums], [one.number for one in spec.sums]
    sums: Tensor = OPERATORS.fold((pred, target, list(maps.values())), (limited, LINKS.index(spec.link), kinds, numbers, where))[0]
    return sums


def once(pred: Tensor, target: Tensor, above: Tensor, spec: PairSpec) -> Tensor:
    """Return a sum of functions of p - t everywhere, times its factor in above ``[K, 1]``, whose gradient the same pass finds."""
    kinds, numbers = [code_of(KINDS, one.kind) for one in spec.sums], [one.number for one in spec.sums]
    return OPERATORS.once((pred, target, [], above, None), (0, LINKS.index(spec.link), kinds, numbers, [-1] * len(kinds)))


def _definition(
    pred: Tensor, target: Tensor, maps: list[Tensor], in_unit: int, link: int, kinds: Any, numbers: Any, where: Any
) -> tuple[Tensor]:
    """Compute the sums of maps that are at their levels already."""
    sums = tuple(
        PairSum(KINDS[kind], number, "~" if place >= 0 and place % 2 else "")
        for kind, number, place in zip(kinds, numbers, where, strict=True)
    )
    spec = PairSpec(LINKS[link], sums)
    regions = [None if place < 0 else maps[place // 2] for place in where]
    return (definition.sums_of(definition.Values(pred, target, spec), regions, spec),)


def sides_of(rows: int, columns: int, kinds: Sequence[int], numbers: Sequence[float]) -> list[tuple[int, int]]:
    """Return the sides of the images of a pyramid that has the levels that sums are taken at, as far as there are such."""
    sums = [PairSum(KINDS[kind], number) for kind, number in zip(kinds, numbers, strict=True)]
    levels = [one.level + one.kind.startswith("lap") for one in sums if one.level is not None]
    sides = [(rows, columns)]
    while len(sides) <= max(levels, default=0) and min(sides[-1]) >= SMALLEST_SIDE:
        sides.append((sides[-1][0] // 2, sides[-1][1] // 2))
    return sides


def signs_of(rows: int, columns: int, kinds: Sequence[int], numbers: Sequence[float]) -> int:
    """Return how many signs the fold keeps for a plane; as ``signs_of_plane`` in csrc/pair_operators.cpp."""
    sides = sides_of(rows, columns, kinds, numbers)
    low_pass = [number for kind, number in zip(kinds, numbers, strict=True) if KINDS[kind] == "low_pass"]
    rest = [sides[min(int(number), len(sides) - 1)] for number in low_pass]
    return sum(4 * h * w for h, w in sides[1:]) + sum(h * w for h, w in rest)


def _on_gpus() -> Any:
    from lossfold.folds.pair.triton import host

    return host


def _shapes(pred: Tensor, target: Tensor, maps: Any, in_unit: int, link: int, kinds: Any, numbers: Any, where: Any) -> Any:
    images, channels, rows, columns = pred.shape
    sums = pred.new_empty((images, len(kinds), channels), dtype=torch.float64)
    return sums, pred.new_empty((images * channels * signs_of(rows, columns, kinds, numbers),), dtype=torch.uint8)


OPERATORS = FoldOperators("pair", "Tensor pred, Tensor target, Tensor[] maps", OPTIONS, ("sums",), ("signs",), _definition, _shapes)
OPERATORS.with_once()
OPERATORS.on_gpus(_on_gpus)
check_codes("pair", kinds=KINDS)
