"""What a set returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import register_pytree_node, tree_map


@dataclass(frozen=True)
class LossOutput:
    """What a set returns; the keys are the same at every call.

    Attributes:
        total: the scalar to differentiate, the sum of ``weighted``.
        terms: every term before its weight, detached, for logging; 0 in the steps that an interval leaves out.
        weighted: every term times its weight, with its graph; in compiled code without, because torch.compile (seen in torch 2.14)
            fails in the backward of a graph that has differentiable outputs nobody differentiates.
    """

    total: Tensor
    terms: dict[str, Tensor]
    weighted: dict[str, Tensor]

    def closed(self) -> LossOutput:
        """Return what leaves a graph: in compiled code the weighted terms without theirs."""
        if not torch.compiler.is_compiling():
            return self
        return LossOutput(self.total, self.terms, {name: value.detach() for name, value in self.weighted.items()})

    def backward(self, *args: Any, **named: Any) -> None:
        """Differentiate the total; arguments are those of :meth:`torch.Tensor.backward`."""
        self.total.backward(*args, **named)  # type: ignore[no-untyped-call]

    # Where a scalar is expected, it is its total: 0.5 * criterion(...), sum(criterion(...) for ...), float(out).

    def item(self) -> float:
        """Return the total as a number."""
        return float(self.total.detach())

    def detach(self) -> Tensor:
        """Return the total without its graph."""
        return self.total.detach()

    def __float__(self) -> float:
        return self.item()

    def __mul__(self, factor: Any) -> Tensor:
        return self.total * scalar_of(factor)  # type: ignore[no-any-return]

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Tensor:
        return self.total / scalar_of(divisor)  # type: ignore[no-any-return]

    def __add__(self, other: Any) -> Tensor:
        return self.total + scalar_of(other)  # type: ignore[no-any-return]

    __radd__ = __add__

    def __sub__(self, other: Any) -> Tensor:
        return self.total - scalar_of(other)  # type: ignore[no-any-return]

    def __rsub__(self, other: Any) -> Tensor:
        return scalar_of(other) - self.total  # type: ignore[no-any-return]

    def __neg__(self) -> Tensor:
        return -self.total

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # torch.stack([out, out]), tensor + out, torch.isfinite(out): functions of tensors are those of the totals.
        totals = tree_map(scalar_of, (args, kwargs or {}), is_leaf=lambda one: isinstance(one, LossOutput))
        return function(*totals[0], **totals[1])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(Tensor, name):
            raise AttributeError(f"LossOutput has no {name!r}")
        raise AttributeError(
            f"LossOutput has no {name!r}: its scalar is .total, a tensor; .terms and .weighted are those of the terms"
        )

    def log(self, prefix: str = "") -> dict[str, Tensor]:
        """Return the total and every term, detached, under ``prefix`` + name: what loggers take."""
        return {f"{prefix}total": self.total.detach()} | {f"{prefix}{name}": value for name, value in self.terms.items()}

    def as_mmengine(self) -> dict[str, Tensor]:
        """Return what an MMEngine model's ``loss()`` returns: MMEngine adds up all whose name contains "loss", so no other does.

        In compiled code it is the total alone, under "loss".
        """
        if self.total.requires_grad and not any(value.requires_grad for value in self.weighted.values()):  # in compiled code
            return {"loss": self.total}
        return {f"loss_{name}": value for name, value in self.weighted.items()}


def scalar_of(value: Any) -> Any:
    """Return the total of what a set returned; anything else as it is."""
    return value.total if isinstance(value, LossOutput) else value


# What torch.export, vmap and other functions of nested tensors see in it.
register_pytree_node(
    LossOutput,
    lambda out: ([out.total, out.terms, out.weighted], None),
    lambda parts, _: LossOutput(*parts),
    serialized_type_name="lossfold.LossOutput",
)
