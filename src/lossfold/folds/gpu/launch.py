"""How hosts hand tensors to kernels: to be imported where kernels are launched, for it imports Triton."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossfold.engines.triton import INTERPRETED
from lossfold.folds.gpu import device, tables


@functools.cache
def _lanes() -> int:
    wide = torch.version.hip and torch.cuda.is_available() and torch.cuda.get_device_properties().warp_size == 64
    return 64 if wide else 32


LANES = _lanes


def warp() -> int:
    """Return how many lanes run in step; in the interpreter many, for there each step costs, and not each lane."""
    return 1024 if INTERPRETED else LANES()


def options(warps: int, registers: int = 0) -> dict[str, Any]:
    """Return how kernels are compiled: for programs of so many warps, with at most so many registers where that can be said."""
    limit = {"maxnreg": registers} if registers and torch.version.cuda and not INTERPRETED else {}
    return {"num_warps": warps, "num_stages": 1, **limit}


TILE = 128 if INTERPRETED else 8  # classes, where there are many
TILED = 1024 if INTERPRETED else 256
WIDE = 4096 if INTERPRETED else 256  # elements of a program that does little with each
SHORT, LONG = 4 if INTERPRETED else 16, (64, 32)  # rows that a program walks down, where there are few or many programs
MOST_ROWS, MOST_GROUPS = 24, 8
MOST_WARPS = 16  # of a program; where there are more groups of classes, 32 lanes have several of them, of fewer pixels
MOST_REGISTERS = 192  # the bound where the compiler would choose a lower one by itself, and put the rest into memory
MOST_HELD = 96  # numbers that a thread holds from tile to tile


class Plan(NamedTuple):
    """How a call is cut up; it follows from shapes and kinds alone, and so do the bits of its sums.

    Attributes:
        rows, groups: of the classes: unrolled in a thread, and spread over warps, mostly; no rows for tiles of classes.
        block: pixels that a program takes at once.
        tiles: how often it does.
    """

    rows: int
    groups: int
    block: int
    tiles: int = 1

    @property
    def many(self) -> bool:
        """Whether there are more classes than a program holds."""
        return not self.rows

    def programs(self, pixels: int) -> int:
        """Return how many an image has."""
        return math.ceil(pixels / (self.block * self.tiles))

    def constants(self, tiles: bool = False) -> dict[str, int]:
        """Return what kernels are compiled for."""
        if self.many:
            return {"TILE": TILE, "BLOCK": self.block}
        return {"ROWS": self.rows, "GROUPS": self.groups, "BLOCK": self.block} | ({"TILES": self.tiles} if tiles else {})

    def options(self) -> dict[str, Any]:
        """Return how they are compiled."""
        return options(self.warps, MOST_REGISTERS if self.many or self.groups == 1 or self.groups > 2 * MOST_WARPS else 0)

    @property
    def warps(self) -> int:
        """Return how many a program has."""
        return 4 if self.many else min(self.groups, MOST_WARPS, max(1, self.groups * self.block // LANES()))


def plan(
    classes: int, held: int, images: int, pixels: int, lanes: int, most_tiles: int = 1, most_groups: int = MOST_GROUPS
) -> Plan:
    """Return how a call is cut up.

    Args:
        classes: their number.
        held: numbers that a thread holds for each of its classes from tile to tile.
        images, pixels: how many there are.
        lanes: of a warp.
        most_tiles, most_groups: of a program.
    """
    rows = min(MOST_ROWS, MOST_HELD // max(1, held))
    groups = 1
    while math.ceil(classes / groups) > rows:
        groups *= 2
    if groups > most_groups:
        return Plan(0, 0, 256 if INTERPRETED else 128)
    tiles = 1
    while tiles < most_tiles and images * pixels > 2048 * lanes * tiles:
        tiles *= 2
    if groups > MOST_WARPS:
        lanes = (lanes if INTERPRETED else min(lanes, 32)) * MOST_WARPS // groups
        lanes //= 1 + (groups > 2 * MOST_WARPS)  # half as many threads have twice the registers
    return Plan(math.ceil(classes / groups), groups, lanes, tiles)


def rows_of(columns: int, height: int) -> int:
    """Return how many rows a program walks down, given how many there are of its kind in a row of the image."""
    for rows in LONG:
        if columns * math.ceil(height / rows) >= 512:
            return rows
    return min(SHORT, max(2, 1 << (height - 1).bit_length()))


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on the device of its first argument."""
    with on(arguments[0]):
        kernel[grid](*arguments, **constants)


def on(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Return what makes a tensor's device the current one."""
    if tensor.is_cuda and tensor.device.index != torch.cuda.current_device():
        return torch.cuda.device(tensor.device)
    if tensor.is_xpu and tensor.device.index != torch.xpu.current_device():
        return torch.xpu.device(tensor.device)
    return contextlib.nullcontext()


def flat(tensor: Tensor) -> Tensor:
    """Return ``[B, C, *S]`` as ``[B, C, P]``, copied only where no stride walks the pixels."""
    return tensor.flatten(2) if tensor.dim() > 2 else tensor[..., None]


def written(like: Tensor, write: Any) -> Tensor:
    """Return a tensor as ``empty_like`` makes it, of what is written to ``[B, C, P]``."""
    result = torch.empty_like(like)
    to = flat(result)
    if torch._C._is_alias_of(to, result):  # type: ignore[attr-defined]
        write(to)
        return result
    to = torch.empty(to.shape, dtype=to.dtype, device=to.device)
    write(to)
    return result.copy_(to.view(result.shape))


def rows_of_kinds(numbers: Tensor, places: Sequence[int]) -> Tensor:
    """Return rows ``[K, C]`` of chosen kinds, without a copy from the host."""
    return numbers if len(places) == len(numbers) else torch.stack([numbers[k] for k in places]) if places else numbers[:0]


def narrowed(numbers: Tensor) -> Tensor:
    """Return float64 numbers in float32, finite."""
    result = torch.empty(numbers.shape, dtype=torch.float32, device=numbers.device)
    launch(device.narrowed, (math.ceil(numbers.numel() / WIDE),), numbers.contiguous(), result, numbers.numel(), BLOCK=WIDE)
    return result


def divided(numbers: Tensor, below: Tensor) -> Tensor:
    """Return float64 numbers over another one in float32, finite."""
    result = torch.empty(numbers.shape, dtype=torch.float32, device=numbers.device)
    count = numbers.numel()
    launch(device.divided, (math.ceil(count / WIDE),), numbers.contiguous(), below, result, count, BLOCK=WIDE)
    return result


def scaled(gradient: Tensor, factor: Tensor) -> Tensor:
    """Return a gradient multiplied in place by a number on the device; by 1 that costs a launch, and no memory is read."""
    count = gradient.numel()
    if count:
        launch(device.scale, (math.ceil(count / (4 * WIDE)),), gradient, factor, count, BLOCK=4 * WIDE, **options(4))
    return gradient


def complain(bad: Tensor, message: str, *results: Tensor) -> None:
    """Complain if something was bad; PyTorch for ROCm leaves such asserts out, and results are NaN there."""
    good = (bad == 0).all()
    torch._assert_async(good, message)
    if torch.version.hip:
        for one in results:
            one.copy_(torch.where(good, one, float("nan")))


def in_total(part: Tensor, bad: Tensor | None = None, message: str = "") -> Tensor:
    """Return the sum of partial sums, float64 ``[]``; complain if something was bad. PyTorch adds in a fixed order."""
    total = part.sum()
    if bad is not None:
        complain(bad, message, total)
    return total


def added(part: Tensor, bad: Tensor, message: str, inner: int = 1) -> Tensor:
    """Return partial sums ``[images * inner, programs, *sizes]`` added up; complain if something was bad, where that was looked at.

    Returns:
        ``[images, *sizes]``, and ``[images, *sizes, inner]`` if there are more than one.
    """
    images, programs, *sizes = part.shape
    sums = torch.empty((images // inner, *sizes, *([inner] if inner > 1 else [])), dtype=torch.float64, device=part.device)
    good = torch.empty((), dtype=torch.bool, device=part.device)
    size = math.prod(sizes)
    if not size:  # nothing is asked for but that
        complain(bad, message)
        return sums
    shape = {"SIZE": size, "BLOCK": 16, "ROWS": 64}
    launch(
        device.collect, (math.ceil(size / 16) * images,), part, bad, sums, good, programs, bad.numel(), inner, **shape, **options(4)
    )
    if bad.numel():
        torch._assert_async(good, message)
    return sums


def tabled(words: Tensor) -> Tensor:
    """Return tables ``[I, tables, C, own | other, bins + 1, words]`` added up: a histogram ``[I, 4, C, bins]``."""
    rows, count, classes, _, bins, words_each = words.shape
    table = torch.empty((rows, 4, classes, bins - 1), dtype=torch.float64, device=words.device)
    shape = {"C": classes, "BINS": bins - 1, "COUNTS": words_each == 1, "BLOCK": WIDE}
    launch(tables.tables_collect, (math.ceil((bins - 1) / WIDE) * 2 * classes * rows,), words, table, count, **shape, **options(4))
    return table


def slopes_of(grad_table: Tensor, each: int = 0) -> Tensor:
    """Return the loss's derivatives by errors, ``[I, C, own | other, bins]`` in float32, from those by a histogram.

    Args:
        grad_table: ``[I, 4, C, bins]``.
        each: the bins of an octave, of hinge errors.
    """
    rows, _, classes, bins = grad_table.shape
    slopes = torch.empty((rows, classes, 2, bins), dtype=torch.float32, device=grad_table.device)
    grid = (math.ceil(bins / WIDE) * 2 * classes * rows,)
    launch(tables.tables_slopes, grid, grad_table, slopes, C=classes, BINS=bins, EACH=each, BLOCK=WIDE, **options(4))
    return slopes


def binned(classes: int, held: int, images: int, pixels: int, lanes: int, most_tiles: int = 1) -> Plan:
    """Return how a call for histograms is cut up: of many classes with fewer in a thread, as many warps have few registers each."""
    many = math.ceil(classes / MOST_GROUPS) > MOST_HELD // held
    return plan(classes, MOST_HELD // 6 if many else held, images, pixels, lanes, most_tiles, 2 * MOST_WARPS)
