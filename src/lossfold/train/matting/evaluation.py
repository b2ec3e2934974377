"""SAD, MSE, Grad and Conn of held-out images, and the table that a run ends with."""

import math
from dataclasses import asdict, dataclass

from rich.table import Table

from lossfold.metrics import MattingMetrics

TITLES = {"sad": "SAD / 1000", "mse": "MSE x 1000", "grad": "Grad / 1000", "conn": "Conn / 1000"}
"""Each error and its unit as papers print it; `lossfold.metrics` leaves MSE as it is."""


@dataclass(frozen=True)
class MattingScores:
    """Errors over the unknown region, means over the images; NaN where no image has one.

    Args:
        sad: sum of absolute differences, in thousands.
        mse: mean squared difference.
        grad: gradient error, in thousands.
        conn: connectivity error, in thousands.
    """

    sad: float
    mse: float
    grad: float
    conn: float

    @classmethod
    def of(cls, metrics: MattingMetrics) -> "MattingScores":
        """Read what has been added up."""
        return cls(**{name: float(value) for name, value in metrics.compute().items()})


def shown(scores: MattingScores | None, name: str) -> str:
    """One error for people, in the unit of its title; a dash where there is none."""
    value = math.nan if scores is None else getattr(scores, name) * (1000 if name == "mse" else 1)
    return "–" if math.isnan(value) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def numbers(scores: MattingScores | None) -> dict[str, float | None] | None:
    """Plain values for a file, None in place of NaN."""
    return None if scores is None else {name: None if math.isnan(value) else value for name, value in asdict(scores).items()}


def score_table(trimap: MattingScores | None, before: MattingScores | None, after: MattingScores) -> Table:
    """The four errors of the trimap taken as an alpha, of the untrained network and of the trained one."""
    table = Table(title="Errors over the unknown region, means over held-out images")
    table.add_column("less is better")
    for title in ("trimap as alpha", "before", "after"):
        table.add_column(title, justify="right")
    for name, title in TITLES.items():
        table.add_row(title, shown(trimap, name), shown(before, name), shown(after, name))
    return table
