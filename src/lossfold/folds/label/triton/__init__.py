"""The label fold on GPUs: the operators' kernels, and what they do not have."""

from __future__ import annotations

from torch import Tensor

from lossfold.engines import Lacks
from lossfold.folds.label.spec import LabelSpec

SUMS = ("weight", "prob", "prob_sq", "prob_at_label", "nll", "nll_all", "focal", "focal_weight", "hard_weight", "hard_nll")
MOST_CLASSES, MOST_WHOLE = 4096, 192  # at all, and with histograms or interpolation, for which a program has all classes of a pixel
MOST_WIDE = 64  # labels to a score along a row


def lacks(spec: LabelSpec, scores: Tensor, labels: Tensor) -> Lacks:
    """Return what says of each engine whether it lacks what a call needs."""

    def of(engine: str) -> str:
        if engine != "triton":
            return ""
        if scores.dim() == 5 and scores.shape[2:] != labels.shape[1:]:
            return "interpolation of volumes"
        for kind, _ in spec.sums:
            if kind not in SUMS:
                return f"the sum {kind!r}"
        classes, resized = scores.shape[1], scores.dim() == 4 and scores.shape[2:] != labels.shape[1:]
        if resized and labels.shape[2] > MOST_WIDE * scores.shape[3]:
            return f"interpolation to more than {MOST_WIDE} labels for a score"
        what = "histograms" if spec.bins else "interpolation" if resized else ""
        if what and classes > MOST_WHOLE:
            return f"{what} of more than {MOST_WHOLE} classes"
        return f"sums of more than {MOST_CLASSES} classes" if classes > MOST_CLASSES else ""

    return of


def lacks_once(spec: LabelSpec, scores: Tensor, labels: Tensor, engine: str) -> bool:
    """Whether an engine that makes one pass for value and gradient makes two here."""
    resized = scores.dim() == 4 and scores.shape[2:] != labels.shape[1:]
    return engine == "triton" and (resized or scores.shape[1] > MOST_WHOLE)
