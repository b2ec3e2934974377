"""What losses of a prediction and a target of its kind have in common, whichever fold they are over."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lossfold import engines
from lossfold.errors import LossError
from lossfold.losses.base import Folded
from lossfold.losses.folded import REDUCTIONS


class ImageLoss(Folded):
    """A loss whose mean is over the batch, or with ``sample_wise`` over the samples' own means."""

    reduction: str
    sample_wise: bool
    engine: str | None

    def validate(self) -> None:
        """Refuse wrong options."""
        super().validate()
        self.require_one_of("reduction", REDUCTIONS)
        self.require("sample_wise", isinstance(self.sample_wise, bool), "True or False")
        self.require("sample_wise", not self.sample_wise or self.reduction == "mean", "False unless reduction='mean'")
        engines.check_name(type(self).__name__, "engine", self.engine)

    def mean_of_samples(self, fold: Any, loss: str, given: Any) -> Tensor:
        """Return the mean of the samples' own means."""
        each = self.each_sample(fold, loss, given)
        return each.sum() / max(1, len(each))

    def check_map(self, loss: str) -> None:
        """Refuse a forced engine that has no maps."""
        if engines.forced(loss, self.engine) == "cpp":
            expected, why = "'eager' or None for reduction='none'", "maps are PyTorch's own in every engine"
            raise LossError(loss, "engine", expected, "'cpp'", why)

    def raw(self, *inputs: Any, **named: Any) -> Tensor:
        """Return the loss before ``loss_weight``."""
        name = type(self).__name__
        return self.of(name, self.check(name, *inputs, **named))
