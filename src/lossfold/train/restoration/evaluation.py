"""PSNR and SSIM of held-out images, and the table that a run ends with."""

import math
from dataclasses import asdict, dataclass

from rich.table import Table
from torch import Tensor

from lossfold.metrics import RestorationMetrics

TITLES = {"psnr": "PSNR in dB", "ssim": "SSIM"}
"""Each score and its unit."""

LARGEST = 100.0
"""PSNR in decibels of an image that is exactly right: with inf no later mean would be better, and the training would stop."""


class FiniteMetrics(RestorationMetrics):
    """PSNR, at most `LARGEST` for each image, and SSIM."""

    def shown(self, values: Tensor) -> Tensor:
        """Return what a mean can improve on."""
        return values.clamp(max=LARGEST)


@dataclass(frozen=True)
class RestorationScores:
    """Means over the images.

    Args:
        psnr: peak signal-to-noise ratio in decibels, over all channels, of each image at most `LARGEST`.
        ssim: structural similarity, at most 1.
    """

    psnr: float
    ssim: float

    @classmethod
    def of(cls, metrics: RestorationMetrics) -> "RestorationScores":
        """Read what has been added up."""
        return cls(**{name: float(value) for name, value in metrics.compute().items()})


def shown(scores: RestorationScores | None, name: str) -> str:
    """One score for people; a dash where there is none."""
    value = math.nan if scores is None else getattr(scores, name)
    return "–" if math.isnan(value) else f"{value:.2f}" if name == "psnr" else f"{value:.4f}"


def numbers(scores: RestorationScores | None) -> dict[str, float | None] | None:
    """Plain values for a file, None in place of what is not finite."""
    if scores is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in asdict(scores).items()}


def input_name(scale: int) -> str:
    """What the degraded image is called where it stands beside the network's."""
    return "bicubic" if scale > 1 else "input"


def score_table(
    scale: int, degraded: RestorationScores | None, before: RestorationScores | None, after: RestorationScores
) -> Table:
    """PSNR and SSIM of the degraded images, of the untrained network's and of the trained one's."""
    table = Table(title="Means over held-out images")
    table.add_column("more is better")
    for title in (input_name(scale), "before", "after"):
        table.add_column(title, justify="right")
    for name, title in TITLES.items():
        table.add_row(title, shown(degraded, name), shown(before, name), shown(after, name))
    return table
