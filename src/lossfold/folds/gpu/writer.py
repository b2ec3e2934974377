"""A trace of small PyTorch operations, written as one Triton kernel of one program: numbers of images and classes in registers.

Every tensor is a block of the same rank, each side padded to a power of two; what lies beyond the sides is anything, and left out
where it would be added up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossfold.folds.formulas import Like, Node, Step, Trace, UnwrittenError

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


Rule = Callable[[Writer, Step, list[Any]], Value | list[Value]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Say what writes operations."""

    def decorate(write: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, write))
        return write

    return decorate


def meta(step: Step) -> Like:
    """Return the one tensor that an operation returns, without its numbers."""
    assert isinstance(step.result, Like)
    return step.result


def elementwise(expression: str, inner: torch.dtype | None = None) -> Rule:
    """Return what writes an operation of elements, in the dtype of its result or of its operands."""

    def write(writer: Writer, step: Step, given: list[Any]) -> Value:
        result = meta(step)
        dtype = inner
        if dtype is None:
            dtype = result.dtype
            if dtype == torch.bool:  # a comparison, in what its operands come to
                tensors = [one.dtype for one in given if isinstance(one, Value)]
                dtype = tensors[0] if len(tensors) == 1 else torch.promote_types(*tensors[:2])
                if dtype in (torch.bool, torch.int64) and any(isinstance(one, float) for one in given):
                    dtype = torch.float64
        operands = given[: expression.count("{")]
        names = [writer.operand(one, result.shape, dtype) for one in operands]
        if not is_one(result.shape) and all(not isinstance(one, Value) or is_one(one.shape) for one in operands):
            names[0] = writer.expanded(writer.cast(operands[0], dtype), result.shape).name
        found = writer.put(
            expression.format(*names), result.shape, dtype if inner is None and result.dtype != torch.bool else result.dtype
        )
        return writer.cast(found, result.dtype)

    return write


for _name, _expression in {
    "mul": "({} * {})", "div": "({} / {})", "neg": "(-{})", "reciprocal": "(1.0 / {})", "log": "tl.log({})", "exp": "tl.exp({})",
    "sqrt": "tl.sqrt({})", "abs": "tl.abs({})", "log1p": "tl.log(1.0 + {})", "minimum": "tl.minimum({}, {})",
    "maximum": "tl.maximum({}, {})", "eq": "({} == {})", "ne": "({} != {})", "lt": "({} < {})", "le": "({} <= {})",
    "gt": "({} > {})",
    "ge": "({} >= {})", "detach": "{}", "alias": "{}", "clone": "{}", "lift_fresh_copy": "{}", "expand": "{}", "_to_copy": "{}",
}.items():  # fmt: skip
    RULES[_name] = elementwise(_expression)
for _name, _expression in {
    "logical_and": "({} & {})", "bitwise_and": "({} & {})", "logical_or": "({} | {})", "bitwise_or": "({} | {})",
    "logical_not": "({} == 0)", "bitwise_not": "({} == 0)",
}.items():  # fmt: skip
    RULES[_name] = elementwise(_expression, torch.bool)


@rule("add", "sub", "rsub")
def _add(writer: Writer, step: Step, given: list[Any]) -> Value | list[Value]:
    factor = step.named.get("alpha", 1)
    one, other = given[:2]
    name = step.name
    first, second = (other, one) if name == "rsub" else (one, other)
    sign = "+" if name == "add" else "-"
    scaled = "{}" if factor == 1 else f"{factor!r} * {{}}"
    return elementwise(f"({{}} {sign} {scaled})")(writer, step, [first, second])


@rule("pow")
def _pow(writer: Writer, step: Step, given: list[Any]) -> Value | list[Value]:
    exponent = given[1]
    if isinstance(exponent, Value):
        raise UnwrittenError("pow of a tensor")
    short = {2: "({0} * {0})", 1: "{0}", 0: "({0} * 0.0 + 1.0)", 0.5: "tl.sqrt({0})", -1: "(1.0 / {0})", 3: "({0} * {0} * {0})"}
    expression = short.get(exponent, f"tl.exp({float(exponent)!r} * tl.log({{0}}))")
    name = writer.operand(given[0], meta(step).shape, meta(step).dtype)
    return writer.put(expression.format(name), meta(step).shape, meta(step).dtype)


@rule("where")
def _where(writer: Writer, step: Step, given: list[Any]) -> Value | list[Value]:
    shape, dtype = meta(step).shape, meta(step).dtype
    condition = writer.operand(given[0], shape, torch.bool)
    names = [writer.operand(one, shape, dtype) for one in given[1:]]
    return writer.put(f"tl.where({condition}, {names[0]}, {names[1]}).to({TYPES[dtype]})", shape, dtype)


@rule("masked_fill")
def _masked_fill(writer: Writer, step: Step, given: list[Any]) -> Value | list[Value]:
    return _where(writer, step, [given[1], given[2], given[0]])


@rule("clamp_min", "clamp_max", "clamp")
def _clamp(writer: Writer, step: Step, given: list[Any]) -> Value | list[Value]:
    shape, dtype = meta(step).shape, meta(step).dtype
    name = step.name
    least = given[1] if name != "clamp_max" and len(given) > 1 else None
    most = given[1] if name == "clamp_max" else given[2] if len(given) > 2 else None
    found = writer.operand(given[0], shape, dtype)
    for bound, sign in ((least, "<"), (most, ">")):
        if bound is not None:  # NaN stays
            bound = writer.operand(bound, shape, dtype)
            found = writer.put(f"tl.where({found} {sign} {bound}, {bound}, {found})", shape, dtype).name
    return writer.put(found, shape, dtype)


@rule("full", "zeros", "ones", "full_like", "zeros_like", "ones_like", "scalar_tensor", "new_zeros", "new_full", "new_ones")
def _full(writer: Writer, step: Step, given: list[Any]) -> Value | list[Value]:
    name = step.name
    number: Any = 0 if "zeros" in name else 1 if "ones" in name else given[0] if name == "scalar_tensor" else given[-1]
    shape, dtype = meta(step).shape, meta(step).dtype
    if dtype == torch.bool:
        number = int(number)
    sides = [] if is_one(shape) else padded(shape)
    return writer.put(f"tl.full({sides}, {literal(number, dtype)}, {TYPES[dtype]})", shape, dtype)


@rule("arange")
def _arange(writer: Writer, step: Step, given: list[Any]) -> Value | list[Value]:
    if len(given) != 1:
        raise UnwrittenError("arange from elsewhere than 0")
    shape, dtype = meta(step).shape, meta(step).dtype
    first = "tl.full([], 0, tl.int32)" if is_one(shape) else f"tl.arange(0, {padded(shape)[0]})"
    return writer.cast(writer.put(first, shape, torch.int32), dtype)


@rule("sum", "any", "amax")
def _reduce(writer: Writer, step: Step, given: list[Any]) -> Value | list[Value]:
    name = step.name
    dims = given[1] if len(given) > 1 else None
    dims = [dims] if isinstance(dims, int) else dims
    value = given[0]
    if name == "sum" and value.dtype != torch.bool:
        value = writer.cast(value, meta(step).dtype)
    return writer.cast(writer.reduced(value, dims, bool(given[2]) if len(given) > 2 else False, name), meta(step).dtype)


@rule("view", "reshape", "_unsafe_view", "unsqueeze", "squeeze")
def _view(writer: Writer, step: Step, given: list[Any]) -> Value | list[Value]:
    return writer.reshaped(given[0], meta(step).shape)


@rule("stack")
def _stack(writer: Writer, step: Step, given: list[Any]) -> Value | list[Value]:
    raise UnwrittenError("stack")


def write(trace: Trace, inputs: Sequence[Value], writer: Writer) -> list[Value | None]:
    """Write a trace's operations; return its outputs.

    Raises:
        UnwrittenError: for an operation that has no rule.
    """
    known: list[Any] = list(inputs)

    def value_of(one: Any) -> Any:
        if isinstance(one, Node):
            return known[one.number]
        if isinstance(one, Tensor):
            if one.device == writer.device:
                return writer.constant(one)
            if one.dim():
                raise UnwrittenError(f"a tensor on {one.device}")
            return one.item()
        return list(map(value_of, one)) if isinstance(one, tuple) else one

    for step in trace.steps:
        if isinstance(step, int):
            known += [None] * step
            continue
        if step.name not in RULES:
            raise UnwrittenError(step.name)
        found = RULES[step.name](writer, step, [value_of(one) for one in step.args])
        known += found if isinstance(found, list) else [found]
    return [None if one is None else known[one.number] for one in trace.outputs]
