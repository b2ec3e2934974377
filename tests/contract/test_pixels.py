"""Where a loss is made of sums over pixels: what removing, weighting, repeating and permuting them must do."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from tests.contract.case import Case, Data, both_close, evaluate, run, slope_of
from tests.contract.cases import every

SIZE = 12  # of a line


def by_pixels(case: Case) -> bool:
    return case.pixelwise and not case.scales_with_area


def outcome(case: Case, data: Data) -> tuple[Tensor, Tensor]:
    """Value and gradient; a map is summed, so that maps of different sizes can be compared."""
    leaf = data.leaf()
    result = run(case.build(), leaf)
    total = result.sum() if case.maps else result
    cotangent = torch.linspace(0.5, 1.5, max(total.numel(), 1), dtype=torch.float64).reshape(total.shape)
    return total.detach(), slope_of(total, leaf.pred, cotangent)


def spots() -> tuple[Tensor, Tensor]:
    """For each of three images 5 positions to drop and the 7 to keep."""
    order = torch.stack([torch.randperm(SIZE) for _ in range(3)])
    return order[:, :5].sort(1).values, order[:, 5:].sort(1).values


def at(index: Tensor, like: Tensor) -> Tensor:
    """Positions ``[B, N]`` as those of a tensor ``[B, SIZE]`` or ``[B, C, SIZE]``."""
    return index if like.dim() == 2 else index[:, None].expand(-1, like.shape[1], -1)


def pick(data: Data, index: Tensor) -> Data:
    return data.each(lambda one: one.gather(-1, at(index, one)))


def put(tensor: Tensor, index: Tensor, number: Any) -> Tensor:
    return tensor.scatter(-1, at(index, tensor), number)


def same(case: Case, data: Data, other: Data, index: Tensor) -> None:
    """`data` costs what the picked `other` costs, and what is picked alone has its gradient."""
    found = outcome(case, data)
    truth, slope = outcome(case, pick(other, index))
    whole = torch.zeros_like(found[1]).scatter_add(-1, at(index, slope), slope)
    both_close(found, (truth, whole), grain=case.grain)
    assert slope.abs().max() > 0


def uncounted(case: Case, drop: Tensor) -> list[tuple[str, Data, Data]]:
    """Data, and the same with some pixels that don't count."""
    found = []
    ways = case.ways if len(case.ways) <= 5 else case.ways[len(case.id) % 3 :: 3]
    for target, weight in ways:
        data = case.make((SIZE,), batch=3, way=(target, weight), ignored=0.0)
        if data.weight is not None:
            data = data if case.weights_are_regions else case.full(data) if weight == "bool" else data
            empty = case.blank(data).weight
            assert empty is not None
            where = put(torch.zeros_like(data.weight, dtype=torch.bool), drop, True)
            found.append((f"weight {weight}", data, data.with_weight(torch.where(where, empty, data.weight))))
        integers = data.target is not None and not data.target.is_floating_point() and data.target.dtype != torch.bool
        if case.fold in ("label", "dense") and integers:
            ignored = getattr(case, "ignore_index")  # noqa: B009 - of scores alone
            wide = data.truth.long() if ignored < 0 else data.truth
            found.append((f"ignored {data.truth.dtype}", data, data.with_target(put(wide, drop, ignored))))
    return found


@every(among=by_pixels)
def test_what_does_not_count_is_not_there(case: Case) -> None:
    """Ignored, of weight 0 or masked: as if removed, whatever stands in its scores and targets."""
    drop, keep = spots()
    poisons = itertools.cycle((None, torch.nan, torch.inf, 1e30))
    for _, data, without in uncounted(case, drop):
        poison = next(poisons)
        if poison is not None:
            without = without.with_pred(put(without.pred, drop, poison))
            if without.target is not None and without.target.is_floating_point():
                without = without.with_target(put(without.target, drop, poison))
        same(case, without, data, keep)


@every(among=lambda case: by_pixels(case) and not case.counts_pixels and not case.weights_are_regions)
def test_weight_two_is_the_pixel_twice(case: Case) -> None:
    twice, _ = spots()
    index = torch.cat([torch.arange(SIZE).expand(3, -1), twice], 1)
    for target in dict(case.ways):
        data = case.make((SIZE,), batch=3, way=(target, case.rich[1]), ignored=0.0)
        assert data.weight is not None
        ones = torch.ones_like(data.weight)
        same(case, data.with_weight(put(ones, twice, 2.0)), data.with_weight(ones), index)


@every(among=by_pixels)
def test_the_order_of_pixels_is_of_no_account(case: Case) -> None:
    """Nor is the space that they are laid out in."""
    data = case.make((SIZE,), batch=3, way=case.rich)
    same(case, data, data, torch.stack([torch.randperm(SIZE) for _ in range(3)]))
    truth, slope = outcome(case, data)
    for space in ((3, 4), (2, 3, 2), (1, SIZE, 1)):
        result, gradient = outcome(case, data.each(lambda one, space=space: one.unflatten(-1, space)))
        both_close((result, gradient.flatten(2)), (truth, slope), grain=case.grain)


@every(among=lambda case: case.fold == "dense" and case.pixelwise)
def test_one_element_that_does_not_count_is_not_read(case: Case) -> None:
    """Its weight is 0 in one channel alone; where channels belong together an ignored one takes its pixel along."""
    together = bool(getattr(case, "together", False))
    data = case.make(way=("int", None) if together else case.rich, ignored=0.0)
    twin = data.leaf().with_target(data.truth.clone())
    pred, target = data.pred.clone(), data.truth.clone()
    if together:
        ignored = int(getattr(case, "ignore_index"))  # noqa: B009
        target[0, 1, 2, 2], twin.truth[0, :, 2, 2] = ignored, ignored
        pred[0, :, 2, 2] = torch.nan
    else:
        assert data.weight is not None
        data.weight[0, 1, 2, 2] = 0
        pred[0, 1, 2, 2], target[0, 1, 2, 2] = torch.inf, torch.nan
    found = outcome(case, data.with_pred(pred).with_target(target))
    both_close(found, outcome(case, twin), grain=case.grain)
    assert found[1][0, 1, 2, 2] == 0


@every(among=lambda case: not by_pixels(case) and case.fold == "pair" and not case.is_set)
def test_mirrored_and_transposed_images(case: Case) -> None:
    """Steps weigh where they begin, and a pyramid keeps every other column: those have no mirror."""
    data = case.make((9, 8), way=case.rich)
    truth, slope = evaluate(case.build(), data)
    ways = [lambda one: one.mT] if getattr(case, "one_way", False) else [lambda one: one.mT, lambda one: one.flip(-1)]
    for way in ways:
        result, gradient = evaluate(case.build(), data.each(way))
        both_close((result, gradient), (way(truth) if case.maps else truth, way(slope)))
