"""Sums of floats that are rounded once, so that neither order nor parts change a digit of them."""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

WIDTH = 8192
"""Values that are added to as many totals at once; they stay in a cache."""


def exact_sum(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the sum of finite float64 values as two floats: the sum, rounded once, and what that left out.

    Every addition keeps what it rounds off (Knuth's two-sum), so that the pair is right to about 100 bits. `math.fsum` of the
    pairs of an image's parts is that of all its values.
    """
    flat = values.reshape(-1)
    whole = len(flat) // WIDTH * WIDTH
    total, rest = np.zeros(WIDTH), np.zeros(WIDTH)
    for row in (*flat[:whole].reshape(-1, WIDTH), np.pad(flat[whole:], (0, WIDTH - len(flat) + whole))):
        new = total + row
        back = new - total
        rest += (total - (new - back)) + (row - back)
        total = new
    return rounded((*total.tolist(), *rest.tolist()))


def rounded(values: Iterable[float]) -> tuple[float, float]:
    """Return the sum of floats, rounded once, and what that left out."""
    values = tuple(values)
    high = math.fsum(values)
    return high, math.fsum((*values, -high))


class Total:
    """A sum that grows by arrays, in any order."""

    def __init__(self) -> None:
        self.parts: list[float] = [0.0]

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Add the values of an array."""
        self.parts = list(rounded((*self.parts, *exact_sum(values))))

    @property
    def value(self) -> float:
        """The sum of all, rounded once."""
        return self.parts[0]
