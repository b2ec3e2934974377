"""Traced formulas on CPUs: the same operations again, bit by bit, without a graph and what leads to it.

On few numbers PyTorch's autograd costs more than the operations it records. What hangs on no input is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossfold.folds.traces import Like, Node, Step, Trace, UnwrittenError

SAME = ("detach", "alias", "clone", "lift_fresh_copy", "lift_fresh")
"""Operations that return what they are given."""
ALIKE = ("_to_copy", "expand", "view", "_unsafe_view", "reshape", "squeeze")
"""Operations that do so where shape and dtype stay."""
FILLED = ("ones_like", "zeros_like", "full_like", "new_zeros", "new_ones", "new_full")
"""Operations that look at no number of the tensor that they are given."""
METHODS = ("view", "expand", "squeeze", "unsqueeze")
"""Operations that are quicker to call as methods."""
CALLED = (
    *("add", "sub", "mul", "div", "neg", "where", "sum", "any", "amax", "eq", "ne", "lt", "le", "gt", "ge"),
    *("reciprocal", "log", "log1p", "exp", "sqrt", "abs", "pow", "minimum", "maximum", "clamp_min", "masked_fill"),
    *("logical_and", "logical_or", "logical_not", "bitwise_and", "bitwise_or", "bitwise_not"),
)
"""Operations that are quicker to call as functions of torch."""


@dataclass(frozen=True)
class Replay:
    """Formulas that have been written down again.

    Attributes:
        values, whole: functions of the rows: the values; and the total's derivatives by the rows that have one after them.
        count: of the terms.
        sources: what is read, ``(images, images that are read, kinds, classes)`` each.
        places: of each row, where its derivative stands after the values; None where it is 0.
    """

    values: Callable[..., tuple[Tensor, ...]]
    whole: Callable[..., tuple[Tensor, ...]]
    count: int
    sources: list[tuple[int, int, int, int]]
    places: list[int | None]

    def run(self, sums: Sequence[Tensor]) -> tuple[Sequence[Tensor], Tensor]:
        """Return values and the total's derivatives; none, where nobody can ask for them."""
        rows: list[Tensor] = []
        for one, (images, read, _, _) in zip(sums, self.sources, strict=True):
            rows += (one if read == images else one.sum(0, keepdim=True)).unbind(1)
        if not any(one.requires_grad for one in sums):
            return self.values(*rows), rows[0]
        found = self.whole(*rows)
        values, slopes = found[: 2 * self.count + 1], found[2 * self.count + 1 :]
        parts, places = [], iter(self.places)
        for number, (_, read, kinds, classes) in enumerate(self.sources):
            nothing = sums[number].new_zeros((read, classes))
            each = [nothing if (place := next(places)) is None else slopes[place] for _ in range(kinds)]
            parts.append(torch.stack(each, 1).view(1, -1))
        return values, parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def written(trace: Trace) -> Replay:
    """Write formulas down as functions.

    Raises:
        UnwrittenError: a value is none of a row's.
    """
    rows = sum(kinds for _, _, kinds, _ in trace.sources)
    values, slopes = trace.outputs[: 2 * trace.terms + 1], trace.outputs[-rows:]
    with torch.no_grad():
        lines = Lines(trace, rows)
    there = [one for one in slopes if one is not None]
    numbers = {place: number for number, place in enumerate(place for place, one in enumerate(slopes) if one is not None)}
    places = [numbers.get(place) for place in range(rows)]
    return Replay(lines.function(values), lines.function([*values, *there]), trace.terms, trace.sources, places)


class Lines:
    """A trace as lines of Python, each with the nodes that it reads and its own."""

    def __init__(self, trace: Trace, rows: int) -> None:
        self.rows = rows
        self.names = [f"x{number}" for number in range(rows)]
        self.likes = [Like((read, classes), torch.float64) for _, read, kinds, classes in trace.sources for _ in range(kinds)]
        self.fixed: dict[str, Any] = {"torch": torch}  # what is the same at every call, by name
        self.lines: list[tuple[str, str, set[str]]] = []
        self.seen: dict[str, str] = {}  # what a line gives, by the line
        self.base: dict[str, str] = {}  # of numbers that have got dimensions: the number
        for step in trace.steps:
            if isinstance(step, int):
                self.names += [""] * step
                self.likes += [Like((), torch.bool)] * step
            else:
                self.add(step)

    def add(self, step: Step) -> None:
        """Write an operation down, or compute it if it hangs on no row."""
        if not isinstance(step.result, Like):
            raise UnwrittenError(step.name)
        first = step.args[0] if step.args else None
        same = isinstance(first, Node) and self.likes[first.number] == step.result
        self.likes.append(step.result)
        if isinstance(first, Node) and (step.name in SAME or (step.name in ALIKE and same)):
            self.names.append(self.names[first.number])
            return
        name = f"x{len(self.names)}"
        self.names.append(name)
        if step.name in FILLED:
            number = int("ones" in step.name) if "full" not in step.name else step.args[-1]
            if isinstance(number, (Node, Tensor)):
                raise UnwrittenError(step.name)
            self.fixed[name] = torch.full(step.result.shape, number, dtype=step.result.dtype)
            return
        read: set[str] = set()
        changing = False  # a tensor from elsewhere may hold other numbers at another call

        def text(one: Any) -> str:
            nonlocal changing
            if isinstance(one, Node):
                read.add(self.names[one.number])
                return self.names[one.number]
            if isinstance(one, tuple):
                return f"[{', '.join(map(text, one))}]"
            if isinstance(one, (bool, int)) or one is None or (isinstance(one, float) and math.isfinite(one)):
                return repr(one)
            changing = changing or isinstance(one, Tensor)
            given = f"given_{id(one)}" if isinstance(one, (Tensor, torch.dtype)) else f"given_{len(self.fixed)}"
            self.fixed[given] = one
            return given

        given = [text(one) for one in step.args]
        named = [f"{key}={text(one)}" for key, one in step.named.items()]
        if isinstance(first, Node) and (step.name in METHODS or (step.name == "_to_copy" and list(step.named) == ["dtype"])):
            line = f"{given[0]}.{'to' if step.name == '_to_copy' else step.name}({', '.join([*given[1:], *named])})"
        elif step.name in CALLED:
            line = f"torch.{step.name}({', '.join([*given, *named])})"
        else:
            call = f"run_{len(self.fixed)}"
            self.fixed[call] = step.run
            line = f"{call}({', '.join([*given, *named])})"
        if step.name == "expand" and given[0] in self.base:
            base = self.base[given[0]]
            line, read = f"{base}.expand({', '.join(given[1:])})", {base}
        elif step.name == "unsqueeze" and isinstance(first, Node) and (not self.likes[first.number].shape or given[0] in self.base):
            self.base[name] = self.base.get(given[0], given[0])
        if line in self.seen:
            self.names[-1] = self.seen[line]
            return
        self.seen[line] = name
        if not changing and read <= self.fixed.keys():
            self.fixed[name] = eval(line, dict(self.fixed))
        else:
            self.lines.append((name, line, read))

    def function(self, outputs: Sequence[Node | None]) -> Callable[..., tuple[Tensor, ...]]:
        """Return a function of the rows that computes some nodes, and what these hang on."""
        names = [self.names[one.number] for one in outputs if one is not None]
        wanted, kept = set(names), []
        for name, line, read in reversed(self.lines):
            if name in wanted:
                wanted |= read
                kept.append(f"    {name} = {line}\n")
        rows = ", ".join(f"x{number}" for number in range(self.rows))
        # What autograd is to mark as results has to be tensors of their own.
        found = [f"{name}.detach()" if name in names[:place] or name in self.fixed else name for place, name in enumerate(names)]
        namespace = dict(self.fixed)
        exec(f"def run({rows}):\n{''.join(reversed(kept))}    return ({', '.join(found)},)", namespace)
        run: Callable[..., tuple[Tensor, ...]] = namespace["run"]
        return run
