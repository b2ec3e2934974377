"""Which images a term applies to, and what it costs where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lossfold.compose.term import Term
from lossfold.errors import wrong
from lossfold.folds.fold import describe
from lossfold.routing import walk


def gate_of(term: Term, outputs: Mapping[str, Any], by_keyword: bool, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """Return to which images of a call a term applies, ``[B]`` bool.

    Args:
        term: what says so.
        outputs: where a name is looked up: the one dict of outputs, or what the set was given by name.
        by_keyword: whether it is the latter.
        inputs: what the loss is given by position, for a function.
        named: what it is given by name.
    """
    if isinstance(term.when, str):
        if by_keyword and term.when not in outputs:
            raise wrong("when", f"given as {term.when}=, a boolean tensor [B]", f"{list(outputs) or 'no keyword'}")
        gate = walk("when", term.when, outputs)
    else:
        assert term.when is not None
        try:
            gate = term.when(*inputs, **named)
        except TypeError as error:
            raise wrong("when", "a function of the loss's arguments", repr(term.when), str(error)) from error
    if not isinstance(gate, Tensor) or gate.dtype != torch.bool or gate.dim() != 1:
        raise wrong("when", "a boolean tensor [B]", describe(gate))
    return gate


class Shield(torch.autograd.Function):
    """The tensor itself, whose images behind a gate ``[B]`` get no gradient, whatever NaN stands in them."""

    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, gate: Tensor) -> Tensor:
        """Return the tensor."""
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Keep the gate."""
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the images that the gate lets through."""
        (gate,) = ctx.saved_tensors
        return torch.where(gate.view(-1, *[1] * (grad.dim() - 1)), grad, 0.0), None


def shielded(tensor: Tensor, gate: Tensor) -> Tensor:
    """Return a tensor whose images behind a gate get no gradient."""
    found: Tensor = Shield.apply(tensor, gate)
    return found
