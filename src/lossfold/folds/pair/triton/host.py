"""The pair fold's operators on GPUs: how a call is cut into programs, and the kernels that they run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lossfold.folds.gpu.launch import added, flat, in_total, launch, narrowed, written
from lossfold.folds.gpu.launch import scaled as scaled
from lossfold.folds.pair.operators import signs_of
from lossfold.folds.pair.triton import pixels, rows
from lossfold.folds.pair.triton.call import Call, Sum, area
from lossfold.folds.pair.triton.cut import Band, Step, line_cut
from lossfold.folds.pair.triton.levels import by_levels, codes, over_levels

MOST_SUMS = 16  # of one launch: each is a number in every lane
MESSAGE = "lossfold: a region value is out of range [0, 1]"


def fold(
    pred: Tensor, target: Tensor, maps: Sequence[Tensor], in_unit: int, link: int,
    kinds: Sequence[int], numbers: Sequence[float], where: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Implement ``pair_fold``."""
    call = Call(pred, target, maps, in_unit, link, kinds, numbers, where)
    planes, channels = call.sizes
    signs = planes * signs_of(pred.shape[2], pred.shape[3], kinds, numbers)
    kept = torch.empty(signs, dtype=torch.uint8, device=pred.device)
    if not pred.numel():
        return pred.new_zeros((pred.shape[0], len(kinds), channels), dtype=torch.float64), kept
    of_image = [call.pixels[start : start + MOST_SUMS] for start in range(0, len(call.pixels), MOST_SUMS)]
    if not of_image and in_unit:
        of_image = [[]]
    steps = [_over_image(call, sums, not turn) for turn, sums in enumerate(of_image)]
    steps += over_levels(call, kept.view(torch.int8))
    if not steps:
        return pred.new_zeros((pred.shape[0], len(kinds), channels), dtype=torch.float64), kept
    count = sum(step.programs for step in steps)
    part = torch.empty((planes, count, len(kinds)), dtype=torch.float64, device=pred.device)
    first = 0
    for step in steps:
        step.run(part, count, first)
        first += step.programs
    return added(part, steps[0].bad, MESSAGE, channels).view(pred.shape[0], len(kinds), channels), kept


def unfold(
    grad_sums: Tensor | None, signs: Tensor, pred: Tensor, target: Tensor, maps: Sequence[Tensor], in_unit: int, link: int,
    kinds: Sequence[int], numbers: Sequence[float], where: Sequence[int],
) -> Tensor:  # fmt: skip
    """Implement ``pair_unfold``."""
    assert grad_sums is not None
    if not pred.numel():
        return torch.empty_like(pred)
    call = Call(pred, target, maps, in_unit, link, kinds, numbers, where)
    g = narrowed(grad_sums)
    sums = call.differing(call.pixels)
    below = by_levels(call, g, signs.view(torch.int8)) if len(call.sides) > 1 else None
    if call.flat and below is None:
        return _by_pixels(call, sums, g, g.stride())[0]
    return _by_rows(call, sums, g, signs, below)


def once(
    pred: Tensor, target: Tensor, maps: Sequence[Tensor], above: Tensor, below: Tensor | None, in_unit: int, link: int,
    kinds: Sequence[int], numbers: Sequence[float], where: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Implement ``pair_once``."""
    if not pred.numel():
        return pred.new_zeros((), dtype=torch.float32), torch.empty_like(pred)
    call = Call(pred, target, maps, in_unit, link, kinds, numbers, where)
    assert call.flat and len(call.sides) == 1 and not maps and below is None
    gradient, part = _by_pixels(call, call.differing(call.pixels), narrowed(above), (0, 1, 0), True)
    return in_total(part).to(torch.float32), gradient


def _by_pixels(
    call: Call, sums: Sequence[Sum], g: Tensor, steps: tuple[int, ...], once: bool = False
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the gradient through sums of pixels alone, and once the partial sums of what g weighs."""
    planes, channels = call.sizes
    size = area(call.sides[0])
    read = call.read(sums)
    programs, fixed = line_cut(planes, size)
    p, t = flat(call.pred), flat(call.target)
    part = torch.empty(planes * programs if once else 0, dtype=torch.float64, device=g.device)
    fixed |= call.fixed(sums, read) | {"PLACES": tuple(one.place for one in sums), "ONCE": once}

    def write(out: Tensor) -> None:
        strides = (*steps, *p.stride(), *t.stride(), *out.stride())
        tensors = (g, p, t, read.maps, out, part)
        launch(pixels.unfold_pixels, (programs * planes,), *tensors, programs, channels, size, *strides, **fixed)

    return written(call.pred, write), part


def _by_rows(call: Call, sums: Sequence[Sum], g: Tensor, signs: Tensor, below: Tensor | None) -> Tensor:
    """Return the gradient through sums over the image, given that by the next level of the pyramid."""
    edges, sums = call.edges(sums)
    planes, channels = call.sizes
    height, width = call.sides[0]
    coefficients = [] if below is None else call.differing(call.coefficients[0])
    read = call.read([*sums, *coefficients])
    band = Band.of(planes, height, width)
    result = torch.empty_like(call.pred)
    numbers = (band.blocks, band.programs, channels, area(call.sides[0]), height, width)
    strides = (*g.stride(), *call.pred.stride(), *call.target.stride(), *result.stride())
    tensors = (g, call.pred, call.target, read.maps, signs.view(torch.int8), signs if below is None else below, result)
    fixed = call.fixed(sums, read) | {"PLACES": tuple(one.place for one in sums), "EDGES": edges}
    fixed |= {"SIGNS": codes(coefficients, read.where[len(sums) :]), "SMALL": below is not None}
    launch(rows.unfold_rows, (band.programs * planes,), *tensors, *numbers, *strides, **fixed, **band.fixed)
    return result


def _over_image(call: Call, sums: Sequence[Sum], checks: bool) -> Step:
    """Return the launch for sums over the image itself."""
    planes, channels = call.sizes
    size = area(call.sides[0])
    read = call.read(sums, checks)
    edges, sums = call.edges(sums)
    fixed = {"SLOTS": call.slots(sums), "UNIT": read.unit if checks else (), **call.fixed(sums, read)}
    if not sums or Call.alone(sums):
        programs, cut = line_cut(planes, size)
        p, t = flat(call.pred), flat(call.target)
        bad = torch.empty(planes * programs, dtype=torch.int32, device=p.device)

        def over_lines(part: Tensor, count: int, first: int) -> None:
            numbers = (programs, count, first, channels, size, *p.stride(), *t.stride())
            launch(pixels.fold_pixels, (programs * planes,), p, t, read.maps, part, bad, *numbers, **fixed, **cut)

        return Step(programs, bad, over_lines)
    height, width = call.sides[0]
    band = Band.of(planes, height, width)
    bad = torch.empty(planes * band.programs, dtype=torch.int32, device=call.pred.device)

    def over_rows(part: Tensor, count: int, first: int) -> None:
        numbers = (band.blocks, band.programs, count, first, channels, size, height, width)
        tensors = (call.pred, call.target, read.maps, part, bad)
        strides = (*call.pred.stride(), *call.target.stride())
        launch(rows.fold_rows, (band.programs * planes,), *tensors, *numbers, *strides, **fixed, EDGES=edges, **band.fixed)

    return Step(band.programs, bad, over_rows)
