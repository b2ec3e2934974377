"""What the kernels of the pair fold are made of."""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import logistic
from lossfold.folds.pair.spec import KINDS as NAMES

WEIGHT = tl.constexpr(NAMES.index("weight"))
ABS = tl.constexpr(NAMES.index("abs"))
SQUARE = tl.constexpr(NAMES.index("square"))
SMOOTH_ABS = tl.constexpr(NAMES.index("smooth_abs"))
CHARBONNIER = tl.constexpr(NAMES.index("charbonnier"))
EDGE = tl.constexpr(NAMES.index("edge"))
EDGE_OF_PRED = tl.constexpr(NAMES.index("edge_of_pred"))
STEP = tl.constexpr(NAMES.index("step"))
STEP_SQ = tl.constexpr(NAMES.index("step_sq"))
STEP_WEIGHT = tl.constexpr(NAMES.index("step_weight"))


@triton.jit
def sign(x):
    """Return -1, 0 or 1; NaN stays."""
    return tl.where(x > 0.0, 1.0, tl.where(x < 0.0, -1.0, x))


@triton.jit
def pair_at(p_ptr, t_ptr, at_p, at_t, inside, SIGMOID: tl.constexpr, DIFFERS: tl.constexpr):
    """Return predictions, p (1 - p), and their differences from the target; without DIFFERS the predictions again."""
    p = tl.load(p_ptr + at_p, mask=inside, other=0.0).to(tl.float32)
    bend = p
    if SIGMOID:
        p, q = logistic(p)
        bend = p * q
    d = p
    if DIFFERS:
        d = p - tl.load(t_ptr + at_t, mask=inside, other=0.0).to(tl.float32)
    return p, bend, d


@triton.jit
def maps_at(map_ptrs, line, image, size, at, inside, EACH: tl.constexpr):
    """Return the values of each map ``[image, 1 or channel, size]``; EACH: which of them have one for every channel."""
    found = ()
    for m in tl.static_range(len(EACH)):
        if EACH[m]:
            start = line * size
        else:
            start = image * size
        found = found + (tl.load(map_ptrs[m] + start + at, mask=inside, other=0).to(tl.float32),)
    return found


@triton.jit
def weigh(maps, WHERE: tl.constexpr, inside):
    """Return the weights of a sum, and where it counts; WHERE: -1 everywhere, 2m times map m, 2m + 1 where map m is 0."""
    if WHERE < 0:
        counted = inside
        w = tl.where(inside, 1.0, 0.0)
    elif WHERE % 2 == 0:
        counted = inside & (maps[WHERE // 2] != 0.0)
        w = tl.where(counted, maps[WHERE // 2], 0.0)
    else:
        counted = inside & (maps[WHERE // 2] == 0.0)
        w = tl.where(counted, 1.0, 0.0)
    return w, counted


@triton.jit
def beyond(maps, inside, UNIT: tl.constexpr):
    """Return where a map that must lie in [0, 1] does not; UNIT: which of them must."""
    wrong = tl.zeros(inside.shape, tl.int32)
    for m in tl.static_range(len(UNIT)):
        if UNIT[m]:
            wrong = wrong | (inside & (((maps[m] >= 0.0) & (maps[m] <= 1.0)) == 0)).to(tl.int32)
    return wrong


@triton.jit
def share_of(KIND: tl.constexpr, NUMBER: tl.constexpr, d):
    """Return what a pixel of weight 1 adds to a kind that is a function of its d."""
    if KIND == WEIGHT:
        value = tl.full(d.shape, 1.0, tl.float32)
    elif KIND == ABS:
        value = tl.abs(d)
    elif KIND == SQUARE:
        value = d * d
    elif KIND == SMOOTH_ABS:
        value = tl.abs(d)
        if NUMBER > 0.0:
            value = tl.where(value < NUMBER, (0.5 / NUMBER) * value * value, value - 0.5 * NUMBER)
    else:
        tl.static_assert(KIND == CHARBONNIER)
        value = tl.sqrt(d * d + NUMBER)
    return value


@triton.jit
def slope_of(KIND: tl.constexpr, NUMBER: tl.constexpr, d):
    """Return the derivative of :func:`share_of`."""
    if KIND == ABS:
        slope = sign(d)
    elif KIND == SQUARE:
        slope = 2.0 * d
    elif KIND == SMOOTH_ABS:
        if NUMBER > 0.0:
            slope = tl.where(d > NUMBER, 1.0, tl.where(d < -NUMBER, -1.0, d / NUMBER))
        else:
            slope = sign(d)
    else:
        tl.static_assert(KIND == CHARBONNIER)
        slope = d / tl.sqrt(d * d + NUMBER)
    return slope


@triton.jit
def slopes_alone(
    g_ptr, step, maps, d, inside, KINDS: tl.constexpr, NUMBERS: tl.constexpr, WHERE: tl.constexpr, PLACES: tl.constexpr
):  # fmt: skip
    """Return the loss's derivative by d through the sums of pixels alone, from ``g[place * step]``."""
    slope = tl.zeros_like(d)
    for k in tl.static_range(len(KINDS)):
        if KINDS[k] >= ABS and KINDS[k] <= CHARBONNIER:
            w, counted = weigh(maps, WHERE[k], inside)
            g = tl.load(g_ptr + PLACES[k] * step)
            slope += tl.where(counted, (g * w) * slope_of(KINDS[k], NUMBERS[k], d), 0.0)
    return slope


@triton.jit
def bent(slope, bend, SIGMOID: tl.constexpr):
    """Return the derivative by logits from that by predictions; where nothing counts these may be anything."""
    if SIGMOID:
        slope = tl.where(slope == 0.0, 0.0, slope * bend)
    return slope


@triton.jit
def store_sums(sums, part_ptr, SLOTS: tl.constexpr):
    """Write a program's partial sums: those that it has, and 0 for the others; SLOTS: which is which."""
    for k in tl.static_range(len(SLOTS)):
        if SLOTS[k] < 0:
            tl.store(part_ptr + k, tl.full([], 0.0, tl.float64))
        else:
            tl.store(part_ptr + k, tl.sum(sums[SLOTS[k]], 0).to(tl.float64))
