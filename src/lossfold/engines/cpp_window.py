"""The window fold's operators of the C++ engine in PyTorch; see :mod:`lossfold.engines.cpp`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lossfold.engines import eager_window
from lossfold.engines.cpp import LOADED, NAMESPACE, differentiate
from lossfold.engines.spec import WINDOW_SUMS

_OPS = getattr(torch.ops, NAMESPACE)


def window_fold(pred: Tensor, target: Tensor, weight: Tensor | None, window: Sequence[float], c1: float, c2: float) -> Tensor:
    """Compute :func:`lossfold.engines.eager_window.window_fold` in one pass over predictions and targets."""
    sums: Tensor = _OPS.window_fold(pred, target, weight, list(window), c1, c2)
    return sums


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    pred, target, weight, *flat = inputs
    ctx.save_for_backward(pred, target, weight)
    ctx.flat = flat
    ctx.set_materialize_grads(False)


def _fold_backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
    tensors = ctx.saved_tensors
    rest = (None,) * (2 + len(ctx.flat))
    if grad is None:
        return (None, *rest)
    if torch.is_grad_enabled():  # create_graph=True: the definition has all further derivatives
        return (differentiate(tensors[0], (eager_window.window_fold(*tensors, *ctx.flat), grad)), *rest)
    return (_OPS.window_unfold(grad.contiguous(), *tensors, *ctx.flat), *rest)


def _fake_fold(pred: Tensor, *rest: Any) -> Tensor:
    return pred.new_empty((pred.shape[0], len(WINDOW_SUMS), pred.shape[1]), dtype=torch.float64)


def _fake_unfold(grad: Tensor, pred: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(pred)


if LOADED:
    torch.library.register_fake(f"{NAMESPACE}::window_fold", _fake_fold)
    torch.library.register_fake(f"{NAMESPACE}::window_unfold", _fake_unfold)
    torch.library.register_autograd(f"{NAMESPACE}::window_fold", _fold_backward, setup_context=_save)
