"""Which pixels are hard: the k-th largest -log p without a sort and without the host, digit by digit from histograms.

A pixel's hardness is its -log p, 0 or more, as an integer, which orders alike, NaN above all; the sign says that p is below the
threshold, and OUT stands for pixels that do not count.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import place_of
from lossfold.folds.label.triton.pixels import HARD_WEIGHT, targets

DIGITS = (11, 10, 10)  # bits, from the highest
OUT, INFINITY, WITHOUT_SIGN = tl.constexpr(-1), tl.constexpr(0x7F800000), tl.constexpr(0x7FFFFFFF)


@triton.jit
def hardness(nll, p, counted, thresh):
    """Return how hard pixels are."""
    size = tl.where(nll <= 0.0, 0.0, nll).to(tl.int32, bitcast=True)
    return tl.where(counted, tl.where(p < thresh, size | (-WITHOUT_SIGN - 1), size), OUT)


@triton.jit(do_not_specialize=["programs"])
def count_digits(
    hard_ptr, state_ptr, counts_ptr, programs, pixels, SHIFT: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Count the digits ``[group, 2^BITS]`` of the pixels that have the higher ones which ``state[group]`` begins with."""
    program, group = place_of(programs)
    i = program * BLOCK + tl.arange(0, BLOCK)
    bits = tl.load(hard_ptr + group * pixels + i, mask=i < pixels, other=OUT)
    size = bits & WITHOUT_SIGN
    here = bits != OUT
    if SHIFT + BITS < 31:
        here = here & ((size >> (SHIFT + BITS)) == (tl.load(state_ptr + 2 * group).to(tl.int32) >> (SHIFT + BITS)))
    digit = (size >> SHIFT) & ((1 << BITS) - 1)
    tl.atomic_add(counts_ptr + (group << BITS) + digit, 1, mask=here, sem="relaxed")


@triton.jit(do_not_specialize=["min_kept", "ratio_bits"])
def choose_digit(
    counts_ptr, state_ptr, min_kept, ratio_bits, SHIFT: tl.constexpr, BITS: tl.constexpr, FIRST: tl.constexpr
):  # fmt: skip
    """Add a digit to ``state[group]``: the bound's digits so far, and which of the pixels that have them is wanted.

    ratio_bits: a float64, which arguments can't be.
    """
    group = tl.program_id(0).to(tl.int64)
    state_ptr += 2 * group
    counts = tl.load(counts_ptr + (group << BITS) + tl.arange(0, 1 << BITS)).to(tl.int64)
    all_of_them = tl.sum(counts, 0)
    if FIRST:
        ratio = ratio_bits.to(tl.int64).to(tl.float64, bitcast=True)
        share = tl.ceil(all_of_them.to(tl.float64) * ratio).to(tl.int64)
        wanted = tl.minimum(tl.where(ratio > 0.0, share, min_kept), all_of_them)
        prefix = tl.zeros_like(wanted)
    else:
        prefix, wanted = tl.load(state_ptr), tl.load(state_ptr + 1)
    above = all_of_them - tl.cumsum(counts, 0) + counts  # with this digit or a higher one
    digit = tl.maximum(tl.sum((above >= wanted).to(tl.int64), 0) - 1, 0)
    higher = tl.sum(tl.where(tl.arange(0, 1 << BITS) > digit, counts, 0), 0)
    prefix = prefix | (digit << SHIFT)
    tl.store(state_ptr, tl.where(wanted > 0, prefix, INFINITY))
    tl.store(state_ptr + 1, tl.where(wanted > 0, wanted - higher, 0))


@triton.jit(do_not_specialize=["ignore", "apart"])
def keep_kernel(
    hard_ptr, state_ptr, y_ptr, w_ptr, kept_ptr, part_ptr, bad_ptr, programs, P, ignore, apart,
    C: tl.constexpr, KINDS: tl.constexpr, HAS_W: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write which pixels are hard, and partial sums ``[image, program, kind, class]`` over them."""
    program, image = place_of(programs)
    i = program * BLOCK + tl.arange(0, BLOCK)
    inside, at = i < P, image * P + i
    y, w, _, bad = targets(y_ptr, w_ptr, at, inside, ignore, C, HAS_W)
    bits = tl.load(hard_ptr + at, mask=inside, other=OUT)
    size = bits & WITHOUT_SIGN
    hard = (bits != OUT) & ((bits < 0) | (size >= tl.load(state_ptr + 2 * image * apart).to(tl.int32)))
    tl.store(kept_ptr + at, hard.to(tl.uint8), mask=inside)
    w = tl.where(hard, w, 0.0)
    nll = tl.where(hard, w * size.to(tl.float32, bitcast=True), 0.0)
    part_ptr += tl.program_id(0).to(tl.int64) * len(KINDS) * C
    for start in range(0, C, TILE):
        c = start + tl.arange(0, TILE)
        mine = c[:, None] == y[None, :]
        for k in tl.static_range(len(KINDS)):
            if KINDS[k] == HARD_WEIGHT:
                share = tl.where(mine, w[None, :], 0.0)
            else:
                share = tl.where(mine, nll[None, :], 0.0)
            tl.store(part_ptr + k * C + c, tl.sum(share, 1).to(tl.float64), mask=c < C)
    tl.store(bad_ptr + tl.program_id(0), tl.max(bad.to(tl.int32), 0))
