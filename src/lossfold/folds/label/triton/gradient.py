"""The gradient of the label fold: scores loaded once, the gradient written once."""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import FLOOR, TINY, narrow, place_of, power
from lossfold.folds.label.triton.pixels import (
    FOCAL,
    FOCAL_WEIGHT,
    HARD_NLL,
    NLL,
    NLL_ALL,
    PROB,
    PROB_AT_LABEL,
    PROB_SQ,
    bin_of,
    evaluate,
    hard_at,
    rows_of,
    targets,
)


@triton.jit
def slopes_at_label(g_ptr, y, p, nll, u, hard, C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr):
    """Return the loss's derivatives by each pixel's -log p, by its u = 1 - p at fixed log, and by its p, for weight 1."""
    by_nll, by_u, by_p = tl.zeros_like(p), tl.zeros_like(p), tl.zeros_like(p)
    for k in tl.static_range(len(KINDS)):
        if KINDS[k] == PROB_AT_LABEL:
            by_p += tl.load(g_ptr + k * C + y)
        elif KINDS[k] == NLL:
            by_nll += tl.load(g_ptr + k * C + y)
        elif KINDS[k] == HARD_NLL:
            by_nll += hard * tl.load(g_ptr + k * C + y)
        elif KINDS[k] == FOCAL or KINDS[k] == FOCAL_WEIGHT:
            g = tl.load(g_ptr + k * C + y)
            if GAMMAS[k] == 0.0:
                if KINDS[k] == FOCAL:
                    by_nll += g
            else:
                below = power(u, GAMMAS[k] - 1.0)
                if KINDS[k] == FOCAL:  # small factors first: a power of 1 - p may be near the largest number
                    by_nll += g * (below * u)
                    by_u += g * (GAMMAS[k] * (below * nll))
                else:
                    by_u += g * (GAMMAS[k] * below)
    return by_nll, tl.where(u > TINY, by_u, 0.0), by_p  # where u is held, it has no derivative


@triton.jit
def slope_of_row(g_ptr, c, x, C: tl.constexpr, KINDS: tl.constexpr):
    """Return the loss's derivative by a row's p through the sums of every class's p, with x the row's p."""
    slope = tl.zeros_like(x)
    for k in tl.static_range(len(KINDS)):
        if KINDS[k] == PROB:
            slope += tl.load(g_ptr + k * C + c, mask=c < C, other=0.0)[:, None]
        elif KINDS[k] == PROB_SQ:
            slope += x * (2.0 * tl.load(g_ptr + k * C + c, mask=c < C, other=0.0))[:, None]
    return slope


@triton.jit
def slope_of_logs(g_ptr, c, C: tl.constexpr, KINDS: tl.constexpr):
    """Return the loss's derivative by -log p of every pixel, for a row's classes."""
    slope = tl.zeros(c.shape, tl.float32)
    for k in tl.static_range(len(KINDS)):
        if KINDS[k] == NLL_ALL:
            slope += tl.load(g_ptr + k * C + c, mask=c < C, other=0.0)
    return slope


@triton.jit
def differentiate(
    g_ptr, slope_ptr, z, y, w, counted, hard, first,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, MIXED: tl.constexpr, LOGS: tl.constexpr, BINS: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, SOFTMAX: tl.constexpr,
):  # fmt: skip
    """Return the gradient of each row's scores, from the loss's derivatives by the sums ``[kind, class]`` and by errors in bins.

    MIXED, LOGS: whether sums read every class's p, or log p. With D the slopes by p through these::

        softmax   dz = p (w (D - Σ p D) + q + w Σ L - own) - w L + [c = y] (own - q)
        identity  dz = w (D - L / p) + [c = y] w (by_p - by_nll / p - by_u)
    """
    label = y[None, :] - first.to(tl.int32)[:, None]
    e, inverse, high, log_s, nll, p, u = evaluate(z, label, ROWS, SOFTMAX)
    by_nll, by_u, by_p = slopes_at_label(g_ptr, y, p, nll, u, hard, C, KINDS, GAMMAS)
    slopes = ()
    dot = tl.zeros_like(z[0])
    logs = tl.zeros([GROUPS], tl.float32)
    for r in tl.static_range(ROWS):
        if MIXED:
            x = e[r] * inverse
            slope = slope_of_row(g_ptr, first + r, x, C, KINDS)
            if BINS > 0:
                slope += slope_of_bin(slope_ptr, first + r, x, label == r, counted, C, BINS, SOFTMAX)
            slopes = slopes + (slope,)
            dot += x * slope
        if LOGS:
            logs += slope_of_logs(g_ptr, first + r, C, KINDS)
    if SOFTMAX:
        q, own = w * (by_nll + by_u * p), w * by_p * p
        fix, scale = (own - q)[None, :], (w * inverse)[None, :]
        shift = (inverse * (q + w * tl.sum(logs, 0) - own))[None, :]
        if MIXED:
            dot = tl.sum(dot, 0)[None, :]
    else:
        fix = (w * (by_p + by_nll * minus_inverse(p) - by_u))[None, :]
    found = ()
    for r in tl.static_range(ROWS):
        if SOFTMAX:
            if MIXED:
                dz = e[r] * (scale * (slopes[r] - dot) + shift)  # apart from shift: at p = 1 either is exactly 0
            else:
                dz = e[r] * shift
            if LOGS:
                dz -= w[None, :] * slope_of_logs(g_ptr, first + r, C, KINDS)[:, None]
        else:
            if MIXED:
                dz = w[None, :] * slopes[r]
            else:
                dz = tl.zeros_like(z[r])
            if LOGS:
                dz += w[None, :] * (slope_of_logs(g_ptr, first + r, C, KINDS)[:, None] * minus_inverse(z[r]))
        found = found + (dz + tl.where(label == r, fix, 0.0),)
    return found


@triton.jit(do_not_specialize=["ignore"])
def unfold_kernel(
    g_ptr, slope_ptr, z_ptr, y_ptr, w_ptr, kept_ptr, out_ptr,
    programs, P, stride_b, stride_c, stride_p, out_b, out_c, out_p, slope_b, ignore,
    C: tl.constexpr, KINDS: tl.constexpr, GAMMAS: tl.constexpr, HAS_W: tl.constexpr, SOFTMAX: tl.constexpr,
    MIXED: tl.constexpr, LOGS: tl.constexpr, BINS: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient, from derivatives ``g[image, kind, class]`` and ``slope[image, class, own | other, bin]``."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    out_ptr += image * out_b
    g_ptr += image * len(KINDS) * C
    slope_ptr += image * slope_b
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    i = program * BLOCK + tl.arange(0, BLOCK)
    inside, at = i < P, image * P + i
    y, w, counted, _ = targets(y_ptr, w_ptr, at, inside, ignore, C, HAS_W)
    z = rows_of(z_ptr, first, i.to(tl.int64) * stride_p, inside, counted, stride_c, C, ROWS, GROUPS, SOFTMAX)
    hard = hard_at(kept_ptr, at, inside, KINDS)
    dz = differentiate(
        g_ptr, slope_ptr, z, y, w, counted, hard, first, C, KINDS, GAMMAS, MIXED, LOGS, BINS, ROWS, GROUPS, SOFTMAX
    )  # fmt: skip
    store_rows(dz, out_ptr, i.to(tl.int64) * out_p, inside, out_c, first, C, ROWS, GROUPS)


@triton.jit
def store_rows(
    dz, out_ptr, to, inside, out_c, first, C: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr
):  # fmt: skip
    """Write the gradient of every class, each class's row ``out_c`` from that before, at the places ``to`` of the pixels."""
    for r in tl.static_range(ROWS):
        here = inside[None, :]
        if C != ROWS * GROUPS:
            here = here & (first + r < C)[:, None]
        tl.store(out_ptr + (first + r)[:, None] * out_c + to[None, :], narrow(dz[r], out_ptr.dtype.element_ty), mask=here)


@triton.jit
def minus_inverse(p):
    """Return the derivative of -log(max(p, floor))."""
    return tl.where(p < FLOOR, 0.0, -1.0 / p)


@triton.jit
def slope_of_bin(slope_ptr, c, p, own, counted, C: tl.constexpr, BINS: tl.constexpr, SOFTMAX: tl.constexpr):
    """Return the loss's derivative by a row's p through the histogram, from slopes ``[class, own | other, bin]`` by the error."""
    bin_, _, _ = bin_of(p, own, BINS, SOFTMAX)
    here = counted[None, :] & (c < C)[:, None]
    slope = tl.load(slope_ptr + (2 * c[:, None] + tl.where(own, 0, 1)) * BINS + bin_, mask=here, other=0.0)
    slope = tl.where(own, -slope, slope)
    if not SOFTMAX:
        slope = tl.where((p < 0.0) | (p > 1.0), 0.0, slope)  # taken into [0, 1] before
    return slope
