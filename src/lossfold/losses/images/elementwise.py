"""Loss classes out of functions of single elements, for registries: with options that are checked, a weight, a repr."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lossfold.errors import LossError
from lossfold.losses.base import Loss
from lossfold.losses.images.masked import masked_loss, own_options
from lossfold.losses.reduce import REDUCTIONS

TAKEN = ("loss_weight", "inputs", "data_info", "reduction", "sample_wise")


@dataclass(kw_only=True, eq=False, repr=False)
class ElementwiseLoss(Loss):
    """A loss of ``(pred, target, weight=None)`` by somebody's function of single elements; see :func:`elementwise_loss`."""

    reduction: str = "mean"
    sample_wise: bool = False

    registered: ClassVar[str] = ""
    function: ClassVar[Callable[..., Tensor]]
    options: ClassVar[tuple[str, ...]] = ()

    def validate(self) -> None:
        """Refuse wrong options; the function's own are its business."""
        super().validate()
        self.require_one_of("reduction", REDUCTIONS)
        self.require("sample_wise", isinstance(self.sample_wise, bool), "True or False")
        self.require("sample_wise", not self.sample_wise or self.reduction == "mean", "False unless reduction='mean'")

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            pred: ``[B, C, *S]``; float16, bfloat16, float32 or float64.
            target: of the same shape.
            weight: ``[B, 1, *S]``, ``[B, C, *S]`` or ``[B, *S]``, float >= 0 or bool.
        """
        return self.weigh(self.evaluate(pred, target, weight))

    def evaluate(self, *inputs: Any, **named: Any) -> Tensor:
        """Return the loss before ``loss_weight``."""
        options = {name: getattr(self, name) for name in ("reduction", "sample_wise", *self.options)}
        return type(self).function(*inputs, **named, **options)

    def __repr__(self) -> str:
        return f"LOSSES[{self.registered!r}]{super().__repr__().removeprefix(type(self).__name__)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (self.registered,), self.__dict__.copy()  # the class has no place in a module that pickle could name


def _blank(name: str) -> Any:
    from lossfold.registry import LOSSES

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
    loss, fields = masked_loss(function), []
    for option in own_options(name, function):
        if option.kind == option.VAR_KEYWORD or option.name in TAKEN:
            came = f"{name}{inspect.signature(function)}"
            raise LossError(name, f"option {option}", "an option with a name that no loss has yet", came)
        annotation = Any if option.annotation is option.empty else option.annotation
        default = dataclasses.MISSING if option.default is option.empty else option.default
        fields.append((option.name, annotation, dataclasses.field(default=default)))
    doc = inspect.getdoc(function) or f"Σ w·f / Σ w of the function {function.__module__}.{function.__qualname__}."
    namespace = {
        "__doc__": doc,
        "__module__": function.__module__,
        "registered": name,
        "function": staticmethod(loss),
        "options": tuple(field[0] for field in fields),
    }
    made = dataclasses.make_dataclass(
        name, fields, bases=(ElementwiseLoss,), namespace=namespace, kw_only=True, eq=False, repr=False
    )
    made.__module__ = function.__module__
    return made
