"""Formulas over folds in one step: their values, and the derivatives by the sums, from the Python that says what they are.

A formula is some forty operations on a few numbers for each class; made one by one, they cost more than the pass over the pixels of
a small image, or on a GPU of any. They are traced once, with their derivatives, and written as one program: a kernel on GPUs
(:mod:`lossfold.folds.gpu.fused`), the same operations without a graph on CPUs (:mod:`lossfold.folds.replay`). What a writer does
not know runs as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from lossfold.folds.traces import Formulas, Source, Trace, UnwrittenError, Values, trace


class Program(Protocol):
    """Formulas that have been written."""

    @property
    def count(self) -> int:
        """Of the terms."""

    def run(self, sums: Sequence[Tensor]) -> tuple[Sequence[Tensor], Tensor]:
        """Return the 2 n + 1 values of n terms, and derivatives ``[n + 1 or 1, numbers that are read]``: of all, or the total."""


class Fused(torch.autograd.Function):
    """A program's values, and its derivatives in the backward pass."""

    @staticmethod
    def forward(ctx: Any, program: Program, formulas: Formulas, together: Sequence[bool], *sums: Tensor) -> tuple[Tensor, ...]:
        """Return each term, each times its weight, and the total."""
        found, slopes = program.run(sums)
        ctx.save_for_backward(*sums, slopes)
        ctx.formulas, ctx.together, ctx.count = formulas, together, program.count
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*found[: program.count])
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        """Return the derivatives by the sums: one product, where the total alone is differentiated."""
        *sums, slopes = ctx.saved_tensors
        asked = [(place, grad) for place, grad in enumerate(grads[ctx.count :]) if grad is not None]
        if not asked:
            return (None, None, None, *[None] * len(sums))
        further = torch.is_grad_enabled()  # create_graph=True: the formulas have all further derivatives
        if further or (len(slopes) == 1 and (len(asked) > 1 or asked[0][0] != ctx.count)):
            with torch.enable_grad():
                leaves = sums if further else [one.detach().requires_grad_() for one in sums]
                values = ctx.formulas([Source(*one).rows() for one in zip(leaves, ctx.together, strict=True)])
            outputs = [*values.weighted, values.total]
            pairs = [(outputs[place], grad) for place, grad in asked if outputs[place].requires_grad]
            if not pairs:
                return (None, None, None, *[None] * len(sums))
            outs, seeds = zip(*pairs, strict=True)
            return (None, None, None, *torch.autograd.grad(outs, leaves, seeds, create_graph=further, allow_unused=True))
        (place, grad), *others = asked
        slope = slopes[place if len(slopes) > 1 else 0]
        factor: Tensor | None = grad
        if others or len(sums) > 1:
            slope, factor = slope * grad, None
            for place, grad in others:
                slope = torch.addcmul(slope, slopes[place], grad.to(slope.dtype))
        parts, start = [], 0
        for one, together in zip(sums, ctx.together, strict=True):
            images, kinds, classes = one.shape
            rows = 1 if together else images
            part = slope.narrow(0, start, rows * kinds * classes).view(rows, kinds, classes)
            part = part if rows == images else part.expand(images, -1, -1)
            parts.append(part if factor is None else part * factor)
            start += rows * kinds * classes
        return (None, None, None, *parts)


KNOWN: dict[Any, Program | None] = {}
"""Programs by what they are of; None for what can't be written. Bounded: a training has a few."""
MOST_KNOWN = 256


def written(trace: Trace, device: torch.device, launches: bool) -> Program:
    """Write traced formulas, where each operation would be a launch as a kernel.

    Raises:
        UnwrittenError: that can't be done.
    """
    if launches:
        from lossfold.folds.gpu import fused

        return fused.written(trace, device)
    from lossfold.folds import replay

    return replay.written(trace)


def program_of(key: Any, formulas: Formulas, sources: Sequence[Source], launches: bool) -> Program | None:
    """Return formulas as a program, written if need be; None where they are to be run as they are.

    Args:
        key: tells the formulas from others, of whatever shapes.
        formulas: what they are.
        sources: what they read.
        launches: whether each operation would be a launch.
    """
    whole = (key, launches, sources[0].sums.device, sources[0].sums.dtype, *((len(one.sums), one.shape) for one in sources))
    if whole not in KNOWN:
        if len(KNOWN) >= MOST_KNOWN:
            KNOWN.clear()
        try:
            KNOWN[whole] = written(trace(formulas, sources), sources[0].sums.device, launches)
        except UnwrittenError:
            KNOWN[whole] = None
    return KNOWN[whole]


def values_of(program: Program, formulas: Formulas, sources: Sequence[Source]) -> Values:
    """Return the values of formulas in one step."""
    found = Fused.apply(program, formulas, [one.together for one in sources], *[one.sums for one in sources])
    return Values(found[: program.count], found[program.count : -1], found[-1])
