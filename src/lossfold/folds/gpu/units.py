"""Weights in units that a histogram resolves, in two launches, and what was collected of them in true units again, in one."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lossfold.folds.gpu.device import place_of
from lossfold.folds.gpu.launch import WIDE, launch, options
from lossfold.folds.histogram import OF_UNIT, WHOLE

MOST_PARTS = 256  # of a sum
_WHOLE, _OF_UNIT = tl.constexpr(WHOLE), tl.constexpr(OF_UNIT)


@triton.jit
def add_weights(w_ptr, part_ptr, parts, each, tiles, BLOCK: tl.constexpr):
    """Write partial sums of each row of weights."""
    part, row = place_of(parts)
    total = tl.zeros([BLOCK], tl.float64)
    for tile in range(tiles):
        at = (part.to(tl.int64) * tiles + tile) * BLOCK + tl.arange(0, BLOCK)
        total += tl.load(w_ptr + row * each + at, mask=at < each, other=0).to(tl.float64)
    tl.store(part_ptr + row * parts + part, tl.sum(total, 0))


@triton.jit
def divide_weights(w_ptr, part_ptr, out_ptr, unit_ptr, programs, parts, each, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    """Write weights in units, a power of two that brings their sum to about 2^28; see :func:`lossfold.folds.histogram.in_units`."""
    block, row = place_of(programs)
    part = tl.arange(0, PARTS)
    total = tl.sum(tl.load(part_ptr + row * parts + part, mask=part < parts, other=0.0), 0)
    field = (total.to(tl.int64, bitcast=True) >> 52) & 0x7FF
    power = field - 1022 - _WHOLE
    power = tl.where(power < -_OF_UNIT, -_OF_UNIT, tl.where(power > _OF_UNIT, _OF_UNIT, power))
    power = tl.where((total == 0.0) | (field == 0x7FF), 0, power)
    if block == 0:
        tl.store(unit_ptr + row, ((power + 1023) << 52).to(tl.float64, bitcast=True))
    factor = ((1023 - power) << 52).to(tl.float64, bitcast=True)
    at = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    w = tl.load(w_ptr + row * each + at, mask=at < each, other=0).to(tl.float64)
    tl.store(out_ptr + row * each + at, (w * factor).to(tl.float32), mask=at < each)


@triton.jit
def multiply(
    unit_ptr, x_ptr, x_out, y_ptr, y_out, x_count, x_each, y_count, y_each,
    APART: tl.constexpr, ALIKE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Multiply two tensors by their rows' units, or by one for all; ALIKE: there is one row of x for all."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    of_x, of_y = at < x_count, at < y_count
    x_unit = tl.load(unit_ptr + (at // x_each if APART else at * 0), mask=of_x, other=0.0)
    x = tl.load(x_ptr + (at % x_each if ALIKE else at), mask=of_x, other=0.0)
    tl.store(x_out + at, x * x_unit, mask=of_x)
    y_unit = tl.load(unit_ptr + (at // y_each if APART else at * 0), mask=of_y, other=0.0)
    tl.store(y_out + at, tl.load(y_ptr + at, mask=of_y, other=0.0) * y_unit, mask=of_y)


def in_units(weight: Tensor, per_image: bool) -> tuple[Tensor, Tensor]:
    """Return weights in float32, in units ``[1 or B, 1, 1]``."""
    weight = weight.detach().contiguous()
    rows = len(weight) if per_image else 1
    each = weight.numel() // rows
    parts = min(MOST_PARTS, math.ceil(each / WIDE))
    partial = torch.empty((rows, parts), dtype=torch.float64, device=weight.device)
    found = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    unit = torch.empty((rows, 1, 1), dtype=torch.float64, device=weight.device)
    tiles = math.ceil(each / (parts * WIDE))
    launch(add_weights, (rows * parts,), weight, partial, parts, each, tiles, BLOCK=WIDE, **options(4))
    programs = math.ceil(each / WIDE)
    shape = {"PARTS": 1 << (parts - 1).bit_length(), "BLOCK": WIDE}
    launch(divide_weights, (rows * programs,), weight, partial, found, unit, programs, parts, each, **shape, **options(4))
    return found, unit


def multiplied(unit: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tensors times the units of their rows."""
    alike = first.stride(0) == 0 and first[0].is_contiguous()
    first, second = first if alike else first.contiguous(), second.contiguous()
    found = torch.empty(first.shape, dtype=first.dtype, device=first.device), torch.empty_like(second)
    sizes = [size for one in (first, second) for size in (one.numel(), max(1, one.numel() // max(1, len(one))))]
    grid = (math.ceil(max(sizes[0], sizes[2], 1) / WIDE),)
    pairs = (first, found[0], second, found[1])
    launch(multiply, grid, unit, *pairs, *sizes, APART=len(unit) > 1, ALIKE=alike, BLOCK=WIDE, **options(4))
    return found


class Scaled(torch.autograd.Function):
    """Sums and histogram in true units."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, sums: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return both times the units."""
        ctx.save_for_backward(unit)
        ctx.set_materialize_grads(False)
        return multiplied(unit, sums, table)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        """Return the gradients times the units."""
        (unit,) = ctx.saved_tensors
        shapes = unit, unit[..., None]
        by_sums, by_table = grads
        if torch.is_grad_enabled() or by_sums is None or by_table is None:
            return (None, *(None if grad is None else grad * one for grad, one in zip(grads, shapes, strict=True)))
        return (None, *multiplied(unit, by_sums, by_table))
