"""What a window fold can be asked for; see :mod:`lossfold.folds.label.spec`."""

from __future__ import annotations

import math
from dataclasses import dataclass

KINDS = ("weight", "ssim_error", "contrast_error")  # per channel, of the window's places: sums of w, w (1 - l c), w (1 - c)
BESIDE = ("pixel_weight", "difference")  # over the image's pixels, not the window's places: sums of w, w |d|
CONSTANT = ("weight", "pixel_weight")
LINKS = ("identity", "sigmoid")
WINDOWS = ("gaussian", "uniform")
PADDINGS = {"valid": "", "reflect": "reflect", "zeros": "constant"}  # what torch.nn.functional.pad calls them


@dataclass(frozen=True)
class WindowSpec:
    """One window fold: a window, SSIM's constants, and at how many scales, each half as large as the one before."""

    window_size: int
    sigma: float
    k1: float
    k2: float
    data_range: float
    padding: str
    scales: int = 1
    whole: tuple[int, ...] = (0,)  # the scales at which luminance is asked for as well; contrast alone at the others
    shape: str = "gaussian"  # of WINDOWS
    link: str = "identity"  # of LINKS
    beside: bool = False  # whether the sums of BESIDE are asked for

    @property
    def window(self) -> tuple[float, ...]:
        """The weights along one side; they sum to 1."""
        if self.shape == "uniform":
            return (1 / self.window_size,) * self.window_size
        radius = self.window_size // 2
        weights = [math.exp(-((k - radius) ** 2) / (2 * self.sigma**2)) for k in range(self.window_size)]
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def inset(self) -> int:
        """How many rows and columns at each border have no place of the window in their middle."""
        return self.window_size // 2 if self.padding == "valid" else 0

    @property
    def border(self) -> int:
        """How many rows and columns of zeros stand around the images."""
        return self.window_size // 2 if self.padding == "zeros" else 0

    @property
    def constants(self) -> tuple[tuple[float, ...], float, float]:
        """What engines take beside tensors: the window, c1 and c2."""
        return self.window, (self.k1 * self.data_range) ** 2, (self.k2 * self.data_range) ** 2
