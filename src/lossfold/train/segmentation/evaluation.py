"""IoU per class or channel from counts of pixels, and the table that a run ends with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from lossfold.folds.arithmetic import equals


def channel_counts(predicted: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
    """Count each channel's pixels: right yeses, true ones, predicted ones, all that count. Returns `[K,4]` int64.

    Args:
        predicted: `[B,K,H,W]` bool.
        targets: 0 and 1, `[B,K,H,W]`, or `[B,H,W]` where K is 1.
        ignore_index: value of the targets that count nowhere.
    """
    targets = targets.reshape(predicted.shape)
    counted = ~equals(targets, ignore_index)
    true, predicted = (targets == 1) & counted, predicted & counted
    return torch.stack([part.sum((0, 2, 3)) for part in (true & predicted, true, predicted, counted)], 1)


@dataclass(frozen=True)
class Scores:
    """IoU of each class over a set of images.

    Args:
        iou: one value per class; None where a class is neither present nor predicted.
        pixels: number of labelled pixels of each class.
        counted: number of pixels that could have been of each class.
        shapes: scores of shapes by name, where they are asked for.
    """

    iou: list[float | None]
    pixels: list[int]
    counted: list[int]
    shapes: dict[str, float] | None = None

    @classmethod
    def of(cls, confusion: Tensor) -> "Scores":
        """Score a confusion matrix `[C,C]` (rows: truth, columns: prediction)."""
        total = confusion.sum().expand(len(confusion))
        return cls.of_channels(torch.stack([confusion.diagonal(), confusion.sum(1), confusion.sum(0), total], 1))

    @classmethod
    def of_channels(cls, counts: Tensor) -> "Scores":
        """Score the counts `[K,4]` of `channel_counts`."""
        hit, truth, predicted, counted = counts.cpu().T.tolist()
        unions = [t + p - h for h, t, p in zip(hit, truth, predicted, strict=True)]
        iou = [h / union if union > 0 else None for h, union in zip(hit, unions, strict=True)]
        return cls(iou, [int(count) for count in truth], [int(count) for count in counted])

    @property
    def shares(self) -> list[float]:
        """Share of each class among the pixels that could have been of it."""
        return [pixels / max(1, counted) for pixels, counted in zip(self.pixels, self.counted, strict=True)]

    @property
    def mean(self) -> float:
        """Mean over the classes that have an IoU; NaN when none has."""
        known = [value for value in self.iou if value is not None]
        return math.fsum(known) / len(known) if known else math.nan


def percent(value: float | None) -> str:
    """An IoU for people; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def shape_rows(before: Scores | None, after: Scores) -> list[tuple[str, str, str]]:
    """Scores of shapes, before the training and after it, for people."""
    rows = []
    for name, value in (after.shapes or {}).items():
        old = before.shapes[name] if before and before.shapes else None
        first, last = (("–" if x is None else f"{x:.2f}") if name == "betti0_error" else percent(x) for x in (old, value))
        rows.append((SHAPES[name], first, last))
    return rows


SHAPES = {
    "cldice": "centreline Dice (clDice)",
    "betti0_error": "parts too many or few (Betti-0 error)",
    "boundary_f1": "boundary F1, within 1 pixel",
}
"""Scores of shapes, as people call them."""


def score_table(class_names: Sequence[str], before: Scores | None, after: Scores) -> Table:
    """IoU per class on the held-out images, before the training and after it."""
    table = Table(title="IoU on held-out images")
    table.add_column("class")
    for title in ("share of pixels", "before", "after"):
        table.add_column(title, justify="right")
    for index, name in enumerate(class_names):
        old = before.iou[index] if before else None
        table.add_row(escape(name), percent(after.shares[index]), percent(old), percent(after.iou[index]))
    table.add_section()
    table.add_row("mean (mIoU)", "", percent(before.mean if before else None), percent(after.mean), style="bold")
    for title, *values in shape_rows(before, after):
        table.add_row(title, "", *values)
    return table
