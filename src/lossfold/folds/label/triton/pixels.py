"""What the kernels of the label fold are made of.

The classes stand in GROUPS x ROWS: a warp for each group, its ROWS classes unrolled, pixels along the lanes. Every score is loaded
once, into a register; maxima and sums over the classes are taken within a thread, then over the groups.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import FLOOR, TINY, at_least, power, weight_at
from lossfold.folds.label.spec import KINDS as NAMES

WEIGHT = tl.constexpr(NAMES.index("weight"))
PROB = tl.constexpr(NAMES.index("prob"))
PROB_SQ = tl.constexpr(NAMES.index("prob_sq"))
PROB_AT_LABEL = tl.constexpr(NAMES.index("prob_at_label"))
NLL = tl.constexpr(NAMES.index("nll"))
NLL_ALL = tl.constexpr(NAMES.index("nll_all"))
FOCAL = tl.constexpr(NAMES.index("focal"))
FOCAL_WEIGHT = tl.constexpr(NAMES.index("focal_weight"))
HARD_WEIGHT = tl.constexpr(NAMES.index("hard_weight"))
HARD_NLL = tl.constexpr(NAMES.index("hard_nll"))


@triton.jit
def targets(y_ptr, w_ptr, at, inside, ignore, classes, HAS_W: tl.constexpr):
    """Return labels and weights, 0 where nothing counts; which pixels count; which labels are out of range."""
    label = tl.load(y_ptr + at, mask=inside, other=0).to(tl.int64)
    kept = inside & (label != ignore)
    bad = kept & ((label < 0) | (label >= classes))
    w, counted = weight_at(w_ptr, at, kept, HAS_W)
    return tl.where(counted & (bad == 0), label, 0).to(tl.int32), w, counted, bad


@triton.jit
def rows_of(
    z_ptr, first, at, inside, counted, stride_c, C: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr, SOFTMAX: tl.constexpr
):
    """Return the scores ``[GROUPS, pixels]`` of each row, 0 at pixels that do not count; beyond the classes what adds nothing.

    Loads are masked by bounds and pixels chosen afterwards: masks made of labels would stop wide loads.
    """
    z = ()
    for r in tl.static_range(ROWS):
        if C == ROWS * GROUPS:
            x = tl.load(z_ptr + (first + r)[:, None] * stride_c + at[None, :], mask=inside[None, :], other=0.0).to(tl.float32)
            z = z + (tl.where(counted[None, :], x, 0.0),)
        else:
            real = (first + r < C)[:, None]
            x = tl.load(z_ptr + (first + r)[:, None] * stride_c + at[None, :], mask=inside[None, :] & real, other=0.0).to(
                tl.float32
            )
            x = tl.where(counted[None, :], x, 0.0)
            z = z + (tl.where(real, x, float("-inf") if SOFTMAX else 0.0),)
    return z


@triton.jit
def evaluate(z, label, ROWS: tl.constexpr, SOFTMAX: tl.constexpr):
    """Return e with p = e * inverse, that inverse, -log p + z of every class, and p, -log p and 1 - p of the label's."""
    if SOFTMAX:
        high = z[0]
        for r in tl.static_range(1, ROWS):
            high = tl.maximum(high, z[r])
        high = tl.max(high, 0)
        e = ()
        s, others, own = tl.zeros_like(z[0]), tl.zeros_like(z[0]), tl.zeros_like(z[0])
        for r in tl.static_range(ROWS):
            d = z[r] - high[None, :]
            x = tl.exp(d)
            e = e + (x,)
            s += x
            others += tl.where(label == r, 0.0, x)
            own = tl.where(label == r, d, own)
        s, others, own = tl.sum(s, 0), tl.sum(others, 0), tl.sum(own, 0)
        log_s, inverse = tl.log(s), 1.0 / s
        nll, p, u = log_s - own, tl.exp(own) * inverse, others * inverse
    else:
        e, own = z, tl.zeros_like(z[0])
        for r in tl.static_range(ROWS):
            own = tl.where(label == r, z[r], own)
        p = tl.sum(own, 0)
        high, log_s, inverse = p, p, 1.0
        nll, u = -tl.log(at_least(p, FLOOR)), 1.0 - p
    return e, inverse, high, log_s, nll, p, at_least(u, TINY)


@triton.jit
def minus_log(z, high, log_s, SOFTMAX: tl.constexpr):
    """Return -log p of a row."""
    if SOFTMAX:
        found = log_s[None, :] - (z - high[None, :])
    else:
        found = -tl.log(at_least(z, FLOOR))
    return found


@triton.jit
def at_label(KIND: tl.constexpr, GAMMA: tl.constexpr, p, nll, u, hard):
    """Return what a pixel of weight 1 adds to its label's row of a kind."""
    if KIND == WEIGHT:
        value = tl.full(p.shape, 1.0, tl.float32)
    elif KIND == PROB_AT_LABEL:
        value = p
    elif KIND == NLL:
        value = nll
    elif KIND == FOCAL:
        value = power(u, GAMMA) * nll
    elif KIND == FOCAL_WEIGHT:
        value = power(u, GAMMA)
    elif KIND == HARD_WEIGHT:
        value = hard
    else:
        tl.static_assert(KIND == HARD_NLL)
        value = tl.where(hard != 0.0, nll, 0.0)
    return value


@triton.jit
def hard_at(kept_ptr, at, inside, KINDS: tl.constexpr):
    """Return 1 at hard pixels, 0 at others; without hard sums, anything."""
    hard = tl.zeros(at.shape, tl.float32)
    for k in tl.static_range(len(KINDS)):
        if KINDS[k] == HARD_WEIGHT or KINDS[k] == HARD_NLL:
            hard = tl.load(kept_ptr + at, mask=inside, other=0).to(tl.float32)
    return hard


@triton.jit
def bin_of(p, own, BINS: tl.constexpr, SOFTMAX: tl.constexpr):
    """Return the bin of each error ``|[own] - p|``, the place in it, and whether it is a number (others: bin 0)."""
    if not SOFTMAX:
        p = tl.where(p < 0.0, 0.0, tl.where(p > 1.0, 1.0, p))
    error = tl.where(own, 1.0 - p, p)
    number = error == error
    place = tl.where(number, error, 0.0) * BINS
    bin_ = tl.minimum(place.to(tl.int32), BINS - 1)
    return bin_, tl.maximum(place - bin_.to(tl.float32), 0.0), number  # which may be fused with the product; see the dense fold
