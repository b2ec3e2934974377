"""The dense fold with softmax, its gradient and its integrand: all channels of a pixel in one program, as in the label fold."""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.dense.triton.elements import add_slopes, share_of, target_at
from lossfold.folds.gpu.device import narrow, place_of, weight_at


@triton.jit
def pixels_at(
    z_ptr, t_ptr, w_ptr, at, i, inside, first, stride_c, stride_p, step_c, step_p, ignore,
    C: tl.constexpr, HAS_W: tl.constexpr, WHOLE: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Return log p and targets ``[GROUPS, pixels]`` of each row, and weights, 0 where nothing counts; and which targets are bad.

    A pixel's channels count together.
    """
    z, t = (), ()
    out = tl.zeros([GROUPS, BLOCK], tl.int32)
    unfit = tl.zeros([GROUPS, BLOCK], tl.int32)
    for r in tl.static_range(ROWS):
        here = inside[None, :] & (first + r < C)[:, None]
        at_z = (first + r)[:, None] * stride_c + (i.to(tl.int64) * stride_p)[None, :]
        at_t = (first + r)[:, None] * step_c + (i.to(tl.int64) * step_p)[None, :]
        z = z + (tl.load(z_ptr + at_z, mask=here, other=0.0).to(tl.float32),)
        value, counted, fits = target_at(t_ptr, at_t, here, ignore, WHOLE)
        t = t + (value,)
        out = out | (here & (counted == 0)).to(tl.int32)
        unfit = unfit | (here & (fits == 0)).to(tl.int32)
    w, counted = weight_at(w_ptr, at, inside & (tl.max(out, 0) == 0), HAS_W)
    bad = counted & (tl.max(unfit, 0) != 0)
    scores, values = (), ()
    high = tl.full([GROUPS, BLOCK], float("-inf"), tl.float32)
    for r in tl.static_range(ROWS):
        x = tl.where((first + r < C)[:, None], tl.where(counted[None, :], z[r], 0.0), float("-inf"))
        scores = scores + (x,)
        values = values + (tl.where(counted[None, :], t[r], 0.0),)
        high = tl.maximum(high, x)
    high = tl.max(high, 0)
    s = tl.zeros([GROUPS, BLOCK], tl.float32)
    for r in tl.static_range(ROWS):
        s += tl.exp(scores[r] - high[None, :])
    log_s = tl.log(tl.sum(s, 0))
    logs = ()
    for r in tl.static_range(ROWS):
        logs = logs + ((scores[r] - high[None, :]) - log_s[None, :],)
    return logs, values, w, bad


@triton.jit(do_not_specialize=["ignore"])
def fold_pixels(
    z_ptr, t_ptr, w_ptr, part_ptr, bad_ptr,
    programs, P, stride_b, stride_c, stride_p, step_b, step_c, step_p, ignore,
    C: tl.constexpr, KINDS: tl.constexpr, HAS_W: tl.constexpr, WHOLE: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Write partial sums ``[image, program, kind, channel]`` with softmax, and whether a target was out of range."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    t_ptr += image * step_b
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    wrong = tl.zeros([BLOCK], tl.int32)
    sums = ()
    for n in tl.static_range(len(KINDS) * ROWS):
        sums = sums + (tl.zeros([GROUPS, BLOCK], tl.float32),)
    for tile in range(TILES):
        i = (program * TILES + tile) * BLOCK + tl.arange(0, BLOCK)
        logs, t, w, bad = pixels_at(
            z_ptr, t_ptr, w_ptr, image * P + i, i, i < P, first, stride_c, stride_p, step_c, step_p, ignore,
            C, HAS_W, WHOLE, ROWS, GROUPS, BLOCK,
        )  # fmt: skip
        wrong = wrong | bad.to(tl.int32)
        more = ()
        for k in tl.static_range(len(KINDS)):
            for r in tl.static_range(ROWS):
                p = tl.exp(logs[r])
                share = w[None, :] * share_of(KINDS[k], 0.0, t[r], p, p, tl.where((first + r < C)[:, None], -logs[r], 0.0), p)
                more = more + (sums[k * ROWS + r] + share,)
        sums = more
    part_ptr += tl.program_id(0).to(tl.int64) * len(KINDS) * C
    for k in tl.static_range(len(KINDS)):
        for r in tl.static_range(ROWS):
            total = tl.sum(sums[k * ROWS + r], 1).to(tl.float64)
            tl.store(part_ptr + k * C + first + r, total, mask=first + r < C)
    tl.store(bad_ptr + tl.program_id(0), tl.max(wrong, 0))


@triton.jit(do_not_specialize=["ignore"])
def map_pixels(
    g_ptr, z_ptr, t_ptr, w_ptr, out_ptr, bad_ptr,
    programs, P, stride_b, stride_c, stride_p, step_b, step_c, step_p, ignore,
    C: tl.constexpr, KINDS: tl.constexpr, HAS_W: tl.constexpr, WHOLE: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write every pixel's share of the sums that ``g[kind, channel]`` weighs, with softmax."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    t_ptr += image * step_b
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    i = program * BLOCK + tl.arange(0, BLOCK)
    logs, t, w, bad = pixels_at(
        z_ptr, t_ptr, w_ptr, image * P + i, i, i < P, first, stride_c, stride_p, step_c, step_p, ignore,
        C, HAS_W, WHOLE, ROWS, GROUPS, BLOCK,
    )  # fmt: skip
    value = tl.zeros([GROUPS, BLOCK], tl.float32)
    for r in tl.static_range(ROWS):
        p = tl.exp(logs[r])
        nll = tl.where((first + r < C)[:, None], -logs[r], 0.0)
        for k in tl.static_range(len(KINDS)):
            g = tl.load(g_ptr + k * C + first + r, mask=first + r < C, other=0.0)[:, None]
            value += g * share_of(KINDS[k], 0.0, t[r], p, p, nll, p)
    tl.store(out_ptr + image * P + i, w * tl.sum(value, 0), mask=i < P)
    tl.store(bad_ptr + tl.program_id(0), tl.max(bad.to(tl.int32), 0))


@triton.jit(do_not_specialize=["ignore"])
def unfold_pixels(
    g_ptr, z_ptr, t_ptr, w_ptr, out_ptr,
    programs, P, stride_b, stride_c, stride_p, step_b, step_c, step_p, out_b, out_c, out_p, ignore,
    C: tl.constexpr, KINDS: tl.constexpr, HAS_W: tl.constexpr, WHOLE: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient of the scores: dz = w (p (A - Σ p A + Σ N) - N)."""
    program, image = place_of(programs)
    z_ptr += image * stride_b
    t_ptr += image * step_b
    out_ptr += image * out_b
    g_ptr += image * len(KINDS) * C
    first = tl.arange(0, GROUPS).to(tl.int64) * ROWS
    i = program * BLOCK + tl.arange(0, BLOCK)
    logs, t, w, _ = pixels_at(
        z_ptr, t_ptr, w_ptr, image * P + i, i, i < P, first, stride_c, stride_p, step_c, step_p, ignore,
        C, HAS_W, WHOLE, ROWS, GROUPS, BLOCK,
    )  # fmt: skip
    slopes, falls = (), ()
    inner = tl.zeros([GROUPS, BLOCK], tl.float32)
    total = tl.zeros([GROUPS, BLOCK], tl.float32)
    for r in tl.static_range(ROWS):
        p = tl.exp(logs[r])
        by_p, by_nll, none = tl.zeros_like(p), tl.zeros_like(p), tl.zeros_like(p)
        for k in tl.static_range(len(KINDS)):
            g = tl.load(g_ptr + k * C + first + r, mask=first + r < C, other=0.0)[:, None]
            by_p, by_nll, none = add_slopes(KINDS[k], 0.0, g, t[r], p, p, p, p, by_p, by_nll, none)
        slopes, falls = slopes + (by_p,), falls + (by_nll,)
        inner += p * by_p
        total += by_nll
    inner, total = tl.sum(inner, 0)[None, :], tl.sum(total, 0)[None, :]
    for r in tl.static_range(ROWS):
        dz = w[None, :] * (tl.exp(logs[r]) * ((slopes[r] - inner) + total) - falls[r])
        to = (first + r)[:, None] * out_c + (i.to(tl.int64) * out_p)[None, :]
        here = (i < P)[None, :] & (first + r < C)[:, None]
        tl.store(out_ptr + to, narrow(dz, out_ptr.dtype.element_ty), mask=here)
