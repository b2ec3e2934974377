"""What a pass over the pixels is asked for: plain, hashable descriptions that every engine reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

Sum = tuple[str, float]  # a kind of KINDS and its gamma (0 where it has none)

# The sums of a label fold, per class c (w: pixel weight, p: probability, y: label). A kind's code is its place here.
KINDS = (
    "weight",  # sum of w where y = c
    "prob",  # sum of w p_c
    "prob_sq",  # sum of w p_c^2
    "prob_at_label",  # sum of w p_c where y = c
    "nll",  # sum of -w log p_c where y = c
    "nll_all",  # sum of -w log p_c over all counted pixels
    "focal",  # sum of -w (1 - p_c)^gamma log p_c where y = c
    "focal_weight",  # sum of w (1 - p_c)^gamma where y = c
    "hard_weight",  # sum of w over the hard pixels where y = c
    "hard_nll",  # sum of -w log p_c over the hard pixels where y = c
)
PROBABILITY_FLOOR = 1e-12  # with link="identity": -log p is -log(max(p, floor)), flat below
UNIT = 2.0**24  # histograms hold weights and positions as integers of 1 / UNIT


# The sums of a dense fold, per channel (w: weight, t: target, p: probability, q: 1 - p, u: p (1-t) + q t,
# ce: -t log p - (1-t) log q). A kind's code is its place here.
DENSE_KINDS = (
    "weight",  # sum of w
    "target",  # sum of w t
    "target_sq",  # sum of w t^2
    "prob",  # sum of w p
    "prob_sq",  # sum of w p^2
    "both",  # sum of w p t
    "apart",  # sum of w |p - t|
    "nll",  # sum of -w t log p
    "nll_all",  # sum of -w log p
    "nll_not",  # sum of -w (1-t) log q
    "nll_not_all",  # sum of -w log q
    "focal",  # sum of w t u^gamma ce
    "focal_not",  # sum of w (1-t) u^gamma ce
    "focal_weight",  # sum of w u^gamma
)
DENSE_LINKS = ("softmax", "sigmoid", "identity")  # how scores become p; a link's code is its place here
OCTAVES, REST = 16, 112  # of 1 + a hinge error: each in as many bins, and one bin for each further one


@dataclass(frozen=True)
class Bins:
    """A histogram of the errors for each class, foreground and background apart.

    Errors are those of the probabilities, |t - p|, in ``count`` equal bins; or with ``hinge`` those of the scores,
    max(0, 1 - z (2t - 1)), in bins that are patterns of the float 1 + error: (count - 112) / 16 of equal width in each of 16
    octaves, and one for each of 112 more.
    """

    count: int
    per_image: bool
    hinge: bool = False


@dataclass(frozen=True)
class Hard:
    """Which pixels are hard: those with p_y < thresh, and in any case the hardest.

    At least ``min_kept``, or the share ``ratio`` where it is given, of the counted pixels of the batch, or of each image;
    pixels as hard as the last of them are hard too.
    """

    thresh: float
    min_kept: int
    ratio: float | None
    per_image: bool


@dataclass(frozen=True)
class LabelSpec:
    """One label fold: how scores and labels are read, and what is collected."""

    softmax: bool
    ignore_index: int
    align_corners: bool
    sums: tuple[Sum, ...]
    bins: Bins | None = None
    hard: Hard | None = None

    @property
    def link(self) -> str:
        """How scores become probabilities."""
        return "softmax" if self.softmax else "identity"

    @property
    def reading(self) -> tuple[object, ...]:
        """How scores and labels are read."""
        return self.softmax, self.ignore_index, self.align_corners


@dataclass(frozen=True)
class DenseSpec:
    """One dense fold: how scores and targets are read, and what is collected."""

    link: str
    together: bool  # a pixel's channels count together (always with softmax): one weight, one value of the map
    ignore_index: int
    align_corners: bool
    sums: tuple[Sum, ...]
    bins: Bins | None = None

    @property
    def reading(self) -> tuple[object, ...]:
        """How scores and targets are read."""
        return self.link, self.together, self.ignore_index, self.align_corners


# The sums of a pair fold, per channel (p: prediction, t: target, d: p - t, w: 1, a region's value, or 1 where it is 0). A kind's
# code is its place here; `number` is what the kind takes.
PAIR_KINDS = (
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
PAIR_LINKS = ("identity", "sigmoid")
PADDINGS = ("replicate", "zeros")
AXES = ("columns", "rows")  # from a column to the next, from a row to the next
SMALLEST_SIDE = 4  # an image with a smaller one has no further level


class PairSum(NamedTuple):
    """A sum: a kind of PAIR_KINDS, its number, and where: "" everywhere, "name" weighted by that region, "~name" where it is 0."""

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


WINDOW_SUMS = ("weight", "ssim_error", "contrast_error")  # per channel, of the window's places: sums of w, w (1 - l c), w (1 - c)
WINDOW_PADDINGS = {"valid": "", "reflect": "reflect", "zeros": "constant"}  # what torch.nn.functional.pad calls them


@dataclass(frozen=True)
class WindowSpec:
    """One window fold: a Gaussian window, SSIM's constants, and at how many scales, each half as large as the one before."""

    window_size: int
    sigma: float
    k1: float
    k2: float
    data_range: float
    padding: str
    scales: int = 1

    @property
    def window(self) -> tuple[float, ...]:
        """The weights along one side; they sum to 1."""
        radius = self.window_size // 2
        weights = [math.exp(-((k - radius) ** 2) / (2 * self.sigma**2)) for k in range(self.window_size)]
        return tuple(weight / sum(weights) for weight in weights)
