"""The Lovász extension from a histogram, and its slopes by bin, in one launch; see :mod:`lossfold.losses.classes.lovasz`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lossfold.folds.gpu.launch import WIDE, launch, options
from lossfold.folds.gpu.tables import OCTAVES
from lossfold.folds.histogram import OCTAVES as _OCTAVES
from lossfold.folds.histogram import REST, Bins


@triton.jit
def log1p(x):
    """Return log(1 + x) for x >= 0, exact where x is small."""
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit
def edges_of(bin_, BINS: tl.constexpr, EACH: tl.constexpr):
    """Return the lower edges and the widths of bins; EACH: the bins of an octave, of hinge errors."""
    if EACH == 0:
        lower = bin_.to(tl.float64) / BINS
        width = tl.full(bin_.shape, 1.0 / BINS, tl.float64)
    else:
        fine = bin_ < OCTAVES * EACH
        octave = tl.where(fine, bin_ // EACH, bin_ - OCTAVES * EACH + OCTAVES)
        start = ((octave.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)  # 2^octave
        place = tl.where(fine, bin_ % EACH, 0).to(tl.float64) / EACH
        lower = start * (1.0 + place) - 1.0
        width = tl.where(fine, start / EACH, start)
    return lower, width


@triton.jit
def integral(table_ptr, out_ptr, slope_ptr, C: tl.constexpr, BINS: tl.constexpr, EACH: tl.constexpr, BLOCK: tl.constexpr):
    """Write ``out[row, value | foreground | background, class]`` and the values' slopes, of the table's shape."""
    row, c = (tl.program_id(0) // C).to(tl.int64), tl.program_id(0) % C
    plane: tl.constexpr = C * BINS
    start = row * 4 * plane + c * BINS
    here = tl.arange(0, BLOCK)
    foreground, background = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
    for first in range(0, BINS, BLOCK):
        at = table_ptr + start + first + here
        foreground += tl.load(at, mask=first + here < BINS, other=0.0)
        background += tl.load(at + 2 * plane, mask=first + here < BINS, other=0.0)
    all_f, all_b = tl.sum(foreground, 0), tl.sum(background, 0)
    below_f, below_b = all_f * 0.0, all_b * 0.0  # what is in lower bins
    value = tl.zeros([BLOCK], tl.float64)
    for first in range(0, BINS, BLOCK):
        bin_ = first + here
        inside = bin_ < BINS
        at = table_ptr + start + bin_
        f, b = tl.load(at, mask=inside, other=0.0), tl.load(at + 2 * plane, mask=inside, other=0.0)
        place_f, place_b = tl.load(at + plane, mask=inside, other=0.0), tl.load(at + 3 * plane, mask=inside, other=0.0)
        found = below_f + tl.cumsum(f, 0)  # G - F
        union = all_f + all_b - (below_b + tl.cumsum(b, 0))  # G + B
        before = union <= 0.0  # nothing above, and no foreground at all: J steps from 0 to 1
        union = tl.where(before, 1.0, union)
        some = b > 0.0
        safe = tl.where(some, b, 1.0)
        w_f = tl.where(some, log1p(tl.where(some, b / union, 0.0)) / safe, 1.0 / union)
        rise = tl.where(before, 1.0, (f * union + b * found) / (union * (union + b)))
        w_b = tl.where(some, (rise - f * w_f) / safe, 0.0)
        lower, width = edges_of(bin_, BINS, EACH)
        value += tl.where(inside, (w_f * f + w_b * b) * lower + (w_f * place_f + w_b * place_b) * width, 0.0)
        to = slope_ptr + start + bin_
        tl.store(to, tl.zeros([BLOCK], tl.float64), mask=inside)
        tl.store(to + plane, w_f * width, mask=inside)
        tl.store(to + 2 * plane, tl.zeros([BLOCK], tl.float64), mask=inside)
        tl.store(to + 3 * plane, w_b * width, mask=inside)
        below_f += tl.sum(f, 0)
        below_b += tl.sum(b, 0)
    out = out_ptr + row * 3 * C + c
    tl.store(out, tl.sum(value, 0))
    tl.store(out + C, all_f)
    tl.store(out + 2 * C, all_b)


class Integral(torch.autograd.Function):
    """The kernel, and the definition where further derivatives are asked for."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, bins: Bins, definition: Callable[[Tensor], Tensor]) -> Tensor:
        """Return ``[I, 3, C]``: values, and the weights of foreground and background."""
        rows, _, classes, count = table.shape
        found = torch.empty((rows, 3, classes), dtype=torch.float64, device=table.device)
        slopes = torch.empty_like(table)
        each = (count - REST) // _OCTAVES if bins.hinge else 0
        shape = {"C": classes, "BINS": count, "EACH": each, "BLOCK": min(WIDE, 1024)}
        launch(integral, (rows * classes,), table.contiguous(), found, slopes, **shape, **options(4))
        ctx.save_for_backward(table, slopes)
        ctx.definition = definition
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the derivatives by the table."""
        table, slopes = ctx.saved_tensors
        if torch.is_grad_enabled():
            (slope,) = torch.autograd.grad(ctx.definition(table), table, grad[:, 0], create_graph=True)
            return slope, None, None
        return slopes * grad[:, 0][:, None, :, None], None, None
