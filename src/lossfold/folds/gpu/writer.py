"""A trace of small PyTorch operations, written as one Triton kernel of one program: numbers of images and classes in registers.

Every tensor is a block of the same rank, each side padded to a power of two; what lies beyond the sides is anything, and left out
where it would be added up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossfold.folds.traces import UnwrittenError

TYPES = {
    torch.float64: "tl.float64",
    torch.float32: "tl.float32",
    torch.int64: "tl.int64",
    torch.int32: "tl.int32",
    torch.bool: "tl.int1",
}


@dataclass(frozen=True)
class Value:
    """A variable of the kernel; of one element it is a number, whatever its rank."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


def padded(shape: Sequence[int]) -> list[int]:
    """Return the sides of a block that holds a shape."""
    return [1 << (side - 1).bit_length() if side else 1 for side in shape]


def is_one(shape: Sequence[int]) -> bool:
    """Whether a shape holds one element."""
    return all(side == 1 for side in shape)


class Writer:
    """Writes the lines of a kernel, one for each operation; numbers that stay on the host are written down as they are."""

    def __init__(self, device: torch.device) -> None:
        self.lines: list[str] = []
        self.constants: list[Tensor] = []
        self.device = device

    def put(self, expression: str, shape: Sequence[int], dtype: torch.dtype) -> Value:
        """Write a line; return its value."""
        value = Value(f"x{len(self.lines)}", tuple(shape), dtype)
        self.lines.append(f"{value.name} = {expression}")
        return value

    def load(self, pointer: str, shape: Sequence[int], dtype: torch.dtype, strides: Sequence[int]) -> Value:
        """Write a load."""
        if is_one(shape):
            return self.put(f"tl.load({pointer})", shape, dtype)
        at = " + ".join(f"{self.along(shape, dim)} * {stride}" for dim, stride in enumerate(strides))
        return self.put(f"tl.load({pointer} + {at}, mask={self.inside(shape)}, other=0)", shape, dtype)

    def rows(self, pointer: str, images: int, rows: int, kinds: int, classes: int) -> list[Value]:
        """Write the loads of sums ``[images, kinds, classes]``; where one row of each kind is read, images are added in order."""
        shape = (rows, classes)
        found = [self.load(f"{pointer} + {k * classes}", shape, torch.float64, (kinds * classes, 1)) for k in range(kinds)]
        if rows == images:
            return found
        self.lines.append(f"for image in range(1, {images}):")
        for k, one in enumerate(found):
            more = self.load(f"{pointer} + image * {kinds * classes} + {k * classes}", shape, torch.float64, (0, 1))
            self.lines[-1] = f"    {one.name} += {self.lines[-1].removeprefix(f'{more.name} = ')}"
        return found

    def constant(self, tensor: Tensor) -> Value:
        """Write the load of a tensor that the formulas refer to, of whatever it holds when the kernel runs."""
        if not tensor.is_contiguous() or tensor.dtype not in TYPES:
            raise UnwrittenError("a tensor that is not contiguous")
        places = [place for place, one in enumerate(self.constants) if one is tensor]
        if not places:
            places = [len(self.constants)]
            self.constants.append(tensor)
        return self.load(f"constant_{places[0]}", tensor.shape, tensor.dtype, tensor.stride())

    def store(self, pointer: str, value: Value, shape: Sequence[int], strides: Sequence[int]) -> None:
        """Write a store, broadcast to a shape."""
        if is_one(shape):
            self.lines.append(f"tl.store({pointer}, {value.name})")
            return
        at = " + ".join(f"{self.along(shape, dim)} * {stride}" for dim, stride in enumerate(strides))
        self.lines.append(f"tl.store({pointer} + {at}, {self.expanded(value, shape).name}, mask={self.inside(shape)})")

    def along(self, shape: Sequence[int], dim: int) -> str:
        """Return the index of a dimension, as a block of the shape's rank."""
        places = ", ".join(":" if other == dim else "None" for other in range(len(shape)))
        index = f"tl.arange(0, {padded(shape)[dim]})"
        return f"{index}[{places}]" if len(shape) > 1 else index

    def inside(self, shape: Sequence[int]) -> str:
        """Return what is within the sides of a shape."""
        return " & ".join(f"({self.along(shape, dim)} < {side})" for dim, side in enumerate(shape))

    def expanded(self, value: Value, shape: Sequence[int]) -> Value:
        """Return a value broadcast to a shape."""
        shape = tuple(shape)
        if value.shape == shape:
            return value
        if is_one(shape):
            return Value(value.name, shape, value.dtype)
        if is_one(value.shape):
            return self.put(f"tl.full({padded(shape)}, 0, {TYPES[value.dtype]}) + {value.name}", shape, value.dtype)
        places = ", ".join(["None"] * (len(shape) - len(value.shape)) + [":"] * len(value.shape))
        one = value.name if len(shape) == len(value.shape) else f"{value.name}[{places}]"
        return self.put(f"tl.broadcast_to({one}, {padded(shape)})", shape, value.dtype)

    def reshaped(self, value: Value, shape: Sequence[int]) -> Value:
        """Return a value of another shape with the same sides but for ones."""
        shape = tuple(shape)
        if shape == value.shape or (is_one(shape) and is_one(value.shape)):
            return Value(value.name, shape, value.dtype)
        if [side for side in shape if side != 1] != [side for side in value.shape if side != 1]:
            raise UnwrittenError(f"{value.shape} as {shape}")
        return self.put(f"tl.reshape({value.name}, {padded(shape)})", shape, value.dtype)

    def cast(self, value: Value, dtype: torch.dtype) -> Value:
        """Return a value in another dtype."""
        if value.dtype == dtype:
            return value
        expression = f"({value.name} != 0)" if dtype == torch.bool else f"{value.name}.to({TYPES[dtype]})"
        return self.put(expression, value.shape, dtype)

    def operand(self, given: Any, shape: Sequence[int], dtype: torch.dtype) -> str:
        """Return an operand as an expression of a shape and dtype."""
        if isinstance(given, Value):
            given = self.cast(given, dtype)
            return given.name if is_one(given.shape) else self.expanded(given, shape).name
        return literal(given, dtype)

    def reduced(self, value: Value, dims: Sequence[int] | None, keepdim: bool, how: str) -> Value:
        """Return a sum, a maximum, or whether any is true, over dimensions."""
        rank = len(value.shape)
        over = sorted({dim % rank for dim in (dims if dims else range(rank))}) if rank else []
        shape = [1 if dim in over else side for dim, side in enumerate(value.shape)]
        value = self.cast(value, torch.int32) if value.dtype == torch.bool else value
        name = value.name
        if not is_one(value.shape):
            neutral = {"sum": "0", "any": "0", "amax": "float('-inf')"}[how]
            if any(value.shape[dim] != padded(value.shape)[dim] for dim in over):
                name = f"tl.where({self.inside(value.shape)}, {name}, {neutral})"
            for dim in reversed(range(rank) if is_one(shape) else over):
                keep = "" if is_one(shape) else ", keep_dims=True"
                name = f"tl.{'sum' if how == 'sum' else 'max'}({name}, {dim}{keep})"
        found = self.put(name, shape, value.dtype)
        return found if keepdim else self.reshaped(found, [side for dim, side in enumerate(value.shape) if dim not in over])


def literal(number: float | int | bool, dtype: torch.dtype) -> str:
    """Return a number as Triton reads it."""
    if isinstance(number, float) and not math.isfinite(number):
        return f"float('{number}')"
    return repr(float(number)) if dtype.is_floating_point else repr(number)
