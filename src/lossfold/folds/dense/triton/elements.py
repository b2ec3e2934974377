"""What the kernels of the dense fold are made of."""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.dense.spec import KINDS as NAMES
from lossfold.folds.dense.spec import LINKS
from lossfold.folds.gpu.device import FLOOR, TINY, at_least, power

WEIGHT = tl.constexpr(NAMES.index("weight"))
TARGET = tl.constexpr(NAMES.index("target"))
TARGET_SQ = tl.constexpr(NAMES.index("target_sq"))
PROB = tl.constexpr(NAMES.index("prob"))
PROB_SQ = tl.constexpr(NAMES.index("prob_sq"))
BOTH = tl.constexpr(NAMES.index("both"))
APART = tl.constexpr(NAMES.index("apart"))
NLL = tl.constexpr(NAMES.index("nll"))
NLL_ALL = tl.constexpr(NAMES.index("nll_all"))
NLL_NOT = tl.constexpr(NAMES.index("nll_not"))
NLL_NOT_ALL = tl.constexpr(NAMES.index("nll_not_all"))
FOCAL = tl.constexpr(NAMES.index("focal"))
FOCAL_NOT = tl.constexpr(NAMES.index("focal_not"))
FOCAL_WEIGHT = tl.constexpr(NAMES.index("focal_weight"))
SIGMOID = tl.constexpr(LINKS.index("sigmoid"))


@triton.jit
def target_at(t_ptr, at, inside, ignore, WHOLE: tl.constexpr):
    """Return targets, which of them count, and which are out of range; WHOLE: they are integers, of which one does not count."""
    raw = tl.load(t_ptr + at, mask=inside, other=0)
    t = raw.to(tl.float32)
    if WHOLE:
        counted = inside & (raw.to(tl.int64) != ignore)
        fits = (t == 0.0) | (t == 1.0)
    else:
        counted = inside
        fits = (t >= -0.01) & (t <= 1.01)  # interpolated targets may be a little outside
    return t, counted, fits


@triton.jit
def log1p(x):
    """Return log(1 + x) for x >= 0, exact where x is small."""
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / (u - 1.0)))


@triton.jit
def probabilities(z, LINK: tl.constexpr):
    """Return p, 1 - p, -log p and -log (1 - p) of elements by themselves."""
    if LINK == SIGMOID:
        e = tl.exp(-tl.abs(z))
        large = 1.0 / (1.0 + e)
        small = e * large
        log = log1p(e)
        p, q = tl.where(z >= 0.0, large, small), tl.where(z >= 0.0, small, large)
        nll, nll_not = log + at_least(-z, 0.0), log + at_least(z, 0.0)
    else:
        p, q = z, 1.0 - z
        nll, nll_not = -tl.log(at_least(p, FLOOR)), -tl.log(at_least(q, FLOOR))
    return p, q, nll, nll_not


@triton.jit
def share_of(KIND: tl.constexpr, GAMMA: tl.constexpr, t, p, q, nll, nll_not):
    """Return what an element of weight 1 adds to a kind of sum."""
    if KIND == WEIGHT:
        value = tl.full(t.shape, 1.0, tl.float32)
    elif KIND == TARGET:
        value = t
    elif KIND == TARGET_SQ:
        value = t * t
    elif KIND == PROB:
        value = p
    elif KIND == PROB_SQ:
        value = p * p
    elif KIND == BOTH:
        value = t * p
    elif KIND == APART:
        value = tl.abs(p - t)
    elif KIND == NLL:
        value = t * nll
    elif KIND == NLL_ALL:
        value = nll
    elif KIND == NLL_NOT:
        value = (1.0 - t) * nll_not
    elif KIND == NLL_NOT_ALL:
        value = nll_not
    else:
        value = power(at_least(p * (1.0 - t) + q * t, TINY), GAMMA)
        if KIND != FOCAL_WEIGHT:
            value *= t * nll + (1.0 - t) * nll_not
            if KIND == FOCAL:
                value *= t
            else:
                tl.static_assert(KIND == FOCAL_NOT)
                value *= 1.0 - t
    return value


@triton.jit
def add_slopes(KIND: tl.constexpr, GAMMA: tl.constexpr, g, t, p, q, nll, nll_not, by_p, by_nll, by_nll_not):
    """Add the loss's derivatives by p (through sums of p), by -log p and by -log (1 - p), of elements of weight 1."""
    if KIND == PROB:
        by_p += g
    elif KIND == PROB_SQ:
        by_p += 2.0 * g * p
    elif KIND == BOTH:
        by_p += g * t
    elif KIND == APART:
        by_p += tl.where(p > t, g, tl.where(p < t, -g, 0.0))
    elif KIND == NLL:
        by_nll += g * t
    elif KIND == NLL_ALL:
        by_nll += g
    elif KIND == NLL_NOT:
        by_nll_not += g * (1.0 - t)
    elif KIND == NLL_NOT_ALL:
        by_nll_not += g
    elif KIND == FOCAL or KIND == FOCAL_NOT or KIND == FOCAL_WEIGHT:
        side = t if KIND == FOCAL else 1.0 - t
        u = at_least(p * (1.0 - t) + q * t, TINY)
        if GAMMA == 0.0:
            below = tl.zeros_like(u)
            whole = tl.full(u.shape, 1.0, tl.float32)
        else:
            below = power(u, GAMMA - 1.0)
            whole = below * u  # small factors first: a power of u may be near the largest number
        if KIND == FOCAL_WEIGHT:
            by_u = g * (GAMMA * below)
        else:
            by_u = (g * side) * (GAMMA * (below * (t * nll + (1.0 - t) * nll_not)))
            by_nll += (g * side) * whole * t
            by_nll_not += (g * side) * whole * (1.0 - t)
        by_p += tl.where(u > TINY, by_u, 0.0) * (1.0 - 2.0 * t)  # where u is held, it has no derivative
    return by_p, by_nll, by_nll_not


@triton.jit
def through(p, q, by_p, by_nll, by_nll_not, LINK: tl.constexpr):
    """Return the loss's derivative by scores that are elements by themselves."""
    if LINK == SIGMOID:
        slope = p * q * by_p - q * by_nll + p * by_nll_not
    else:
        slope = by_p - tl.where(p < FLOOR, 0.0, by_nll / p) + tl.where(q < FLOOR, 0.0, by_nll_not / q)
    return slope
