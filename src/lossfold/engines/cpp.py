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

NAMESPACE = "lossfold_r1"


def _load() -> str:
    """Load the library; return why there is none, or nothing."""
    library = Path(__file__).parent.parent / "_native.so"
    if not library.exists():
        return "it was not compiled (install with a C++ compiler, torch installed first and --no-build-isolation)"
    try:
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except OSError as error:
        return f"it does not load: {error}"
    return ""


PROBLEM = _load()
LOADED = not PROBLEM
_OPS = getattr(torch.ops, NAMESPACE)


def simd_level() -> str:
    """Return the instruction set the kernels use on this processor."""
    return str(_OPS.simd_level()) if LOADED else "none"


def label_fold(
    scores: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    softmax: bool,
    kinds: list[int],
    gammas: list[float],
) -> Tensor:
    """Compute :func:`lossfold.engines.eager.label_fold` in one pass over the scores."""
    out: Tensor = _OPS.label_fold(scores, labels, weight, ignore_index, softmax, kinds, gammas)
    return out


def label_map(
    scores: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    coef: Tensor,
    ignore_index: int,
    softmax: bool,
    kinds: list[int],
    gammas: list[float],
) -> Tensor:
    """Compute :func:`lossfold.engines.eager.label_map` in one pass over the scores."""
    out: Tensor = _OPS.label_map(scores, labels, weight, coef.detach(), ignore_index, softmax, kinds, gammas)
    return out


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    scores, labels, weight, *settings = inputs
    ctx.save_for_backward(scores, labels, weight)
    ctx.settings = settings
    ctx.set_materialize_grads(False)


def _save_map(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    scores, labels, weight, coef, *settings = inputs
    ctx.save_for_backward(scores, labels, weight, coef)
    ctx.settings = settings
    ctx.set_materialize_grads(False)


def _fold_backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
    scores, labels, weight = ctx.saved_tensors
    rest = (None,) * 6
    if grad is None:
        return (None, *rest)
    if torch.is_grad_enabled():  # create_graph=True: the definition has all further derivatives
        sums = eager.label_fold(scores, labels, weight, *ctx.settings)
        return (*torch.autograd.grad(sums, scores, grad, create_graph=True), *rest)
    return (_OPS.label_unfold(grad.contiguous(), scores, labels, weight, *ctx.settings), *rest)


def _map_backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
    scores, labels, weight, coef = ctx.saved_tensors
    rest = (None,) * 7
    if grad is None:
        return (None, *rest)
    if torch.is_grad_enabled():
        values = eager.label_map(scores, labels, weight, coef, *ctx.settings)
        return (*torch.autograd.grad(values, scores, grad, create_graph=True), *rest)
    # The map is the fold's integrand: its gradient is an unfold with the incoming gradient as pixel weight.
    pixel = grad if weight is None else grad * weight.to(grad.dtype)
    coefs = coef.expand(scores.shape[0], -1, -1).contiguous()
    return (_OPS.label_unfold(coefs, scores, labels, pixel.contiguous(), *ctx.settings), *rest)


def _fake_fold(
    scores: Tensor, labels: Tensor, weight: Any, ignore_index: int, softmax: bool, kinds: list[int], gammas: list[float]
) -> Tensor:
    return scores.new_empty((scores.shape[0], len(kinds), scores.shape[1]), dtype=torch.float64)


def _fake_unfold(grad: Tensor, scores: Tensor, *settings: Any) -> Tensor:
    return torch.empty_like(scores)


def _fake_map(scores: Tensor, labels: Tensor, *settings: Any) -> Tensor:
    return scores.new_empty(labels.shape, dtype=torch.float64 if scores.dtype == torch.float64 else torch.float32)


if LOADED:
    torch.library.register_fake(f"{NAMESPACE}::label_fold", _fake_fold)
    torch.library.register_fake(f"{NAMESPACE}::label_unfold", _fake_unfold)
    torch.library.register_fake(f"{NAMESPACE}::label_map", _fake_map)
    torch.library.register_autograd(f"{NAMESPACE}::label_fold", _fold_backward, setup_context=_save)
    torch.library.register_autograd(f"{NAMESPACE}::label_map", _map_backward, setup_context=_save_map)
