"""Histograms on GPUs: integers of 1 / UNIT that atomics add, so that any order gives the same bits.

Without weights (or with weights 0 and 1) a word is a count times 2^44 and the sum of the places in the bin, good for fewer than
2^20 pixels: so many share a table. With weights there are two words. A table has a bin more, for what is no number.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossfold.folds.gpu.device import UNIT
from lossfold.folds.histogram import OCTAVES as _OCTAVES

MOST_PIXELS = 2**20 - 1  # of a table of counts
SHIFT = tl.constexpr(44)  # of a count in its word
ONE, PLACES = tl.constexpr(1 << 44), tl.constexpr((1 << 44) - 1)
OCTAVES = tl.constexpr(_OCTAVES)


@triton.jit
def rounded(x):
    """Return the nearest integer."""
    return tl.floor(x + 0.5).to(tl.int64)


@triton.jit
def part_of(C: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr):
    """Return which block of bins a program has, of which class's side, in which row: along one axis, for others end at 65535."""
    BLOCKS: tl.constexpr = (BINS + BLOCK - 1) // BLOCK
    number = tl.program_id(0)
    return number % BLOCKS, number // BLOCKS % (2 * C), (number // (2 * C * BLOCKS)).to(tl.int64)


@triton.jit
def tables_collect(table_ptr, out_ptr, tables, C: tl.constexpr, BINS: tl.constexpr, COUNTS: tl.constexpr, BLOCK: tl.constexpr):
    """Write ``out[row, own weight | own place | other weight | other place, class, bin]`` from so many tables to a row."""
    block, line, row = part_of(C, BINS, BLOCK)
    WORDS: tl.constexpr = 1 if COUNTS else 2
    SIZE: tl.constexpr = 2 * C * (BINS + 1) * WORDS
    bin_ = block * BLOCK + tl.arange(0, BLOCK)
    here = bin_ < BINS
    start = row * tables * SIZE + line.to(tl.int64) * ((BINS + 1) * WORDS)
    weights, places, others = tl.zeros([BLOCK], tl.int64), tl.zeros([BLOCK], tl.int64), tl.zeros([1], tl.int64)
    for k in range(0, tables):
        at = table_ptr + start + k * SIZE
        word = tl.load(at + bin_ * WORDS, mask=here, other=0)
        beside = tl.load(at + BINS * WORDS + tl.arange(0, 1))
        if COUNTS:
            weights += (word >> SHIFT) << 24
            places += word & PLACES
            others += (beside >> SHIFT) << 24
        else:
            weights += word
            places += tl.load(at + bin_ * WORDS + 1, mask=here, other=0)
            others += beside
    unknown = (bin_ == 0) & (others != 0)
    weights = tl.where(unknown, weights + others, weights).to(tl.float64) / UNIT
    places = tl.where(unknown, float("nan"), places.to(tl.float64) / UNIT)
    c, side = line // 2, line % 2
    to = out_ptr + ((row * 4 + 2 * side) * C + c) * BINS + bin_
    tl.store(to, weights, mask=here)
    tl.store(to + C * BINS, places, mask=here)


@triton.jit
def tables_slopes(from_ptr, to_ptr, C: tl.constexpr, BINS: tl.constexpr, EACH: tl.constexpr, BLOCK: tl.constexpr):
    """Write ``to[row, class, own | other, bin]`` in float32: the derivatives by errors, from those by places in the bins.

    EACH: the bins of an octave, of hinge errors; 0 for even bins.
    """
    block, line, row = part_of(C, BINS, BLOCK)
    c, side = line // 2, line % 2
    bin_ = block * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(from_ptr + ((row * 4 + 2 * side + 1) * C + c) * BINS + bin_, mask=bin_ < BINS, other=0.0)
    if EACH == 0:
        slope = g * BINS
    else:
        octave = tl.where(bin_ < OCTAVES * EACH, bin_ // EACH, bin_ - OCTAVES * EACH + OCTAVES)
        unit = ((127 - octave) << 23).to(tl.float32, bitcast=True)  # 2^-octave
        slope = g * tl.where(octave < OCTAVES, unit * EACH, unit).to(tl.float64)
    tl.store(to_ptr + (row * 2 * C + line) * BINS + bin_, slope.to(tl.float32), mask=bin_ < BINS)
