"""A fold's pass and its gradient as PyTorch operators: schemas, shapes, gradients and second derivatives, once for all folds.

``NAME_fold(inputs, options) -> outputs, kept`` makes the pass. ``NAME_unfold(gradients, kept, inputs, options)`` gives the gradient
of the first input. ``NAME_once(inputs, above, below, options) -> value, gradient`` gives both of a loss that is linear in the sums.
 ``NAME_map(inputs, coef, kept, options)`` gives what each pixel adds to the sums that ``coef [K, C]`` weighs.
Engines implement them for their devices; what an implementation has to equal is the definition in plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lossfold.engines import triton
from lossfold.engines.native import LIBRARY, NAMESPACE, OPERATORS
from lossfold.engines.transforms import inside_transform

Definition = Callable[..., Any]


class FoldOperators:
    """The operators of one fold.

    Args:
        name: of the fold.
        inputs: the tensors of its schema: "Tensor scores, Tensor labels, Tensor? weight"; the first has a gradient.
        options: the numbers of its schema; plain values.
        outputs: the names of what it returns that has a gradient, the sums first.
        kept: the names of what it returns for the backward pass alone.
        definition: the pass in plain PyTorch, ``(*inputs, *options)`` -> the outputs.
        shapes: the same for fake tensors, -> the outputs and what is kept.
    """

    def __init__(
        self,
        name: str,
        inputs: str,
        options: str,
        outputs: Sequence[str],
        kept: Sequence[str],
        definition: Definition,
        shapes: Definition,
    ) -> None:
        self.name, self.inputs, self.options = name, inputs, options
        self.outputs, self.kept, self.definition = tuple(outputs), tuple(kept), definition
        self.defined: list[str] = []
        self.host: Callable[[], Any] | None = None
        returned = ", ".join("Tensor" for _ in (*outputs, *kept))
        back = "".join(f"Tensor? grad_{one}, " for one in outputs) + "".join(f"Tensor {one}, " for one in kept)
        self._define("fold", f"({inputs}, {options}) -> ({returned})", shapes)
        self._define("unfold", f"({back}{inputs}, {options}) -> Tensor", self._like_the_first)
        self._differentiable("fold", self._backward, self._save)
        self._fold, self._unfold = (getattr(OPERATORS, f"{name}_{what}").default for what in ("fold", "unfold"))

    def fold(self, *arguments: Any) -> Any:
        """Make the pass by the operator."""
        if torch.compiler.is_compiling():
            return self._fold(*arguments)
        return _Plain.apply(self, *arguments)

    def with_once(self) -> None:
        """Define the operator that makes one pass for value and gradient of Σ above·S, or of that over Σ below·W.

        S are the sums ``[K, C]`` of all images, of which the first, W, has no part of the first input; above is ``[K, C]``, below
        ``[C]`` or None. What the gradient is multiplied with comes afterwards, so float16 would lose digits.
        """
        self._define("once", f"({self.inputs}, Tensor above, Tensor? below, {self.options}) -> (Tensor, Tensor)", _once_shapes)
        self._differentiable("once", self._once_backward_of_graphs, self._save_once)
        self._once = getattr(OPERATORS, f"{self.name}_once").default

    def once(self, *arguments: Any) -> Tensor:
        """Return such a loss, whose gradient is there already."""
        value: Tensor = self._once(*arguments)[0] if torch.compiler.is_compiling() else _Once.apply(self, *arguments)
        return value

    def _save_once(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        save(ctx, inputs, output[1:], self.inputs.count(",") + 3)

    def _once_backward_of_graphs(self, ctx: Any, grad: Tensor | None, _: object) -> tuple[Any, ...]:
        inputs, (gradient,) = saved(ctx)
        rest = (*nothing_for(inputs[1:]), *[None] * len(ctx.options))
        if grad is None:
            return (None, *rest)
        return (self._differentiate_once(ctx, grad) if torch.is_grad_enabled() else gradient * grad.to(gradient.dtype), *rest)

    def _once_backward(self, ctx: Any, grad: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self._differentiate_once(ctx, grad)
        gradient: Tensor | None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:  # backward(retain_graph=True) has taken it
            _, gradient = self._once(*saved(ctx)[0], *ctx.options)
        if inside_transform() or torch._C._functorch.is_legacy_batchedtensor(grad):  # many gradients at once
            return torch.mul(gradient, grad.to(gradient.dtype))
        if self.host is not None and grad.device.type in triton.DEVICES[1]:
            scaled: Tensor = self.host().scaled(gradient, grad)
            return scaled
        known = grad.device.type == "cpu" and grad.item() == 1
        return gradient if known else gradient.mul_(grad.to(gradient.dtype))

    def _differentiate_once(self, ctx: Any, grad: Tensor) -> Tensor:
        # create_graph=True: the definition has all further derivatives
        (*inputs, above, below), _ = saved(ctx)
        sums = self.definition(*inputs, *ctx.options)[0].sum(0)
        counted = 1.0 if below is None else (sums[0].detach() * below).sum()
        return differentiate(inputs[0], ((sums * above).sum() / (counted + (counted == 0)),), (grad,))

    def with_map(self, definition: Definition, shapes: Definition) -> Any:
        """Define the operator of the integrand, ``(*inputs, coef, *kept, *options)`` -> values; return it."""
        kept = "".join(f"Tensor {one}, " for one in self.kept)
        self.map_definition = definition
        self._define("map", f"({self.inputs}, Tensor coef, {kept}{self.options}) -> Tensor", shapes)
        self._differentiable("map", self._map_backward, self._save_map)
        return getattr(OPERATORS, f"{self.name}_map")

    def on_gpus(self, host: Callable[[], Any]) -> None:
        """Take the functions of a module for the triton engine's devices, named as the operators that have been defined.

        Where there is one pass for value and gradient, ``scaled(gradient, factor)`` multiplies in place.
        """
        self.host = host
        for what in self.defined:
            triton.serve(f"{self.name}_{what}", host, what)

    def _define(self, what: str, schema: str, shapes: Definition) -> None:
        self.defined.append(what)
        LIBRARY.define(f"{self.name}_{what}{schema}")
        torch.library.register_fake(f"{NAMESPACE}::{self.name}_{what}", shapes, lib=LIBRARY)

    def _differentiable(self, what: str, backward: Definition, save: Definition) -> None:
        torch.library.register_autograd(f"{NAMESPACE}::{self.name}_{what}", backward, setup_context=save, lib=LIBRARY)

    def _like_the_first(self, *arguments: Any) -> Tensor:
        return torch.empty_like(arguments[len(self.outputs) + len(self.kept)])

    def _save(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        returned = output if isinstance(output, (tuple, list)) else (output,)
        kept = tuple(returned[len(self.outputs) :])
        ctx.mark_non_differentiable(*kept)
        save(ctx, inputs, kept, self.inputs.count(",") + 1)

    def _save_map(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        save(ctx, inputs, (), self.inputs.count(",") + 2 + len(self.kept))

    def _backward(self, ctx: Any, *returned: Tensor | None) -> tuple[Any, ...]:
        inputs, kept = saved(ctx)
        rest = nothing_for(inputs[1:]) + (None,) * len(ctx.options)
        grads = [None if g is None or g.shape == (0,) else g for g in returned[: len(self.outputs)]]  # (0,): nobody asked for it
        if all(grad is None for grad in grads):
            return (None, *rest)
        if torch.is_grad_enabled():  # create_graph=True: the definition has all further derivatives
            return (differentiate(inputs[0], self.definition(*inputs, *ctx.options), grads), *rest)
        grads = [None if grad is None else grad.contiguous() for grad in grads]
        return (self._unfold(*grads, *kept, *inputs, *ctx.options), *rest)

    def _map_backward(self, ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
        arguments, _ = saved(ctx)
        rest = nothing_for(arguments[1:]) + (None,) * len(ctx.options)
        if grad is None:
            return (None, *rest)
        if torch.is_grad_enabled():
            return (differentiate(arguments[0], (self.map_definition(*arguments, *ctx.options),), (grad,)), *rest)
        scores, targets, weight, coef, *kept = arguments
        coefs = [coef.expand(len(scores), -1, -1).contiguous(), *[None] * (len(self.outputs) - 1)]
        return (self._unfold(*coefs, *kept, scores, targets, weighed(grad, weight), *ctx.options), *rest)


class _Plain(torch.autograd.Function):
    """What is registered for autograd, called directly: in plain eager mode the detour costs more than a small image."""

    @staticmethod
    def forward(ctx: Any, operators: FoldOperators, *arguments: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            returned = operators._fold(*arguments)
        ctx.operators = operators
        operators._save(ctx, arguments, returned)
        return returned

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        first, *_ = ctx.operators._backward(ctx, *grads)
        return (None, first, *[None] * (len(ctx.lengths) - 1 + len(ctx.options)))


class _Once(torch.autograd.Function):
    """A loss of which one pass gives the value and the gradient."""

    @staticmethod
    def forward(ctx: Any, operators: FoldOperators, *arguments: Any) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            value, ctx.gradient = operators._once(*arguments)
        ctx.operators = operators
        save(ctx, arguments, (), operators.inputs.count(",") + 3)
        return value  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        first = None if grad is None else ctx.operators._once_backward(ctx, grad)
        return (None, first, *[None] * (len(ctx.lengths) - 1 + len(ctx.options)))


def save(ctx: Any, inputs: tuple[Any, ...], kept: tuple[Tensor, ...], tensors: int) -> None:
    """Keep an operator's tensors (of which some stand in lists), what it keeps for its backward, and its options."""
    ctx.lengths = [len(one) if isinstance(one, (list, tuple)) else None for one in inputs[:tensors]]
    flat = [t for one in inputs[:tensors] for t in (one if isinstance(one, (list, tuple)) else [one])]
    ctx.save_for_backward(*flat, *kept)
    ctx.options = inputs[tensors:]
    ctx.set_materialize_grads(False)


def saved(ctx: Any) -> tuple[list[Any], list[Tensor]]:
    """Return what :func:`save` has kept: the inputs, and what follows them."""
    tensors = list(ctx.saved_tensors)
    inputs: list[Any] = []
    for length in ctx.lengths:
        count = 1 if length is None else length
        inputs.append(tensors[0] if length is None else tensors[:count])
        tensors = tensors[count:]
    return inputs, tensors


def nothing_for(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Return no gradient for each input."""
    return tuple([None] * len(one) if isinstance(one, (list, tuple)) else None for one in inputs)


def differentiate(first: Tensor, outputs: Sequence[Tensor], grads: Sequence[Tensor | None]) -> Tensor:
    """Return the gradient of the first input from a definition's outputs and their gradients, itself differentiable."""
    outs, seeds = zip(*((out, grad) for out, grad in zip(outputs, grads, strict=True) if grad is not None), strict=True)
    return torch.autograd.grad(outs, first, seeds, create_graph=True)[0]


def weighed(grad: Tensor, weight: Tensor | None) -> Tensor:
    """Return the weight with which an unfold is a map's gradient: the map is the fold's integrand."""
    if weight is not None:
        weight = weight if weight.dim() == grad.dim() else weight[:, None]
        grad = torch.where(weight != 0, grad * weight.to(grad.dtype), 0.0)
    return grad.contiguous()


def _once_shapes(scores: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    value = scores.new_empty((), dtype=torch.float64 if scores.dtype == torch.float64 else torch.float32)
    return value, torch.empty_like(scores)
