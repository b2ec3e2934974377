"""Formulas over folds in one launch: their values, and the derivatives by the sums, from the Python that says what they are.

A formula is some forty operations on a few numbers for each class; launched one by one, they cost more than the pass over the
pixels. Here they are traced once, with their derivatives, and written as one kernel. What the writer does not know runs as it is.
"""

from __future__ import annotations

import hashlib
import linecache
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossfold.folds.gpu.launch import launch, options
from lossfold.folds.gpu.writer import UnwrittenError, Writer, padded, write
from lossfold.folds.histogram import Bins

MOST_NUMBERS = 512  # of a block: one for each thread


class Values(NamedTuple):
    """What formulas give: each term's value, each times its weight, and the sum of these; scalars."""

    terms: Sequence[Tensor]
    weighted: Sequence[Tensor]
    total: Tensor


Formulas = Callable[[list[tuple[Tensor, ...]]], Values]
"""From the rows ``[I, C]`` of the sums of each fold to the values."""


@dataclass(frozen=True)
class Kernel:
    """A kernel that has been written: it takes pointers to the sums, values, derivatives by the sums, and constants."""

    run: Any
    source: str
    constants: list[Tensor]
    count: int
    warps: int


def written(formulas: Formulas, sums: Sequence[Tensor]) -> Kernel:
    """Trace formulas, and write their kernel.

    Args:
        formulas: what is traced.
        sums: ``[I, K, C]`` of each fold, float64.

    Raises:
        UnwrittenError: there is an operation that the writer does not know, or too many numbers.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    if any(one.numel() == 0 or padded(one.shape)[0] * padded(one.shape)[2] > MOST_NUMBERS for one in sums):
        raise UnwrittenError("more numbers than threads")

    def joint(*flat: Tensor) -> list[Tensor | None]:
        with torch.enable_grad():
            leaves = [one.detach().requires_grad_() for one in flat]
            places = iter(leaves)
            values = formulas([tuple(next(places) for _ in range(one.shape[1])) for one in sums])
            slopes: list[Tensor | None] = []
            for value in (*values.weighted, values.total):
                found: Sequence[Tensor | None] = [None] * len(leaves)
                if value.requires_grad:
                    found = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
                slopes += found
        return [*values.terms, *values.weighted, values.total, *slopes]

    with torch.inference_mode(False):  # whatever the numbers are, the operations are the same
        rows = [torch.ones_like(row) for one in sums for row in one.unbind(1)]
        module = make_fx(joint)(*rows)
    module.graph.eliminate_dead_code()
    writer = Writer(sums[0].device)
    inputs = []
    for number, one in enumerate(sums):
        _, kinds, classes = one.shape
        for kind in range(kinds):
            shape = (one.shape[0], classes)
            inputs.append(writer.load(f"sums_{number} + {kind * classes}", shape, torch.float64, (kinds * classes, 1)))
    outputs = write(module.graph, module, inputs, writer)
    count = _terms(len(outputs), len(rows))
    for place, value in enumerate(outputs[: 2 * count + 1]):
        writer.lines.append(f"tl.store(values + {place}, {writer.reshaped(value, ()).name}.to(tl.float32))")
    places = iter(outputs[2 * count + 1 :])
    start = 0
    for _ in range(count + 1):
        for one in sums:
            images, kinds, classes = one.shape
            for kind in range(kinds):
                value = next(places) or writer.put("tl.full((), 0.0, tl.float64)", (), torch.float64)
                at = f"slopes + {start + kind * classes}"
                writer.store(at, writer.cast(value, torch.float64), (images, classes), (kinds * classes, 1))
            start += one.numel()
    arguments = [*(f"sums_{k}" for k in range(len(sums))), "values", "slopes"]
    arguments += [f"constant_{k}" for k in range(len(writer.constants))]
    largest = max(math.prod(padded(row.shape)) for row in rows)
    return Kernel(*compiled(arguments, writer.lines), writer.constants, count, max(1, min(16, largest // 32)))


def _terms(outputs: int, rows: int) -> int:
    """Return of how many terms there are so many outputs: 2 n + 1 values, and n + 1 derivatives by each row."""
    return (outputs - 1 - rows) // (2 + rows)


def compiled(arguments: Sequence[str], lines: Sequence[str]) -> tuple[Any, str]:
    """Return a kernel from its lines, and its source."""
    import triton
    import triton.language as tl

    body = "".join(f"    {line}\n" for line in lines)
    source = f"@triton.jit\ndef formulas({', '.join(arguments)}):\n{body}"
    name = f"<lossfold formulas {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # where Triton looks for it
    namespace: dict[str, Any] = {"triton": triton, "tl": tl, "__name__": name}
    exec(compile(source, name, "exec"), namespace)
    return namespace["formulas"], source


class Fused(torch.autograd.Function):
    """The kernel's values, and its derivatives in the backward pass."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, formulas: Formulas, *sums: Tensor) -> tuple[Tensor, ...]:
        """Return each term, each times its weight, and the total."""
        count = kernel.count
        values = torch.empty(2 * count + 1, dtype=torch.float32, device=sums[0].device)
        slopes = torch.empty((count + 1, sum(one.numel() for one in sums)), dtype=torch.float64, device=sums[0].device)
        launch(kernel.run, (1,), *[one.contiguous() for one in sums], values, slopes, *kernel.constants, **options(kernel.warps))
        ctx.save_for_backward(*sums, slopes)
        ctx.formulas = formulas
        ctx.set_materialize_grads(False)
        found = values.unbind()
        ctx.mark_non_differentiable(*found[:count])
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        """Return the derivatives by the sums: one product, where the total alone is differentiated."""
        *sums, slopes = ctx.saved_tensors
        asked = [(place, grad) for place, grad in enumerate(grads[len(slopes) - 1 :]) if grad is not None]
        if not asked:
            return (None, None, *[None] * len(sums))
        if torch.is_grad_enabled():  # create_graph=True: the formulas have all further derivatives
            values = ctx.formulas([one.unbind(1) for one in sums])
            outputs = [*values.weighted, values.total]
            pairs = [(outputs[place], grad) for place, grad in asked if outputs[place].requires_grad]
            if not pairs:
                return (None, None, *[None] * len(sums))
            outs, seeds = zip(*pairs, strict=True)
            return (None, None, *torch.autograd.grad(outs, sums, seeds, create_graph=True, allow_unused=True))
        place, grad = asked[-1]
        slope = slopes[place] * grad
        for place, grad in asked[:-1]:
            slope = torch.addcmul(slope, slopes[place], grad.to(slope.dtype))
        if len(sums) == 1:
            return (None, None, slope.view(sums[0].shape))
        parts = slope.split([one.numel() for one in sums])
        return (None, None, *(part.view(one.shape) for part, one in zip(parts, sums, strict=True)))


def integral(table: Tensor, bins: Bins, definition: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``[I, 3, C]`` of a histogram: what the definition gives, and the weights of both sides, in one launch."""
    from lossfold.folds.gpu.integral import Integral

    found: Tensor = Integral.apply(table, bins, definition)
    return found


KNOWN: dict[Any, Kernel | None] = {}
"""Kernels by what they are of; None for what can't be written. Bounded: a training has a few."""
MOST_KNOWN = 256


def kernel_of(key: Any, formulas: Formulas, sums: Sequence[Tensor]) -> Kernel | None:
    """Return the kernel of formulas, written if need be; None where they are to be run as they are.

    Args:
        key: tells the formulas from others, of whatever shapes.
        formulas: what they are.
        sums: ``[I, K, C]`` of each fold.
    """
    whole = (key, sums[0].device, *(tuple(one.shape) for one in sums))
    if whole not in KNOWN:
        if len(KNOWN) >= MOST_KNOWN:
            KNOWN.clear()
        try:
            KNOWN[whole] = written(formulas, sums)
        except UnwrittenError:
            KNOWN[whole] = None
    return KNOWN[whole]


def values_of(kernel: Kernel, formulas: Formulas, sums: Sequence[Tensor]) -> Values:
    """Return the values of formulas in one launch."""
    found = Fused.apply(kernel, formulas, *sums)
    return Values(found[: kernel.count], found[kernel.count : -1], found[-1])
