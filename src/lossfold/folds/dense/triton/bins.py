"""The histogram of each channel's errors, or of its hinge errors; see :mod:`lossfold.folds.gpu.tables`."""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.dense.triton.elements import probabilities
from lossfold.folds.dense.triton.lines import element_at, line_of
from lossfold.folds.gpu.device import UNIT, place_of
from lossfold.folds.gpu.tables import OCTAVES, ONE, rounded
from lossfold.folds.histogram import REST as _REST

REST = tl.constexpr(_REST)


@triton.jit
def bin_of(z, p, q, own, BINS: tl.constexpr, HINGE: tl.constexpr):
    """Return the bin of each error, the place in it, and whether it is a number (others: bin 0, place 0)."""
    if HINGE:
        error = 1.0 - tl.where(own, z, -z)
        shifted = tl.where(error < 0.0, 1.0, 1.0 + error)
        number = shifted < float("inf")
        bits = tl.where(number, shifted, 1.0).to(tl.int32, bitcast=True)
        octave = (bits >> 23) - 127
        inside = (bits & 0x7FFFFF).to(tl.float32) * (1.0 / 8388608.0)
        EACH: tl.constexpr = (BINS - REST) // OCTAVES
        place = tl.where(octave < OCTAVES, inside * EACH, inside)
        bin_ = tl.where(octave < OCTAVES, octave * EACH + place.to(tl.int32), OCTAVES * EACH + octave - OCTAVES)
        position = tl.where(octave < OCTAVES, place - place.to(tl.int32).to(tl.float32), place)
    else:
        error = tl.where(own, q, p)
        error = tl.where(error < 0.0, 0.0, tl.where(error > 1.0, 1.0, error))
        number = error == error
        place = tl.where(number, error, 0.0) * BINS
        bin_ = tl.minimum(place.to(tl.int32), BINS - 1)
        position = place - bin_.to(tl.float32)
    # A product and the difference from it may be made in one, without the rounding that has taken the product to the next bin.
    return bin_, tl.maximum(position, 0.0), number


@triton.jit(do_not_specialize=["ignore"])
def bins_lines(
    z_ptr, t_ptr, w_ptr, table_ptr,
    programs, K, P, stride_b, stride_c, stride_p, step_b, step_c, step_p, groups, share, ignore,
    LINK: tl.constexpr, HAS_W: tl.constexpr, EACH: tl.constexpr, WHOLE: tl.constexpr,
    BINS: tl.constexpr, HINGE: tl.constexpr, COUNTS: tl.constexpr, APART: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Add to ``table[table, channel, own | other, bin]``; what is in bin 0 is added up in registers first."""
    program, line = place_of(programs)
    WORDS: tl.constexpr = 1 if COUNTS else 2
    ROW: tl.constexpr = BINS + 1
    z_ptr, t_ptr, w_ptr, image, channel = line_of(z_ptr, t_ptr, w_ptr, line, K, P, stride_b, stride_c, step_b, step_c, EACH)
    if APART:
        table = image * groups + program // share
    else:
        table = (image * programs + program) // share
    table_ptr += (table * K + channel) * (2 * ROW * WORDS)
    own_zeros, other_zeros = tl.zeros([BLOCK], tl.int64), tl.zeros([BLOCK], tl.int64)
    own_places, other_places = tl.zeros([BLOCK], tl.int64), tl.zeros([BLOCK], tl.int64)
    for tile in range(TILES):
        i = (program * TILES + tile) * BLOCK + tl.arange(0, BLOCK)
        z, t, w, counted, bad = element_at(z_ptr, t_ptr, w_ptr, i, i < P, stride_p, step_p, ignore, HAS_W, WHOLE)
        p, q, nll, nll_not = probabilities(z, LINK)
        own = t > 0.5
        bin_, position, number = bin_of(z, p, q, own, BINS, HINGE)
        number = number & (w - w == 0.0)
        slot = tl.where(own, 0, ROW) + tl.where(number, bin_, BINS)
        fixed = (position * UNIT + 0.5).to(tl.int64)
        zero = counted & (bin_ == 0) & number
        rest = counted & ((bin_ != 0) | (number == 0))
        if COUNTS:
            word = fixed + ONE
            tl.atomic_add(table_ptr + slot, word, mask=rest, sem="relaxed")
        else:
            scale = tl.where(w - w == 0.0, w, 1.0).to(tl.float64)
            word, place = rounded(scale * UNIT), rounded(scale * fixed.to(tl.float64))
            tl.atomic_add(table_ptr + 2 * slot, word, mask=rest, sem="relaxed")
            tl.atomic_add(table_ptr + 2 * slot + 1, place, mask=rest, sem="relaxed")
            own_places += tl.where(zero & own, place, 0)
            other_places += tl.where(zero & (own == 0), place, 0)
        own_zeros += tl.where(zero & own, word, 0)
        other_zeros += tl.where(zero & (own == 0), word, 0)
    tl.atomic_add(table_ptr, tl.sum(own_zeros, 0), sem="relaxed")
    tl.atomic_add(table_ptr + ROW * WORDS, tl.sum(other_zeros, 0), sem="relaxed")
    if not COUNTS:
        tl.atomic_add(table_ptr + 1, tl.sum(own_places, 0), sem="relaxed")
        tl.atomic_add(table_ptr + ROW * WORDS + 1, tl.sum(other_places, 0), sem="relaxed")
