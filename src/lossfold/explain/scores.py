"""At which tensors of a call gradients are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lossfold.errors import LossError

Call = tuple[tuple[Any, ...], dict[str, Any]]
HALVES = (torch.float16, torch.bfloat16)
FIRST = "scores"
"""What the first argument is called where it has no name."""


def with_leaves(who: str, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Call, dict[str, Tensor]]:
    """Return a call without the networks behind it, and by their paths the tensors that ask for a gradient in it."""
    given = dict(found((inputs, named)))
    asking = [one for one in given.values() if one.requires_grad] or first_of(given)
    if not asking:
        raise LossError(who, "arguments", "with scores to take gradients at", "no floating tensor")
    twins = {id(one): twin(one) for one in asking}
    leaves = {path: twins[id(one)] for path, one in given.items() if id(one) in twins}
    call: Call = changed((inputs, named), lambda one: twins[id(one)] if id(one) in twins else recordable(one))
    return call, leaves


def first_of(given: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the first tensor, and with it the list that it is the first of."""
    first = next(iter(given), "")
    if not first.endswith(".0"):
        return list(given.values())[:1]
    return [one for path, one in given.items() if path.rpartition(".")[0] == first.removesuffix(".0")]


def recordable(one: Tensor) -> Tensor:
    """Return a tensor without a graph, which autograd may keep; those of inference mode it may not."""
    return one.clone() if one.is_inference() else one.detach()


def twin(one: Tensor) -> Tensor:
    """Return the same numbers as a tensor that asks for a gradient, in float32 at least."""
    return one.detach().to(torch.float32 if one.dtype in HALVES else one.dtype, copy=True).requires_grad_()


def found(call: Call) -> Iterator[tuple[str, Tensor]]:
    """Yield the floating tensors of a call with their paths, the positional arguments first; each once."""
    seen: set[int] = set()
    inputs, named = call
    one_dict = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], Mapping) else {}
    start = one_dict or {FIRST if not index else str(index): one for index, one in enumerate(inputs)}
    stack: list[tuple[str, Any]] = [*start.items(), *named.items()]
    while stack:  # depth first, so that what is in the first argument comes first
        path, one = stack.pop(0)
        if isinstance(one, Tensor) and one.is_floating_point() and id(one) not in seen:
            seen.add(id(one))
            yield path, one
        elif isinstance(one, Mapping):
            stack[:0] = [(f"{path}.{key}", value) for key, value in one.items()]
        elif isinstance(one, (list, tuple)):
            stack[:0] = [(f"{path}.{index}", value) for index, value in enumerate(one)]


def changed(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return nested dicts, lists and tuples with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: changed(value, change) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(changed(value, change) for value in tree))
    return type(tree)(changed(value, change) for value in tree) if isinstance(tree, (list, tuple)) else tree
