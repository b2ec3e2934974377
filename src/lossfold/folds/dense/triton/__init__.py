"""The dense fold on GPUs: the operators' kernels, and what they do not have."""

from __future__ import annotations

import math

from torch import Tensor

from lossfold.engines import MOST_PLACES, Lacks
from lossfold.folds.dense.spec import PLAIN, DenseSpec

MOST_CHANNELS = 1536  # that softmax has together
ALONE = ("nll_not", "nll_not_all", "focal", "focal_not", "focal_weight")  # sums of channels by themselves
WITH_SOFTMAX = ("weight", "target", "target_sq", "map_size", "prob", "prob_sq", "both", "apart", "map_prob", "nll", "nll_all")


def lacks(spec: DenseSpec, scores: Tensor, targets: Tensor) -> Lacks:
    """Return what says of each engine whether it lacks what a call needs."""

    def of(engine: str) -> str:
        plain = [kind for kind, _ in spec.sums if kind in PLAIN]
        if engine != "eager" and plain:
            return f"the sum {plain[0]!r}"
        if engine != "triton":
            return ""
        if math.prod(targets.shape[2:]) > MOST_PLACES:
            return f"images of more than {MOST_PLACES} targets a channel"
        known = WITH_SOFTMAX if spec.link == "softmax" else (*WITH_SOFTMAX, *ALONE)
        others = [kind for kind, _ in spec.sums if kind not in known]
        if others:
            return f"the sum {others[0]!r} with link={spec.link!r}"
        if spec.link != "softmax":
            return ""
        if spec.bins:
            return "histograms of softmax against targets"
        return f"softmax over more than {MOST_CHANNELS} channels of targets" if scores.shape[1] > MOST_CHANNELS else ""

    return of


def lacks_once(spec: DenseSpec, engine: str) -> bool:
    """Whether an engine that makes one pass for value and gradient makes two here."""
    return engine == "triton" and spec.link == "softmax"
