"""The C++ engine's operators in PyTorch: loading, shapes for the compiler, gradients.

The operators are defined in ``csrc``; here they get their fake implementations and their backward. The namespace carries a
revision, raised whenever one of these changes, because ``torch.compile`` keys its disk cache on the operator's name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lossfold.engines import eager
from lossfold.engines.spec import KINDS, Bins, Hard, LabelSpec

NAMESPACE = "lossfold_r4"


def _load() -> str:
    """Load the library; return why there is none, or nothing."""
    library = Path(__file__).parent.parent / "_native.so"
    if not library.exists():
        return "it was not compiled (install with a C++ compiler, torch installed first and --no-build-isolation)"
    try:
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except OSError as error:
        return f"it does not load: {error}"
    return "" if hasattr(_OPS, "label_fold") else "it was compiled from other sources than these (install again)"


_OPS = getattr(torch.ops, NAMESPACE)
PROBLEM = _load()
LOADED = not PROBLEM


def simd_level() -> str:
    """Return the instruction set the kernels use on this processor."""
    return str(_OPS.simd_level()) if LOADED else "none"


def label_fold(scores: Tensor, labels: Tensor, weight: Tensor | None, spec: LabelSpec) -> eager.Collected:
    """Compute :func:`lossfold.engines.eager.label_fold` in one pass over the scores."""
    return eager.Collected(*_OPS.label_fold(scores, labels, weight, *_flat(spec)))


def label_map(scores: Tensor, labels: Tensor, weight: Tensor | None, coef: Tensor, kept: Tensor, spec: LabelSpec) -> Tensor:
    """Compute :func:`lossfold.engines.eager.label_map` in one pass over the scores."""
    out: Tensor = _OPS.label_map(scores, labels, weight, coef.detach(), kept, *_flat(spec))
    return out


def _flat(spec: LabelSpec) -> tuple[Any, ...]:
    """Return a spec as the operators take it."""
    kinds, gammas = [KINDS.index(kind) for kind, _ in spec.sums], [gamma for _, gamma in spec.sums]
    bins, hard = spec.bins or Bins(0, False), spec.hard or Hard(0.0, 0, None, False)
    selection = (hard.thresh, hard.min_kept, 0.0 if hard.ratio is None else hard.ratio, hard.per_image)
    link = (spec.ignore_index, spec.softmax, spec.align_corners)
    return (*link, kinds, gammas, bins.count, bins.per_image, *selection)


def _spec(flat: Any) -> LabelSpec:
    """Return the spec that :func:`_flat` was given."""
    ignore_index, softmax, align_corners, kinds, gammas, bins, bins_per_image, *selection = flat
    sums = tuple((KINDS[kind], gamma) for kind, gamma in zip(kinds, gammas, strict=True))
    thresh, min_kept, ratio, per_image = selection
    hard = Hard(thresh, min_kept, ratio or None, per_image) if any(KINDS[k].startswith("hard") for k in kinds) else None
    return LabelSpec(softmax, ignore_index, align_corners, sums, Bins(bins, bins_per_image) if bins else None, hard)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    scores, labels, weight, *flat = inputs
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(scores, labels, weight, output[2])
    ctx.flat = flat
    ctx.set_materialize_grads(False)


def _save_map(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    scores, labels, weight, coef, kept, *flat = inputs
    ctx.save_for_backward(scores, labels, weight, coef, kept)
    ctx.flat = flat
    ctx.set_materialize_grads(False)


def differentiate(scores: Tensor, *parts: tuple[Tensor, Tensor | None]) -> Tensor:
    """Return the gradient of the scores from a definition's outputs and their gradients, itself differentiable."""
    outs, seeds = zip(*((out, grad) for out, grad in parts if grad is not None), strict=True)
    return torch.autograd.grad(outs, scores, seeds, create_graph=True)[0]


def weighed(grad: Tensor, weight: Tensor | None) -> Tensor:
    """Return the weight with which an unfold is a map's gradient: the map is the fold's integrand."""
    if weight is not None:
        weight = weight if weight.dim() == grad.dim() else weight[:, None]
        grad = torch.where(weight != 0, grad * weight.to(grad.dtype), 0.0)
    return grad.contiguous()


def _fold_backward(ctx: Any, grad_sums: Tensor | None, grad_table: Tensor | None, grad_kept: None) -> tuple[Any, ...]:
    scores, labels, weight, kept = ctx.saved_tensors
    rest = (None,) * (2 + len(ctx.flat))
    grad_table = grad_table if ctx.flat[5] else None  # an empty table may be given an empty gradient
    if grad_sums is None and grad_table is None:
        return (None, *rest)
    if torch.is_grad_enabled():  # create_graph=True: the definition has all further derivatives
        sums, table, _ = eager.label_fold(scores, labels, weight, _spec(ctx.flat))
        return (differentiate(scores, (sums, grad_sums), (table, grad_table)), *rest)
    grads = [None if grad is None else grad.contiguous() for grad in (grad_sums, grad_table)]
    return (_OPS.label_unfold(*grads, kept, scores, labels, weight, *ctx.flat), *rest)


def _map_backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
    scores, labels, weight, coef, kept = ctx.saved_tensors
    rest = (None,) * (4 + len(ctx.flat))
    if grad is None:
        return (None, *rest)
    if torch.is_grad_enabled():
        values = eager.label_map(scores, labels, weight, coef, kept, _spec(ctx.flat))
        return (differentiate(scores, (values, grad)), *rest)
    coefs = coef.expand(scores.shape[0], -1, -1).contiguous()
    return (_OPS.label_unfold(coefs, None, kept, scores, labels, weighed(grad, weight), *ctx.flat), *rest)


def _fake_fold(scores: Tensor, labels: Tensor, weight: Any, *flat: Any) -> tuple[Tensor, Tensor, Tensor]:
    kinds, bins, bins_per_image = flat[3], flat[5], flat[6]
    images, classes = scores.shape[:2]
    rows = images if bins_per_image else 1
    hard = any(KINDS[kind].startswith("hard") for kind in kinds)
    sums = scores.new_empty((images, len(kinds), classes), dtype=torch.float64)
    table = scores.new_empty((rows, 4, classes, bins) if bins else (0,), dtype=torch.float64)
    return sums, table, scores.new_empty(labels.shape if hard else (0,), dtype=torch.uint8)


def _fake_unfold(grad_sums: Any, grad_table: Any, kept: Any, scores: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(scores)


def _fake_map(scores: Tensor, labels: Tensor, *rest: Any) -> Tensor:
    return scores.new_empty(labels.shape, dtype=torch.float64 if scores.dtype == torch.float64 else torch.float32)


if LOADED:
    torch.library.register_fake(f"{NAMESPACE}::label_fold", _fake_fold)
    torch.library.register_fake(f"{NAMESPACE}::label_unfold", _fake_unfold)
    torch.library.register_fake(f"{NAMESPACE}::label_map", _fake_map)
    torch.library.register_autograd(f"{NAMESPACE}::label_fold", _fold_backward, setup_context=_save)
    torch.library.register_autograd(f"{NAMESPACE}::label_map", _map_backward, setup_context=_save_map)
