"""Scores of one channel's shape over the held-out images: each the mean of the images' own."""

from torch import Tensor

from lossfold.metrics import Betti0Error, BoundaryF1, CLDice


class ShapeScores:
    """Centreline Dice and boundary F1 as fractions, and how many parts are too many or few.

    Args:
        ignore_index: label of pixels that count nowhere.
    """

    def __init__(self, ignore_index: int) -> None:
        self.metrics = {
            "cldice": CLDice(2, ignore=ignore_index, fraction=True),
            "betti0_error": Betti0Error(2, ignore=ignore_index),
            "boundary_f1": BoundaryF1(2, tolerance=1, ignore=ignore_index, fraction=True),
        }

    def reset(self) -> None:
        """Begin anew."""
        for metric in self.metrics.values():
            metric.reset()

    def update(self, preds: Tensor, labels: Tensor) -> None:
        """Add images: class maps `[B,H,W]` of 0 and 1."""
        for metric in self.metrics.values():
            metric.to(preds.device).update(preds, labels)

    def compute(self) -> dict[str, float]:
        """Score the foreground, over all ranks."""
        return {name: float(metric.sync().compute()[1]) for name, metric in self.metrics.items()}
