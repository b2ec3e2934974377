"""How the pair fold's pyramid is launched."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossfold.folds.gpu.launch import launch, options, warp
from lossfold.folds.pair.spec import CONSTANT, KINDS
from lossfold.folds.pair.triton import pyramid
from lossfold.folds.pair.triton.call import Call, Sum, area
from lossfold.folds.pair.triton.cut import Band, Step, line_cut


def values(sums: list[Sum]) -> tuple[bool, ...]:
    """Return which sums are of values, and not of weights alone."""
    return tuple(KINDS[one.kind] not in CONSTANT for one in sums)


def over_levels(call: Call, signs: Tensor) -> list[Step]:
    """Return the launches for sums over the pyramid: each level's image, then its coefficients."""
    starts, rests = call.starts
    steps: list[Step] = []
    images: list[Tensor] = [call.pred]
    for level, (rows, columns) in enumerate(call.sides[1:]):
        image, above = torch.empty((*call.pred.shape[:2], rows, columns), dtype=torch.float32, device=signs.device), images[-1]
        images.append(image)
        steps.append(_down(call, level, above, image, signs[rests[level + 1] :]))
        steps.append(_coefficients(call, level, above, image, signs[starts[level] :]))
    return steps


def _source(call: Call, level: int, image: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[int, ...], dict[str, bool]]:
    """Return what a level's image is made of: that of the first level is the difference."""
    beside = image if level else call.target
    return (image, beside), (*image.stride(), *beside.stride()), {"SIGMOID": call.sigmoid and not level, "DIFFERS": not level}


def _down(call: Call, level: int, above: Tensor, image: Tensor, signs: Tensor) -> Step:
    planes, channels = call.sizes
    rows, columns = call.sides[level + 1]
    band = Band.of(planes, rows, columns)
    sums = call.rest[level + 1]
    read = call.read(sums)
    tensors, strides, way = _source(call, level, above)
    fixed = {"WHERE": read.where, "VALUES": values(sums), "SLOTS": call.slots(sums), "EACH": read.each, **way, **band.fixed}
    fixed["KEEPS"] = any(fixed["VALUES"])

    def run(part: Tensor, count: int, first: int) -> None:
        numbers = (band.blocks, band.programs, count, first, channels, rows, columns, *strides)
        launch(pyramid.down, (band.programs * planes,), *tensors, read.maps, image, signs, part, *numbers, **fixed)

    return Step(band.programs, nothing(signs), run)


def _coefficients(call: Call, level: int, above: Tensor, image: Tensor, signs: Tensor) -> Step:
    planes, channels = call.sizes
    rows, columns = call.sides[level + 1]
    sums = call.coefficients[level]
    read = call.read(sums)
    programs, cut = line_cut(planes, rows * columns, warps=4)
    tensors, strides, way = _source(call, level, above)
    fixed = {"WHERE": read.where, "VALUES": values(sums), "SLOTS": call.slots(sums), "EACH": read.each, **way, **cut}
    sizes = (area(call.sides[level]), call.sides[level][1], rows, columns)

    def run(part: Tensor, count: int, first: int) -> None:
        numbers = (programs, count, first, channels, *sizes, *strides)
        launch(pyramid.coefficients, (programs * planes,), *tensors, read.maps, image, signs, part, *numbers, **fixed)

    return Step(programs, nothing(signs), run)


def by_levels(call: Call, g: Tensor, signs: Tensor) -> Tensor:
    """Return the derivative by the second level's image ``[planes, h, w]``, from the last level on."""
    planes, channels = call.sizes
    starts, rests = call.starts
    below: Tensor | None = None
    for level in range(len(call.sides) - 1, 0, -1):
        rows, columns = call.sides[level]
        ahead, own = call.differing(call.coefficients[level - 1]), []
        if below is not None:
            own = call.differing(call.coefficients[level])
        rest = call.differing(call.rest[level])
        above, here = call.read(ahead), call.read([*own, *rest])
        block = 4 * warp()
        programs = math.ceil(rows * columns / block)
        out = torch.empty((planes, rows, columns), dtype=torch.float32, device=g.device)
        small = out if below is None else below
        tensors = (g, above.maps, signs[starts[level - 1] :], here.maps, signs[starts[level] :], signs[rests[level] :], small, out)
        numbers = (programs, channels, area(call.sides[level - 1]), call.sides[level - 1][1], rows * columns, rows, columns)
        fixed = {
            "ABOVE": codes(ahead, above.where), "ABOVE_EACH": above.each, "SIGNS": codes(own, here.where),
            "REST": codes(rest, here.where[len(own) :]), "EACH": here.each, "SMALL": below is not None,
        }  # fmt: skip
        launch(pyramid.up, (programs * planes,), *tensors, *numbers, *g.stride(), **fixed, BLOCK=block, **options(4))
        below = out
    assert below is not None
    return below


def nothing(like: Tensor) -> Tensor:
    """Return what says of no region that it is out of range."""
    return torch.empty(0, dtype=torch.int32, device=like.device)


def codes(sums: list[Sum], where: tuple[int, ...]) -> tuple[int, ...]:
    """Return each sum's place, and where it counts, in turn."""
    return tuple(number for one, code in zip(sums, where, strict=False) for number in (one.place, code))
