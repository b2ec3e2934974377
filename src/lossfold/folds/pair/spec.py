"""What a pair fold can be asked for; see :mod:`lossfold.folds.label.spec`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

# The sums, per channel (p: prediction, t: target, d: p - t, w: 1, a region's value, or 1 where it is 0). A kind's
# code is its place here; `number` is what the kind takes.
KINDS = (
    "weight",  # sum of w
    "abs",  # sum of w |d|
    "square",  # sum of w d^2
    "smooth_abs",  # sum of w (|d| < beta ? d^2 / 2 beta : |d| - beta / 2), beta = number
    "charbonnier",  # sum of w sqrt(d^2 + number)
    "edge",  # sum of w (|Sx d| + |Sy d|), S: Sobel, padded as PADDINGS[number]
    "edge_of_pred",  # sum of w (|Sx p| + |Sy p|)
    "laplacian",  # sum of w |c| over the coefficients of the Laplacian pyramid of d at level `number`
    "laplacian_weight",  # sum of w there
    "low_pass",  # sum of w |g| over the image that is left after `number` levels
    "low_pass_weight",  # sum of w there
    "step",  # sum of w |f - p|, f: the next p along AXES[number], w: that of p; the last row or column has none
    "step_sq",  # sum of w (f - p)^2
    "step_weight",  # sum of w there
)
CONSTANT = ("weight", "laplacian_weight", "low_pass_weight", "step_weight")  # kinds that have no part of the prediction
LINKS = ("identity", "sigmoid")
PADDINGS = ("replicate", "zeros")
AXES = ("columns", "rows", "planes")  # from a column to the next, from a row to the next; in volumes from a plane to the next
SMALLEST_SIDE = 4  # an image with a smaller one has no further level


class PairSum(NamedTuple):
    """A sum: a kind of KINDS, its number, and where: "" everywhere, "name" weighted by that region, "~name" where it is 0."""

    kind: str
    number: float = 0.0
    where: str = ""

    @property
    def region(self) -> str:
        """The region's name, if there is one."""
        return self.where.removeprefix("~")

    @property
    def alone(self) -> bool:
        """Whether each pixel adds to it by itself, without its neighbours."""
        return self.level is None and not self.kind.startswith(("edge", "step"))

    @property
    def level(self) -> int | None:
        """The level of the pyramid that it is taken at; None for the image itself."""
        return int(self.number) if self.kind.startswith(("laplacian", "low_pass")) else None


@dataclass(frozen=True)
class PairSpec:
    """One pair fold: how predictions are read, and what is collected."""

    link: str
    sums: tuple[PairSum, ...]
