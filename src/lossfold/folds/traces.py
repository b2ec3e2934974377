"""What formulas over folds do, noted down once with their derivatives; see :mod:`lossfold.folds.formulas`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
