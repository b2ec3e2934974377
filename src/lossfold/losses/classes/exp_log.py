"""Cross entropy raised to a power, pixel by pixel: what the exponential logarithmic loss is made of, beside Dice."""

from __future__ import annotations

from torch import Tensor

from lossfold.folds.arithmetic import total_dtype
from lossfold.folds.scores import Given
from lossfold.losses.powers import power_from_grain
from lossfold.losses.reduce import Ratio
from lossfold.losses.summed import SummedLoss
from lossfold.options import configured, option

NLL = ("nll", 0.0)


@configured
class PowerCrossEntropy(SummedLoss):
    r"""Cross entropy of single pixels to a power, Σ w v_y max(-log p_y, 1e-7)^γ / Σ w v_y: a term of :class:`ExpLogLoss`.

    Args:
        exponent: γ > 0.
        class_weight, link, ignore_index, reduction, per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for
            :class:`CrossEntropyLoss`.
    """

    exponent: float = option(0.3, more_than=0)

    def sums_of(self, given: Given) -> tuple[Tensor, ...]:
        """Return Σ w (-log p_y)^γ and Σ w within the pixels of each class."""
        labels, w = self.counted_pixels(given)
        scores = given.tensors[0]
        needs = self.needs(given).asking(sums=(NLL,))
        nll = needs.integrate(scores.new_ones((1, scores.shape[1]), dtype=total_dtype(scores)), given.other(weight=w != 0))
        power = power_from_grain(nll, self.exponent)
        return self.by_class(w * power, labels, scores.shape[1]), self.by_class(w, labels, scores.shape[1])

    def ratio_of(self, *sums: Tensor) -> Ratio:
        """Return the classes' sums and weights."""
        v = self.numbers_for("class_weight", sums[0])
        above, below = sums if v is None else (part * v for part in sums)
        return Ratio(above, below)
