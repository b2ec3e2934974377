"""A fold's pass and its gradient in PyTorch's own operations, for plain eager mode, once for all folds.

A definition is written to be read, and autograd keeps most of what it computes. Beside it a fold may have a lean form: a pass
without a graph, and the gradient of its first tensor written out, in few steps and in place. The definition stays what serves
second derivatives, torch.func, forward mode and compiled code, and targets or weights that require a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossfold.engines.operators import differentiate
from lossfold.engines.transforms import inside_transform

Outputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Lean:
    """The lean form of one fold.

    Attributes:
        fold: ``(options, *tensors, keep) -> outputs, kept``; what is kept for the gradient, if ``keep`` says that there will be
            one, are tensors of the pass's own (or tensors given to it).
        unfold: ``(gradients of the outputs, kept, owned, options, *tensors) -> gradient of the first tensor``. Where ``owned``
            says so nobody reads the first of what was kept again, so that it may become the gradient.
        definition: ``(options, *tensors) -> outputs``, differentiable any number of times.
    """

    fold: Callable[..., tuple[Outputs, tuple[Tensor, ...]]]
    unfold: Callable[..., Tensor]
    definition: Callable[..., Outputs]

    def run(self, options: Any, *tensors: Tensor | None) -> Outputs:
        """Return what the definition returns."""
        first = tensors[0]
        if serves(*tensors):
            assert first is not None
            if torch.is_grad_enabled() and first.requires_grad:
                outputs: Outputs = _Pass.apply(self, options, *tensors)
                return outputs
            with torch.no_grad():
                return self.fold(options, *tensors, keep=False)[0]
        return self.definition(options, *tensors)


def serves(first: Tensor | None, *others: Tensor | None) -> bool:
    """Whether the lean form serves these tensors; if not, the definition does."""
    if first is None or first.numel() == 0 or torch.compiler.is_compiling() or inside_transform():
        return False
    return not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in others))


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, lean: Lean, options: Any, *tensors: Tensor | None) -> Outputs:
        outputs, kept = lean.fold(options, *tensors, keep=True)
        ctx.lean, ctx.options, ctx.given = lean, options, len(tensors)
        ctx.save_for_backward(*tensors, *kept)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        tensors, kept = ctx.saved_tensors[: ctx.given], ctx.saved_tensors[ctx.given :]
        nothing = (None,) * (ctx.given - 1)
        if all(grad is None for grad in grads):
            return (None, None, None, *nothing)
        if torch.is_grad_enabled() or any(grad is not None and _batched(grad) for grad in grads):
            with torch.enable_grad():  # create_graph=True, or many gradients at once: the definition has all derivatives
                outputs = ctx.lean.definition(ctx.options, *tensors)
                return (None, None, differentiate(tensors[0], outputs, grads), *nothing)
        slope = ctx.lean.unfold(grads, kept, not _kept_for_later(), ctx.options, *tensors)
        return (None, None, slope, *nothing)


def _batched(grad: Tensor) -> bool:
    return torch._C._functorch.is_batchedtensor(grad) or torch._C._functorch.is_legacy_batchedtensor(grad)


def _kept_for_later() -> bool:
    """Whether this backward pass leaves its graph, and what it saved, to another one (``retain_graph=True``)."""
    return bool(torch._C._autograd._get_current_graph_task_keep_graph())
