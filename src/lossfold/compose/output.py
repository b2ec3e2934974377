"""What a set returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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

    def backward(self) -> None:
        """Differentiate the total."""
        self.total.backward()  # type: ignore[no-untyped-call]

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
