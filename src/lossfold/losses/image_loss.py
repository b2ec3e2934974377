"""What losses of a prediction and a target of its kind have in common, whichever fold they are over."""

from __future__ import annotations

from torch import Tensor

from lossfold import engines
from lossfold.errors import wrong
from lossfold.losses.folded import Folded
from lossfold.losses.reduce import REDUCTIONS, Ratio, divide
from lossfold.options import configured, option


@configured
class ImageLoss(Folded):
    """A loss whose mean is over the batch, or with ``sample_wise`` over the samples' own means.

    A sample in which nothing counts has the mean 0 and counts, as MMagic has it (``per_image`` of losses of scores leaves it out).
    """

    reduction: str = option("mean", words=REDUCTIONS)
    sample_wise: bool = option(False)
    engine: str | None = option(None, words=engines.NAMES)

    def settle(self) -> None:
        """Refuse wrong options."""
        super().settle()
        self.require("sample_wise", not self.sample_wise or self.reduction == "mean", "False unless reduction='mean'")

    @property
    def second(self) -> str:
        """How the samples' own losses are averaged."""
        return "all" if self.sample_wise else ""

    @property
    def apart(self) -> bool:
        """Whether the formula is to be one of each sample."""
        return self.of_each or self.sample_wise or self.reduction == "none"

    def unreduced(self, ratio: Ratio) -> Tensor:
        """Return the loss of each sample and channel, ``[B, C]``."""
        values = divide(*ratio)
        return values.sum(0) if values.dim() == 3 else values

    def check_map(self) -> None:
        """Refuse a forced engine that has no maps."""
        choice = engines.forced(self.engine)
        if choice not in (None, "eager"):
            expected, why = "'eager' or None for reduction='none'", "maps are PyTorch's own in every engine"
            raise wrong("engine", expected, repr(choice), why)
