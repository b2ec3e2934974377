"""Sums over pixels and their neighbours, and the gradient: programs walk down the rows of a band of columns.

A lane is a column. Responses to Sobel are made of three rows' differences and sums of neighbours, of which two are kept from the
row before, so that every row is loaded once for a lane and its neighbours, out of the cache but for the first time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import narrow, place_of
from lossfold.folds.pair.triton.elements import (
    EDGE,
    EDGE_OF_PRED,
    STEP,
    STEP_SQ,
    STEP_WEIGHT,
    bent,
    beyond,
    maps_at,
    pair_at,
    share_of,
    sign,
    slopes_alone,
    store_sums,
    weigh,
)
from lossfold.folds.pair.triton.pyramid import field_at, spread_at


@triton.jit
def held(y, size):
    """Return a place in an image's rows or columns, the first or last for those outside."""
    return tl.maximum(tl.minimum(y, size - 1), 0)


@triton.jit
def padded_at(
    p_ptr, t_ptr, y, x, H, W, p_y, p_x, t_y, t_x, SIGMOID: tl.constexpr, DIFFERS: tl.constexpr, ZEROS: tl.constexpr
):  # fmt: skip
    """Return p, or d, of places that may be beyond the borders: there the border's own, or 0."""
    row, column = held(y, H).to(tl.int64), held(x, W).to(tl.int64)
    everywhere = y == y
    _, _, d = pair_at(p_ptr, t_ptr, row * p_y + column * p_x, row * t_y + column * t_x, everywhere, SIGMOID, DIFFERS)
    if ZEROS:
        d = tl.where((row == y) & (column == x), d, 0.0)
    return d


@triton.jit
def sobel_row(
    p_ptr, t_ptr, y, x, H, W, p_y, p_x, t_y, t_x,
    SIGMOID: tl.constexpr, EDGES: tl.constexpr, REACH: tl.constexpr,
):  # fmt: skip
    """Return, for each of EDGES and each column as near as REACH, a row's difference of the next columns, and their sum."""
    found = ()
    for e in tl.static_range(len(EDGES)):
        near = ()
        for c in tl.static_range(2 * REACH + 3):
            at = x + (c - REACH - 1)
            value = padded_at(
                p_ptr, t_ptr, y, at, H, W, p_y, p_x, t_y, t_x, SIGMOID, EDGES[e] // 2 == 0, EDGES[e] % 2 == 1
            )  # fmt: skip
            near = near + (value,)
        for c in tl.static_range(2 * REACH + 1):
            found = found + (near[c + 2] - near[c], near[c] + 2.0 * near[c + 1] + near[c + 2])
    return found


@triton.jit
def response(above, here, below, PLACE: tl.constexpr):
    """Return the responses to Sobel along a row and down the rows."""
    across = above[2 * PLACE] + 2.0 * here[2 * PLACE] + below[2 * PLACE]
    return across, below[2 * PLACE + 1] - above[2 * PLACE + 1]


@triton.jit
def step_at(p_ptr, y, x, H, W, p_y, p_x, SIGMOID: tl.constexpr, ROWS: tl.constexpr):
    """Return the steps from places to the next along the rows or the columns, and which there are."""
    if ROWS:
        there = (y >= 0) & (y + 1 < H) & (x >= 0) & (x < W)
        first, _, _ = pair_at(p_ptr, p_ptr, y.to(tl.int64) * p_y + x.to(tl.int64) * p_x, 0, there, SIGMOID, False)
        next_, _, _ = pair_at(p_ptr, p_ptr, (y + 1).to(tl.int64) * p_y + x.to(tl.int64) * p_x, 0, there, SIGMOID, False)
    else:
        there = (y >= 0) & (y < H) & (x >= 0) & (x + 1 < W)
        first, _, _ = pair_at(p_ptr, p_ptr, y.to(tl.int64) * p_y + x.to(tl.int64) * p_x, 0, there, SIGMOID, False)
        next_, _, _ = pair_at(p_ptr, p_ptr, y.to(tl.int64) * p_y + (x + 1).to(tl.int64) * p_x, 0, there, SIGMOID, False)
    return next_ - first, there


@triton.jit
def fold_rows(
    p_ptr, t_ptr, map_ptrs, part_ptr, bad_ptr,
    blocks, programs, parts, first, channels, size, H, W, p_b, p_c, p_y, p_x, t_b, t_c, t_y, t_x,
    KINDS: tl.constexpr, NUMBERS: tl.constexpr, WHERE: tl.constexpr, SLOTS: tl.constexpr, EACH: tl.constexpr, UNIT: tl.constexpr,
    EDGES: tl.constexpr, SIGMOID: tl.constexpr, DIFFERS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write partial sums as :func:`lossfold.folds.pair.triton.pixels.fold_pixels` does; EDGES: images and paddings, see host."""
    program, line = place_of(programs)
    image, channel = line // channels, line % channels
    p_ptr += image * p_b + channel * p_c
    t_ptr += image * t_b + channel * t_c
    x = program % blocks * BLOCK + tl.arange(0, BLOCK)
    start = program // blocks * ROWS
    wrong = tl.zeros([BLOCK], tl.int32)
    sums = ()
    for k in tl.static_range(len(KINDS)):
        sums = sums + (tl.zeros([BLOCK], tl.float32),)
    none = tl.zeros([BLOCK], tl.int32)
    above = sobel_row(p_ptr, t_ptr, none + start - 1, x, H, W, p_y, p_x, t_y, t_x, SIGMOID, EDGES, 0)
    here = sobel_row(p_ptr, t_ptr, none + start, x, H, W, p_y, p_x, t_y, t_x, SIGMOID, EDGES, 0)
    for row in range(ROWS):
        y = none + start + row
        inside = (y < H) & (x < W)
        below = sobel_row(p_ptr, t_ptr, y + 1, x, H, W, p_y, p_x, t_y, t_x, SIGMOID, EDGES, 0)
        at_p, at_t = y.to(tl.int64) * p_y + x.to(tl.int64) * p_x, y.to(tl.int64) * t_y + x.to(tl.int64) * t_x
        p, bend, d = pair_at(p_ptr, t_ptr, at_p, at_t, inside, SIGMOID, DIFFERS)
        maps = maps_at(map_ptrs, line, image, size, y.to(tl.int64) * W + x, inside, EACH)
        wrong = wrong | beyond(maps, inside, UNIT)
        more = ()
        for k in tl.static_range(len(KINDS)):
            w, counted = weigh(maps, WHERE[k], inside)
            if KINDS[k] == EDGE or KINDS[k] == EDGE_OF_PRED:
                across, down = response(above, here, below, NUMBERS[k])
                value = tl.abs(across) + tl.abs(down)
            elif KINDS[k] == STEP or KINDS[k] == STEP_SQ or KINDS[k] == STEP_WEIGHT:
                value, there = step_at(p_ptr, y, x, H, W, p_y, p_x, SIGMOID, NUMBERS[k] == 1)
                counted = counted & there
                if KINDS[k] == STEP:
                    value = tl.abs(value)
                elif KINDS[k] == STEP_SQ:
                    value = value * value
                else:
                    value = tl.full([BLOCK], 1.0, tl.float32)
            else:
                value = share_of(KINDS[k], NUMBERS[k], d)
            more = more + (sums[k] + tl.where(counted, w * value, 0.0),)
        sums, above, here = more, here, below
    store_sums(sums, part_ptr + (line * parts + first + program) * len(SLOTS), SLOTS)
    tl.store(bad_ptr + tl.program_id(0), tl.max(wrong, 0))


@triton.jit
def edge_factor(
    g_ptr, step, map_ptrs, line, image, size, y, x, H, W,
    GROUP: tl.constexpr, KINDS: tl.constexpr, NUMBERS: tl.constexpr, WHERE: tl.constexpr, PLACES: tl.constexpr, EACH: tl.constexpr,
):  # fmt: skip
    """Return the loss's derivative by the responses to Sobel of one image and padding."""
    inside = (y >= 0) & (y < H) & (x >= 0) & (x < W)
    maps = maps_at(map_ptrs, line, image, size, y.to(tl.int64) * W + x, inside, EACH)
    factor = tl.zeros(x.shape, tl.float32)
    for k in tl.static_range(len(KINDS)):
        if (KINDS[k] == EDGE or KINDS[k] == EDGE_OF_PRED) and NUMBERS[k] == GROUP:
            w, _ = weigh(maps, WHERE[k], inside)
            factor += tl.load(g_ptr + PLACES[k] * step) * w
    return factor


@triton.jit
def step_slope(
    p_ptr, g, map_ptrs, line, image, size, y, x, H, W, p_y, p_x,
    KIND: tl.constexpr, ROWS: tl.constexpr, WHERE: tl.constexpr, EACH: tl.constexpr, SIGMOID: tl.constexpr,
):  # fmt: skip
    """Return the loss's derivative by the steps from places on."""
    step, there = step_at(p_ptr, y, x, H, W, p_y, p_x, SIGMOID, ROWS)
    maps = maps_at(map_ptrs, line, image, size, y.to(tl.int64) * W + x, there, EACH)
    w, counted = weigh(maps, WHERE, there)
    if KIND == STEP:
        step = sign(step)
    else:
        step = 2.0 * step
    return tl.where(counted, g * w * step, 0.0)


@triton.jit
def unfold_rows(
    g_ptr, p_ptr, t_ptr, map_ptrs, sign_ptr, small_ptr, out_ptr,
    blocks, programs, channels, size, H, W, g_b, g_k, g_c, p_b, p_c, p_y, p_x, t_b, t_c, t_y, t_x, out_b, out_c, out_y, out_x,
    KINDS: tl.constexpr, NUMBERS: tl.constexpr, WHERE: tl.constexpr, PLACES: tl.constexpr, EACH: tl.constexpr,
    EDGES: tl.constexpr, SIGNS: tl.constexpr, SMALL: tl.constexpr,
    SIGMOID: tl.constexpr, DIFFERS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write the gradient, from derivatives ``g[image, sum, channel]``.

    A response's derivative goes to the nine pixels that it sees. With F and G those of the two responses, times the columns'
    share of the filters along their row, a pixel adds up three rows of both. SMALL: the derivative by the next level of the
    pyramid is there; SIGNS: the sums over the coefficients' absolute values, places and maps in turn.
    """
    program, line = place_of(programs)
    image, channel = line // channels, line % channels
    p_ptr += image * p_b + channel * p_c
    t_ptr += image * t_b + channel * t_c
    g_ptr += image * g_b + channel * g_c
    out_ptr += image * out_b + channel * out_c
    x = program % blocks * BLOCK + tl.arange(0, BLOCK)
    start = program // blocks * ROWS
    none = tl.zeros([BLOCK], tl.int32)
    nothing = tl.zeros([BLOCK], tl.float32)
    above = sobel_row(p_ptr, t_ptr, none + start - 2, x, H, W, p_y, p_x, t_y, t_x, SIGMOID, EDGES, 1)
    here = sobel_row(p_ptr, t_ptr, none + start - 1, x, H, W, p_y, p_x, t_y, t_x, SIGMOID, EDGES, 1)
    far, near = (), ()  # of the last row but one, and of the last
    for e in tl.static_range(2 * len(EDGES)):
        far, near = far + (nothing,), near + (nothing,)
    AHEAD: tl.constexpr = 2 if len(EDGES) > 0 else 0
    for row in range(ROWS + AHEAD):
        last = none + start + row - AHEAD // 2  # the row of responses
        y = last - AHEAD // 2
        below = sobel_row(p_ptr, t_ptr, last + 1, x, H, W, p_y, p_x, t_y, t_x, SIGMOID, EDGES, 1)
        slope = tl.zeros([BLOCK], tl.float32)
        now = ()
        for e in tl.static_range(len(EDGES)):
            along, smooth = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
            for c in tl.static_range(3):
                across, down = response(above, here, below, 3 * e + c)
                factor = edge_factor(
                    g_ptr, g_k, map_ptrs, line, image, size, last, x + (c - 1), H, W, e, KINDS, NUMBERS, WHERE, PLACES, EACH
                )  # fmt: skip
                across = tl.where(factor == 0.0, 0.0, factor * sign(across))
                down = tl.where(factor == 0.0, 0.0, factor * sign(down))
                if c == 1:
                    if EDGES[e] % 2 == 0:  # the border's own column stands for the one beyond it
                        along += across * ((x == W - 1).to(tl.float32) - (x == 0).to(tl.float32))
                        smooth += down * (2.0 + (x == 0).to(tl.float32) + (x == W - 1).to(tl.float32))
                    else:
                        smooth += 2.0 * down
                else:
                    along += (1 - c) * across
                    smooth += down
            slope += far[2 * e] + 2.0 * near[2 * e] + along + far[2 * e + 1] - smooth
            if EDGES[e] % 2 == 0:
                slope += near[2 * e] * ((y == 0).to(tl.float32) + (y == H - 1).to(tl.float32))
                slope += near[2 * e + 1] * ((y == H - 1).to(tl.float32) - (y == 0).to(tl.float32))
            now = now + (along, smooth)
        far, near, above, here = near, now, here, below
        inside = (y >= start) & (y < H) & (x < W)
        at_p, at_t = y.to(tl.int64) * p_y + x.to(tl.int64) * p_x, y.to(tl.int64) * t_y + x.to(tl.int64) * t_x
        p, bend, d = pair_at(p_ptr, t_ptr, at_p, at_t, inside, SIGMOID, DIFFERS)
        maps = maps_at(map_ptrs, line, image, size, y.to(tl.int64) * W + x, inside, EACH)
        slope += slopes_alone(g_ptr, g_k, maps, d, inside, KINDS, NUMBERS, WHERE, PLACES)
        for k in tl.static_range(len(KINDS)):
            if KINDS[k] == STEP or KINDS[k] == STEP_SQ:
                g = tl.load(g_ptr + PLACES[k] * g_k)
                before = step_slope(
                    p_ptr, g, map_ptrs, line, image, size, y - NUMBERS[k], x - (1 - NUMBERS[k]), H, W, p_y, p_x,
                    KINDS[k], NUMBERS[k], WHERE[k], EACH, SIGMOID,
                )  # fmt: skip
                slope += before - step_slope(
                    p_ptr, g, map_ptrs, line, image, size, y, x, H, W, p_y, p_x, KINDS[k], NUMBERS[k], WHERE[k], EACH, SIGMOID
                )  # fmt: skip
        if SMALL:
            cells = line * (H // 2) * (W // 2)
            slope += spread_at(small_ptr + cells, y, x, H // 2, W // 2, inside)
            even = inside & (y < H // 2 * 2) & (x < W // 2 * 2)
            slope += field_at(
                g_ptr, g_k, maps, sign_ptr + 4 * cells, y.to(tl.int64) * (W // 2 * 2) + x, even, SIGNS
            )  # fmt: skip
        slope = bent(slope, bend, SIGMOID)
        to = out_ptr + y.to(tl.int64) * out_y + x.to(tl.int64) * out_x
        tl.store(to, narrow(slope, out_ptr.dtype.element_ty), mask=inside)
