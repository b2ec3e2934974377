"""The adaptive weight of a term: its gradient at one tensor is made as large as that of another term."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossfold.compose.term import Term
from lossfold.errors import naming, wrong
from lossfold.folds.arithmetic import widest_on
from lossfold.folds.fold import describe
from lossfold.losses.adversarial.slopes import outside_graphs
from lossfold.routing import is_one_dict, one_dict

SMALLEST = 1e-4  # beside the norm that is divided by
LIFT = 1024.0  # of losses whose gradients are float16 on the way, so that the small ones do not vanish

Given = tuple[tuple[Any, ...], dict[str, Any]]


def balanced(who: str, term: Term, value: Tensor, reference: Tensor, given: Given) -> Tensor:
    """Return the term's adaptive weight, without a graph: the last one where no gradients are recorded.

    Args:
        who: the term, for errors.
        term: it.
        value: its loss before any weight.
        reference: the weighted loss whose gradient is the measure.
        given: what the set was called with.
    """
    with naming(who):
        at = place_of(term, given)
        if torch.is_grad_enabled() and at.requires_grad and value.requires_grad and reference.requires_grad:
            term.adapt(ratio(reference, value, at), term.balance_limit)
    return term.balanced.to(value.device, value.dtype, copy=True)


def place_of(term: Term, given: Given) -> Tensor:
    """Return the tensor that gradients are taken at: a path into the one dict of outputs and its modules, or by a function."""
    inputs, named = given
    outputs: Any = one_dict(inputs, named) if is_one_dict(inputs, named) else named
    if callable(term.balance_at):
        at = term.balance_at(outputs) if outputs is not named or not inputs else term.balance_at(*inputs, **named)
    else:
        at = at_path(str(term.balance_at), outputs)
    if not isinstance(at, Tensor) or not at.is_floating_point():
        raise wrong("balance_at", "where a tensor of floats stands, as the weights of the last layer", describe(at))
    return at


def at_path(path: str, outputs: Any) -> Any:
    """Return what stands at a path through dicts, lists, and modules' attributes."""
    here = outputs
    for step in path.split("."):
        if isinstance(here, Mapping) and step in here:
            here = here[step]
        elif isinstance(here, (list, tuple, nn.Sequential, nn.ModuleList)) and step.lstrip("-").isdecimal():
            here = here[int(step)] if -len(here) <= int(step) < len(here) else None
        else:
            here = getattr(here, step, None) if isinstance(here, nn.Module) else None
        if here is None:
            there = f"only {list(outputs)}" if isinstance(outputs, Mapping) else type(outputs).__name__
            raise wrong("balance_at", "a path into the one dict of outputs", f"{path!r}: no {step!r}, {there}")
    return here


@outside_graphs  # which can't follow a gradient in the forward pass
def ratio(reference: Tensor, value: Tensor, at: Tensor) -> Tensor:
    """Return ‖∇ reference‖ / (‖∇ value‖ + δ) of the gradients at a tensor; NaN where neither reaches it."""
    halves = at.dtype in (torch.float16, torch.bfloat16) or torch.is_autocast_enabled(at.device.type)
    lift = LIFT if halves else 1.0
    norms: list[Tensor] = []
    slopes = [torch.autograd.grad(lift * loss, at, retain_graph=True, allow_unused=True)[0] for loss in (reference, value)]
    if all(slope is None for slope in slopes):  # neither was made of it, as scores that an explanation takes without their network
        return torch.full((), torch.nan, dtype=widest_on(at.device), device=at.device)
    for slope in slopes:
        wide = torch.zeros((), device=at.device) if slope is None else slope.detach().flatten().to(widest_on(at.device))
        norms.append(torch.linalg.vector_norm(wide) / lift)
    return norms[0] / (norms[1] + SMALLEST)
