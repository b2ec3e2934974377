"""The dense fold and its integrand of channels by themselves: in lines, the pixels of one channel of one image."""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.dense.triton.elements import probabilities, share_of, target_at
from lossfold.folds.gpu.device import place_of, weight_at


@triton.jit
def element_at(
    z_ptr, t_ptr, w_ptr, i, inside, stride_p, step_p, ignore, HAS_W: tl.constexpr, WHOLE: tl.constexpr
):  # fmt: skip
    """Return scores, targets and weights of a line, 0 where nothing counts; which count, and which targets are out of range."""
    z = tl.load(z_ptr + i.to(tl.int64) * stride_p, mask=inside, other=0.0).to(tl.float32)
    t, counted, fits = target_at(t_ptr, i.to(tl.int64) * step_p, inside, ignore, WHOLE)
    w, counted = weight_at(w_ptr, i, counted, HAS_W)
    return tl.where(counted, z, 0.0), tl.where(counted, t, 0.0), w, counted, counted & (fits == 0)


@triton.jit
def line_of(z_ptr, t_ptr, w_ptr, line, K, P, stride_b, stride_c, step_b, step_c, EACH: tl.constexpr):
    """Return where a line's scores, targets and weights begin; EACH: every channel has weights of its own."""
    image, channel = line // K, line % K
    z_ptr += image * stride_b + channel * stride_c
    t_ptr += image * step_b + channel * step_c
    if EACH:
        w_ptr += line * P
    else:
        w_ptr += image * P
    return z_ptr, t_ptr, w_ptr, image, channel


@triton.jit(do_not_specialize=["ignore"])
def fold_lines(
    z_ptr, t_ptr, w_ptr, part_ptr, bad_ptr,
    programs, K, P, stride_b, stride_c, stride_p, step_b, step_c, step_p, ignore,
    KINDS: tl.constexpr, GAMMAS: tl.constexpr, LINK: tl.constexpr, HAS_W: tl.constexpr, EACH: tl.constexpr, WHOLE: tl.constexpr,
    BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Write partial sums ``[line, program, kind]``, and whether a target was out of range."""
    program, line = place_of(programs)
    z_ptr, t_ptr, w_ptr, _, _ = line_of(z_ptr, t_ptr, w_ptr, line, K, P, stride_b, stride_c, step_b, step_c, EACH)
    wrong = tl.zeros([BLOCK], tl.int32)
    sums = ()
    for n in tl.static_range(len(KINDS)):
        sums = sums + (tl.zeros([BLOCK], tl.float32),)
    for tile in range(TILES):
        i = (program * TILES + tile) * BLOCK + tl.arange(0, BLOCK)
        z, t, w, counted, bad = element_at(z_ptr, t_ptr, w_ptr, i, i < P, stride_p, step_p, ignore, HAS_W, WHOLE)
        wrong = wrong | bad.to(tl.int32)
        p, q, nll, nll_not = probabilities(z, LINK)
        more = ()
        for k in tl.static_range(len(KINDS)):
            more = more + (sums[k] + w * share_of(KINDS[k], GAMMAS[k], t, p, q, nll, nll_not),)
        sums = more
    part_ptr += tl.program_id(0).to(tl.int64) * len(KINDS)
    for k in tl.static_range(len(KINDS)):
        tl.store(part_ptr + k, tl.sum(sums[k], 0).to(tl.float64))
    tl.store(bad_ptr + tl.program_id(0), tl.max(wrong, 0))


@triton.jit(do_not_specialize=["ignore"])
def map_lines(
    g_ptr, z_ptr, t_ptr, w_ptr, out_ptr, bad_ptr,
    programs, K, P, stride_b, stride_c, stride_p, step_b, step_c, step_p, ignore,
    KINDS: tl.constexpr, GAMMAS: tl.constexpr, LINK: tl.constexpr, HAS_W: tl.constexpr, EACH: tl.constexpr, WHOLE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write every element's share of the sums that ``g[kind, channel]`` weighs."""
    program, line = place_of(programs)
    z_ptr, t_ptr, w_ptr, _, channel = line_of(z_ptr, t_ptr, w_ptr, line, K, P, stride_b, stride_c, step_b, step_c, EACH)
    i = program * BLOCK + tl.arange(0, BLOCK)
    z, t, w, counted, bad = element_at(z_ptr, t_ptr, w_ptr, i, i < P, stride_p, step_p, ignore, HAS_W, WHOLE)
    p, q, nll, nll_not = probabilities(z, LINK)
    value = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(len(KINDS)):
        value += tl.load(g_ptr + k * K + channel) * (w * share_of(KINDS[k], GAMMAS[k], t, p, q, nll, nll_not))
    tl.store(out_ptr + line * P + i, value, mask=i < P)
    tl.store(bad_ptr + tl.program_id(0), tl.max(bad.to(tl.int32), 0))
