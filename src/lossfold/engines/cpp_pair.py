"""The pair fold's operators of the C++ engine in PyTorch; see :mod:`lossfold.engines.cpp`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lossfold.engines import eager_pair
from lossfold.engines.cpp import LOADED, NAMESPACE
from lossfold.engines.spec import PAIR_KINDS, PAIR_LINKS, SMALLEST_SIDE, PairSpec, PairSum

_OPS = getattr(torch.ops, NAMESPACE)


def pair_fold(pred: Tensor, target: Tensor, regions: Mapping[str, Tensor], in_unit: frozenset[str], spec: PairSpec) -> Tensor:
    """Compute :func:`lossfold.engines.eager_pair.pair_fold` in one pass over predictions and targets."""
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    maps = eager_pair.at_levels({name: region.detach() for name, region in regions.items()}, spec, dtype)
    keys = list(maps)
    where = [2 * keys.index((one.region, one.level or 0)) + one.where.startswith("~") if one.where else -1 for one in spec.sums]
    limited = sum(1 << place for place, (name, level) in enumerate(keys) if name in in_unit and not level)
    kinds, numbers = [PAIR_KINDS.index(one.kind) for one in spec.sums], [one.number for one in spec.sums]
    sums: Tensor = _OPS.pair_fold(pred, target, list(maps.values()), limited, PAIR_LINKS.index(spec.link), kinds, numbers, where)[0]
    return sums


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    pred, target, maps, *flat = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(pred, target, output[1], *maps)
    ctx.flat = flat
    ctx.set_materialize_grads(False)


def _fold_backward(ctx: Any, grad: Tensor | None, grad_signs: None) -> tuple[Any, ...]:
    pred, target, signs, *maps = ctx.saved_tensors
    rest = (None, [None] * len(maps), *(None,) * len(ctx.flat))
    if grad is None:
        return (None, *rest)
    if not torch.is_grad_enabled():
        return (_OPS.pair_unfold(grad.contiguous(), pred, target, maps, signs, *ctx.flat), *rest)
    # create_graph=True: the definition has all further derivatives; the maps are at their levels already.
    _, link, kinds, numbers, where = ctx.flat
    sums = tuple(
        PairSum(PAIR_KINDS[kind], number, "~" if place >= 0 and place % 2 else "")
        for kind, number, place in zip(kinds, numbers, where, strict=True)
    )
    spec = PairSpec(PAIR_LINKS[link], sums)
    regions = [None if place < 0 else maps[place // 2] for place in where]
    found = eager_pair.sums_of(eager_pair.Values(pred, target, spec), regions, spec)
    return (*torch.autograd.grad(found, pred, grad, create_graph=True), *rest)


def _signs(rows: int, columns: int, kinds: list[int], numbers: list[float]) -> int:
    """Return how many signs the fold keeps for a plane; as ``signs_of_plane`` in csrc/pair_operators.cpp."""
    sums = [PairSum(PAIR_KINDS[kind], number) for kind, number in zip(kinds, numbers, strict=True)]
    levels = [one.level + one.kind.startswith("lap") for one in sums if one.level is not None]
    sides = [(rows, columns)]
    while len(sides) <= max(levels, default=0) and min(sides[-1]) >= SMALLEST_SIDE:
        sides.append((sides[-1][0] // 2, sides[-1][1] // 2))
    rest = [sides[min(int(one.number), len(sides) - 1)] for one in sums if one.kind == "low_pass"]
    return sum(4 * h * w for h, w in sides[1:]) + sum(h * w for h, w in rest)


def _fake_fold(pred: Tensor, target: Tensor, maps: Any, limited: int, link: int, kinds: Any, numbers: Any, where: Any) -> Any:
    images, channels, rows, columns = pred.shape
    sums = pred.new_empty((images, len(kinds), channels), dtype=torch.float64)
    return sums, pred.new_empty((images * channels * _signs(rows, columns, kinds, numbers),), dtype=torch.uint8)


def _fake_unfold(grad: Tensor, pred: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(pred)


if LOADED:
    torch.library.register_fake(f"{NAMESPACE}::pair_fold", _fake_fold)
    torch.library.register_fake(f"{NAMESPACE}::pair_unfold", _fake_unfold)
    torch.library.register_autograd(f"{NAMESPACE}::pair_fold", _fold_backward, setup_context=_save)
