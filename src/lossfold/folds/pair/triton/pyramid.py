"""The Laplacian pyramid: g' = down(g), c = g - up(g'), sums of w |c|, and the derivatives by g.

Along each side, with borders reflected, down takes every second element of [1 4 6 4 1] / 16 * g; up fills zeros between the
elements of g', twice as large, and does the same: even elements are (g'_-1 + 6 g'_0 + g'_1) / 8, odd ones (g'_0 + g'_1) / 2.
Reflection continues g by g_-1 = g_1, g_-2 = g_2, g_n = g_n-2, and so g' by g'_-1 = g'_1, g'_h = g'_h-1.
Filters are taken of differences from the middle: constant images stay constant to the bit.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import place_of
from lossfold.folds.pair.triton.elements import maps_at, pair_at, store_sums, weigh


@triton.jit
def reflected(y, size):
    """Return places in rows or columns, reflected once at the first and last."""
    y = tl.abs(y)
    return tl.where(y >= size, 2 * size - 2 - y, y)


@triton.jit
def sign_of(x):
    """Return -1, 0 or 1 in a byte; 0 for NaN."""
    return (x > 0.0).to(tl.int8) - (x < 0.0).to(tl.int8)


@triton.jit
def low_passed(near):
    """Return [1 4 6 4 1] / 16 of five values."""
    here = near[2]
    return here + ((near[0] - here) + (near[4] - here) + 4.0 * ((near[1] - here) + (near[3] - here))) * 0.0625


@triton.jit
def filtered_row(
    p_ptr, t_ptr, y, column, h, w, p_y, p_x, t_y, t_x, inside, SIGMOID: tl.constexpr, DIFFERS: tl.constexpr
):  # fmt: skip
    """Return a row of an image, filtered at every second column."""
    row = reflected(y, 2 * h).to(tl.int64)
    near = ()
    for k in tl.static_range(5):
        x = reflected(2 * column + (k - 2), 2 * w).to(tl.int64)
        _, _, d = pair_at(p_ptr, t_ptr, row * p_y + x * p_x, row * t_y + x * t_x, inside, SIGMOID, DIFFERS)
        near = near + (d,)
    return low_passed(near)


@triton.jit
def down(
    p_ptr, t_ptr, map_ptrs, low_ptr, sign_ptr, part_ptr,
    blocks, programs, parts, first, channels, h, w, p_b, p_c, p_y, p_x, t_b, t_c, t_y, t_x,
    WHERE: tl.constexpr, VALUES: tl.constexpr, SLOTS: tl.constexpr, EACH: tl.constexpr,
    KEEPS: tl.constexpr, SIGMOID: tl.constexpr, DIFFERS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write the next level's image ``[line, h, w]``, if asked its signs, and sums of w or (VALUES) of w times absolute values."""
    program, line = place_of(programs)
    image, channel = line // channels, line % channels
    p_ptr += image * p_b + channel * p_c
    t_ptr += image * t_b + channel * t_c
    column = program % blocks * BLOCK + tl.arange(0, BLOCK)
    start = program // blocks * ROWS
    inside = column < w
    first_row = tl.zeros([BLOCK], tl.int32) + 2 * start
    a = filtered_row(p_ptr, t_ptr, first_row - 2, column, h, w, p_y, p_x, t_y, t_x, inside, SIGMOID, DIFFERS)
    b = filtered_row(p_ptr, t_ptr, first_row - 1, column, h, w, p_y, p_x, t_y, t_x, inside, SIGMOID, DIFFERS)
    c = filtered_row(p_ptr, t_ptr, first_row, column, h, w, p_y, p_x, t_y, t_x, inside, SIGMOID, DIFFERS)
    sums = ()
    for k in tl.static_range(len(WHERE)):
        sums = sums + (tl.zeros([BLOCK], tl.float32),)
    size = tl.zeros([], tl.int64) + h * w
    for row in range(ROWS):
        y = tl.zeros([BLOCK], tl.int32) + start + row
        there = inside & (y < h)
        d = filtered_row(p_ptr, t_ptr, 2 * y + 1, column, h, w, p_y, p_x, t_y, t_x, there, SIGMOID, DIFFERS)
        e = filtered_row(p_ptr, t_ptr, 2 * y + 2, column, h, w, p_y, p_x, t_y, t_x, there, SIGMOID, DIFFERS)
        value = low_passed((a, b, c, d, e))
        at = y.to(tl.int64) * w + column
        tl.store(low_ptr + line * size + at, value, mask=there)
        if KEEPS:
            tl.store(sign_ptr + line * size + at, sign_of(value), mask=there)
        maps = maps_at(map_ptrs, line, image, size, at, there, EACH)
        more = ()
        for k in tl.static_range(len(WHERE)):
            weight, counted = weigh(maps, WHERE[k], there)
            share = weight * tl.abs(value) if VALUES[k] else weight
            more = more + (sums[k] + tl.where(counted, share, 0.0),)
        sums, a, b, c = more, c, d, e
    store_sums(sums, part_ptr + (line * parts + first + program) * len(SLOTS), SLOTS)


@triton.jit
def raised(near, ODD: tl.constexpr):
    """Return up of three values along a side: at the middle one's place, or (ODD) behind it."""
    here = near[1]
    if ODD:
        value = here + 0.5 * (near[2] - here)
    else:
        value = here + ((near[0] - here) + (near[2] - here)) * 0.125
    return value


@triton.jit
def coefficients(
    p_ptr, t_ptr, map_ptrs, low_ptr, sign_ptr, part_ptr,
    programs, parts, first, channels, size, columns, h, w, p_b, p_c, p_y, p_x, t_b, t_c, t_y, t_x,
    WHERE: tl.constexpr, VALUES: tl.constexpr, SLOTS: tl.constexpr, EACH: tl.constexpr,
    SIGMOID: tl.constexpr, DIFFERS: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Write the signs ``[line, 2 h, 2 w]`` of a level's coefficients, and sums of w, or of w times their absolute values."""
    program, line = place_of(programs)
    image, channel = line // channels, line % channels
    p_ptr += image * p_b + channel * p_c
    t_ptr += image * t_b + channel * t_c
    cells = tl.zeros([], tl.int64) + h * w
    low_ptr += line * cells
    sign_ptr += line * 4 * cells
    sums = ()
    for k in tl.static_range(len(WHERE)):
        sums = sums + (tl.zeros([BLOCK], tl.float32),)
    for tile in range(TILES):
        cell = (program * TILES + tile) * BLOCK + tl.arange(0, BLOCK)
        inside = cell < h * w
        i, j = cell // w, cell % w
        rows = ()
        for k in tl.static_range(3):
            y = tl.where(i + (k - 1) < 0, 1, tl.minimum(i + (k - 1), h - 1)).to(tl.int64)
            near = ()
            for n in tl.static_range(3):
                x = tl.where(j + (n - 1) < 0, 1, tl.minimum(j + (n - 1), w - 1))
                near = near + (tl.load(low_ptr + y * w + x, mask=inside, other=0.0),)
            rows = rows + (raised(near, False), raised(near, True))
        for odd in tl.static_range(4):
            y, x = (2 * i + odd // 2).to(tl.int64), (2 * j + odd % 2).to(tl.int64)
            _, _, d = pair_at(p_ptr, t_ptr, y * p_y + x * p_x, y * t_y + x * t_x, inside, SIGMOID, DIFFERS)
            d -= raised((rows[odd % 2], rows[2 + odd % 2], rows[4 + odd % 2]), odd // 2 == 1)
            tl.store(sign_ptr + y * (2 * w) + x, sign_of(d), mask=inside)
            maps = maps_at(map_ptrs, line, image, size, y * columns + x, inside, EACH)
            more = ()
            for k in tl.static_range(len(WHERE)):
                weight, counted = weigh(maps, WHERE[k], inside)
                share = weight * tl.abs(d) if VALUES[k] else weight
                more = more + (sums[k] + tl.where(counted, share, 0.0),)
            sums = more
    store_sums(sums, part_ptr + (line * parts + first + program) * len(SLOTS), SLOTS)


@triton.jit
def field_at(g_ptr, step, maps, sign_ptr, at, inside, SIGNS: tl.constexpr):
    """Return the derivative by the values whose signs were kept; SIGNS: each sum's place, and where it counts, in turn."""
    factor = tl.zeros(at.shape, tl.float32)
    for k in tl.static_range(len(SIGNS) // 2):
        w, _ = weigh(maps, SIGNS[2 * k + 1], inside)
        factor += tl.load(g_ptr + SIGNS[2 * k] * step) * w
    if len(SIGNS) > 0:
        factor *= tl.load(sign_ptr + at, mask=inside, other=0).to(tl.float32)
    return factor


@triton.jit
def spread(y, count):
    """Return the factors of [1 4 6 4 1]'s adjoint at elements: for the one before, here and after, of half as many."""
    i, odd = y // 2, y % 2 == 1
    last = i + 1 >= count
    before = tl.where(odd | (i == 0), 0.0, tl.where(i == 1, 2.0, 1.0))
    here = tl.where(odd, tl.where(i == 0, 8.0, 4.0), tl.where(last, 7.0, 6.0))
    after = tl.where(last, 0.0, tl.where(odd, 4.0, 1.0))
    return i, (before, here, after)


@triton.jit
def spread_at(small_ptr, y, x, h, w, inside):
    """Return the derivative by an image from that by the next level's ``[h, w]``, the adjoint of down."""
    i, down_rows = spread(y, h)
    j, down_columns = spread(x, w)
    inside = inside & (i < h) & (j < w)
    total = tl.zeros(x.shape, tl.float32)
    for k in tl.static_range(3):
        along = tl.zeros(x.shape, tl.float32)
        for n in tl.static_range(3):
            here = inside & (down_rows[k] != 0.0) & (down_columns[n] != 0.0)
            at = (i + (k - 1)).to(tl.int64) * w + (j + (n - 1))
            along += down_columns[n] * tl.load(small_ptr + at, mask=here, other=0.0)
        total += down_rows[k] * along
    return total * (1.0 / 256.0)


@triton.jit
def raised_weight(i, count, K: tl.constexpr):
    """Return the factor of up's adjoint, eight times, of the element K - 2 from the one that stands for i."""
    if K == 0:
        factor = tl.where(i == 1, 2.0, 1.0)
    elif K == 2:
        factor = tl.where(i == count - 1, 7.0, 6.0)
    elif K == 3:
        factor = tl.where(i == count - 1, 8.0, 4.0)
    else:
        factor = tl.full(i.shape, 4.0 if K == 1 else 1.0, tl.float32)
    return factor


@triton.jit
def up(
    g_ptr, above_ptrs, above_ptr, map_ptrs, sign_ptr, rest_ptr, small_ptr, out_ptr,
    programs, channels, above_size, above_columns, size, h, w, g_b, g_k, g_c,
    ABOVE: tl.constexpr, ABOVE_EACH: tl.constexpr, SIGNS: tl.constexpr, REST: tl.constexpr, EACH: tl.constexpr,
    SMALL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the derivative by a level's image ``[line, h, w]``, through its own coefficients and all below, and those above.

    ABOVE, SIGNS, REST: the sums of coefficients of the level above, of its own, and of what is left here, as SIGNS of field_at.
    """
    program, line = place_of(programs)
    image, channel = line // channels, line % channels
    g_ptr += image * g_b + channel * g_c
    one = program * BLOCK + tl.arange(0, BLOCK)
    inside = one < h * w
    i, j = one // w, one % w
    cells = tl.zeros([], tl.int64) + h * w
    maps = maps_at(map_ptrs, line, image, size, one.to(tl.int64), inside, EACH)
    total = field_at(g_ptr, g_k, maps, rest_ptr + line * cells, one.to(tl.int64), inside, REST)
    if SMALL:
        half = line * (h // 2) * (w // 2)
        total += spread_at(small_ptr + half, i, j, h // 2, w // 2, inside)
        even = inside & (i < h // 2 * 2) & (j < w // 2 * 2)
        total += field_at(g_ptr, g_k, maps, sign_ptr + 4 * half, i.to(tl.int64) * (w // 2 * 2) + j, even, SIGNS)
    if len(ABOVE) > 0:
        minus = tl.zeros([BLOCK], tl.float32)
        for k in tl.static_range(5):
            along = tl.zeros([BLOCK], tl.float32)
            y = 2 * i + (k - 2)
            for n in tl.static_range(5):
                x = 2 * j + (n - 2)
                here = inside & (y >= 0) & (y < 2 * h) & (x >= 0) & (x < 2 * w)
                weights = maps_at(above_ptrs, line, image, above_size, y.to(tl.int64) * above_columns + x, here, ABOVE_EACH)
                at = y.to(tl.int64) * (2 * w) + x
                along += raised_weight(j, w, n) * field_at(g_ptr, g_k, weights, above_ptr + line * 4 * cells, at, here, ABOVE)
            minus += raised_weight(i, h, k) * along
        total -= minus * (1.0 / 64.0)
    tl.store(out_ptr + line * cells + one, total, mask=inside)
