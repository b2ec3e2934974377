"""A fold's pass and its gradient as PyTorch operators: schemas, shapes, gradients and second derivatives, once for all folds.

``NAME_fold(inputs, options) -> outputs, kept`` makes the pass. ``NAME_unfold(gradients, kept, inputs, options)`` gives the gradient
of the first input. ``NAME_once(inputs, above, below, options) -> value, gradient`` gives both of a loss that is linear in the sums.
 ``NAME_map(inputs, coef, kept, options)`` gives what each pixel adds to the sums that ``coef [K, C]`` weighs.
Engines implement them for their devices; what an implementation has to equal is the definition in plain PyTorch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

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
        self.called: dict[str, Any] = {}
        self.host: Callable[[], Any] | None = None
        returned = ", ".join("Tensor" for _ in (*outputs, *kept))
        back = "".join(f"Tensor? grad_{one}, " for one in outputs) + "".join(f"Tensor {one}, " for one in kept)
        self._define("fold", f"({inputs}, {options}) -> ({returned})", shapes)
        self._define("unfold", f"({back}{inputs}, {options}) -> Tensor", self._like_the_first)
        self._differentiable("fold", self._backward, self._save)
        self.hosted: tuple[str, ...] = ()

    def fold(self, tensors: tuple[Any, ...], options: tuple[Any, ...]) -> Any:
        """Make the pass by the operator."""
        if outside_of_autograd():
            return self.called["fold"](*tensors, *options)
        return _Plain.apply(tensors[0], tensors, options, self)

    def with_once(self, options: str = "", definition: Definition | None = None) -> None:
        """Define the operator that makes one pass for value and gradient of Σ above·S, or of that over Σ below·W.

        S are the sums ``[K, C]`` of all images, of which the first, W, has no part of the first input; above is ``[K, C]``, below
        ``[C]`` or None. What the gradient is multiplied with comes afterwards, so float16 would lose digits.

        Args:
            options: those of this operator, where they are not the fold's.
            definition: of its sums, likewise; all of them may have a part of the first input, and there is no below then.
        """
        self.once_definition = definition or self.definition
        options = options or self.options
        self._define("once", f"({self.inputs}, Tensor above, Tensor? below, {options}) -> (Tensor, Tensor)", _once_shapes)
        self._differentiable("once", self._once_backward_of_graphs, self._save_once)

    def once(self, tensors: tuple[Any, ...], options: tuple[Any, ...]) -> Tensor:
        """Return such a loss, whose gradient is there already."""
        if outside_of_autograd():
            value: Tensor = self.called["once"](*tensors, *options)[0]
            return value
        value = _Once.apply(tensors[0], tensors, options, self)
        return value

    def _save_once(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        count = self.inputs.count(",") + 3
        save(ctx, inputs[:count], output[1:], inputs[count:])

    def _once_backward_of_graphs(self, ctx: Any, grad: Tensor | None, _: object) -> tuple[Any, ...]:
        inputs, (gradient,) = saved(ctx)
        rest = (*nothing_for(inputs[1:]), *[None] * len(ctx.options))
        if grad is None:
            return (None, *rest)
        return (self._differentiate_once(ctx, grad) if torch.is_grad_enabled() else gradient * grad, *rest)

    def _once_backward(self, ctx: Any, grad: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self._differentiate_once(ctx, grad)
        gradient: Tensor | None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:  # backward(retain_graph=True) has taken it
            _, gradient = self.called["once"](*saved(ctx)[0], *ctx.options)
        if inside_transform() or torch._C._functorch.is_legacy_batchedtensor(grad):  # many gradients at once
            return torch.mul(gradient.to(grad.dtype), grad).to(gradient.dtype)
        if self.host is not None and grad.device.type in triton.DEVICES[1]:
            scaled: Tensor = self.host().scaled(gradient, grad)
            return scaled
        known = grad.device.type == "cpu" and grad.item() == 1
        return gradient if known else gradient.mul_(grad)

    def _differentiate_once(self, ctx: Any, grad: Tensor) -> Tensor:
        # create_graph=True: the definition has all further derivatives
        (*inputs, above, below), _ = saved(ctx)
        sums = self.once_definition(*inputs, *ctx.options)[0].sum(0)
        counted = 1.0 if below is None else (sums[0].detach() * below).sum()
        return differentiate(inputs[0], ((sums * above).sum() / (counted + (counted == 0)),), (grad,))

    def with_map(self, definition: Definition, shapes: Definition) -> Any:
        """Define the operator of the integrand, ``(*inputs, coef, *kept, *options)`` -> values; return it."""
        kept = "".join(f"Tensor {one}, " for one in self.kept)
        self.map_definition = definition
        self._define("map", f"({self.inputs}, Tensor coef, {kept}{self.options}) -> Tensor", shapes)
        self._differentiable("map", self._map_backward, self._save_map)
        return self.called["map"]

    def on_gpus(self, host: Callable[[], Any]) -> None:
        """Take the functions of a module for the triton engine's devices, named as the operators that have been defined.

        Where there is one pass for value and gradient, ``scaled(gradient, factor)`` multiplies in place.
        """
        self.host = host
        self.hosted = tuple(self.called)
        for what in self.hosted:
            triton.serve(f"{self.name}_{what}", host, what)

    def run(self, what: str, first: Tensor, *arguments: Any) -> Any:
        """Call an operator below autograd; where nobody listens to the dispatcher, what it would call on a GPU straightaway."""
        host = self.host
        if (
            host is not None
            and first.device.type in triton.DEVICES[1]
            and what in self.hosted
            and type(first) is Tensor
            and not torch._C._len_torch_dispatch_stack()
            and not any(type(one) is Tensor and one.is_neg() for one in arguments)  # which PyTorch resolves on the way
        ):
            return getattr(host(), what)(*arguments)
        with torch._C._AutoDispatchBelowAutograd():
            return self.called[what](*arguments)

    def _define(self, what: str, schema: str, shapes: Definition) -> None:
        LIBRARY.define(f"{self.name}_{what}{schema}")
        self.called[what] = getattr(OPERATORS, f"{self.name}_{what}").default
        torch.library.register_fake(f"{NAMESPACE}::{self.name}_{what}", shapes, lib=LIBRARY)

    def _differentiable(self, what: str, backward: Definition, save: Definition) -> None:
        torch.library.register_autograd(f"{NAMESPACE}::{self.name}_{what}", backward, setup_context=save, lib=LIBRARY)

    def _like_the_first(self, *arguments: Any) -> Tensor:
        return torch.empty_like(arguments[len(self.outputs) + len(self.kept)])

    def _save(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        returned = output if isinstance(output, (tuple, list)) else (output,)
        kept = tuple(returned[len(self.outputs) :])
        ctx.mark_non_differentiable(*kept)
        count = self.inputs.count(",") + 1
        save(ctx, inputs[:count], kept, inputs[count:])

    def _save_map(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        count = self.inputs.count(",") + 2 + len(self.kept)
        save(ctx, inputs[:count], (), inputs[count:])

    def _backward(self, ctx: Any, *returned: Tensor | None) -> tuple[Any, ...]:
        inputs, kept = saved(ctx)
        rest = nothing_for(inputs[1:]) + (None,) * len(ctx.options)
        grads = [None if g is None or g.shape == (0,) else g for g in returned[: len(self.outputs)]]  # (0,): nobody asked for it
        if all(grad is None for grad in grads):
            return (None, *rest)
        if torch.is_grad_enabled():  # create_graph=True: the definition has all further derivatives
            return (differentiate(inputs[0], self.definition(*inputs, *ctx.options), grads), *rest)
        grads = [None if grad is None else grad.contiguous() for grad in grads]
        return (self.run("unfold", inputs[0], *grads, *kept, *inputs, *ctx.options), *rest)

    def _map_backward(self, ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
        arguments, _ = saved(ctx)
        rest = nothing_for(arguments[1:]) + (None,) * len(ctx.options)
        if grad is None:
            return (None, *rest)
        if torch.is_grad_enabled():
            return (differentiate(arguments[0], (self.map_definition(*arguments, *ctx.options),), (grad,)), *rest)
        count = self.inputs.count(",") + 1
        (scores, targets, weight, *others), (coef, *kept) = arguments[:count], arguments[count:]
        coefs = [coef.expand(len(scores), -1, -1).contiguous(), *[None] * (len(self.outputs) - 1)]
        return (self.called["unfold"](*coefs, *kept, scores, targets, weighed(grad, weight), *others, *ctx.options), *rest)


Flat = TypeVar("Flat", bound=Callable[..., Any])


def remembered(flat: Flat) -> Flat:
    """Return a function of a spec that keeps what it has found; compiled code asks the function itself."""
    known: dict[int, tuple[Any, Any]] = {}  # by the spec itself: its hash would be that of all its sums

    @functools.wraps(flat)
    def found(spec: Any) -> Any:
        if torch.compiler.is_compiling():
            return flat(spec)
        kept = known.get(id(spec))
        if kept is None:
            if len(known) >= 512:
                known.clear()
            kept = known[id(spec)] = spec, flat(spec)  # which keeps it, so that no other gets its id
        return kept[1]

    return found  # type: ignore[return-value]


def outside_of_autograd() -> bool:
    """Whether an operator is called as it is, and not by a Function: compiled, traced, and where nothing may be saved."""
    tracing = torch._C._get_tracing_state() is not None
    return torch.compiler.is_compiling() or torch.is_inference_mode_enabled() or tracing


class _Plain(torch.autograd.Function):
    """What is registered for autograd, called directly: in plain eager mode the detour costs more than a small image.

    Only the first input has a gradient; the others come as one argument, which costs less than several.
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, tensors: tuple[Any, ...], options: tuple[Any, ...], operators: FoldOperators) -> Any:
        returned = operators.run("fold", first, *tensors, *options)
        ctx.operators = operators
        kept = returned[len(operators.outputs) :] if isinstance(returned, tuple) else ()
        ctx.mark_non_differentiable(*kept)
        save(ctx, tensors, kept, options)
        return returned

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        return ctx.operators._backward(ctx, *grads)[0], None, None, None


class _Once(torch.autograd.Function):
    """A loss of which one pass gives the value and the gradient; its arguments are those of :class:`_Plain`."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, tensors: tuple[Any, ...], options: tuple[Any, ...], operators: FoldOperators) -> Tensor:
        value, ctx.gradient = operators.run("once", first, *tensors, *options)
        ctx.operators = operators
        save(ctx, tensors, (), options)
        return value  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        return None if grad is None else ctx.operators._once_backward(ctx, grad), None, None, None


def save(ctx: Any, inputs: Sequence[Any], kept: Sequence[Tensor], options: Sequence[Any]) -> None:
    """Keep an operator's tensors (of which some stand in lists), what it keeps for its backward, and its options."""
    ctx.given, ctx.options = len(inputs), options
    ctx.lengths = None
    if list in map(type, inputs):
        ctx.lengths = [len(one) if isinstance(one, list) else None for one in inputs]
        inputs = [t for one in inputs for t in (one if isinstance(one, list) else [one])]
    ctx.save_for_backward(*inputs, *kept)
    ctx.set_materialize_grads(False)


def saved(ctx: Any) -> tuple[list[Any], list[Tensor]]:
    """Return what :func:`save` has kept: the inputs, and what follows them."""
    tensors = list(ctx.saved_tensors)
    if ctx.lengths is None:
        return tensors[: ctx.given], tensors[ctx.given :]
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
