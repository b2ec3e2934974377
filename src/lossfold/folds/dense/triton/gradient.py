"""The gradient of the dense fold of channels by themselves: scores and targets loaded once, the gradient written once."""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.dense.triton.bins import bin_of
from lossfold.folds.dense.triton.elements import SIGMOID, add_slopes, probabilities, share_of, through
from lossfold.folds.dense.triton.lines import element_at, line_of
from lossfold.folds.gpu.device import narrow, place_of, weighed


@triton.jit(do_not_specialize=["ignore"])
def unfold_lines(
    g_ptr, slope_ptr, z_ptr, t_ptr, w_ptr, out_ptr,
    programs, K, P, stride_b, stride_c, stride_p, step_b, step_c, step_p, out_b, out_c, out_p, slope_b, ignore,
    KINDS: tl.constexpr, GAMMAS: tl.constexpr, LINK: tl.constexpr, HAS_W: tl.constexpr, EACH: tl.constexpr, WHOLE: tl.constexpr,
    BINS: tl.constexpr, HINGE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient of the scores, from the loss's derivatives by the sums ``[image, kind, channel]`` and by errors in bins.

    With A, N, M the derivatives by p, -log p and -log q, and H that by a hinge error::

        sigmoid   dz = w (p q A - q N + p M + H)
        identity  dz = w (A - N / p + M / q + H)
    """
    program, line = place_of(programs)
    z_ptr, t_ptr, w_ptr, image, channel = line_of(z_ptr, t_ptr, w_ptr, line, K, P, stride_b, stride_c, step_b, step_c, EACH)
    i = program * BLOCK + tl.arange(0, BLOCK)
    z, t, w, counted, bad = element_at(z_ptr, t_ptr, w_ptr, i, i < P, stride_p, step_p, ignore, HAS_W, WHOLE)
    p, q, nll, nll_not = probabilities(z, LINK)
    by_p, by_nll, by_nll_not = tl.zeros_like(z), tl.zeros_like(z), tl.zeros_like(z)
    g_ptr += image * len(KINDS) * K + channel
    for k in tl.static_range(len(KINDS)):
        g = tl.load(g_ptr + k * K)
        by_p, by_nll, by_nll_not = add_slopes(KINDS[k], GAMMAS[k], g, t, p, q, nll, nll_not, by_p, by_nll, by_nll_not)
    by_z = tl.zeros_like(z)
    if BINS > 0:
        own = t > 0.5
        bin_, _, _ = bin_of(z, p, q, own, BINS, HINGE)
        slope_ptr += image * slope_b + channel * 2 * BINS
        slope = tl.load(slope_ptr + tl.where(own, 0, BINS) + bin_, mask=counted, other=0.0)
        slope = tl.where(own, -slope, slope)
        if HINGE:
            by_z += tl.where(1.0 - tl.where(own, z, -z) > 0.0, slope, 0.0)
        elif LINK == SIGMOID:
            by_p += slope
        else:
            by_p += tl.where((z < 0.0) | (z > 1.0), 0.0, slope)  # taken into [0, 1] before
    dz = w * (through(p, q, by_p, by_nll, by_nll_not, LINK) + by_z)
    to = image * out_b + channel * out_c + i.to(tl.int64) * out_p
    tl.store(out_ptr + to, narrow(dz, out_ptr.dtype.element_ty), mask=i < P)


@triton.jit(do_not_specialize=["ignore"])
def once_lines(
    g_ptr, z_ptr, t_ptr, w_ptr, out_ptr, part_ptr, bad_ptr,
    programs, K, P, stride_b, stride_c, stride_p, step_b, step_c, step_p, out_b, out_c, out_p, ignore,
    KINDS: tl.constexpr, GAMMAS: tl.constexpr, LINK: tl.constexpr, HAS_W: tl.constexpr, EACH: tl.constexpr, WHOLE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient, from derivatives ``g[kind, channel]``, partial sums of what these weigh, and whether a target was bad."""
    program, line = place_of(programs)
    z_ptr, t_ptr, w_ptr, image, channel = line_of(z_ptr, t_ptr, w_ptr, line, K, P, stride_b, stride_c, step_b, step_c, EACH)
    i = program * BLOCK + tl.arange(0, BLOCK)
    z, t, w, counted, bad = element_at(z_ptr, t_ptr, w_ptr, i, i < P, stride_p, step_p, ignore, HAS_W, WHOLE)
    p, q, nll, nll_not = probabilities(z, LINK)
    by_p, by_nll, by_nll_not, value = tl.zeros_like(z), tl.zeros_like(z), tl.zeros_like(z), tl.zeros_like(z)
    for k in tl.static_range(len(KINDS)):
        g = tl.load(g_ptr + k * K + channel)
        by_p, by_nll, by_nll_not = add_slopes(KINDS[k], GAMMAS[k], g, t, p, q, nll, nll_not, by_p, by_nll, by_nll_not)
        value += weighed(g, w * share_of(KINDS[k], GAMMAS[k], t, p, q, nll, nll_not))
    dz = w * through(p, q, by_p, by_nll, by_nll_not, LINK)
    to = image * out_b + channel * out_c + i.to(tl.int64) * out_p
    tl.store(out_ptr + to, narrow(dz, out_ptr.dtype.element_ty), mask=i < P)
    tl.store(part_ptr + tl.program_id(0), tl.sum(tl.where(counted, value, 0.0), 0).to(tl.float64))
    tl.store(bad_ptr + tl.program_id(0), tl.max(bad.to(tl.int32), 0))
