"""What the kernels of the pair fold are handed, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossfold.folds.fold import code_of
from lossfold.folds.pair.operators import sides_of
from lossfold.folds.pair.spec import CONSTANT, KINDS, LINKS, PairSum

NEIGHBOURS = tuple(code_of(KINDS, kind) for kind in ("edge", "edge_of_pred", "step", "step_sq", "step_weight"))
WITHOUT_TARGET = ("weight", "edge_of_pred", "step", "step_sq", "step_weight")
EDGES = tuple(code_of(KINDS, kind) for kind in ("edge", "edge_of_pred"))
AS_PIXELS = {"low_pass": code_of(KINDS, "abs"), "low_pass_weight": code_of(KINDS, "weight")}
"""What sums over the rest of an image are that has no further level."""


class Sum(NamedTuple):
    """A sum as kernels know it.

    Attributes:
        place: among all of the pass.
        kind, number: as operators have them; edges are numbered by image and padding.
        where: -1 everywhere, 2m times map m, 2m + 1 where map m is 0.
    """

    place: int
    kind: int
    number: float
    where: int


class Read(NamedTuple):
    """Sums whose maps are numbered anew, and these maps, contiguous.

    Attributes:
        maps: never none, because kernels take at least one pointer.
        each: which of them have one for every channel.
        where: of every sum.
        unit: which of them must lie in [0, 1].
    """

    maps: tuple[Tensor, ...]
    each: tuple[bool, ...]
    where: tuple[int, ...]
    unit: tuple[bool, ...]


class Call:
    """One call's tensors, and its sums by the level of the pyramid that they are taken at.

    Attributes:
        pred, target: ``[B, C, H, W]`` of any strides.
        sides: of the levels.
        pixels: sums over the image itself.
        coefficients, rest: sums over each level's coefficients, and over what is left there; of all levels but the first for rest.
        signs, rests: where the signs of each level's coefficients begin, and those of what is left.
    """

    def __init__(
        self, pred: Tensor, target: Tensor, maps: Sequence[Tensor], in_unit: int, link: int,
        kinds: Sequence[int], numbers: Sequence[float], where: Sequence[int],
    ) -> None:  # fmt: skip
        self.pred, self.in_unit, self.count = pred, in_unit, len(kinds)
        self.target = target.view(torch.uint8) if target.dtype == torch.bool else target
        self.maps = [one.view(torch.uint8) if one.dtype == torch.bool else one for one in maps]
        self.sigmoid = LINKS[link] == "sigmoid"
        self.sides = sides_of(pred.shape[2], pred.shape[3], kinds, numbers)
        last = len(self.sides) - 1
        self.pixels: list[Sum] = []
        self.coefficients: list[list[Sum]] = [[] for _ in range(last)]
        self.rest: list[list[Sum]] = [[] for _ in self.sides]
        for place, (kind, number, region) in enumerate(zip(kinds, numbers, where, strict=True)):
            name, level = KINDS[kind], PairSum(KINDS[kind], number).level
            one = Sum(place, kind, number, region)
            if level is None:
                self.pixels.append(one)
            elif name.startswith("low_pass"):
                if min(level, last):
                    self.rest[min(level, last)].append(one)
                else:
                    self.pixels.append(one._replace(kind=AS_PIXELS[name]))
            elif level < last:
                self.coefficients[level].append(one)

    @property
    def sizes(self) -> tuple[int, int]:
        """The number of planes, and of an image's channels."""
        return self.pred.shape[0] * self.pred.shape[1], self.pred.shape[1]

    @property
    def starts(self) -> tuple[list[int], list[int]]:
        """Where the signs of each level's coefficients begin, and those of what is left there."""
        planes, _ = self.sizes
        signs = [0]
        for rows, columns in self.sides[1:]:
            signs.append(signs[-1] + planes * 4 * rows * columns)
        rests = [signs[-1]]
        for sums, (rows, columns) in zip(self.rest, self.sides, strict=True):
            rests.append(rests[-1] + planes * rows * columns * bool(self.differing(sums)))
        return signs, rests

    def read(self, sums: Sequence[Sum], checks: bool = False) -> Read:
        """Return the maps that sums read, or (checks) whose values are looked at."""
        used = {one.where // 2 for one in sums if one.where >= 0}
        if checks:
            used |= {m for m in range(len(self.maps)) if self.in_unit >> m & 1 and self.maps[m].is_floating_point()}
        order = sorted(used)
        where = tuple(-1 if one.where < 0 else 2 * order.index(one.where // 2) + one.where % 2 for one in sums)
        maps = [self.maps[m].contiguous() for m in order]
        each = tuple(one.shape[1] > 1 for one in maps)
        return Read(tuple(maps) or (self.pred,), each, where, tuple(bool(self.in_unit >> m & 1) for m in order))

    def slots(self, sums: Sequence[Sum]) -> tuple[int, ...]:
        """Return which of these sums each of all is; -1 for none."""
        places = [one.place for one in sums]
        return tuple(places.index(k) if k in places else -1 for k in range(self.count))

    def edges(self, sums: Sequence[Sum]) -> tuple[tuple[int, ...], list[Sum]]:
        """Return the images that edges are sought in (2: the prediction; + 1: padded with zeros), and sums numbered by these."""
        codes = {one.place: 2 * EDGES.index(one.kind) + int(one.number) for one in sums if one.kind in EDGES}
        order = tuple(sorted(set(codes.values())))

        def numbered(one: Sum) -> Sum:
            number = order.index(codes[one.place]) if one.place in codes else one.number
            return one._replace(number=int(number) if one.kind in NEIGHBOURS else number)

        return order, [numbered(one) for one in sums]

    @property
    def flat(self) -> bool:
        """Whether every sum over the image is one of each pixel by itself."""
        return self.alone(self.pixels)

    @staticmethod
    def alone(sums: Sequence[Sum]) -> bool:
        """Whether sums are of each pixel by itself."""
        return all(one.kind not in NEIGHBOURS for one in sums)

    @staticmethod
    def differing(sums: Sequence[Sum]) -> list[Sum]:
        """Return the sums that have a gradient."""
        return [one for one in sums if KINDS[one.kind] not in CONSTANT]

    def fixed(self, sums: Sequence[Sum], read: Read) -> dict[str, Any]:
        """Return what kernels over the image are compiled for."""
        differs = any(KINDS[one.kind] not in WITHOUT_TARGET for one in sums)
        return {
            "KINDS": tuple(one.kind for one in sums), "NUMBERS": tuple(one.number for one in sums),
            "WHERE": read.where[: len(sums)], "EACH": read.each, "SIGMOID": self.sigmoid, "DIFFERS": differs,
        }  # fmt: skip


def area(sides: tuple[int, int]) -> int:
    """Return the pixels of an image."""
    return math.prod(sides)
