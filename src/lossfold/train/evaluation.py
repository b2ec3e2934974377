"""IoU per class from a confusion matrix, and the table that a run ends with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor


def confusion(predicted: Tensor, labels: Tensor, classes: int, ignore_index: int) -> Tensor:
    """Count pixels by (truth, prediction); ignored ones nowhere. Returns `[classes,classes]` int64."""
    pairs = labels.long() * classes + predicted
    pairs = torch.where(labels == ignore_index, classes * classes, pairs)
    counts = torch.bincount(pairs.flatten(), minlength=classes * classes + 1)[:-1]
    return counts.view(classes, classes)


@dataclass(frozen=True)
class Scores:
    """IoU of each class over a set of images.

    Args:
        iou: one value per class; None where a class is neither present nor predicted.
        pixels: number of labelled pixels of each class.
    """

    iou: list[float | None]
    pixels: list[int]

    @classmethod
    def of(cls, confusion: Tensor) -> "Scores":
        """Score a confusion matrix `[C,C]` (rows: truth, columns: prediction)."""
        matrix = confusion.double().cpu()
        hit, truth = matrix.diagonal(), matrix.sum(1)
        union = truth + matrix.sum(0) - hit
        iou = [float(h / u) if u > 0 else None for h, u in zip(hit, union, strict=True)]
        return cls(iou, [int(count) for count in truth])

    @property
    def mean(self) -> float:
        """Mean over the classes that have an IoU; NaN when none has."""
        known = [value for value in self.iou if value is not None]
        return math.fsum(known) / len(known) if known else math.nan


def percent(value: float | None) -> str:
    """An IoU for people; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def score_table(class_names: Sequence[str], before: Scores | None, after: Scores) -> Table:
    """IoU per class on the held-out images, before the training and after it."""
    table = Table(title="IoU on held-out images")
    table.add_column("class")
    for title in ("share of pixels", "before", "after"):
        table.add_column(title, justify="right")
    total = max(1, sum(after.pixels))
    for index, name in enumerate(class_names):
        old = before.iou[index] if before else None
        table.add_row(name, f"{100 * after.pixels[index] / total:.1f} %", percent(old), percent(after.iou[index]))
    table.add_section()
    table.add_row("mean (mIoU)", "", percent(before.mean if before else None), percent(after.mean), style="bold")
    return table
