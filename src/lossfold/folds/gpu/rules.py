"""How each PyTorch operation of a trace is written as lines of a Triton kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lossfold.folds.gpu.writer import TYPES, Value, Writer, is_one, literal, padded
from lossfold.folds.traces import Like, Node, Step, Trace, UnwrittenError

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
