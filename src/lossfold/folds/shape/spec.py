"""What a shape fold may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from lossfold.folds.scores import ScoreSpec

CONSTANT = ("weight", "target", "target_skeleton")
"""The kinds of sums that have no part of the scores."""


@dataclass(frozen=True)
class ShapeSpec(ScoreSpec):
    """How scores and targets are read, and what is collected.

    Attributes:
        together: whether a pixel's channels count together against targets of the scores' shape.
    """

    together: bool = False
