"""Formulas over folds in one step: their values, and the derivatives by the sums, from the Python that says what they are.

A formula is some forty operations on a few numbers for each class; made one by one, they cost more than the pass over the pixels of
a small image, or on a GPU of any. They are traced once, with their derivatives, and written as one program: a kernel on GPUs
(:mod:`lossfold.folds.gpu.fused`), the same operations without a graph on CPUs (:mod:`lossfold.folds.replay`). What a writer does
not know runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Values(NamedTuple):
    """What formulas give: each term's value, each times its weight, and the sum of these; scalars."""

    terms: Sequence[Tensor]
    weighted: Sequence[Tensor]
    total: Tensor


Formulas = Callable[[list[tuple[Tensor, ...]]], Values]
"""From the rows ``[I, C]`` of the sums of each fold to the values."""


class Source(NamedTuple):
    """Sums ``[I, K, C]`` that formulas read, and whether those of the images are added before."""

    sums: Tensor
    together: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of what is read, ``[1 or I, K, C]``."""
        images, kinds, classes = self.sums.shape
        return (1 if self.together else images), kinds, classes

    def rows(self) -> tuple[Tensor, ...]:
        """Return what is read, ``[1 or I, C]`` of each kind."""
        return (self.sums.sum(0, keepdim=True) if self.together and len(self.sums) != 1 else self.sums).unbind(1)


class Like(NamedTuple):
    """A tensor without its numbers."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Node(NamedTuple):
    """A tensor of a trace by its number: first the rows of all sources, then what the steps return."""

    number: int


class Step(NamedTuple):
    """An operation of a trace.

    Attributes:
        name: PyTorch's, without the trailing _ of those in place.
        run: it.
        args, named: what it is given; nodes, tensors that the formulas refer to, and plain values.
        result: what it returns, the next node, or several.
    """

    name: str
    run: Callable[..., Any]
    args: tuple[Any, ...]
    named: dict[str, Any]
    result: Like | tuple[Like, ...]


class Trace(NamedTuple):
    """What formulas do: from the rows of all sources to the values, and to these's derivatives by the rows.

    Attributes:
        steps: the operations; in place of those whose results nobody reads, how many these are.
        outputs: of n terms n values, n values times their weights, and the total; and of these n + 1 the derivatives by each row,
            None for 0.
        sources: what is read, ``(images, images that are read, kinds, classes)`` each.
        terms: their number.
    """

    steps: list[Step | int]
    outputs: list[Node | None]
    sources: list[tuple[int, int, int, int]]
    terms: int


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations down as they are made; all tensors are kept, so that a place in memory tells which is which."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.kept = list(inputs)
        self.numbers = {self.mark(one): number for number, one in enumerate(inputs)}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled within it; to say so, PyTorch would load its compiler

    @staticmethod
    def mark(tensor: Tensor) -> tuple[object, ...]:
        """Return what two views of the same numbers have in common."""
        return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device

    def node(self, value: Any) -> Any:
        """Return the node of a tensor; what else there is, as it is."""
        if isinstance(value, (list, tuple)):
            return tuple([self.node(one) for one in value])
        number = self.numbers.get(self.mark(value)) if isinstance(value, Tensor) else None
        return value if number is None else Node(number)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note an operation down."""
        given, named = self.node(args), {name: self.node(one) for name, one in (kwargs or {}).items()}
        returned = func(*args, **(kwargs or {}))
        made = returned if isinstance(returned, (list, tuple)) else (returned,)
        likes = tuple([Like(tuple(one.shape), one.dtype) for one in made])
        name = func.overloadpacket.__name__
        whole = name.startswith("__") or not name.endswith("_")
        single = not isinstance(returned, (list, tuple))
        self.steps.append(Step(name if whole else name[:-1], func, given, named, likes[0] if single else likes))
        for one in made:
            self.numbers[self.mark(one)] = len(self.kept)
            self.kept.append(one)
        return returned


def without_dead(steps: Sequence[Step], first: int, outputs: Sequence[Node | None]) -> list[Step | int]:
    """Return steps, and in place of those whose results nobody reads their number; results are numbered from ``first`` on."""
    counts = [1 if isinstance(step.result, Like) else len(step.result) for step in steps]
    end = first + sum(counts)
    read = {one.number for one in outputs if one is not None}
    kept: list[Step | int] = []
    for step, count in zip(reversed(steps), reversed(counts), strict=True):
        end -= count
        if read.isdisjoint(range(end, end + count)):
            kept.append(count)
            continue
        kept.append(step)
        pending = [step.args, tuple(step.named.values())]
        while pending:
            for one in pending.pop():
                if isinstance(one, Node):
                    read.add(one.number)
                elif isinstance(one, tuple):
                    pending.append(one)
    return kept[::-1]


class UnwrittenError(Exception):
    """There is an operation that a writer does not know."""


class Program(Protocol):
    """Formulas that have been written."""

    @property
    def count(self) -> int:
        """Of the terms."""

    def run(self, sums: Sequence[Tensor]) -> tuple[Sequence[Tensor], Tensor]:
        """Return the 2 n + 1 values of n terms, and derivatives ``[n + 1 or 1, numbers that are read]``: of all, or the total."""


def trace(formulas: Formulas, sources: Sequence[Source]) -> Trace:
    """Trace formulas and their derivatives, on numbers that are all 1: whatever they are, the operations are the same.

    Raises:
        UnwrittenError: there is nothing to compute.
    """
    shapes = [one.shape for one in sources]
    if any(one.sums.numel() == 0 for one in sources):
        raise UnwrittenError("nothing")
    with torch.inference_mode(False), torch.enable_grad():
        rows = [torch.ones((images, classes), dtype=one.sums.dtype, device=one.sums.device)
                for one, (images, kinds, classes) in zip(sources, shapes, strict=True) for _ in range(kinds)]  # fmt: skip
        leaves = [one.detach().requires_grad_() for one in rows]
        with Recorder(rows) as recorder:
            places = iter(leaves)
            values = formulas([tuple([next(places) for _ in range(kinds)]) for _, kinds, _ in shapes])
            outputs: list[Tensor | None] = [*values.terms, *values.weighted, values.total]
            for value in (*values.weighted, values.total):
                found: Sequence[Tensor | None] = [None] * len(leaves)
                if value.requires_grad:
                    found = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
                outputs += found
        nodes = [None if one is None else recorder.node(one.detach()) for one in outputs]
    if not all(node is None or isinstance(node, Node) for node in nodes):
        raise UnwrittenError("a value that is none of the operations'")
    steps = without_dead(recorder.steps, len(rows), nodes)
    read = [(len(one.sums), *shape) for one, shape in zip(sources, shapes, strict=True)]
    return Trace(steps, nodes, read, len(values.terms))


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
