"""How the label fold is launched for labels of the scores' size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossfold.folds.gpu.launch import MOST_REGISTERS, added, binned, in_total, launch, options, plan, warp, written
from lossfold.folds.label.triton import MOST_WHOLE, gradient, many, once, sums
from lossfold.folds.label.triton import bins as histogram
from lossfold.folds.label.triton.call import Call, reads, tables

MOST_KINDS = 6  # of one launch: each has a sum for every row of a thread


def most_kinds(classes: int) -> int:
    """Return how many kinds of sums one launch collects."""
    return MOST_KINDS


def sums_of(call: Call, kinds: tuple[int, ...], gammas: tuple[float, ...], hardness: Tensor | None, thresh: float) -> Tensor:
    """Return ``[B, kinds, C]``, and write how hard pixels are, if asked."""
    images, classes, pixels = call.sizes
    cut = plan(classes, len(kinds), images, pixels, warp(), most_tiles=32)
    programs = cut.programs(pixels)
    part = torch.empty((images, programs, len(kinds), classes), dtype=torch.float64, device=call.z.device)
    bad = torch.empty((images, programs), dtype=torch.int32, device=call.z.device)
    fixed = call.fixed | {"KINDS": kinds, "GAMMAS": gammas, "HARD": hardness is not None}
    tensors = (call.z, call.y, call.w, bad if hardness is None else hardness, part, bad)
    numbers = (programs, pixels, *call.z.stride(), call.ignore, thresh)
    kernel = many.fold_many if cut.many else sums.fold_kernel
    launch(kernel, (programs * images,), *tensors, *numbers, **fixed, **cut.constants(tiles=True), **cut.options())
    return added(part, bad, call.message) if kinds or hardness is None else part[:, 0]


def table_of(call: Call, bins: int, apart: bool, counts: bool) -> Tensor:
    """Return the words of histograms ``[I, tables, C, own | other, bins + 1, words]``."""
    images, classes, pixels = call.sizes
    some = classes <= MOST_WHOLE
    cut = binned(classes, 6, images, pixels, warp(), most_tiles=16) if some else plan(classes, 0, images, pixels, warp())
    programs = cut.programs(pixels)
    words, groups, share = tables(call, bins, apart, counts, programs, cut.block * cut.tiles)
    compiled = cut.options() if counts else options(cut.warps, MOST_REGISTERS)  # words of weights take more of them
    fixed = call.fixed | cut.constants(tiles=True) | {"BINS": bins, "COUNTS": counts, "APART": apart} | compiled
    sizes = (programs, pixels, *call.z.stride(), groups, share)
    kernel = many.bins_many if cut.many else histogram.bins_kernel
    launch(kernel, (programs * images,), call.z, call.y, call.w, words, *sizes, call.ignore, **fixed)
    return words


def gradient_of(
    call: Call, scores: Tensor, g: Tensor, slopes: Tensor | None, kinds: tuple[int, ...], gammas: tuple[float, ...]
) -> Tensor:
    """Return the gradient of the scores, from the derivatives by sums and by errors in bins."""
    images, classes, pixels = call.sizes
    cut = plan(classes, 0, images, pixels, 2 * warp() if slopes is None else warp())
    programs = cut.programs(pixels)
    fixed = call.fixed | {"KINDS": kinds, "GAMMAS": gammas} | reads(kinds) | cut.constants() | cut.options()
    bins = 0 if slopes is None else slopes.shape[-1]

    def write(out: Tensor) -> None:
        numbers = (programs, pixels, *call.z.stride(), *out.stride())
        step = slopes.stride(0) if slopes is not None and len(slopes) > 1 else 0
        tensors = (g, g if slopes is None else slopes, *call.tensors, out)
        of_bins = {"BINS": bins, "MIXED": fixed["MIXED"] or bins > 0}
        kernel = many.unfold_many if cut.many else gradient.unfold_kernel
        launch(kernel, (programs * images,), *tensors, *numbers, step, call.ignore, **(fixed | of_bins))

    return written(scores, write)


def counted(call: Call, below: Tensor) -> Tensor:
    """Return the weights of all pixels, each times its class's ``below [C]``, in total."""
    count, block, tiles = call.y.numel(), 4 * warp(), 1
    while tiles < 16 and count > 2048 * warp() * tiles:
        tiles *= 2
    programs = math.ceil(count / (block * tiles))
    part = torch.empty(programs, dtype=torch.float64, device=below.device)
    fixed = {"C": call.fixed["C"], "HAS_W": call.fixed["HAS_W"], "BLOCK": block, "TILES": tiles, **options(1)}
    launch(once.count_kernel, (programs,), call.y, call.w, below.contiguous(), part, count, call.ignore, **fixed)
    return in_total(part)


def at_once(
    call: Call, scores: Tensor, g: Tensor, kinds: tuple[int, ...], gammas: tuple[float, ...]
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return partial sums of what g weighs, whether labels were bad, and the gradient."""
    images, classes, pixels = call.sizes
    cut = plan(classes, 0, images, pixels, warp())
    programs = cut.programs(pixels)
    part = torch.empty(programs * images, dtype=torch.float64, device=g.device)
    bad = torch.empty(programs * images, dtype=torch.int32, device=g.device)
    fixed = call.fixed | {"KINDS": kinds, "GAMMAS": gammas} | reads(kinds) | cut.constants() | cut.options()

    def write(out: Tensor) -> None:
        numbers = (programs, pixels, *call.z.stride(), *out.stride(), call.ignore)
        launch(once.once_kernel, (programs * images,), g, *call.tensors[:3], out, part, bad, *numbers, **fixed)

    return part, bad, written(scores, write)


def values_of(call: Call, coef: Tensor, kinds: tuple[int, ...], gammas: tuple[float, ...], values: Tensor) -> Tensor:
    """Write each pixel's share of the sums; return whether labels were bad."""
    images, classes, pixels = call.sizes
    cut = plan(classes, 0, images, pixels, 2 * warp())
    programs = cut.programs(pixels)
    bad = torch.empty(programs * images, dtype=torch.int32, device=values.device)
    fixed = call.fixed | cut.constants() | {"KINDS": kinds, "GAMMAS": gammas} | cut.options()
    kernel = many.map_many if cut.many else sums.map_kernel
    numbers = (programs, pixels, *call.z.stride(), call.ignore)
    launch(kernel, (programs * images,), coef, *call.tensors, values, bad, *numbers, **fixed)
    return bad
