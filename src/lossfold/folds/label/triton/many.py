"""The label fold of more classes than a program holds: in tiles of classes and pixels, read again from the caches.

A first walk over the classes finds the softmax's maximum and sum as it goes, later ones read every class's p.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import FLOOR, TINY, at_least, finite, narrow, place_of
from lossfold.folds.label.triton.bins import add_errors, add_zeros, table_of
from lossfold.folds.label.triton.gradient import minus_inverse, slope_of_bin, slope_of_logs, slope_of_row, slopes_at_label
from lossfold.folds.label.triton.hard import hardness
from lossfold.folds.label.triton.pixels import NLL_ALL, PROB, PROB_SQ, at_label, hard_at, minus_log, targets


@triton.jit
def tile_of(z_ptr, c, at, inside, counted, stride_c, C: tl.constexpr, SOFTMAX: tl.constexpr):
    """Return scores ``[classes, pixels]``, 0 at pixels that do not count; beyond the classes what adds nothing."""
    here = (c < C)[:, None]
    x = tl.load(z_ptr + c.to(tl.int64)[:, None] * stride_c + at[None, :], mask=here & inside[None, :], other=0.0).to(tl.float32)
    return tl.where(here, tl.where(counted[None, :], x, 0.0), float("-inf") if SOFTMAX else 0.0)


@triton.jit
def evaluate(
    z_ptr, y, at, inside, counted, stride_c, C: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr, SOFTMAX: tl.constexpr
):
    """Return what :func:`lossfold.folds.label.triton.pixels.evaluate` does, but for e."""
    high, own = tl.full([BLOCK], float("-inf"), tl.float32), tl.zeros([BLOCK], tl.float32)
    s, others = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for start in range(0, C, TILE):
        c = start + tl.arange(0, TILE)
        z = tile_of(z_ptr, c, at, inside, counted, stride_c, C, SOFTMAX)
        mine = c[:, None] == y[None, :]
        own += tl.sum(tl.where(mine, z, 0.0), 0)
        if SOFTMAX:
            higher = tl.maximum(high, tl.max(z, 0))
            base = finite(higher)
            e = tl.exp(z - base[None, :])
            scale = tl.where(high == higher, 1.0, tl.exp(high - base))
            s = s * scale + tl.sum(e, 0)
            others = others * scale + tl.sum(tl.where(mine, 0.0, e), 0)
            high = higher
    if SOFTMAX:
        log_s, inverse, own = tl.log(s), 1.0 / s, own - high
        nll, p, u = log_s - own, tl.exp(own) * inverse, others * inverse
    else:
        high, log_s, inverse, p = own, own, tl.full([BLOCK], 1.0, tl.float32), own
        nll, u = -tl.log(at_least(p, FLOOR)), 1.0 - p
    return inverse, high, log_s, nll, p, at_least(u, TINY)


@triton.jit
def p_of(z, high, inverse, SOFTMAX: tl.constexpr):
    """Return every class's p."""
    if SOFTMAX:
        z = tl.exp(z - high[None, :]) * inverse[None, :]
    return z


@triton.jit
def slope_of_class(
    g_ptr, slope_ptr, c, x, y, counted, C: tl.constexpr, KINDS: tl.constexpr, BINS: tl.constexpr, SOFTMAX: tl.constexpr
):  # fmt: skip
    """Return the loss's derivative by every class's p, through sums and through the histogram, with x this p."""
    slope = slope_of_row(g_ptr, c, x, C, KINDS)
    if BINS > 0:
        slope += slope_of_bin(slope_ptr, c, x, c[:, None] == y[None, :], counted, C, BINS, SOFTMAX)
    return slope


@triton.jit(do_not_specialize=["ignore", "thresh"])
def fold_many(
    z_ptr, y_ptr, w_ptr, hard_ptr, part_ptr, bad_ptr,
    programs, P, stride_b, stride_c, stride_p, ignore, thresh,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, HAS_W: tl.constexpr, SOFTMAX: tl.constexpr, HARD: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Do what ``fold_kernel`` does."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    i = program * BLOCK + tl.arange(0, BLOCK)
    inside, to, at = i < P, image * P + i, i.to(tl.int64) * stride_p
    y, w, counted, bad = targets(y_ptr, w_ptr, to, inside, ignore, C, HAS_W)
    inverse, high, log_s, nll, p, u = evaluate(z_ptr, y, at, inside, counted, stride_c, C, TILE, BLOCK, SOFTMAX)
    if HARD:
        tl.store(hard_ptr + to, hardness(nll, p, counted, thresh), mask=inside)
    part_ptr += tl.program_id(0).to(tl.int64) * len(KINDS) * C
    for start in range(0, C, TILE):
        c = start + tl.arange(0, TILE)
        z = tile_of(z_ptr, c, at, inside, counted, stride_c, C, SOFTMAX)
        x = p_of(z, high, inverse, SOFTMAX)
        mine = c[:, None] == y[None, :]
        for k in tl.static_range(len(KINDS)):
            if KINDS[k] == PROB:
                share = x * w[None, :]
            elif KINDS[k] == PROB_SQ:
                share = x * w[None, :] * x
            elif KINDS[k] == NLL_ALL:
                share = w[None, :] * minus_log(z, high, log_s, SOFTMAX)
            else:
                share = tl.where(mine, (w * at_label(KINDS[k], GAMMAS[k], p, nll, u, w))[None, :], 0.0)
            tl.store(part_ptr + k * C + c, tl.sum(share, 1).to(tl.float64), mask=c < C)
    tl.store(bad_ptr + tl.program_id(0), tl.max(bad.to(tl.int32), 0))


@triton.jit(do_not_specialize=["ignore"])
def bins_many(
    z_ptr, y_ptr, w_ptr, table_ptr,
    programs, P, stride_b, stride_c, stride_p, groups, share, ignore,
    C: tl.constexpr, BINS: tl.constexpr, HAS_W: tl.constexpr, COUNTS: tl.constexpr, APART: tl.constexpr, SOFTMAX: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Do what ``bins_kernel`` does."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    table_ptr += table_of(image, program, groups, programs, share, APART) * (2 * C * (BINS + 1) * (1 if COUNTS else 2))
    i = program * BLOCK + tl.arange(0, BLOCK)
    inside, at = i < P, i.to(tl.int64) * stride_p
    y, w, counted, _ = targets(y_ptr, w_ptr, image * P + i, inside, ignore, C, HAS_W)
    inverse, high, _, _, _, _ = evaluate(z_ptr, y, at, inside, counted, stride_c, C, TILE, BLOCK, SOFTMAX)
    for start in range(0, C, TILE):
        c = start + tl.arange(0, TILE)
        x = p_of(tile_of(z_ptr, c, at, inside, counted, stride_c, C, SOFTMAX), high, inverse, SOFTMAX)
        of_own, of_others = add_errors(
            table_ptr, c.to(tl.int64), x, c[:, None] == y[None, :], w, counted, C, BINS, COUNTS, SOFTMAX
        )  # fmt: skip
        add_zeros((of_own, of_others), table_ptr, c.to(tl.int64), C, BINS, COUNTS, 1)


@triton.jit(do_not_specialize=["ignore"])
def unfold_many(
    g_ptr, slope_ptr, z_ptr, y_ptr, w_ptr, kept_ptr, out_ptr,
    programs, P, stride_b, stride_c, stride_p, out_b, out_c, out_p, slope_b, ignore,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, HAS_W: tl.constexpr, SOFTMAX: tl.constexpr,
    MIXED: tl.constexpr, LOGS: tl.constexpr, BINS: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Do what ``unfold_kernel`` does."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    out_ptr += image * out_b
    g_ptr += image * len(KINDS) * C
    slope_ptr += image * slope_b
    i = program * BLOCK + tl.arange(0, BLOCK)
    inside, at = i < P, i.to(tl.int64) * stride_p
    y, w, counted, _ = targets(y_ptr, w_ptr, image * P + i, inside, ignore, C, HAS_W)
    inverse, high, log_s, nll, p, u = evaluate(z_ptr, y, at, inside, counted, stride_c, C, TILE, BLOCK, SOFTMAX)
    hard = hard_at(kept_ptr, image * P + i, inside, KINDS)
    by_nll, by_u, by_p = slopes_at_label(g_ptr, y, p, nll, u, hard, C, KINDS, GAMMAS)
    dot = tl.zeros([BLOCK], tl.float32)
    logs = tl.zeros([TILE], tl.float32)
    if SOFTMAX and (MIXED or LOGS):
        for start in range(0, C, TILE):
            c = start + tl.arange(0, TILE)
            if MIXED:
                x = p_of(tile_of(z_ptr, c, at, inside, counted, stride_c, C, SOFTMAX), high, inverse, SOFTMAX)
                dot += tl.sum(x * slope_of_class(g_ptr, slope_ptr, c, x, y, counted, C, KINDS, BINS, SOFTMAX), 0)
            if LOGS:
                logs += slope_of_logs(g_ptr, c, C, KINDS)
    q, own = w * (by_nll + by_u * p), w * by_p * p
    if SOFTMAX:
        fix = own - q
        shift = q + w * tl.sum(logs, 0) - own
    else:
        fix, shift = w * (by_p + by_nll * minus_inverse(p) - by_u), q
    for start in range(0, C, TILE):
        c = start + tl.arange(0, TILE)
        z = tile_of(z_ptr, c, at, inside, counted, stride_c, C, SOFTMAX)
        x = p_of(z, high, inverse, SOFTMAX)
        dz = tl.zeros([TILE, BLOCK], tl.float32)
        if MIXED:
            dz += w[None, :] * (slope_of_class(g_ptr, slope_ptr, c, x, y, counted, C, KINDS, BINS, SOFTMAX) - dot[None, :])
        if SOFTMAX:
            dz = x * (dz + shift[None, :])
        if LOGS:
            by_log = slope_of_logs(g_ptr, c, C, KINDS)[:, None]
            if SOFTMAX:
                dz -= w[None, :] * by_log
            else:
                dz += w[None, :] * (by_log * minus_inverse(z))
        dz += tl.where(c[:, None] == y[None, :], fix[None, :], 0.0)
        to = out_ptr + c.to(tl.int64)[:, None] * out_c + (i.to(tl.int64) * out_p)[None, :]
        tl.store(to, narrow(dz, out_ptr.dtype.element_ty), mask=(c < C)[:, None] & inside[None, :])


@triton.jit(do_not_specialize=["ignore"])
def map_many(
    g_ptr, z_ptr, y_ptr, w_ptr, kept_ptr, out_ptr, bad_ptr,
    programs, P, stride_b, stride_c, stride_p, ignore,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, HAS_W: tl.constexpr, SOFTMAX: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Do what ``map_kernel`` does."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    i = program * BLOCK + tl.arange(0, BLOCK)
    inside, to, at = i < P, image * P + i, i.to(tl.int64) * stride_p
    y, w, counted, bad = targets(y_ptr, w_ptr, to, inside, ignore, C, HAS_W)
    inverse, high, log_s, nll, p, u = evaluate(z_ptr, y, at, inside, counted, stride_c, C, TILE, BLOCK, SOFTMAX)
    hard = hard_at(kept_ptr, to, inside, KINDS)
    value = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(len(KINDS)):
        if KINDS[k] == PROB or KINDS[k] == PROB_SQ or KINDS[k] == NLL_ALL:
            for start in range(0, C, TILE):
                c = start + tl.arange(0, TILE)
                z = tile_of(z_ptr, c, at, inside, counted, stride_c, C, SOFTMAX)
                g = tl.load(g_ptr + k * C + c, mask=c < C, other=0.0)[:, None]
                if KINDS[k] == NLL_ALL:
                    every = tl.where((c < C)[:, None], g * minus_log(z, high, log_s, SOFTMAX), 0.0)
                else:
                    x = p_of(z, high, inverse, SOFTMAX)
                    every = g * x
                    if KINDS[k] == PROB_SQ:
                        every = every * x
                value += w * tl.sum(every, 0)
        else:
            value += tl.load(g_ptr + k * C + y) * (w * at_label(KINDS[k], GAMMAS[k], p, nll, u, hard))
    tl.store(out_ptr + to, value, mask=inside)
    tl.store(bad_ptr + tl.program_id(0), tl.max(bad.to(tl.int32), 0))
