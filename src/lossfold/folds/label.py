"""The label fold: per-class sums of scores ``[B, C, *S]`` against integer labels ``[B, *S]``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lossfold import engines
from lossfold.engines import cpp, eager
from lossfold.engines.spec import LabelSpec as LabelSpec
from lossfold.errors import LossError
from lossfold.folds.fold import INTEGER_DTYPES, Fold, Needs, check_scores, check_weight, describe, result_dtype

ONE_CHANNEL = "for one channel of logits take link='sigmoid', or BinaryCrossEntropyLoss"


@dataclass(frozen=True)
class LabelNeeds(Needs[LabelSpec]):
    """What a loss wants collected by a label fold."""

    def agree(self, other: object) -> bool:
        """Whether one pass can serve both."""
        if not isinstance(other, LabelNeeds):
            return False
        mine, yours = self.spec.hard, other.spec.hard
        return self.reads_alike(other) and (mine is None or yours is None or mine == yours)

    def merge(self, other: LabelNeeds) -> LabelNeeds:
        """Return the needs of both."""
        spec = self.joined(other, hard=self.spec.hard or other.spec.hard)
        return replace(self, spec=spec, per_image=self.per_image or other.per_image)

    def collect(self, loss: str, scores: Tensor, labels: Tensor, weight: Tensor | None) -> Fold:
        """Make the pass over tensors that have been checked."""
        collected = self._fold(loss, scores, labels, weight)
        fixed = weight is None or not weight.requires_grad
        return Fold(collected.sums, collected.table, self.spec.sums, result_dtype(scores), "labels", fixed)

    def integrate(self, loss: str, coef: Tensor, scores: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
        """Return the map ``[B, *S]`` of each pixel's share, the sums weighted by ``coef [K, C]``."""
        kept = labels.new_empty(0, dtype=torch.uint8)
        if self.spec.hard:
            with torch.no_grad():
                kept = self._fold(loss, scores, labels, weight).kept
        run = cpp.label_map if engines.select(loss, self.engine, scores, weight) == "cpp" else eager.label_map
        with refusing_labels(loss, scores.shape[1], labels, self.spec.ignore_index):
            return run(scores, labels, weight, coef, kept, self.spec)

    def _fold(self, loss: str, scores: Tensor, labels: Tensor, weight: Tensor | None) -> eager.Collected:
        if scores.dim() == 2 and not self.per_image:  # without space, images that are added anyway serve as pixels
            scores, labels, weight = scores.t()[None], labels[None], None if weight is None else weight[None]
        run = cpp.label_fold if engines.select(loss, self.engine, scores, weight) == "cpp" else eager.label_fold
        with refusing_labels(loss, scores.shape[1], labels, self.spec.ignore_index):
            return run(scores, labels, weight, self.spec)


class refusing_labels:  # noqa: N801 - reads as a verb
    """Turn an engine's complaint about a label into a LossError (compiled code keeps the RuntimeError)."""

    def __init__(self, loss: str, classes: int, labels: Tensor, ignore_index: int) -> None:
        self.loss, self.classes, self.labels, self.ignore_index = loss, classes, labels, ignore_index

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, RuntimeError) or "lossfold: " not in str(error) or "out of range" not in str(error):
            return
        labels = self.labels.long()  # a uint8 would compare equal to an ignore_index below 0
        wrong = ((labels < 0) | (labels >= self.classes)) & (labels != self.ignore_index)
        expected = f"in [0, {self.classes}) or ignore_index={self.ignore_index}"
        found = f"also {sorted(set(labels[wrong].tolist()))[:5]}"
        raise LossError(self.loss, "labels", expected, found, ONE_CHANNEL if self.classes == 1 else "") from None


def check_label_inputs(loss: str, logits: object, labels: object, weight: object) -> tuple[Tensor, Tensor, Tensor | None]:
    """Refuse tensors that can't be folded, by shape, dtype and device; values are looked at in the pass.

    Returns:
        The tensors, the weight as ``[B, *S]``.
    """
    scores = check_scores(loss, logits, labels=labels, weight=weight)
    expected = (scores.shape[0], *scores.shape[2:])
    if not isinstance(labels, Tensor):
        raise LossError(loss, "labels", f"an integer tensor {list(expected)}", describe(labels))
    if labels.dtype not in INTEGER_DTYPES:
        indices = not labels.is_floating_point() or labels.dim() < scores.dim()
        hint = "class indices: call .long()" if indices else "this loss, or its link, takes no soft labels"
        raise LossError(loss, "labels", "int64, int32 or uint8", describe(labels), hint)
    images = scores.dim() == labels.dim() + 1 == 4 and labels.shape[0] == scores.shape[0]
    if images and min(*labels.shape[1:], *scores.shape[2:]) > 0:
        expected = tuple(labels.shape)  # scored at label resolution
    if tuple(labels.shape) != expected:
        squeezable = labels.dim() == scores.dim() and labels.shape[1] == 1
        hint = "call .squeeze(1)" if squeezable else f"for logits {list(scores.shape)}"
        hint = ONE_CHANNEL if squeezable and scores.shape[1] == 1 else hint
        raise LossError(loss, "labels", f"of shape {list(expected)}", describe(labels), hint)
    if labels.device != scores.device:
        raise LossError(loss, "labels", f"on the logits' device {scores.device}", str(labels.device))
    return scores, labels, check_weight(loss, weight, scores, expected)
