"""AbsRel, RMSE and δ1 of held-out images, and the table that a run ends with."""

import math
from dataclasses import asdict, dataclass

from rich.table import Table

from lossfold.metrics import DepthMetrics

TITLES = {"abs_rel": "AbsRel (less is better)", "rmse": "RMSE (less is better)", "delta1": "δ1 (more is better)"}
"""Each score and its name."""


@dataclass(frozen=True)
class DepthScores:
    """Means over the images, of the pixels that were measured.

    Args:
        abs_rel: mean of |p - t| / t.
        rmse: root of the mean of (p - t)², in the unit of the depths.
        delta1: share of the pixels that are less than 25 % off.
    """

    abs_rel: float
    rmse: float
    delta1: float

    @classmethod
    def of(cls, metrics: DepthMetrics) -> "DepthScores":
        """Read what has been added up."""
        return cls(**{name: float(value) for name, value in metrics.compute().items()})


def shown(scores: DepthScores | None, name: str) -> str:
    """One score for people; a dash where there is none."""
    value = math.nan if scores is None else getattr(scores, name)
    return "–" if math.isnan(value) else f"{value:.3f}"


def numbers(scores: DepthScores | None) -> dict[str, float | None] | None:
    """Plain values for a file, None in place of what is not finite."""
    if scores is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in asdict(scores).items()}


def score_table(constant: DepthScores | None, before: DepthScores | None, after: DepthScores) -> Table:
    """The scores of the typical depth everywhere, of the untrained network and of the trained one."""
    table = Table(title="Means over held-out images")
    table.add_column("")
    for title in ("constant", "before", "after"):
        table.add_column(title, justify="right")
    for name, title in TITLES.items():
        table.add_row(title, *(shown(scores, name) for scores in (constant, before, after)))
    return table
