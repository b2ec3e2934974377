"""Linear interpolation along an axis, on the device: to be imported by kernels and hosts alone, for it imports Triton.

Between neighbouring nodes lies a cell; its index runs from -1 to the number of nodes - 1, so that the borders are cells whose
nodes are the same one, and all are alike. A place x stands at (a x + b) / d in nodes, and cell j holds the x with
j d <= a x + b < (j + 1) d: whole numbers, exact for any ratio; LONG ones where 32 bits do not hold them.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import narrow


@triton.jit
def in_nodes(x, a, b, LONG: tl.constexpr):
    """Return where places stand, d times."""
    if LONG:
        x = x.to(tl.int64)
    return x * a + b


@triton.jit
def start_of(cell, a, b, d, LONG: tl.constexpr):
    """Return the first place of a cell; it may be negative."""
    n = in_nodes(cell, d, -b, LONG)
    return tl.where(n >= 0, (n + a - 1) // a, -((-n) // a)).to(tl.int32)


@triton.jit
def past(x, cell, a, b, d, LONG: tl.constexpr):
    """Return how far into their cell places are, from 0 to 1."""
    return (in_nodes(x, a, b, LONG) - in_nodes(cell, d, 0, LONG)).to(tl.float32) / d.to(tl.float32)


@triton.jit
def cells_of(x, nodes, a, b, d, LONG: tl.constexpr):
    """Return the nodes before and after places, and how far these are from the one to the other."""
    n = in_nodes(x, a, b, LONG)
    j = tl.where(n >= 0, n // d, -1).to(tl.int32)
    return tl.minimum(tl.maximum(j, 0), nodes - 1), tl.minimum(j + 1, nodes - 1), past(x, j, a, b, d, LONG)


@triton.jit
def between(p, q, t):
    """Return the numbers between p and q; of equal ones exactly these, infinite ones too."""
    return tl.where(p == q, p, (1.0 - t) * p + t * q)


AXIS = ("tiles", "nodes", "places", "inner", "a", "b", "d")


@triton.jit(do_not_specialize=AXIS)
def spread(
    x_ptr, out_ptr, tiles, nodes, places, inner, a, b, d, LAST: tl.constexpr, LONG: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Write ``out[outer, places, inner]``, between the nodes of ``x[outer, nodes, inner]``.

    LAST: inner is 1, and a program has places along its lanes; others have a place each.
    """
    number = tl.program_id(0)
    at, line = number % tiles * BLOCK + tl.arange(0, BLOCK), number // tiles
    if LAST:
        before, after, t = cells_of(at, nodes, a, b, d, LONG)
        here, outer, to = at < places, line.to(tl.int64), line.to(tl.int64) * places
        before, after = outer * nodes + before, outer * nodes + after
    else:
        before, after, t = cells_of(line % places, nodes, a, b, d, LONG)
        here, outer, to = at < inner, (line // places).to(tl.int64), line.to(tl.int64) * inner
        before, after = (outer * nodes + before) * inner + at, (outer * nodes + after) * inner + at
    p = tl.load(x_ptr + before, mask=here, other=0.0).to(tl.float32)
    q = tl.load(x_ptr + after, mask=here, other=0.0).to(tl.float32)
    tl.store(out_ptr + to + at, between(p, q, t), mask=here)


@triton.jit
def part_of(x, j, nodes, a, b, d, LONG: tl.constexpr):
    """Return how much of what places in the cells before and after node j have is the node's; of a border cell, all."""
    cell = tl.where(x < start_of(j, a, b, d, LONG), j - 1, j)
    t = past(x, cell, a, b, d, LONG)
    return tl.where((cell == -1) | (cell == nodes - 1), 1.0, tl.where(cell < j, t, 1.0 - t))


@triton.jit(do_not_specialize=[*AXIS, "most"])
def gather(
    x_ptr, out_ptr, tiles, nodes, places, inner, a, b, d, most, LAST: tl.constexpr, LONG: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Write ``out[outer, nodes, inner]``: what places of ``x[outer, places, inner]``, at most so many a node, owe it, in order."""
    number = tl.program_id(0)
    at, line = number % tiles * BLOCK + tl.arange(0, BLOCK), number // tiles
    if LAST:
        j, here, outer, to = at, at < nodes, line.to(tl.int64), line.to(tl.int64) * nodes
    else:
        j, here, outer, to = line % nodes, at < inner, (line // nodes).to(tl.int64), line.to(tl.int64) * inner
    begin = tl.maximum(start_of(j - 1, a, b, d, LONG), 0)
    end = tl.minimum(start_of(j + 1, a, b, d, LONG), places)
    total = tl.zeros([BLOCK], tl.float32)
    for k in range(0, most):
        x = begin + k
        if LAST:
            value = tl.load(x_ptr + outer * places + x, mask=here & (x < end), other=0.0)
        else:
            value = tl.load(x_ptr + (outer * places + x) * inner + at, mask=here & (x < end), other=0.0)
        total += tl.where(x < end, part_of(x, j, nodes, a, b, d, LONG), 0.0) * value
    tl.store(out_ptr + to + at, narrow(total, out_ptr.dtype.element_ty), mask=here)
