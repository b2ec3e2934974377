"""The label fold at label resolution: logits ``[B, C, h, w]``, labels ``[B, H, W]``; nothing of size C H W is built.

For cells and nodes see :mod:`lossfold.folds.gpu.axes`. A program has one row of cells; it brings the two rows of nodes to its
columns of labels once, and walks over its label rows.

Every program adds up what its label rows owe each cell's four nodes, ``[4, C, h + 1, w + 1]``, and a second kernel adds four
numbers a node: no atomics, and every label pixel is computed once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.axes import between, cells_of, past, start_of
from lossfold.folds.gpu.device import narrow
from lossfold.folds.label.triton.bins import add_zeros, nothing_binned, table_of, with_binned
from lossfold.folds.label.triton.gradient import differentiate
from lossfold.folds.label.triton.hard import hardness
from lossfold.folds.label.triton.pixels import hard_at, targets
from lossfold.folds.label.triton.sums import store_sums, value_of, with_pixels

SIZES = ("h", "w", "H", "W", "ay", "by", "dy", "ax", "bx", "dx", "ignore")


@triton.jit
def programs_of(tiles, h):
    """Return a program's tile of columns, its row of cells and its image."""
    number = tl.program_id(0)
    return number % tiles, (number // tiles) % (h + 1) - 1, (number // (tiles * (h + 1))).to(tl.int64)


@triton.jit
def rows_between(
    z_ptr, first, t, left, right, up, down, inside, stride_c, stride_x,
    C: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr, SOFTMAX: tl.constexpr,
):  # fmt: skip
    """Return the upper and the lower row of nodes ``[GROUPS, columns]`` of each row of classes, at columns of labels."""
    above, below = (), ()
    for r in tl.static_range(ROWS):
        real = (first + r < C)[:, None]
        here = inside[None, :] & real
        at = z_ptr + (first + r)[:, None] * stride_c
        to_left, to_right = (left.to(tl.int64) * stride_x)[None, :], (right.to(tl.int64) * stride_x)[None, :]
        beyond = float("-inf") if SOFTMAX else 0.0
        p = tl.load(at + up + to_left, mask=here, other=0.0).to(tl.float32)
        q = tl.load(at + up + to_right, mask=here, other=0.0).to(tl.float32)
        above = above + (tl.where(real, between(p, q, t[None, :]), beyond),)
        p = tl.load(at + down + to_left, mask=here, other=0.0).to(tl.float32)
        q = tl.load(at + down + to_right, mask=here, other=0.0).to(tl.float32)
        below = below + (tl.where(real, between(p, q, t[None, :]), beyond),)
    return above, below


@triton.jit
def row_of(above, below, s, counted, first, C: tl.constexpr, ROWS: tl.constexpr, SOFTMAX: tl.constexpr):
    """Return scores at a row of labels, 0 at pixels that do not count."""
    z = ()
    for r in tl.static_range(ROWS):
        x = tl.where(counted[None, :], between(above[r], below[r], s), 0.0)
        z = z + (tl.where((first + r < C)[:, None], x, float("-inf") if SOFTMAX else 0.0),)
    return z


@triton.jit
def columns_of(tile, w, W, ax, bx, dx, LONG: tl.constexpr, BLOCK: tl.constexpr):
    """Return columns of labels, which are there, the nodes left and right of them, and where they stand between these."""
    x = tile * BLOCK + tl.arange(0, BLOCK)
    left, right, t = cells_of(x, w, ax, bx, dx, LONG)
    return x, x < W, left, right, t


@triton.jit(do_not_specialize=[*SIZES, "thresh"])
def grid_fold(
    z_ptr, y_ptr, w_ptr, hard_ptr, part_ptr, bad_ptr,
    tiles, stride_b, stride_c, stride_y, stride_x, h, w, H, W, ay, by, dy, ax, bx, dx, ignore, thresh,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, HAS_W: tl.constexpr, SOFTMAX: tl.constexpr, HARD: tl.constexpr,
    LONG: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Do what ``fold_kernel`` does: partial sums ``[image, (row of cells, tile of columns), kind, class]``."""
    tile, cell, image = programs_of(tiles, h)
    z_ptr += image * stride_b
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    x, inside, left, right, t = columns_of(tile, w, W, ax, bx, dx, LONG, BLOCK)
    up, down = tl.maximum(cell, 0).to(tl.int64) * stride_y, tl.minimum(cell + 1, h - 1).to(tl.int64) * stride_y
    above, below = rows_between(z_ptr, first, t, left, right, up, down, inside, stride_c, stride_x, C, ROWS, GROUPS, SOFTMAX)
    wrong = tl.zeros([BLOCK], tl.int32)
    sums = ()
    for n in tl.static_range(len(KINDS) * ROWS):
        sums = sums + (tl.zeros([GROUPS, BLOCK], tl.float32),)
    begin, end = tl.maximum(start_of(cell, ay, by, dy, LONG), 0), tl.minimum(start_of(cell + 1, ay, by, dy, LONG), H)
    for k in range(0, end - begin):
        y_row = begin + k  # a loop's own variable is a plain number in the interpreter
        s = past(y_row, cell, ay, by, dy, LONG)
        at = (image * H + y_row) * W + x
        y, weight, counted, bad = targets(y_ptr, w_ptr, at, inside, ignore, C, HAS_W)
        wrong = wrong | bad.to(tl.int32)
        z = row_of(above, below, s, counted, first, C, ROWS, SOFTMAX)
        sums, nll, p = with_pixels(sums, z, y, weight, first, KINDS, GAMMAS, ROWS, SOFTMAX)
        if HARD:
            tl.store(hard_ptr + at, hardness(nll, p, counted, thresh), mask=inside)
    store_sums(sums, part_ptr, first, C, len(KINDS), ROWS)
    tl.store(bad_ptr + tl.program_id(0), tl.max(wrong, 0))


@triton.jit(do_not_specialize=SIZES)
def grid_bins(
    z_ptr, y_ptr, w_ptr, table_ptr,
    tiles, stride_b, stride_c, stride_y, stride_x, h, w, H, W, ay, by, dy, ax, bx, dx, ignore, groups, share,
    C: tl.constexpr, BINS: tl.constexpr, HAS_W: tl.constexpr, COUNTS: tl.constexpr, APART: tl.constexpr, SOFTMAX: tl.constexpr,
    LONG: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Do what ``bins_kernel`` does."""
    tile, cell, image = programs_of(tiles, h)
    WORDS: tl.constexpr = 1 if COUNTS else 2
    z_ptr += image * stride_b
    programs = tiles * (h + 1)
    table = table_of(image, tl.program_id(0) % programs, groups, programs, share, APART)
    table_ptr += table * (2 * C * (BINS + 1) * WORDS)
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    x, inside, left, right, t = columns_of(tile, w, W, ax, bx, dx, LONG, BLOCK)
    up, down = tl.maximum(cell, 0).to(tl.int64) * stride_y, tl.minimum(cell + 1, h - 1).to(tl.int64) * stride_y
    above, below = rows_between(z_ptr, first, t, left, right, up, down, inside, stride_c, stride_x, C, ROWS, GROUPS, SOFTMAX)
    zeros = nothing_binned(GROUPS, BLOCK, ROWS)
    begin, end = tl.maximum(start_of(cell, ay, by, dy, LONG), 0), tl.minimum(start_of(cell + 1, ay, by, dy, LONG), H)
    for k in range(0, end - begin):
        y_row = begin + k
        s = past(y_row, cell, ay, by, dy, LONG)
        y, weight, counted, _ = targets(y_ptr, w_ptr, (image * H + y_row) * W + x, inside, ignore, C, HAS_W)
        z = row_of(above, below, s, counted, first, C, ROWS, SOFTMAX)
        zeros = with_binned(zeros, table_ptr, z, y, weight, counted, first, C, BINS, COUNTS, SOFTMAX, ROWS)
    add_zeros(zeros, table_ptr, first, C, BINS, COUNTS, ROWS)


@triton.jit(do_not_specialize=SIZES)
def grid_map(
    g_ptr, z_ptr, y_ptr, w_ptr, kept_ptr, out_ptr, bad_ptr,
    tiles, stride_b, stride_c, stride_y, stride_x, h, w, H, W, ay, by, dy, ax, bx, dx, ignore,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, HAS_W: tl.constexpr, SOFTMAX: tl.constexpr,
    LONG: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Do what ``map_kernel`` does."""
    tile, cell, image = programs_of(tiles, h)
    z_ptr += image * stride_b
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    x, inside, left, right, t = columns_of(tile, w, W, ax, bx, dx, LONG, BLOCK)
    up, down = tl.maximum(cell, 0).to(tl.int64) * stride_y, tl.minimum(cell + 1, h - 1).to(tl.int64) * stride_y
    above, below = rows_between(z_ptr, first, t, left, right, up, down, inside, stride_c, stride_x, C, ROWS, GROUPS, SOFTMAX)
    wrong = tl.zeros([BLOCK], tl.int32)
    begin, end = tl.maximum(start_of(cell, ay, by, dy, LONG), 0), tl.minimum(start_of(cell + 1, ay, by, dy, LONG), H)
    for k in range(0, end - begin):
        y_row = begin + k
        s = past(y_row, cell, ay, by, dy, LONG)
        at = (image * H + y_row) * W + x
        y, weight, counted, bad = targets(y_ptr, w_ptr, at, inside, ignore, C, HAS_W)
        wrong = wrong | bad.to(tl.int32)
        z = row_of(above, below, s, counted, first, C, ROWS, SOFTMAX)
        hard = hard_at(kept_ptr, at, inside, KINDS)
        tl.store(out_ptr + at, value_of(g_ptr, z, y, weight, hard, first, C, KINDS, GAMMAS, ROWS, SOFTMAX), mask=inside)
    tl.store(bad_ptr + tl.program_id(0), tl.max(wrong, 0))


@triton.jit
def of_nodes(owed, t, GROUPS: tl.constexpr, CELLS: tl.constexpr, WIDE: tl.constexpr):
    """Return what columns of labels owe the nodes left and right of their cells, ``[GROUPS, CELLS]``."""
    of_left = tl.sum(tl.reshape((1.0 - t)[None, :] * owed, [GROUPS, CELLS, WIDE]), 2)
    return of_left, tl.sum(tl.reshape(t[None, :] * owed, [GROUPS, CELLS, WIDE]), 2)


@triton.jit(do_not_specialize=SIZES)
def grid_unfold(
    g_ptr, slope_ptr, z_ptr, y_ptr, w_ptr, kept_ptr, corner_ptr,
    tiles, stride_b, stride_c, stride_y, stride_x, h, w, H, W, ay, by, dy, ax, bx, dx, ignore, slope_b,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, HAS_W: tl.constexpr, SOFTMAX: tl.constexpr,
    MIXED: tl.constexpr, LOGS: tl.constexpr, BINS: tl.constexpr,
    LONG: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr, CELLS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Write ``corner[image, upper left | upper right | lower left | lower right, class, h + 1, w + 1]``.

    WIDE: lanes for the columns of a cell, of which a program has CELLS in a row.
    """
    tile, cell, image = programs_of(tiles, h)
    BLOCK: tl.constexpr = CELLS * WIDE
    z_ptr += image * stride_b
    g_ptr += image * len(KINDS) * C
    slope_ptr += image * slope_b
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    lanes = tl.arange(0, BLOCK)
    j = tile * CELLS + lanes // WIDE - 1
    x = start_of(j, ax, bx, dx, LONG) + lanes % WIDE
    inside = (x >= 0) & (x < W) & (x < start_of(j + 1, ax, bx, dx, LONG)) & (j < w)
    t = tl.where(inside, past(x, j, ax, bx, dx, LONG), 0.0)
    left, right = tl.minimum(tl.maximum(j, 0), w - 1), tl.minimum(j + 1, w - 1)
    up, down = tl.maximum(cell, 0).to(tl.int64) * stride_y, tl.minimum(cell + 1, h - 1).to(tl.int64) * stride_y
    above, below = rows_between(z_ptr, first, t, left, right, up, down, inside, stride_c, stride_x, C, ROWS, GROUPS, SOFTMAX)
    top, bottom = (), ()
    for r in tl.static_range(ROWS):
        top = top + (tl.zeros([GROUPS, BLOCK], tl.float32),)
        bottom = bottom + (tl.zeros([GROUPS, BLOCK], tl.float32),)
    begin, end = tl.maximum(start_of(cell, ay, by, dy, LONG), 0), tl.minimum(start_of(cell + 1, ay, by, dy, LONG), H)
    for k in range(0, end - begin):
        y_row = begin + k
        s = past(y_row, cell, ay, by, dy, LONG)
        at = (image * H + y_row) * W + x
        y, weight, counted, bad = targets(y_ptr, w_ptr, at, inside, ignore, C, HAS_W)
        z = row_of(above, below, s, counted, first, C, ROWS, SOFTMAX)
        hard = hard_at(kept_ptr, at, inside, KINDS)
        dz = differentiate(
            g_ptr, slope_ptr, z, y, weight, counted, hard, first, C, KINDS, GAMMAS, MIXED, LOGS, BINS, ROWS, GROUPS, SOFTMAX
        )  # fmt: skip
        upper, lower = (), ()
        for r in tl.static_range(ROWS):
            upper = upper + (top[r] + (1.0 - s) * dz[r],)
            lower = lower + (bottom[r] + s * dz[r],)
        top, bottom = upper, lower
    cells = tile * CELLS + tl.arange(0, CELLS)  # from 0, which is cell -1
    at_left, at_right = (cells == 0)[None, :], (cells == w)[None, :]
    plane = (h + 1).to(tl.int64) * (w + 1)
    corner_ptr += image * 4 * C * plane + (cell + 1).to(tl.int64) * (w + 1)
    for r in tl.static_range(ROWS):
        here = (cells < w + 1)[None, :] & (first + r < C)[:, None]
        for side in tl.static_range(2):
            of_left, of_right = of_nodes(top[r] if side == 0 else bottom[r], t, GROUPS, CELLS, WIDE)
            both = of_left + of_right  # at a border the two nodes are one
            to = corner_ptr + (2 * side * C + first + r)[:, None] * plane + cells[None, :]
            tl.store(to, tl.where(at_right, both, tl.where(at_left, 0.0, of_left)), mask=here)
            tl.store(to + C * plane, tl.where(at_left, both, tl.where(at_right, 0.0, of_right)), mask=here)


@triton.jit(do_not_specialize=["h", "w"])
def grid_collect(corner_ptr, out_ptr, blocks, C, h, w, out_b, out_c, out_y, out_x, BLOCK: tl.constexpr):
    """Add up what the four cells around each node owe it, always in this order."""
    number = tl.program_id(0)
    tile, c, image = number % blocks, (number // blocks) % C, (number // (blocks * C)).to(tl.int64)
    k = tile * BLOCK + tl.arange(0, BLOCK)
    i, j = k // w, k % w
    here = k < h * w
    plane = (h + 1).to(tl.int64) * (w + 1)
    corner_ptr += image * 4 * C * plane + c * plane
    step = C * plane
    up = i * (w + 1) + j  # the cell above and left of the node, (i - 1, j - 1), counted from -1
    down = up + (w + 1)
    own = tl.load(corner_ptr + down + 1, mask=here, other=0.0)  # upper left node of cell (i, j)
    own += tl.load(corner_ptr + step + down, mask=here, other=0.0)  # upper right one of cell (i, j - 1)
    others = tl.load(corner_ptr + 2 * step + up + 1, mask=here, other=0.0)  # lower left one of cell (i - 1, j)
    others += tl.load(corner_ptr + 3 * step + up, mask=here, other=0.0)  # lower right one of cell (i - 1, j - 1)
    # Both rows of nodes of cell row -1 are row 0, and both of cell row h - 1 are row h - 1.
    edge = tl.load(corner_ptr + up + 1, mask=here & (i == 0), other=0.0)
    edge += tl.load(corner_ptr + step + up, mask=here & (i == 0), other=0.0)
    last = tl.load(corner_ptr + 2 * step + down + 1, mask=here & (i == h - 1), other=0.0)
    last += tl.load(corner_ptr + 3 * step + down, mask=here & (i == h - 1), other=0.0)
    to = out_ptr + image * out_b + c.to(tl.int64) * out_c + i.to(tl.int64) * out_y + j.to(tl.int64) * out_x
    tl.store(to, narrow((own + others) + (edge + last), out_ptr.dtype.element_ty), mask=here)
