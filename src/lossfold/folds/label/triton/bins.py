"""The histogram of each class's errors; see :mod:`lossfold.folds.gpu.tables`.

Pixels in bin 0, which are nearly all once a network is trained, are added up in registers first, unless they have weights.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import UNIT, place_of
from lossfold.folds.gpu.tables import ONE, rounded
from lossfold.folds.label.triton.pixels import bin_of, evaluate, rows_of, targets


@triton.jit
def nothing_binned(GROUPS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """Return the words of bin 0 of each row, own and other, before the first pixel."""
    zeros = ()
    for n in tl.static_range(2 * ROWS):
        zeros = zeros + (tl.zeros([GROUPS, BLOCK], tl.int64),)
    return zeros


@triton.jit
def add_errors(
    table_ptr, c, p, own, w, counted, C: tl.constexpr, BINS: tl.constexpr, COUNTS: tl.constexpr, SOFTMAX: tl.constexpr
):  # fmt: skip
    """Add p of classes c ``[classes, pixels]`` to a table; return the words of bin 0, own and other, that COUNTS leave out."""
    bin_, position, number = bin_of(p, own, BINS, SOFTMAX)
    here = counted[None, :] & (c < C)[:, None]
    row = (2 * c[:, None] + tl.where(own, 0, 1)) * (BINS + 1)
    slot = row + tl.where(number, bin_, BINS)
    fixed = (position * UNIT + 0.5).to(tl.int64)
    if COUNTS:
        word = fixed + ONE
        tl.atomic_add(table_ptr + slot, word, mask=here & ((bin_ != 0) | (number == 0)), sem="relaxed")
        word = tl.where(here & (bin_ == 0) & number, word, 0)
        of_own, of_others = tl.where(own, word, 0), tl.where(own, 0, word)
    else:
        finite = (w - w == 0.0)[None, :]
        slot = tl.where(finite, slot, row + BINS)
        scale = tl.where(finite, w[None, :], 1.0).to(tl.float64)
        tl.atomic_add(table_ptr + 2 * slot, rounded(scale * UNIT), mask=here, sem="relaxed")
        tl.atomic_add(table_ptr + 2 * slot + 1, rounded(scale * fixed.to(tl.float64)), mask=here, sem="relaxed")
        of_own, of_others = tl.zeros(p.shape, tl.int64), tl.zeros(p.shape, tl.int64)
    return of_own, of_others


@triton.jit
def with_binned(
    zeros, table_ptr, z, y, w, counted, first,
    C: tl.constexpr, BINS: tl.constexpr, COUNTS: tl.constexpr, SOFTMAX: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Add pixels to a table ``[class, own | other, bin]``; return the words of bin 0 with what stays in registers."""
    label = y[None, :] - first.to(tl.int32)[:, None]
    e, inverse, _, _, _, _, _ = evaluate(z, label, ROWS, SOFTMAX)
    more = ()
    for r in tl.static_range(ROWS):
        of_own, of_others = add_errors(
            table_ptr, first + r, e[r] * inverse, label == r, w, counted, C, BINS, COUNTS, SOFTMAX
        )  # fmt: skip
        more = more + (zeros[2 * r] + of_own, zeros[2 * r + 1] + of_others)
    return more


@triton.jit
def add_zeros(zeros, table_ptr, first, C: tl.constexpr, BINS: tl.constexpr, COUNTS: tl.constexpr, ROWS: tl.constexpr):
    """Add what was kept of bin 0."""
    if COUNTS:
        for r in tl.static_range(ROWS):
            for side in tl.static_range(2):
                slot = (2 * (first + r) + side) * (BINS + 1)
                tl.atomic_add(table_ptr + slot, tl.sum(zeros[2 * r + side], 1), mask=first + r < C, sem="relaxed")


@triton.jit
def table_of(image, program, groups, programs, share, APART: tl.constexpr):
    """Return the table of a program; share: programs to a table; groups: tables to an image, where these stand APART."""
    if APART:
        table = image * groups + program // share
    else:
        table = (image * programs + program) // share
    return table


@triton.jit(do_not_specialize=["ignore"])
def bins_kernel(
    z_ptr, y_ptr, w_ptr, table_ptr,
    programs, P, stride_b, stride_c, stride_p, groups, share, ignore,
    C: tl.constexpr, BINS: tl.constexpr, HAS_W: tl.constexpr, COUNTS: tl.constexpr, APART: tl.constexpr, SOFTMAX: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Add to ``table[table, class, own | other, bin]`` (the last bin: what is no number), a word or, with weights, two."""
    program, image = place_of(programs)
    WORDS: tl.constexpr = 1 if COUNTS else 2
    z_ptr += image * stride_b
    table_ptr += table_of(image, program, groups, programs, share, APART) * (2 * C * (BINS + 1) * WORDS)
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    zeros = nothing_binned(GROUPS, BLOCK, ROWS)
    for tile in range(TILES):
        i = (program * TILES + tile) * BLOCK + tl.arange(0, BLOCK)
        inside = i < P
        y, w, counted, _ = targets(y_ptr, w_ptr, image * P + i, inside, ignore, C, HAS_W)
        z = rows_of(z_ptr, first, i.to(tl.int64) * stride_p, inside, counted, stride_c, C, ROWS, GROUPS, SOFTMAX)
        zeros = with_binned(zeros, table_ptr, z, y, w, counted, first, C, BINS, COUNTS, SOFTMAX, ROWS)
    add_zeros(zeros, table_ptr, first, C, BINS, COUNTS, ROWS)
