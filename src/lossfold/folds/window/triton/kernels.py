"""The window fold and its gradient: programs walk down the rows of a band of columns.

A lane is a column of window places. Each row of pixels is filtered along itself as it comes, out of the cache, and added to all
places that see it: a lane holds the unfinished sums, and no filtered map is ever written.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import narrow, place_of, weight_at


@triton.jit
def pixel_at(p_ptr, t_ptr, y, x, p_y, p_x, t_y, t_x, inside):
    """Return the sum and the difference of two images."""
    row, column = y.to(tl.int64), x.to(tl.int64)
    p = tl.load(p_ptr + row * p_y + column * p_x, mask=inside, other=0.0).to(tl.float32)
    t = tl.load(t_ptr + row * t_y + column * t_x, mask=inside, other=0.0).to(tl.float32)
    return p + t, p - t


@triton.jit
def finite(x):
    """Return x, or 0 if it is no number."""
    return tl.where(x - x == 0.0, x, 0.0)


@triton.jit
def nearest_to_zero(low, high):
    """Return what of a range is nearest to 0."""
    low, high = tl.min(low, 0), tl.max(high, 0)
    return tl.where(low > 0.0, low, tl.where(high < 0.0, high, 0.0))


@triton.jit
def shifts(
    p_ptr, t_ptr, start, x, H, W, p_y, p_x, t_y, t_x, ROWS: tl.constexpr, REACH: tl.constexpr
):  # fmt: skip
    """Return what is taken from sums and differences, so that far from 0 variances keep their digits: that of a band's values."""
    low_s, high_s = tl.full(x.shape, float("inf"), tl.float32), tl.full(x.shape, float("-inf"), tl.float32)
    low_d, high_d = low_s, high_s
    for row in range(ROWS):
        y = tl.maximum(tl.minimum(tl.zeros(x.shape, tl.int32) + start + row, H - 1), 0)
        for k in tl.static_range(2):  # both ends: a band is at least as wide as a window
            at = tl.maximum(tl.minimum(x + k * REACH, W - 1), 0)
            s, d = pixel_at(p_ptr, t_ptr, y, at, p_y, p_x, t_y, t_x, at == at)
            s, d = finite(s), finite(d)
            low_s, high_s = tl.minimum(low_s, s), tl.maximum(high_s, s)
            low_d, high_d = tl.minimum(low_d, d), tl.maximum(high_d, d)
    return nearest_to_zero(low_s, high_s), nearest_to_zero(low_d, high_d)


@triton.jit
def filtered(
    p_ptr, t_ptr, y, x, H, W, p_y, p_x, t_y, t_x, shift_s, shift_d, TAPS: tl.constexpr
):  # fmt: skip
    """Return a row of sums, differences, and the squares of both, less their shifts, filtered along it; 0 beyond the image."""
    s, d = tl.zeros(x.shape, tl.float32), tl.zeros(x.shape, tl.float32)
    ss, dd = tl.zeros(x.shape, tl.float32), tl.zeros(x.shape, tl.float32)
    row = (y >= 0) & (y < H)
    for k in tl.static_range(len(TAPS)):
        one_s, one_d = pixel_at(p_ptr, t_ptr, y, x + k, p_y, p_x, t_y, t_x, row & (x + k < W))
        one_s, one_d = one_s - shift_s, one_d - shift_d
        part_s, part_d = TAPS[k] * one_s, TAPS[k] * one_d
        s, d = s + part_s, d + part_d
        ss, dd = ss + part_s * one_s, dd + part_d * one_d
    return s, d, ss, dd


@triton.jit
def errors(s, d, ss, dd, shift_s, shift_d, C1: tl.constexpr, C2: tl.constexpr):
    """Return SSIM's u and v, and what they were divided by."""
    mean_s, mean_d = s + shift_s, d + shift_d
    var_s, var_d = ss - s * s, dd - d * d
    var_s, var_d = tl.where(var_s < 0.0, 0.0, var_s), tl.where(var_d < 0.0, 0.0, var_d)
    power_d = mean_d * mean_d
    below_u = 0.5 * (mean_s * mean_s + power_d) + C1
    below_v = 0.5 * (var_s + var_d) + C2
    return power_d / below_u, var_d / below_v, below_u, below_v


@triton.jit
def fold_window(
    p_ptr, t_ptr, w_ptr, part_ptr,
    blocks, programs, channels, H, W, h, w, p_b, p_c, p_y, p_x, t_b, t_c, t_y, t_x,
    TAPS: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, HAS_W: tl.constexpr, EACH: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write partial sums ``[line, program, 3]`` of weights, errors of SSIM and errors of its contrast, over places ``[h, w]``."""
    program, line = place_of(programs)
    image, channel = line // channels, line % channels
    p_ptr += image * p_b + channel * p_c
    t_ptr += image * t_b + channel * t_c
    w_ptr += (line if EACH else image) * (tl.zeros([], tl.int64) + h * w)
    N: tl.constexpr = len(TAPS)
    x = program % blocks * BLOCK + tl.arange(0, BLOCK)
    start = program // blocks * ROWS
    none = tl.zeros([BLOCK], tl.int32)
    nothing = tl.zeros([BLOCK], tl.float32)
    shift_s, shift_d = shifts(p_ptr, t_ptr, start, x, H, W, p_y, p_x, t_y, t_x, ROWS + N - 1, N - 1)
    held = ()
    for k in tl.static_range(4 * (N - 1)):
        held = held + (nothing,)
    count, whole, contrast = nothing, nothing, nothing
    for row in range(ROWS + N - 1):
        y = none + start + row
        new = filtered(p_ptr, t_ptr, y, x, H, W, p_y, p_x, t_y, t_x, shift_s, shift_d, TAPS)
        done, held = passed(held, new, TAPS)
        i = y - (N - 1)
        inside = (i >= start) & (i < h) & (x < w)
        u, v, _, _ = errors(done[0], done[1], done[2], done[3], shift_s, shift_d, C1, C2)
        weight, counted = weight_at(w_ptr, i.to(tl.int64) * w + x, inside, HAS_W)
        count += weight
        whole += tl.where(counted, weight * (u + v - u * v), 0.0)
        contrast += tl.where(counted, weight * v, 0.0)
    part_ptr += tl.program_id(0).to(tl.int64) * 3
    tl.store(part_ptr, tl.sum(count, 0).to(tl.float64))
    tl.store(part_ptr + 1, tl.sum(whole, 0).to(tl.float64))
    tl.store(part_ptr + 2, tl.sum(contrast, 0).to(tl.float64))


@triton.jit
def passed(held, new, TAPS: tl.constexpr):
    """Add a row to the sums over the rows that end with it, and to the unfinished ones; return the finished ones, and the others.

    held: for each of four maps, the sums over windows that have begun one, two ... rows ago, the oldest first.
    """
    N: tl.constexpr = len(TAPS)
    done, rest = (), ()
    for m in tl.static_range(4):
        if N > 1:
            done = done + (held[m * (N - 1)] + TAPS[N - 1] * new[m],)
        else:
            done = done + (TAPS[0] * new[m],)
        for k in tl.static_range(N - 1):
            if k < N - 2:
                rest = rest + (held[m * (N - 1) + k + 1] + TAPS[N - 2 - k] * new[m],)
            else:
                rest = rest + (TAPS[0] * new[m],)
    return done, rest


@triton.jit
def spread(held, new, TAPS: tl.constexpr):
    """Add what a row of places owes to the rows of pixels that it sees; return what the first one gets in all, and the others.

    held: for each of three maps, what has been owed so far to the rows from this one on.
    """
    N: tl.constexpr = len(TAPS)
    done, rest = (), ()
    for m in tl.static_range(3):
        if N > 1:
            done = done + (held[m * (N - 1)] + TAPS[0] * new[m],)
        else:
            done = done + (TAPS[0] * new[m],)
        for k in tl.static_range(N - 1):
            if k < N - 2:
                rest = rest + (held[m * (N - 1) + k + 1] + TAPS[k + 1] * new[m],)
            else:
                rest = rest + (TAPS[N - 1] * new[m],)
    return done, rest


@triton.jit
def owe(
    g_ptr, p_ptr, t_ptr, w_ptr, owed_ptr, shift_ptr,
    line, lines, blocks, programs, channels, H, W, h, w, p_b, p_c, p_y, p_x, t_b, t_c, t_y, t_x,
    TAPS: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, HAS_W: tl.constexpr, EACH: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write what each column of places owes to the pixels of its column, ``owed[3, lines, H, w]``, of so many lines from one on.

    See lossfold.folds.window.eager: a, b_s and b_d, filtered by the adjoint down the rows; what a place's column owes to those
    beside it is :func:`unfold_window`'s. And each program's shifts, ``shift[lines, program, 2]``.
    """
    program, place = place_of(programs)
    line += place
    image, channel = line // channels, line % channels
    p_ptr += image * p_b + channel * p_c
    t_ptr += image * t_b + channel * t_c
    w_ptr += (line if EACH else image) * (tl.zeros([], tl.int64) + h * w)
    N: tl.constexpr = len(TAPS)
    g_both = tl.load(g_ptr + (image * 3 + 1) * channels + channel)
    g_contrast = tl.load(g_ptr + (image * 3 + 2) * channels + channel)
    x = program % blocks * BLOCK + tl.arange(0, BLOCK)
    start = program // blocks * ROWS
    first = start - (N - 1)
    none = tl.zeros([BLOCK], tl.int32)
    nothing = tl.zeros([BLOCK], tl.float32)
    shift_s, shift_d = shifts(p_ptr, t_ptr, first, x, H, W, p_y, p_x, t_y, t_x, ROWS + 2 * (N - 1), N - 1)
    tl.store(shift_ptr + tl.program_id(0) * 2, shift_s)
    tl.store(shift_ptr + tl.program_id(0) * 2 + 1, shift_d)
    held, owed = (), ()
    for k in tl.static_range(4 * (N - 1)):
        held = held + (nothing,)
    for k in tl.static_range(3 * (N - 1)):
        owed = owed + (nothing,)
    size = tl.zeros([], tl.int64) + H * w
    for row in range(ROWS + 2 * (N - 1)):
        y = none + first + row
        new = filtered(p_ptr, t_ptr, y, x, H, W, p_y, p_x, t_y, t_x, shift_s, shift_d, TAPS)
        done, held = passed(held, new, TAPS)
        i = y - (N - 1)
        inside = (i >= first) & (i >= 0) & (i < h) & (x < w)
        weight, counted = weight_at(w_ptr, i.to(tl.int64) * w + x, inside, HAS_W)
        u, v, below_u, below_v = errors(done[0], done[1], done[2], done[3], shift_s, shift_d, C1, C2)
        by_v = (g_both * (1.0 - u) + g_contrast) / below_v
        by_s, by_d = -by_v * v, by_v * (2.0 - v)
        mean = g_both * (1.0 - v) / below_u * ((2.0 - u) * (done[1] + shift_d) - u * (done[0] + shift_s))
        mean -= by_s * done[0] + by_d * done[1]
        slopes = (
            tl.where(counted, weight * mean, 0.0),
            tl.where(counted, weight * by_s, 0.0),
            tl.where(counted, weight * by_d, 0.0),
        )
        down, owed = spread(owed, slopes, TAPS)
        here = (i >= start) & (i < H) & (i < start + ROWS) & (x < w)
        to = owed_ptr + place * size + i.to(tl.int64) * w + x
        for m in tl.static_range(3):
            tl.store(to + m * lines * size, down[m], mask=here)


@triton.jit
def unfold_window(
    p_ptr, t_ptr, owed_ptr, shift_ptr, out_ptr,
    line, lines, programs, blocks, owing, channels, H, W, w, p_b, p_c, p_y, p_x, t_b, t_c, t_y, t_x, out_b, out_c, out_y, out_x,
    TAPS: tl.constexpr, OF: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient from what columns of places owe; OF and ROWS are the BLOCK and ROWS of programs that wrote it."""
    program, place = place_of(programs)
    line += place
    image, channel = line // channels, line % channels
    one = program * BLOCK + tl.arange(0, BLOCK)
    inside = one < H * W
    y, x = one // W, one % W
    s, d = pixel_at(p_ptr + image * p_b + channel * p_c, t_ptr + image * t_b + channel * t_c, y, x, p_y, p_x, t_y, t_x, inside)
    size = tl.zeros([], tl.int64) + H * w
    owed_ptr += place * size
    shift_ptr += 2 * (place * owing + y // ROWS * blocks)
    slope = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(len(TAPS)):
        column = x - k
        here = inside & (column >= 0) & (column < w)
        at = owed_ptr + y.to(tl.int64) * w + column
        mean = tl.load(at, mask=here, other=0.0)
        by_s = tl.load(at + lines * size, mask=here, other=0.0)
        by_d = tl.load(at + 2 * lines * size, mask=here, other=0.0)
        shift_s = tl.load(shift_ptr + 2 * (column // OF), mask=here, other=0.0)
        shift_d = tl.load(shift_ptr + 2 * (column // OF) + 1, mask=here, other=0.0)
        mean += tl.where(by_s == 0.0, 0.0, by_s * (s - shift_s)) + tl.where(by_d == 0.0, 0.0, by_d * (d - shift_d))
        slope += TAPS[k] * mean
    to = out_ptr + image * out_b + channel * out_c + y.to(tl.int64) * out_y + x.to(tl.int64) * out_x
    tl.store(to, narrow(slope, out_ptr.dtype.element_ty), mask=inside)
