"""Formulas over folds in one launch: a traced formula, with its derivatives, as a kernel; see :mod:`lossfold.folds.formulas`."""

from __future__ import annotations

import functools
import hashlib
import linecache
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossfold.folds.gpu.launch import launch, options
from lossfold.folds.gpu.rules import write
from lossfold.folds.gpu.writer import Value, Writer, padded
from lossfold.folds.histogram import Bins
from lossfold.folds.traces import Trace, UnwrittenError
from lossfold.memory import CAPTURED, is_captured

MOST_NUMBERS = 512  # of a block: one for each thread


@dataclass(frozen=True)
class Kernel:
    """A kernel that has been written: it takes pointers to the sums, values, derivatives by the sums, and constants.

    Attributes:
        kernel, source: it, and its lines.
        constants: tensors that it reads whenever it runs.
        count: of the terms.
        numbers: of those read of all sums.
        warps: of the one program.
    """

    kernel: Any
    source: str
    constants: list[Tensor]
    count: int
    numbers: int
    warps: int

    def run(self, sums: Sequence[Tensor]) -> tuple[Sequence[Tensor], Tensor]:
        """Return values and derivatives."""
        if is_captured():
            CAPTURED[id(self)] = self
        device = sums[0].device
        values = torch.empty(2 * self.count + 1, dtype=torch.float32, device=device)
        slopes = torch.empty((self.count + 1, self.numbers), dtype=torch.float64, device=device)
        launch(self.kernel, (1,), *[one.contiguous() for one in sums], values, slopes, *self.constants, **options(self.warps))
        return values.unbind(), slopes


def written(trace: Trace, device: torch.device) -> Kernel:
    """Write the kernel of formulas.

    Raises:
        UnwrittenError: there is an operation that the writer does not know, or too many numbers.
    """
    blocks = [math.prod(padded((images, classes))) for _, images, _, classes in trace.sources]
    if max(blocks) > MOST_NUMBERS:
        raise UnwrittenError("more numbers than threads")
    writer = Writer(device)
    inputs: list[Value] = []
    for number, (images, rows, kinds, classes) in enumerate(trace.sources):
        inputs += writer.rows(f"sums_{number}", images, rows, kinds, classes)
    outputs = write(trace, inputs, writer)
    for place, value in enumerate(outputs[: 2 * trace.terms + 1]):
        assert value is not None
        writer.lines.append(f"tl.store(values + {place}, {writer.reshaped(value, ()).name}.to(tl.float32))")
    places = iter(outputs[2 * trace.terms + 1 :])
    start = 0
    for _ in range(trace.terms + 1):
        for _, rows, kinds, classes in trace.sources:
            for kind in range(kinds):
                value = next(places) or writer.put("tl.full((), 0.0, tl.float64)", (), torch.float64)
                at = f"slopes + {start + kind * classes}"
                writer.store(at, writer.cast(value, torch.float64), (rows, classes), (kinds * classes, 1))
            start += rows * kinds * classes
    arguments = [*(f"sums_{k}" for k in range(len(trace.sources))), "values", "slopes"]
    arguments += [f"constant_{k}" for k in range(len(writer.constants))]
    kernel, source = compiled(tuple(arguments), tuple(writer.lines))
    numbers = sum(rows * kinds * classes for _, rows, kinds, classes in trace.sources)
    return Kernel(kernel, source, writer.constants, trace.terms, numbers, max(1, min(16, max(blocks) // 32)))


@functools.lru_cache(maxsize=512)
def compiled(arguments: tuple[str, ...], lines: tuple[str, ...]) -> tuple[Any, str]:
    """Return a kernel from its lines, and its source; the same for the same."""
    import triton
    import triton.language as tl

    body = "".join(f"    {line}\n" for line in lines)
    source = f"@triton.jit\ndef formulas({', '.join(arguments)}):\n{body}"
    name = f"<lossfold formulas {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # where Triton looks for it
    namespace: dict[str, Any] = {"triton": triton, "tl": tl, "__name__": name}
    exec(compile(source, name, "exec"), namespace)
    return namespace["formulas"], source


def integral(table: Tensor, bins: Bins, definition: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``[I, 3, C]`` of a histogram: what the definition gives, and the weights of both sides, in one launch."""
    from lossfold.folds.gpu.integral import Integral

    found: Tensor = Integral.apply(table, bins, definition)
    return found
