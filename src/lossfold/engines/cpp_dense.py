"""The dense fold's operators of the C++ engine in PyTorch; see :mod:`lossfold.engines.cpp`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossfold.engines import eager_dense
from lossfold.engines.cpp import LOADED, NAMESPACE, differentiate, weighed
from lossfold.engines.spec import DENSE_KINDS, DENSE_LINKS, Bins, DenseSpec

_OPS = getattr(torch.ops, NAMESPACE)


def dense_fold(scores: Tensor, targets: Tensor, weight: Tensor | None, spec: DenseSpec) -> eager_dense.DenseCollected:
    """Compute :func:`lossfold.engines.eager_dense.dense_fold` in one pass over the scores."""
    return eager_dense.DenseCollected(*_OPS.dense_fold(scores, targets, weight, *_flat(spec)))


def dense_map(scores: Tensor, targets: Tensor, weight: Tensor | None, coef: Tensor, spec: DenseSpec) -> Tensor:
    """Compute :func:`lossfold.engines.eager_dense.dense_map` in one pass over the scores."""
    out: Tensor = _OPS.dense_map(scores, targets, weight, coef.detach(), *_flat(spec))
    return out


def _flat(spec: DenseSpec) -> tuple[Any, ...]:
    """Return a spec as the operators take it."""
    kinds, gammas = [DENSE_KINDS.index(kind) for kind, _ in spec.sums], [gamma for _, gamma in spec.sums]
    bins = spec.bins or Bins(0, False)
    link = (spec.ignore_index, DENSE_LINKS.index(spec.link), spec.together, spec.align_corners)
    return (*link, kinds, gammas, bins.count, bins.per_image, bins.hinge)


def _spec(flat: Any) -> DenseSpec:
    """Return the spec that :func:`_flat` was given."""
    ignore_index, link, together, align_corners, kinds, gammas, bins, per_image, hinge = flat
    sums = tuple((DENSE_KINDS[kind], gamma) for kind, gamma in zip(kinds, gammas, strict=True))
    histogram = Bins(bins, per_image, hinge) if bins else None
    return DenseSpec(DENSE_LINKS[link], together, ignore_index, align_corners, sums, histogram)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    scores, targets, weight, *flat = inputs
    ctx.save_for_backward(scores, targets, weight)
    ctx.flat = flat
    ctx.set_materialize_grads(False)


def _save_map(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    scores, targets, weight, coef, *flat = inputs
    ctx.save_for_backward(scores, targets, weight, coef)
    ctx.flat = flat
    ctx.set_materialize_grads(False)


def _fold_backward(ctx: Any, grad_sums: Tensor | None, grad_table: Tensor | None) -> tuple[Any, ...]:
    scores, targets, weight = ctx.saved_tensors
    rest = (None,) * (2 + len(ctx.flat))
    grad_table = grad_table if ctx.flat[6] else None  # an empty table may be given an empty gradient
    if grad_sums is None and grad_table is None:
        return (None, *rest)
    if torch.is_grad_enabled():  # create_graph=True: the definition has all further derivatives
        sums, table = eager_dense.dense_fold(scores, targets, weight, _spec(ctx.flat))
        return (differentiate(scores, (sums, grad_sums), (table, grad_table)), *rest)
    grads = [None if grad is None else grad.contiguous() for grad in (grad_sums, grad_table)]
    return (_OPS.dense_unfold(*grads, scores, targets, weight, *ctx.flat), *rest)


def _map_backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
    scores, targets, weight, coef = ctx.saved_tensors
    rest = (None,) * (3 + len(ctx.flat))
    if grad is None:
        return (None, *rest)
    if torch.is_grad_enabled():
        values = eager_dense.dense_map(scores, targets, weight, coef, _spec(ctx.flat))
        return (differentiate(scores, (values, grad)), *rest)
    coefs = coef.expand(scores.shape[0], -1, -1).contiguous()
    return (_OPS.dense_unfold(coefs, None, scores, targets, weighed(grad, weight), *ctx.flat), *rest)


def _fake_fold(scores: Tensor, targets: Tensor, weight: Any, *flat: Any) -> tuple[Tensor, Tensor]:
    kinds, bins, bins_per_image = flat[4], flat[6], flat[7]
    images, channels = scores.shape[:2]
    sums = scores.new_empty((images, len(kinds), channels), dtype=torch.float64)
    shape = (images if bins_per_image else 1, 4, channels, bins) if bins else (0,)
    return sums, scores.new_empty(shape, dtype=torch.float64)


def _fake_unfold(grad_sums: Any, grad_table: Any, scores: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(scores)


def _fake_map(
    scores: Tensor, targets: Tensor, weight: Any, coef: Any, ignore_index: int, link: int, together: bool, *rest: Any
) -> Tensor:
    shape = (len(targets), *targets.shape[2:]) if together else targets.shape
    return scores.new_empty(shape, dtype=torch.float64 if scores.dtype == torch.float64 else torch.float32)


if LOADED:
    torch.library.register_fake(f"{NAMESPACE}::dense_fold", _fake_fold)
    torch.library.register_fake(f"{NAMESPACE}::dense_unfold", _fake_unfold)
    torch.library.register_fake(f"{NAMESPACE}::dense_map", _fake_map)
    torch.library.register_autograd(f"{NAMESPACE}::dense_fold", _fold_backward, setup_context=_save)
    torch.library.register_autograd(f"{NAMESPACE}::dense_map", _map_backward, setup_context=_save_map)
