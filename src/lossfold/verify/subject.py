"""The loss that is verified: how it is built, what it is called with, and what a call gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lossfold.compose.output import LossOutput
from lossfold.errors import LossError
from lossfold.signatures import options_of
from lossfold.verify.inputs import KINDS, LARGE, SIZES, Inputs, ladder, make

WEIGHTS = ("weight", "weights", "pixel_weight", "sample_weight", "mask", "valid")
"""What calls name the weight of each pixel."""
PER_CLASS = ("class_weight", "class_weights", "alpha", "weight", "weights")
"""What constructors name the weight of each class."""


@dataclass
class Subject:
    """A loss under test.

    Attributes:
        loss: what is called.
        title: how the report names it.
        kind: one of :data:`lossfold.verify.inputs.KINDS`.
        classes: how many classes or channels it is given.
        maker: what builds it, where it was given as a class or a function.
        options: what it was built with.
    """

    loss: Callable[..., Any]
    title: str
    kind: str
    classes: int
    maker: Callable[..., Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[tuple[int, int, int], ...] = SIZES

    @classmethod
    def of(cls, loss: Callable[..., Any], options: dict[str, Any], kind: str | None, classes: int) -> Subject:
        """Build the loss, and find out what it is called with."""
        if kind not in (None, *KINDS):
            raise LossError("verify", "kind", " or ".join(map(repr, KINDS)), repr(kind))
        if not callable(loss):
            raise LossError("verify", "loss", "an nn.Module, its class, or a function", type(loss).__name__)
        maker = loss if isinstance(loss, type) or not isinstance(loss, nn.Module) else None
        if maker is None and options:
            raise LossError("verify", "options", "left out for a loss that is built already", repr(options))
        built = built_of(loss, options) if maker is not None else loss
        name = getattr(loss, "__name__", type(loss).__name__)
        told = ", ".join(f"{key}={value!r}" for key, value in options.items())
        title = f"{name}({told})" if maker is not None else repr(loss)
        refusals = []
        for candidate in KINDS if kind is None else [kind]:
            for sizes in (SIZES, (LARGE,)):
                subject = cls(built, title, candidate, classes, maker, options, sizes)
                refusal = subject.refusal()
                if not refusal:
                    return replace(subject, kind="images") if kind is None and subject.compares() else subject
                refusals.append(f"{KINDS[candidate]}: {refusal}")
        expected = "called with " + ("; or ".join(KINDS.values()) if kind is None else KINDS[kind])
        raise LossError(name, "arguments", expected, "an error", "\n  ".join(["what it said:", *dict.fromkeys(refusals)]))

    def refusal(self) -> str:
        """Say why it can't be called with its kind of arguments; nothing if it can."""
        _, *space = self.sizes[-1]
        images = self.classes + 2  # so that nothing broadcasts that should not
        inputs = make(self.kind, (images, space[0], space[1]), self.classes).to(torch.float32)
        try:
            return "" if self(inputs.leaf()).requires_grad else "the result has no gradient"
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:300]

    def compares(self) -> bool:
        """Whether of two tensors of one shape the first is a prediction of the second itself, and no logit of it."""
        if self.kind != "masks":
            return False
        inputs = make("masks", self.sizes[-1], self.classes)
        target = inputs.target
        try:
            same, other, logit = (float(self(replace(inputs, pred=p))) for p in (target, 1 - target, 40 * (2 * target - 1)))
        except Exception:  # what refuses to see anything but probabilities
            return True
        return same <= logit + 1e-9 and same < other

    def __call__(self, inputs: Inputs) -> Tensor:
        """Return the loss as one number; what gives several is summed."""
        given = [inputs.pred, inputs.target]
        named = {self.weight_name: inputs.weight} if inputs.weight is not None else {}
        result = self.loss(*given, **named)
        if isinstance(result, LossOutput):
            result = result.total
        elif isinstance(result, dict):
            result = sum(value for value in result.values() if isinstance(value, Tensor))
        if not isinstance(result, Tensor):
            raise TypeError(f"a call gives {type(result).__name__}, no tensor")
        return result if result.dim() == 0 else result.sum()

    def outcome(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return value and gradient."""
        leaf = inputs.leaf()
        value = self(leaf)
        (slope,) = torch.autograd.grad(value, leaf.pred, allow_unused=True)
        return value.detach(), torch.zeros_like(leaf.pred) if slope is None else slope

    def remade(self, **options: Any) -> Subject:
        """Return it with other options; of a class or function alone."""
        assert self.maker is not None
        changed = self.options | options
        return Subject(built_of(self.maker, changed), self.title, self.kind, self.classes, self.maker, changed, self.sizes)

    def ladder(self) -> Any:
        """Yield inputs from the smallest on."""
        return ladder(self.kind, self.classes, self.sizes)

    @property
    def weight_name(self) -> str:
        """The name of the argument that says how much each pixel counts; "" if there is none."""
        call = self.loss.forward if isinstance(self.loss, nn.Module) else self.loss
        if isinstance(self.loss, nn.Module) and "weight" in getattr(self.loss, "arguments", {}):
            return "weight"
        names = list(inspect.signature(call).parameters)[2:]
        taken = {} if isinstance(self.loss, nn.Module) else self.options
        return next((name for name in WEIGHTS if name in names and name not in taken), "")

    @property
    def ignored(self) -> int | None:
        """The label that does not count, where the loss has one."""
        value = getattr(self.loss, "ignore_index", self.options.get("ignore_index", self.options.get("ignore")))
        value = getattr(self.loss, "ignore", value) if value is None else value
        return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    @property
    def class_option(self) -> str:
        """The constructor's option with a number for each class; "" if there is none, or it is no class that was given."""
        if self.maker is None:
            return ""
        names = options_of(self.maker)
        free = [name for name in PER_CLASS if name in names]
        return next((name for name in free if not (name == self.weight_name and not isinstance(self.maker, type))), "")


def built_of(maker: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    """Return the loss that a class makes of options, or a function with them."""
    if not isinstance(maker, type):
        return partial(maker, **options) if options else maker
    try:
        return maker(**options)  # type: ignore[no-any-return]
    except LossError:
        raise
    except Exception as error:
        raise LossError(maker.__name__, "options", "what builds it", repr(options), f"{type(error).__name__}: {error}") from error
