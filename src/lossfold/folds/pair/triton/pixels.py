"""Sums of functions of each pixel's difference, and their gradient: lines, the pixels of one channel of one image."""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import narrow, place_of
from lossfold.folds.pair.triton.elements import (
    WEIGHT,
    bent,
    beyond,
    maps_at,
    pair_at,
    share_of,
    slopes_alone,
    store_sums,
    weigh,
)


@triton.jit
def fold_pixels(
    p_ptr, t_ptr, map_ptrs, part_ptr, bad_ptr,
    programs, parts, first, channels, P, p_b, p_c, p_x, t_b, t_c, t_x,
    KINDS: tl.constexpr, NUMBERS: tl.constexpr, WHERE: tl.constexpr, SLOTS: tl.constexpr, EACH: tl.constexpr, UNIT: tl.constexpr,
    SIGMOID: tl.constexpr, DIFFERS: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Write partial sums ``[line, first + program, sum]`` of as many parts, and whether a region's value was out of range."""
    program, line = place_of(programs)
    image, channel = line // channels, line % channels
    p_ptr += image * p_b + channel * p_c
    t_ptr += image * t_b + channel * t_c
    wrong = tl.zeros([BLOCK], tl.int32)
    sums = ()
    for k in tl.static_range(len(KINDS)):
        sums = sums + (tl.zeros([BLOCK], tl.float32),)
    for tile in range(TILES):
        i = (program * TILES + tile) * BLOCK + tl.arange(0, BLOCK)
        inside, at = i < P, i.to(tl.int64)
        p, bend, d = pair_at(p_ptr, t_ptr, at * p_x, at * t_x, inside, SIGMOID, DIFFERS)
        maps = maps_at(map_ptrs, line, image, P, at, inside, EACH)
        wrong = wrong | beyond(maps, inside, UNIT)
        more = ()
        for k in tl.static_range(len(KINDS)):
            w, counted = weigh(maps, WHERE[k], inside)
            more = more + (sums[k] + tl.where(counted, w * share_of(KINDS[k], NUMBERS[k], d), 0.0),)
        sums = more
    store_sums(sums, part_ptr + (line * parts + first + program) * len(SLOTS), SLOTS)
    tl.store(bad_ptr + tl.program_id(0), tl.max(wrong, 0))


@triton.jit
def unfold_pixels(
    g_ptr, p_ptr, t_ptr, map_ptrs, out_ptr, part_ptr,
    programs, channels, P, g_b, g_k, g_c, p_b, p_c, p_x, t_b, t_c, t_x, out_b, out_c, out_x,
    KINDS: tl.constexpr, NUMBERS: tl.constexpr, WHERE: tl.constexpr, PLACES: tl.constexpr, EACH: tl.constexpr,
    SIGMOID: tl.constexpr, DIFFERS: tl.constexpr, ONCE: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Write the gradient, from derivatives ``g[image, sum, channel]``; ONCE: and partial sums of what these weigh."""
    program, line = place_of(programs)
    image, channel = line // channels, line % channels
    p_ptr += image * p_b + channel * p_c
    t_ptr += image * t_b + channel * t_c
    g_ptr += image * g_b + channel * g_c
    total = tl.zeros([BLOCK], tl.float32)
    for tile in range(TILES):
        i = (program * TILES + tile) * BLOCK + tl.arange(0, BLOCK)
        inside, at = i < P, i.to(tl.int64)
        p, bend, d = pair_at(p_ptr, t_ptr, at * p_x, at * t_x, inside, SIGMOID, DIFFERS)
        maps = maps_at(map_ptrs, line, image, P, at, inside, EACH)
        slope = bent(slopes_alone(g_ptr, g_k, maps, d, inside, KINDS, NUMBERS, WHERE, PLACES), bend, SIGMOID)
        to = out_ptr + image * out_b + channel * out_c + at * out_x
        tl.store(to, narrow(slope, out_ptr.dtype.element_ty), mask=inside)
        if ONCE:
            for k in tl.static_range(len(KINDS)):
                if KINDS[k] != WEIGHT:
                    g = tl.load(g_ptr + PLACES[k] * g_k)
                    total += tl.where(inside, g * share_of(KINDS[k], NUMBERS[k], d), 0.0)
    if ONCE:
        tl.store(part_ptr + tl.program_id(0), tl.sum(total, 0).to(tl.float64))
