"""The sums that read a map, which are no matter of labels or targets: Σ w p m and Σ w |m| of each class, on the device.

In tiles of classes and pixels. Weights are 0 where nothing counts; there, scores and maps may hold anything.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import finite, logistic, narrow, place_of, weighed

PROB, SIZE = tl.constexpr(0), tl.constexpr(1)  # kinds
SOFTMAX, SIGMOID = tl.constexpr(0), tl.constexpr(1)  # links; another one: scores are probabilities


@triton.jit
def tile_of(x_ptr, c, at, inside, counted, stride_c, C: tl.constexpr):
    """Return numbers ``[classes, pixels]``, 0 where nothing counts."""
    here = inside[None, :] & (c < C)[:, None]
    x = tl.load(x_ptr + c.to(tl.int64)[:, None] * stride_c + at[None, :], mask=here, other=0.0).to(tl.float32)
    return tl.where(counted, x, 0.0)


@triton.jit
def weights_of(w_ptr, c, i, inside, P, C: tl.constexpr, EACH: tl.constexpr):
    """Return weights ``[classes or one for all, pixels]``; EACH: every class has weights of its own."""
    if EACH:
        w = tl.load(w_ptr + c.to(tl.int64)[:, None] * P + i[None, :], mask=inside[None, :] & (c < C)[:, None], other=0.0)
    else:
        w = tl.load(w_ptr + i, mask=inside, other=0.0)[None, :]
    return w


@triton.jit
def softmax_at(
    z_ptr, w_ptr, at, i, inside, stride_c, P, C: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Return each pixel's largest score, and the inverse of the sum of the exponentials below it."""
    high, s = tl.full([BLOCK], float("-inf"), tl.float32), tl.zeros([BLOCK], tl.float32)
    counted = weights_of(w_ptr, i, i, inside, P, C, False) != 0.0
    for start in range(0, C, TILE):
        c = start + tl.arange(0, TILE)
        z = tl.where((c < C)[:, None], tile_of(z_ptr, c, at, inside, counted, stride_c, C), float("-inf"))
        higher = tl.maximum(high, tl.max(z, 0))
        base = finite(higher)
        s = s * tl.where(high == higher, 1.0, tl.exp(high - base)) + tl.sum(tl.exp(z - base[None, :]), 0)
        high = higher
    return high, 1.0 / s


@triton.jit
def pixels_at(
    z_ptr, m_ptr, w_ptr, c, at, to, i, inside, high, inverse, stride_c, step_c, P,
    C: tl.constexpr, LINK: tl.constexpr, EACH: tl.constexpr,
):  # fmt: skip
    """Return p, dp/dz of elements by themselves (of softmax, p), the map and weights of classes."""
    w = weights_of(w_ptr, c, i, inside, P, C, EACH)
    z = tile_of(z_ptr, c, at, inside, w != 0.0, stride_c, C)
    m = tile_of(m_ptr, c, to, inside, w != 0.0, step_c, C)
    if LINK == SOFTMAX:
        p = tl.where((c < C)[:, None], tl.exp(z - high[None, :]) * inverse[None, :], 0.0)
        slope = p
    elif LINK == SIGMOID:
        p, q = logistic(z)
        slope = p * q
    else:
        p, slope = z, tl.full(z.shape, 1.0, tl.float32)
    return p, slope, m, w


@triton.jit
def begin(
    z_ptr, m_ptr, w_ptr, programs, P, stride_b, stride_c, stride_p, step_b, step_p,
    C: tl.constexpr, LINK: tl.constexpr, EACH: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Return where a program's image begins, its pixels, and what softmax takes."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    m_ptr += image * step_b
    w_ptr += image * P * (C if EACH else 1)
    i = program * BLOCK + tl.arange(0, BLOCK)
    at, to = i.to(tl.int64) * stride_p, i.to(tl.int64) * step_p
    if LINK == SOFTMAX:
        high, inverse = softmax_at(z_ptr, w_ptr, at, i, i < P, stride_c, P, C, TILE, BLOCK)
    else:
        high, inverse = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    return image, z_ptr, m_ptr, w_ptr, i, at, to, high, inverse


@triton.jit
def fold_maps(
    z_ptr, m_ptr, w_ptr, part_ptr, programs, P, stride_b, stride_c, stride_p, step_b, step_c, step_p,
    C: tl.constexpr, KINDS: tl.constexpr, LINK: tl.constexpr, EACH: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write partial sums ``[image, program, kind, class]``."""
    _image, z_ptr, m_ptr, w_ptr, i, at, to, high, inverse = begin(
        z_ptr, m_ptr, w_ptr, programs, P, stride_b, stride_c, stride_p, step_b, step_p, C, LINK, EACH, TILE, BLOCK
    )  # fmt: skip
    part_ptr += tl.program_id(0).to(tl.int64) * len(KINDS) * C
    for start in range(0, C, TILE):
        c = start + tl.arange(0, TILE)
        p, _slope, m, w = pixels_at(z_ptr, m_ptr, w_ptr, c, at, to, i, i < P, high, inverse, stride_c, step_c, P, C, LINK, EACH)
        for k in tl.static_range(len(KINDS)):
            share = w * (p * m if KINDS[k] == PROB else tl.abs(m))
            tl.store(part_ptr + k * C + c, tl.sum(share, 1).to(tl.float64), mask=c < C)


@triton.jit
def unfold_maps(
    g_ptr, z_ptr, m_ptr, w_ptr, out_ptr,
    programs, P, stride_b, stride_c, stride_p, step_b, step_c, step_p, out_b, out_c, out_p, g_b,
    C: tl.constexpr, LINK: tl.constexpr, EACH: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add to the gradient of the scores, from the derivatives ``g[image, class]`` by Σ w p m: softmax p (g m - Σ p g m)."""
    image, z_ptr, m_ptr, w_ptr, i, at, to, high, inverse = begin(
        z_ptr, m_ptr, w_ptr, programs, P, stride_b, stride_c, stride_p, step_b, step_p, C, LINK, EACH, TILE, BLOCK
    )  # fmt: skip
    g_ptr += image * g_b
    dot = tl.zeros([BLOCK], tl.float32)
    if LINK == SOFTMAX:
        for start in range(0, C, TILE):
            c = start + tl.arange(0, TILE)
            p, _slope, m, w = pixels_at(z_ptr, m_ptr, w_ptr, c, at, to, i, i < P, high, inverse, stride_c, step_c, P, C, LINK, EACH)
            dot += tl.sum(p * (tl.load(g_ptr + c, mask=c < C, other=0.0)[:, None] * m), 0)
    for start in range(0, C, TILE):
        c = start + tl.arange(0, TILE)
        _p, slope, m, w = pixels_at(z_ptr, m_ptr, w_ptr, c, at, to, i, i < P, high, inverse, stride_c, step_c, P, C, LINK, EACH)
        dz = w * slope * (tl.load(g_ptr + c, mask=c < C, other=0.0)[:, None] * m - dot[None, :])
        out = out_ptr + image * out_b + c.to(tl.int64)[:, None] * out_c + (i.to(tl.int64) * out_p)[None, :]
        here = (c < C)[:, None] & (i < P)[None, :]
        so_far = tl.load(out, mask=here, other=0.0).to(tl.float32)
        tl.store(out, narrow(so_far + dz, out_ptr.dtype.element_ty), mask=here)


@triton.jit
def map_maps(
    g_ptr, z_ptr, m_ptr, w_ptr, out_ptr, programs, P, stride_b, stride_c, stride_p, step_b, step_c, step_p,
    C: tl.constexpr, KINDS: tl.constexpr, LINK: tl.constexpr, EACH: tl.constexpr, ALONE: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add shares of the sums that ``g[kind, class]`` weighs to ``out[image, pixel]``; ALONE: to ``out[image, class, pixel]``."""
    image, z_ptr, m_ptr, w_ptr, i, at, to, high, inverse = begin(
        z_ptr, m_ptr, w_ptr, programs, P, stride_b, stride_c, stride_p, step_b, step_p, C, LINK, EACH, TILE, BLOCK
    )  # fmt: skip
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, C, TILE):
        c = start + tl.arange(0, TILE)
        p, _slope, m, w = pixels_at(z_ptr, m_ptr, w_ptr, c, at, to, i, i < P, high, inverse, stride_c, step_c, P, C, LINK, EACH)
        value = tl.zeros([TILE, BLOCK], tl.float32)
        for k in tl.static_range(len(KINDS)):
            g = tl.load(g_ptr + k * C + c, mask=c < C, other=0.0)[:, None]
            value += weighed(g, w * (p * m if KINDS[k] == PROB else tl.abs(m)))
        if ALONE:
            out = out_ptr + (image * C + c)[:, None] * P + i[None, :]
            here = (c < C)[:, None] & (i < P)[None, :]
            tl.store(out, tl.load(out, mask=here, other=0.0) + value, mask=here)
        else:
            total += tl.sum(value, 0)
    if not ALONE:
        out = out_ptr + image * P + i
        tl.store(out, tl.load(out, mask=i < P, other=0.0) + total, mask=i < P)
