"""Gradients inside a loss: of what a network makes with respect to what it was given."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossfold.folds.arithmetic import exactly, wide

F = TypeVar("F", bound=Callable[..., Any])


def outside_graphs(function: F) -> F:
    """Keep a function out of compiled graphs, as :func:`torch.compiler.disable` does, which imports the whole compiler to do so."""
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        if "torch._dynamo" not in sys.modules:  # then nothing is being compiled
            return function(*arguments, **named)
        if not disabled:
            disabled.append(torch.compiler.disable(function))  # type: ignore[no-untyped-call]
        return disabled[0](*arguments, **named)

    called._torchdynamo_disable = True  # type: ignore[attr-defined]  # where a graph ends
    return called  # type: ignore[return-value]


@contextmanager
def differentiating(network: object, tensor: Tensor) -> Iterator[tuple[Tensor, bool]]:
    """Yield a tensor that gradients of a network can be taken with respect to, and whether the caller wants their graph.

    Within it autograd records, in a validation too, and autocast is off: a gradient below 6e-8 is lost in float16, and no scaling
    of a loss that is made of it brings it back. What autocast has made half before is float32 again, unless the network is half.
    Attention takes the form that has a second derivative.
    """
    graph, in_float32 = torch.is_grad_enabled(), reads_float32(network, tensor)
    with torch.inference_mode(False), torch.enable_grad(), exactly(tensor), sdpa_kernel(SDPBackend.MATH):
        tensor = wide(tensor) if in_float32 else tensor
        tensor = tensor.clone() if tensor.is_inference() else tensor
        yield tensor if tensor.requires_grad else tensor.detach().requires_grad_(), graph


def reads_float32(network: object, tensor: Tensor) -> bool:
    """Return whether autocast, where it is on, stands between half tensors and a network that is not half itself."""
    device = tensor.device.type
    mixed = device != "meta" and torch.is_autocast_enabled(device)  # as in losses.features.frozen.exactly
    parameters = network.parameters() if isinstance(network, nn.Module) else ()
    half = next((p.dtype in (torch.float16, torch.bfloat16) for p in parameters if p.is_floating_point()), False)
    return mixed and not half


def slope(total: Tensor, at: Tensor, graph: bool) -> Tensor | None:
    """Return the gradient of a scalar at a tensor, in float32 or float64; None where it does not depend on it."""
    if not (total.requires_grad and at.requires_grad):
        return None
    (gradient,) = torch.autograd.grad(total, at, create_graph=graph, retain_graph=True, allow_unused=True)
    return None if gradient is None else wide(gradient)


def root(squares: Tensor) -> Tensor:
    """Return the square root, whose derivatives at 0 are 0."""
    zero = squares == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())
