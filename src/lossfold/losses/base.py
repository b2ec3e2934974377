"""What every loss is: options that are checked, a weight on the result, and where its arguments stand in a dict."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import InitVar
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from typing_extensions import Self

from lossfold.errors import LossError, is_number, python_scalar, wrong
from lossfold.folds.arithmetic import buffers_apart, widest_on
from lossfold.folds.checks import are_plain, plain
from lossfold.losses.configured import Configured, is_ours
from lossfold.losses.reduce import Addends, finished
from lossfold.options import PerClass, configured, option
from lossfold.routing import check_argument, check_arguments, checked_mapping, is_one_dict, one_dict, route

UNKNOWN = "its evaluate() is its own: write addends() beside it, which says what it adds up"
AS_IT_IS = "it has a hook, or a call of its own, and is called as it is"


class Summable(nn.Module):
    """What adds up to a set: ``CrossEntropyLoss() + 0.5 * DiceLoss()``."""

    sum_of: ClassVar[Callable[..., nn.Module]]  # handed in by sets, which know losses; losses do not know sets
    explained: ClassVar[Callable[..., Any]]  # handed in by lossfold.explain
    from_config: ClassVar[Callable[..., nn.Module]]  # handed in by lossfold.config, which knows sets

    def __add__(self, other: nn.Module) -> nn.Module:
        return Summable.sum_of(self, other) if isinstance(other, nn.Module) else NotImplemented

    def __radd__(self, other: object) -> nn.Module:
        if isinstance(other, nn.Module):
            return Summable.sum_of(other, self)
        return Summable.sum_of(self) if other == 0 else NotImplemented  # what sum() begins with

    def __truediv__(self, divisor: Any) -> nn.Module:
        divisor = python_scalar(divisor)
        if not is_number(divisor) or divisor == 0:
            return NotImplemented
        return self * (1 / divisor)  # type: ignore[no-any-return]  # losses, sets and terms have it

    def explain(self, *inputs: Any, **named: Any) -> Any:
        """Say of one call which term pulls how much at the scores, where, and against which other; see :mod:`lossfold.explain`.

        The arguments are those of a call, and the networks behind them are left alone: one pass more, and a gradient a term.
        """
        return Summable.explained(self, inputs, named)


@configured
class Loss(Configured, Summable):
    """What every loss is: options that are checked, and a weight on its result."""

    loss_weight: float = option(1.0)
    inputs: Mapping[str, str] | None = None
    data_info: InitVar[Mapping[str, str] | None] = None
    loss_name: str | None = None

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({},)  # the options that the contract tests and verify run it with
    per_class_options: ClassVar[tuple[str, ...]] = ()  # those with a number for each class
    evaluates: ClassVar[bool] = True  # whether a call is its evaluate() times its weight
    as_written: ClassVar[bool] = True  # whether both are lossfold's, so that a set may go by their parts
    rounds: ClassVar[int] = 1  # in which parts of a batch add up: more where sums have to be known first
    adds_up: ClassVar[bool] = False  # whether its addends() are those of its evaluate(), whoever wrote these

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.per_class_options = tuple(name for name, kind in cls.kinds.items() if isinstance(kind, PerClass))
        evaluate, adding = writer(cls, "evaluate"), writer(cls, "addends")
        # A family's first forward says what its evaluate() or addends() takes; any other forward is a call of its own.
        first = sum("forward" in vars(c) for c in cls.__mro__ if c is not nn.Module) < 2 and not evaluate is adding is Loss
        cls.evaluates = are_ours(cls, "__call__", "weigh", "weight_in") and (first or are_ours(cls, "forward"))
        cls.as_written = cls.evaluates and are_ours(cls, "evaluate")
        cls.adds_up = cls.evaluates and adding is not Loss and (evaluate is Loss or issubclass(adding, evaluate))

    def __post_init__(self, data_info: Mapping[str, str] | None) -> None:
        take_alias(self, data_info)
        super().__post_init__()

    def settle(self) -> None:
        """Refuse wrong options."""
        super().settle()
        for name in self.per_class_options:
            self.keep_per_class(name)
        object.__setattr__(self, "inputs", checked_mapping(self.inputs))
        for name in self.inputs or {}:
            check_argument(name, self.arguments)
        named = self.loss_name is None or (isinstance(self.loss_name, str) and bool(self.loss_name))
        self.require("loss_name", named, "the name of a term, or None")

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the loss of tensors, or of one dict of outputs (see ``inputs``)."""
        try:
            if named or not are_plain(inputs):
                inputs, named = plain((inputs, named))
            if self.inputs is None and not is_one_dict(inputs, named):
                if not self.open_call:
                    check_arguments(self.arguments, inputs, named)
                return super().__call__(*inputs, **named)
            return super().__call__(**self.routed(inputs, named))
        except LossError as error:
            error.loss = error.loss or type(self).__name__
            raise

    def routed(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments that ``inputs`` points at in the one dict that is given, positionally or as ``outputs_dict``."""
        return route(self.inputs or {}, self.arguments, one_dict(inputs, named))

    def check_classes(self, name: str, classes: int) -> None:
        """Refuse an option that holds a number for each class, of another number of classes."""
        values = getattr(self, name)
        if isinstance(values, tuple) and len(values) != classes:
            raise wrong(name, f"{classes} numbers, one for each class of the logits", f"{len(values)}: {values}")

    def per_class(self, name: str, like: Tensor) -> Tensor | None:
        """Return an option that holds a number for each class, ``[C]`` with a tensor's dtype and device; None if it does not."""
        if not isinstance(getattr(self, name), tuple):
            return None
        buffer = cast(Tensor, getattr(self, f"_{name}"))
        if buffer.device != like.device:
            dtype = widest_on(like.device)
            if torch.compiler.is_compiling():
                buffer = buffer.to(like.device, dtype)
            else:  # it stays there: no further call copies it from the host, and a training may follow an inference
                with torch.inference_mode(False):
                    buffer = self._buffers[f"_{name}"] = buffer.to(like.device, dtype)
        return buffer.to(like.dtype)

    def keep_per_class(self, name: str) -> None:
        """Keep a buffer of an option with a number for each class, which follows the module."""
        value, before = getattr(self, name), self._buffers.get(f"_{name}")
        buffer = numbers(value, None if before is None else before.device) if isinstance(value, tuple) else None
        self.register_buffer(f"_{name}", buffer, persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        # .to(device) moves the buffers; their numbers are those of the options, whatever .half() or to_empty() do to them.
        with buffers_apart(self, fn, *(f"_{name}" for name in self.per_class_options)):
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in self.per_class_options:  # numbers that were nowhere, on the meta device
            if self._buffers.get(f"_{name}") is not None:
                self.keep_per_class(name)
        return self

    def __rmul__(self, factor: float) -> Self:
        factor = python_scalar(factor)
        if not is_number(factor):
            return NotImplemented
        scaled = copy.deepcopy(self)
        scaled.loss_weight = self.loss_weight * factor
        return scaled

    __mul__ = __rmul__

    def taken(
        self, inputs: tuple[Any, ...], named: Mapping[str, Any], others: tuple[str, ...]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what the loss takes of a set's arguments, which the first term that has a target calls ``others``."""
        return inputs, dict(named)

    def evaluate(self, *inputs: Any, **named: Any) -> Tensor:
        """Return the loss before ``loss_weight``."""
        return finished(self.addends(*inputs, **named))

    def addends(self, *inputs: Any, **named: Any) -> Addends:
        """Return what adds up over parts of a batch, and how the loss before ``loss_weight`` is made of it."""
        raise NotImplementedError

    @property
    def in_one_part(self) -> str:
        """Why it can't be split over ranks or parts of a batch; "" if it can."""
        return "" if self.adds_up else UNKNOWN if self.evaluates else AS_IT_IS

    def weigh(self, value: Tensor) -> Tensor:
        """Return a value times ``loss_weight``."""
        return value if self.loss_weight == 1 else self.loss_weight * value

    def weight_in(self, *inputs: Any, **named: Any) -> float:
        """Return the weight that a call with these arguments has."""
        return self.loss_weight

    def due(self, outputs: Any) -> bool:
        """Return whether the loss is to be computed from these outputs."""
        return True


def writer(cls: type[Any], name: str) -> type[Any]:
    """Return the class that says what an attribute of a class is."""
    return next(c for c in cls.__mro__ if name in vars(c))


def are_ours(cls: type[Any], *names: str) -> bool:
    """Whether what a class has under these names is lossfold's or PyTorch's, and nobody else's."""
    return all(is_ours(writer(cls, name)) for name in names)


def numbers(values: float | Sequence[float], device: torch.device | None) -> Tensor:
    """Return numbers in float64, or float32 on devices without it."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=widest_on(device), device=device)


def take_alias(loss: Any, data_info: Mapping[str, str] | None) -> None:
    """Take MMagic's word for ``inputs``."""
    if data_info is None:
        return
    if loss.inputs is not None:
        raise LossError(type(loss).__name__, "data_info", "left out beside inputs, which it is another word for", repr(data_info))
    object.__setattr__(loss, "inputs", data_info)


def nothing(tensor: Tensor) -> Tensor:
    """Return 0 with a gradient of 0, whatever a tensor holds; float32, or float64 for float64."""
    return tensor.reshape(-1)[:0].sum(dtype=torch.promote_types(tensor.dtype, torch.float32))


def left_out(values: Any) -> Tensor:
    """Return 0 with a graph to the first tensor among these that has one: the value of a loss that is left out."""
    tensors = list(tensors_in(values))
    for tensor in tensors:
        if tensor.requires_grad:
            return nothing(tensor)
    if not tensors:
        return torch.zeros(())
    return nothing(next((tensor for tensor in tensors if tensor.is_floating_point()), tensors[0].float()))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested dicts and sequences, and the parameters of modules there."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    elif isinstance(value, (Mapping, list, tuple)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(one)
