"""The label fold and its integrand.

Sums over the pixels stay in the lanes until a program ends, and go out as one partial sum for each program, kind and class. No
atomics, and no float64 before the end.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import place_of, weighed
from lossfold.folds.label.triton.hard import hardness
from lossfold.folds.label.triton.pixels import NLL_ALL, PROB, PROB_SQ, at_label, evaluate, hard_at, minus_log, rows_of, targets


@triton.jit
def with_pixels(
    sums, z, y, w, first, KINDS: tl.constexpr, GAMMAS: tl.constexpr, ROWS: tl.constexpr, SOFTMAX: tl.constexpr
):  # fmt: skip
    """Return sums ``[GROUPS, pixels]`` of each kind and row with pixels added, and the pixels' -log p and p."""
    label = y[None, :] - first.to(tl.int32)[:, None]
    e, inverse, high, log_s, nll, p, u = evaluate(z, label, ROWS, SOFTMAX)
    more = ()
    for k in tl.static_range(len(KINDS)):
        if KINDS[k] == PROB or KINDS[k] == PROB_SQ:
            scale = (w * inverse)[None, :]
            for r in tl.static_range(ROWS):
                share = e[r] * scale
                if KINDS[k] == PROB_SQ:
                    share = share * (e[r] * inverse)
                more = more + (sums[k * ROWS + r] + share,)
        elif KINDS[k] == NLL_ALL:
            for r in tl.static_range(ROWS):
                more = more + (sums[k * ROWS + r] + w[None, :] * minus_log(z[r], high, log_s, SOFTMAX),)
        else:
            share = (w * at_label(KINDS[k], GAMMAS[k], p, nll, u, w))[None, :]
            for r in tl.static_range(ROWS):
                more = more + (sums[k * ROWS + r] + tl.where(label == r, share, 0.0),)
    return more, nll, p


@triton.jit
def store_sums(sums, part_ptr, first, C: tl.constexpr, COUNT: tl.constexpr, ROWS: tl.constexpr):
    """Write a program's partial sums ``[kind, class]``."""
    part_ptr += tl.program_id(0).to(tl.int64) * COUNT * C
    for k in tl.static_range(COUNT):
        for r in tl.static_range(ROWS):
            total = tl.sum(sums[k * ROWS + r], 1).to(tl.float64)
            tl.store(part_ptr + k * C + first + r, total, mask=first + r < C)


@triton.jit
def value_of(
    g_ptr, z, y, w, hard, first,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, ROWS: tl.constexpr, SOFTMAX: tl.constexpr,
):  # fmt: skip
    """Return each pixel's share of the sums that ``g[kind, class]`` weighs."""
    label = y[None, :] - first.to(tl.int32)[:, None]
    e, inverse, high, log_s, nll, p, u = evaluate(z, label, ROWS, SOFTMAX)
    value = tl.zeros_like(w)
    for k in tl.static_range(len(KINDS)):
        if KINDS[k] == PROB or KINDS[k] == PROB_SQ or KINDS[k] == NLL_ALL:
            every = tl.zeros_like(z[0])
            for r in tl.static_range(ROWS):
                g = tl.load(g_ptr + k * C + first + r, mask=first + r < C, other=0.0)[:, None]
                if KINDS[k] == NLL_ALL:
                    share = minus_log(z[r], high, log_s, SOFTMAX)
                    every += tl.where((first + r < C)[:, None], weighed(g, share), 0.0)
                elif KINDS[k] == PROB:
                    every += weighed(g, e[r] * inverse)
                else:
                    every += weighed(g, (e[r] * inverse) * (e[r] * inverse))
            value += w * tl.sum(every, 0)
        else:
            value += weighed(tl.load(g_ptr + k * C + y), w * at_label(KINDS[k], GAMMAS[k], p, nll, u, hard))
    return value


@triton.jit(do_not_specialize=["ignore", "thresh"])
def fold_kernel(
    z_ptr, y_ptr, w_ptr, hard_ptr, part_ptr, bad_ptr,
    programs, P, stride_b, stride_c, stride_p, ignore, thresh,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, HAS_W: tl.constexpr, SOFTMAX: tl.constexpr, HARD: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Write partial sums ``[image, program, kind, class]``, whether a label was bad, and if asked how hard each pixel is."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    wrong = tl.zeros([BLOCK], tl.int32)
    sums = ()
    for n in tl.static_range(len(KINDS) * ROWS):
        sums = sums + (tl.zeros([GROUPS, BLOCK], tl.float32),)
    for tile in range(TILES):
        i = (program * TILES + tile) * BLOCK + tl.arange(0, BLOCK)
        inside, at = i < P, image * P + i
        y, w, counted, bad = targets(y_ptr, w_ptr, at, inside, ignore, C, HAS_W)
        wrong = wrong | bad.to(tl.int32)
        z = rows_of(z_ptr, first, i.to(tl.int64) * stride_p, inside, counted, stride_c, C, ROWS, GROUPS, SOFTMAX)
        sums, nll, p = with_pixels(sums, z, y, w, first, KINDS, GAMMAS, ROWS, SOFTMAX)
        if HARD:
            tl.store(hard_ptr + at, hardness(nll, p, counted, thresh), mask=inside)
    store_sums(sums, part_ptr, first, C, len(KINDS), ROWS)
    tl.store(bad_ptr + tl.program_id(0), tl.max(wrong, 0))


@triton.jit(do_not_specialize=["ignore"])
def map_kernel(
    g_ptr, z_ptr, y_ptr, w_ptr, kept_ptr, out_ptr, bad_ptr,
    programs, P, stride_b, stride_c, stride_p, ignore,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, HAS_W: tl.constexpr, SOFTMAX: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write every pixel's share of the sums that ``g[kind, class]`` weighs."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    i = program * BLOCK + tl.arange(0, BLOCK)
    inside, at = i < P, image * P + i
    y, w, counted, bad = targets(y_ptr, w_ptr, at, inside, ignore, C, HAS_W)
    z = rows_of(z_ptr, first, i.to(tl.int64) * stride_p, inside, counted, stride_c, C, ROWS, GROUPS, SOFTMAX)
    hard = hard_at(kept_ptr, at, inside, KINDS)
    value = value_of(g_ptr, z, y, w, hard, first, C, KINDS, GAMMAS, ROWS, SOFTMAX)
    tl.store(out_ptr + at, value, mask=inside)
    tl.store(bad_ptr + tl.program_id(0), tl.max(bad.to(tl.int32), 0))
