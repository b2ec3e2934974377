"""Loss classes out of functions of single elements, for registries: with options that are checked, a weight, a repr."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from lossfold.errors import LossError
from lossfold.losses.base import Loss
from lossfold.losses.images.masked import masked_loss, own_options
from lossfold.losses.reduce import REDUCTIONS, Addends
from lossfold.options import configured, option
from lossfold.registry import LOSSES, Registry

TAKEN = ("loss_weight", "inputs", "data_info", "reduction", "sample_wise")


@configured
class FunctionLoss(Loss):
    """A loss of ``(pred, target, weight=None)`` by a function of single elements, which :func:`masked_loss` has made one."""

    reduction: str = option("mean", words=REDUCTIONS)
    sample_wise: bool = option(False)

    function: ClassVar[Callable[..., Tensor]]
    options: ClassVar[tuple[str, ...]] = ()  # which of its fields the function takes

    def settle(self) -> None:
        """Refuse wrong options; the function's own are its business."""
        super().settle()
        self.require("sample_wise", not self.sample_wise or self.reduction == "mean", "False unless reduction='mean'")

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            pred: ``[B, C, *S]``; float16, bfloat16, float32 or float64.
            target: of the same shape.
            weight: ``[B, 1, *S]``, ``[B, C, *S]`` or ``[B, *S]``, float >= 0 or bool.
        """
        return self.weigh(self.evaluate(pred, target, weight))

    def addends(self, *inputs: Any, **named: Any) -> Addends:
        """Return what adds up over parts of a batch, and how the loss before ``loss_weight`` is made of it."""
        found: Addends = type(self).function.addends(*inputs, **named, **self.given())  # type: ignore[attr-defined]
        return found

    def given(self) -> dict[str, Any]:
        """Return the options of the function."""
        return {name: getattr(self, name) for name in ("reduction", "sample_wise", *self.options)}


@configured
class ElementwiseLoss(FunctionLoss):
    """A loss of ``(pred, target, weight=None)`` by somebody's function of single elements; see :func:`elementwise_loss`."""

    registered: ClassVar[str] = ""

    def __repr__(self) -> str:
        return f"LOSSES[{self.registered!r}]{super().__repr__().removeprefix(type(self).__name__)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (self.registered,), self.__dict__.copy()  # the class has no place in a module that pickle could name


def _blank(name: str) -> Any:
    cls = LOSSES[name]
    return cls.__new__(cls)


def elementwise_loss(function: Callable[..., Tensor], name: str) -> type[ElementwiseLoss]:
    """Make a loss class of ``f(pred, target, **options)``: ``masked_loss`` with the function's options as its fields.

    Args:
        function: gives for each element of two tensors a number that depends on that element alone.
        name: that it is registered under.

    Raises:
        LossError: for a function of other arguments, and for options that every loss has.
    """
    loss, annotations, defaults = masked_loss(function), {}, {}
    for parameter in own_options(name, function):
        if parameter.kind == parameter.VAR_KEYWORD or parameter.name in TAKEN:
            came = f"{name}{inspect.signature(function)}"
            raise LossError(name, f"option {parameter}", "an option with a name that no loss has yet", came)
        annotations[parameter.name] = Any if parameter.annotation is parameter.empty else parameter.annotation
        if parameter.default is not parameter.empty:
            defaults[parameter.name] = dataclasses.field(default=parameter.default)
    doc = inspect.getdoc(function) or f"Σ w·f / Σ w of the function {function.__module__}.{function.__qualname__}."
    namespace = {
        **defaults,
        "__annotations__": annotations,
        "__doc__": doc,
        "__module__": function.__module__,
        "registered": name,
        "function": staticmethod(loss),
        "options": tuple(annotations),
    }
    return configured(type(name, (ElementwiseLoss,), namespace))


Registry.of_function = staticmethod(elementwise_loss)
