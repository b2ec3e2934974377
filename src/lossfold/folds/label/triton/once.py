"""Value and gradient of a loss that is linear in its sums, in one pass over the scores: labels and weights alone come before."""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import place_of
from lossfold.folds.label.triton.gradient import differentiate, store_rows
from lossfold.folds.label.triton.pixels import rows_of, targets
from lossfold.folds.label.triton.sums import value_of


@triton.jit(do_not_specialize=["ignore"])
def count_kernel(
    y_ptr, w_ptr, below_ptr, part_ptr,
    P, ignore, C: tl.constexpr, HAS_W: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Write partial sums of what a mean is divided by: each pixel's weight times its class's, of all images' pixels in a row."""
    total = tl.zeros([BLOCK], tl.float32)
    for tile in range(TILES):
        i = (tl.program_id(0).to(tl.int64) * TILES + tile) * BLOCK + tl.arange(0, BLOCK)
        y, w, counted, _ = targets(y_ptr, w_ptr, i, i < P, ignore, C, HAS_W)
        total += tl.where(counted, w * tl.load(below_ptr + y).to(tl.float32), 0.0)
    tl.store(part_ptr + tl.program_id(0), tl.sum(total, 0).to(tl.float64))


@triton.jit(do_not_specialize=["ignore"])
def once_kernel(
    g_ptr, z_ptr, y_ptr, w_ptr, out_ptr, part_ptr, bad_ptr,
    programs, P, stride_b, stride_c, stride_p, out_b, out_c, out_p, ignore,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, HAS_W: tl.constexpr, SOFTMAX: tl.constexpr,
    MIXED: tl.constexpr, LOGS: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient, from derivatives ``g[kind, class]``, partial sums of what these weigh, and whether a label was bad."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    out_ptr += image * out_b
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    i = program * BLOCK + tl.arange(0, BLOCK)
    inside, at = i < P, image * P + i
    y, w, counted, bad = targets(y_ptr, w_ptr, at, inside, ignore, C, HAS_W)
    z = rows_of(z_ptr, first, i.to(tl.int64) * stride_p, inside, counted, stride_c, C, ROWS, GROUPS, SOFTMAX)
    dz = differentiate(
        g_ptr, g_ptr, z, y, w, counted, w, first, C, KINDS, GAMMAS, MIXED, LOGS, 0, ROWS, GROUPS, SOFTMAX
    )  # fmt: skip
    value = value_of(g_ptr, z, y, w, w, first, C, KINDS, GAMMAS, ROWS, SOFTMAX)
    store_rows(dz, out_ptr, i.to(tl.int64) * out_p, inside, out_c, first, C, ROWS, GROUPS)
    tl.store(part_ptr + tl.program_id(0), tl.sum(tl.where(counted, value, 0.0), 0).to(tl.float64))
    tl.store(bad_ptr + tl.program_id(0), tl.max(bad.to(tl.int32), 0))
