"""How calls of the pair fold are cut into programs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from lossfold.folds.gpu.launch import options, rows_of, warp


class Step(NamedTuple):
    """A launch that adds to the sums.

    Attributes:
        programs: of each plane.
        bad: where it says that a region's value was out of range; empty if it doesn't look.
        run: launches it, given the partial sums, how many a plane has, and which are the first that it writes.
    """

    programs: int
    bad: Tensor
    run: Callable[[Tensor, int, int], None]


class Band(NamedTuple):
    """How a plane is cut into columns and rows; it follows from shapes alone."""

    block: int
    blocks: int
    rows: int
    bands: int

    @classmethod
    def of(cls, planes: int, height: int, width: int) -> Band:
        """Return the bands of planes: long, where there are many."""
        lanes = warp()
        block = lanes
        while block < 4 * lanes and block < width:
            block *= 2
        blocks = math.ceil(width / block)
        rows = rows_of(planes * blocks, height)
        return cls(block, blocks, rows, math.ceil(height / rows))

    @property
    def programs(self) -> int:
        """How many there are of each plane."""
        return self.blocks * self.bands

    @property
    def fixed(self) -> dict[str, Any]:
        """What kernels are compiled for, and how."""
        return {"BLOCK": self.block, "ROWS": self.rows, **options(max(1, self.block // warp()))}


def line_cut(planes: int, size: int, warps: int = 1) -> tuple[int, dict[str, Any]]:
    """Return the programs of lines of so many pixels, and what kernels are compiled for: four pixels for a lane, or four warps."""
    block, tiles = 4 * warp(), 1
    while tiles < 8 and planes * size > 2048 * warp() * tiles:
        tiles *= 2
    return math.ceil(size / (block * tiles)), {"BLOCK": block, "TILES": tiles, **options(warps)}
