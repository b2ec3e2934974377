"""How the label fold is launched for labels of another size than the scores'."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lossfold.folds.gpu.launch import (
    MOST_GROUPS,
    MOST_HELD,
    MOST_REGISTERS,
    MOST_WARPS,
    TILED,
    added,
    binned,
    launch,
    options,
    plan,
    warp,
)
from lossfold.folds.gpu.resizing import Line, line
from lossfold.folds.label.triton import grid
from lossfold.folds.label.triton.call import Call, reads, tables

MOST_WITH_BINS = 255  # registers: of fewer, sm_120 puts some of two rows of nodes and of the words of bin 0 into memory


def most_kinds(classes: int) -> int:
    """Return how many kinds of sums one launch collects, beside the two rows of nodes."""
    return max(1, min(6, MOST_HELD // math.ceil(classes / MOST_GROUPS) - 2))


def lines_of(call: Call) -> tuple[Line, Line]:
    """Return where labels stand among nodes, down and across."""
    (h, w), (rows, columns) = call.z.shape[2:], call.y.shape[1:]
    return line(rows, h, call.align_corners), line(columns, w, call.align_corners)


def numbers_of(call: Call) -> tuple[int, ...]:
    """Return strides, sizes and lines, as kernels take them."""
    down, across = lines_of(call)
    return (*call.z.stride(), *call.z.shape[2:], *call.y.shape[1:], *down, *across, call.ignore)


def compiled_for(warps: int, most: int = MOST_REGISTERS) -> dict[str, Any]:
    """Return how programs of so many warps are compiled: with as many registers as these may have, for rows of nodes take many."""
    return options(warps, min(most, 2048 // warps))


def cut_of(call: Call, held: int, bins: bool = False) -> tuple[dict[str, int], dict[str, Any], int]:
    """Return rows and groups of classes, how kernels are compiled, and columns at a time; bins: of many classes with few rows."""
    images, classes, pixels = call.sizes
    sizes = classes, held, images, pixels, warp()
    cut = binned(*sizes) if bins else plan(*sizes, most_groups=MOST_WARPS)
    block = min(cut.block, max(16, 1 << (call.y.shape[2] - 1).bit_length()))
    long = any(one.long(*sizes) for one, *sizes in zip(lines_of(call), call.y.shape[1:], call.z.shape[2:], strict=True))
    most = MOST_WITH_BINS if bins else MOST_REGISTERS
    return {"ROWS": cut.rows, "GROUPS": cut.groups, "LONG": long}, compiled_for(cut.warps, most), block


def sums_of(call: Call, kinds: tuple[int, ...], gammas: tuple[float, ...], hardness: Tensor | None, thresh: float) -> Tensor:
    """Return ``[B, kinds, C]``, and write how hard pixels are, if asked."""
    images, classes, _ = call.sizes
    rows, compiled, block = cut_of(call, len(kinds) + 2)
    tiles = math.ceil(call.y.shape[2] / block)
    programs = tiles * (call.z.shape[2] + 1)
    part = torch.empty((images, programs, len(kinds), classes), dtype=torch.float64, device=call.z.device)
    bad = torch.empty((images, programs), dtype=torch.int32, device=call.z.device)
    fixed = call.fixed | rows | {"KINDS": kinds, "GAMMAS": gammas, "HARD": hardness is not None, "BLOCK": block}
    tensors = (call.z, call.y, call.w, bad if hardness is None else hardness, part, bad)
    launch(grid.grid_fold, (programs * images,), *tensors, tiles, *numbers_of(call), thresh, **fixed, **compiled)
    return added(part, bad, call.message) if kinds or hardness is None else part[:, 0]


def table_of(call: Call, bins: int, apart: bool, counts: bool) -> Tensor:
    """Return the words of histograms ``[I, tables, C, own | other, bins + 1, words]``."""
    images, classes, _ = call.sizes
    rows, compiled, block = cut_of(call, 8, bins=True)
    tiles = math.ceil(call.y.shape[2] / block)
    programs = tiles * (call.z.shape[2] + 1)
    words, groups, share = tables(call, bins, apart, counts, programs, block * lines_of(call)[0].most)
    fixed = call.fixed | rows | {"BINS": bins, "COUNTS": counts, "APART": apart, "BLOCK": block} | compiled
    numbers = (tiles, *numbers_of(call), groups, share)
    launch(grid.grid_bins, (programs * images,), call.z, call.y, call.w, words, *numbers, **fixed)
    return words


def gradient_of(
    call: Call, scores: Tensor, g: Tensor, slopes: Tensor | None, kinds: tuple[int, ...], gammas: tuple[float, ...]
) -> Tensor:
    """Return the gradient of the scores, from the derivatives by sums and by errors in bins."""
    (images, classes, _), (h, w) = call.sizes, call.z.shape[2:]
    rows, compiled, block = cut_of(call, 6, bins=True)
    wide = 1 << (lines_of(call)[1].most - 1).bit_length()
    cells = max(1, min(block // wide, 1 << w.bit_length()))
    compiled = compiled_for(compiled["num_warps"] * max(1, cells * wide // warp()))
    tiles = math.ceil((w + 1) / cells)
    corners = torch.empty((images, 4, classes, h + 1, w + 1), dtype=torch.float32, device=scores.device)
    bins = 0 if slopes is None else slopes.shape[-1]
    step = slopes.stride(0) if slopes is not None and len(slopes) > 1 else 0
    fixed = call.fixed | rows | reads(kinds) | {"KINDS": kinds, "GAMMAS": gammas, "CELLS": cells, "WIDE": wide, "BINS": bins}
    fixed |= {"MIXED": fixed["MIXED"] or bins > 0, **compiled}
    tensors = (g, g if slopes is None else slopes, *call.tensors, corners)
    launch(grid.grid_unfold, (tiles * (h + 1) * images,), *tensors, tiles, *numbers_of(call), step, **fixed)
    result = torch.empty_like(scores)
    blocks = math.ceil(h * w / TILED)
    sizes = (blocks, classes, h, w, *result.stride())
    launch(grid.grid_collect, (blocks * classes * images,), corners, result, *sizes, BLOCK=TILED, **options(4))
    return result


def values_of(call: Call, coef: Tensor, kinds: tuple[int, ...], gammas: tuple[float, ...], values: Tensor) -> Tensor:
    """Write each pixel's share of the sums; return whether labels were bad."""
    rows, compiled, block = cut_of(call, 2)
    tiles = math.ceil(call.y.shape[2] / block)
    programs = tiles * (call.z.shape[2] + 1) * call.sizes[0]
    bad = torch.empty(programs, dtype=torch.int32, device=values.device)
    fixed = call.fixed | rows | {"KINDS": kinds, "GAMMAS": gammas, "BLOCK": block}
    launch(grid.grid_map, (programs,), coef, *call.tensors, values, bad, tiles, *numbers_of(call), **fixed, **compiled)
    return bad
