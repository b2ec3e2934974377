"""What kernels of all folds are made of, on the device: to be imported by kernels alone, for it imports Triton."""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.engines.triton import INTERPRETED
from lossfold.folds.arithmetic import PROBABILITY_FLOOR

TINY = tl.constexpr(2.0**-126)  # the least normal number: what has powers is held above it
FLOOR = tl.constexpr(PROBABILITY_FLOOR)
LARGEST = tl.constexpr(3.4028234663852886e38)
UNIT = tl.constexpr(2.0**24)  # of histograms
BY_BITS = tl.constexpr(INTERPRETED)


@triton.jit
def narrow(x, dtype: tl.constexpr):
    """Return x in the dtype of a tensor; the interpreter cuts bfloat16 off where devices round to nearest, there by the bits."""
    if BY_BITS and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        up = tl.where(x == x, bits + 0x7FFF + ((bits >> 16) & 1), 0x7FC00000)
        found = (up >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        found = x.to(dtype)
    return found


@triton.jit
def place_of(programs):
    """Return which of an image's programs this is, and of which image."""
    number = tl.program_id(0)
    return number % programs, (number // programs).to(tl.int64)


@triton.jit
def at_least(x, floor):
    """Return x, or a floor if it is below; NaN stays (``tl.maximum`` drops it)."""
    return tl.where(x < floor, floor, x)


@triton.jit
def finite(high):
    """Return maxima to take off scores; 0 where all scores so far are -inf, as those of classes that are masked."""
    return tl.where(high == float("-inf"), 0.0, high)


@triton.jit
def logistic(z):
    """Return the sigmoid of z, and of -z."""
    e = tl.exp(-tl.abs(z))
    large = 1.0 / (1.0 + e)
    small = e * large
    return tl.where(z < 0.0, small, large), tl.where(z < 0.0, large, small)


@triton.jit
def power(u, GAMMA: tl.constexpr):
    """Return u ** GAMMA for u > 0; by exp2 and log2, where no product serves, it is off by about GAMMA |log2 u| 2^-24."""
    if GAMMA == 0.0:
        found = u * 0.0 + 1.0
    elif GAMMA == 0.5:
        found = tl.sqrt(u)
    elif GAMMA == 1.0:
        found = u
    elif GAMMA == 1.5:
        found = u * tl.sqrt(u)
    elif GAMMA == 2.0:
        found = u * u
    elif GAMMA == 3.0:
        found = u * u * u
    else:
        found = tl.exp2(GAMMA * tl.log2(u))
    return found


@triton.jit
def weighed(g, x):
    """Return g x; what has the factor 0 takes no part, even if it is infinite."""
    return tl.where(g == 0.0, 0.0, g * x)


@triton.jit
def weight_at(w_ptr, at, inside, HAS_W: tl.constexpr):
    """Return weights, and which of them are not 0; without weights, 1 and all that are inside."""
    if HAS_W:
        raw = tl.load(w_ptr + at, mask=inside, other=0)
        counted = inside & (raw != 0)
        w = tl.where(counted, raw.to(tl.float32), 0.0)
    else:
        counted = inside
        w = tl.where(inside, 1.0, 0.0)
    return w, counted


@triton.jit
def collect(
    part_ptr, bad_ptr, sums_ptr, good_ptr, programs, bads, inner,
    SIZE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Add partial sums ``[outer, inner, programs, SIZE]`` up to ``[outer, SIZE, inner]``, in this order; say if none was bad.

    If one was, the first sums are NaN: not everywhere somebody hears of it.
    """
    block, image = place_of((SIZE + BLOCK - 1) // BLOCK)
    column = block * BLOCK + tl.arange(0, BLOCK)
    part_ptr += image * programs * SIZE
    total = tl.zeros([ROWS, BLOCK], tl.float64)
    for start in range(0, programs, ROWS):
        row = start + tl.arange(0, ROWS)
        here = (row < programs)[:, None] & (column < SIZE)[None, :]
        total += tl.load(part_ptr + row.to(tl.int64)[:, None] * SIZE + column[None, :], mask=here, other=0.0)
    sums = tl.sum(total, 0)
    if tl.program_id(0) == 0:
        wrong = tl.zeros([ROWS * BLOCK], tl.int32)
        for start in range(0, bads, ROWS * BLOCK):
            one = start + tl.arange(0, ROWS * BLOCK)
            wrong = wrong | tl.load(bad_ptr + one, mask=one < bads, other=0)
        good = tl.max(wrong, 0) == 0
        tl.store(good_ptr, good)
        sums = tl.where(good, sums, float("nan"))
    tl.store(sums_ptr + (image // inner * SIZE + column) * inner + image % inner, sums, mask=column < SIZE)


@triton.jit
def narrowed(from_ptr, to_ptr, count, BLOCK: tl.constexpr):
    """Write float64 numbers as float32, finite: 0 times them is 0."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(from_ptr + i, mask=i < count, other=0.0)
    tl.store(to_ptr + i, tl.where(x > LARGEST, LARGEST, tl.where(x < -LARGEST, -LARGEST, x)).to(tl.float32), mask=i < count)


@triton.jit
def divided(from_ptr, below_ptr, to_ptr, count, BLOCK: tl.constexpr):
    """Write float64 numbers over another (over 1 if that is 0) as float32, finite."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    below = tl.load(below_ptr)
    x = tl.load(from_ptr + i, mask=i < count, other=0.0) / tl.where(below == 0.0, 1.0, below)
    tl.store(to_ptr + i, tl.where(x > LARGEST, LARGEST, tl.where(x < -LARGEST, -LARGEST, x)).to(tl.float32), mask=i < count)


@triton.jit
def scale(x_ptr, factor_ptr, count, BLOCK: tl.constexpr):
    """Multiply in place by a number; by 1, touch nothing."""
    factor = tl.load(factor_ptr).to(tl.float32)
    if factor != 1.0:
        i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + i, mask=i < count, other=0.0).to(tl.float32)
        tl.store(x_ptr + i, narrow(x * factor, x_ptr.dtype.element_ty), mask=i < count)
