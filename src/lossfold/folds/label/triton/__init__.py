"""The label fold on GPUs: the operators' kernels, and what they do not have."""

from __future__ import annotations

from torch import Tensor

from lossfold.engines import Lacks
from lossfold.folds.label.spec import LabelSpec

MOST_CLASSES, MOST_BINNED = 4096, 192


def lacks(spec: LabelSpec, scores: Tensor, labels: Tensor) -> Lacks:
    """Return what says of each engine whether it lacks what a call needs."""

    def of(engine: str) -> str:
        if engine != "triton":
            return ""
        if scores.dim() == 4 and scores.shape[2:] != labels.shape[1:]:
            return "interpolation to the labels' resolution yet"
        most = MOST_BINNED if spec.bins else MOST_CLASSES
        return f"{'histograms' if spec.bins else 'sums'} of more than {most} classes" if scores.shape[1] > most else ""

    return of
