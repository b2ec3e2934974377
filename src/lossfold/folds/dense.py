"""The dense fold: per-channel sums of scores ``[B, K, *S]`` against targets of the same shape in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lossfold import engines
from lossfold.engines import cpp_dense, eager_dense
from lossfold.engines.spec import DenseSpec as DenseSpec
from lossfold.errors import LossError
from lossfold.folds.fold import (
    INTEGER_DTYPES,
    SCORE_DTYPES,
    Fold,
    Needs,
    check_scores,
    check_weight,
    describe,
    result_dtype,
)


@dataclass(frozen=True)
class DenseNeeds(Needs[DenseSpec]):
    """What a loss wants collected by a dense fold."""

    target: str  # "masks": targets that are 0 or 1; "soft": anything between

    def agree(self, other: object) -> bool:
        """Whether one pass can serve both."""
        return isinstance(other, DenseNeeds) and self.target == other.target and self.reads_alike(other)

    def merge(self, other: DenseNeeds) -> DenseNeeds:
        """Return the needs of both."""
        return replace(self, spec=self.joined(other), per_image=self.per_image or other.per_image)

    def collect(self, loss: str, scores: Tensor, targets: Tensor, weight: Tensor | None) -> Fold:
        """Make the pass over tensors that have been checked."""
        fixed = not targets.requires_grad and (weight is None or not weight.requires_grad)
        dtype = result_dtype(scores)
        serves = engines.select(loss, self.engine, scores, weight, targets)
        if scores.dim() == 2 and not self.per_image:  # without space, images that are added anyway serve as pixels
            scores, targets = scores.t()[None], targets.t()[None]
            weight = None if weight is None else (weight.t() if weight.dim() == 2 else weight)[None]
        run = cpp_dense.dense_fold if serves == "cpp" else eager_dense.dense_fold
        with refusing_targets(loss, targets, self.spec.ignore_index):
            collected = run(scores, targets, weight, self.spec)
        return Fold(collected.sums, collected.table, self.spec.sums, dtype, self.target, fixed)

    def integrate(self, loss: str, coef: Tensor, scores: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        """Return each element's share (each pixel's, where channels count together) of the sums weighted by ``coef [K, C]``."""
        serves = engines.select(loss, self.engine, scores, weight, targets)
        run = cpp_dense.dense_map if serves == "cpp" else eager_dense.dense_map
        with refusing_targets(loss, targets, self.spec.ignore_index):
            return run(scores, targets, weight, coef, self.spec)


class refusing_targets:  # noqa: N801 - reads as a verb
    """Turn an engine's complaint about a target into a LossError (compiled code keeps the RuntimeError)."""

    def __init__(self, loss: str, targets: Tensor, ignore_index: int) -> None:
        self.loss, self.targets, self.ignore_index = loss, targets, ignore_index

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, RuntimeError) or ("lossfold: a target" not in str(error) and "lossfold: target" not in str(error)):
            return
        whole = not self.targets.is_floating_point()
        values = self.targets.detach().double()
        wrong = ~((values >= -0.01) & (values <= 1.01)) & ~(
            values == self.ignore_index if whole else torch.zeros_like(values).bool()
        )
        found = sorted({round(x, 4) for x in values[wrong][:1000].tolist()})[:5]
        expected = f"0, 1 or ignore_index={self.ignore_index}" if whole else "in [0, 1]"
        largest = values[wrong].max().item() if bool(wrong.any()) else 0
        hint = "divide by 255" if largest == 255 else ""
        if not whole and found == [self.ignore_index]:
            hint = f"floats have no label to ignore: use integer targets, or weight=targets != {self.ignore_index}"
        raise LossError(self.loss, "labels", expected, f"also {found}", hint) from None


def check_dense_inputs(
    loss: str, logits: object, targets: object, weight: object, *, together: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Refuse tensors that can't be folded, by shape, dtype and device; values are looked at in the pass.

    Args:
        loss: who asks, for errors.
        logits, targets, weight: what is checked.
        together: whether a pixel's channels count together, so that a weight belongs to a pixel.

    Returns:
        The tensors, targets as ``[B, K, *S]``, the weight as ``[B, *S]`` or ``[B, K, *S]``.
    """
    scores = check_scores(loss, logits, labels=targets, weight=weight)
    expected = tuple(scores.shape)
    if not isinstance(targets, Tensor):
        raise LossError(loss, "labels", f"a tensor {list(expected)} of targets in [0, 1]", describe(targets))
    if targets.dtype not in (*SCORE_DTYPES, *INTEGER_DTYPES, torch.bool):
        raise LossError(loss, "labels", "float, bool, int64, int32 or uint8", describe(targets))
    if scores.shape[1] == 1 and targets.dim() == scores.dim() - 1:
        targets = targets.unsqueeze(1)
    alike = targets.dim() == scores.dim() and targets.shape[:2] == scores.shape[:2]
    if scores.dim() == 4 and alike and min(*targets.shape[2:], *scores.shape[2:]) > 0:
        expected = tuple(targets.shape)  # scored at the targets' resolution
    if tuple(targets.shape) != expected:
        hint = f"for logits {list(scores.shape)}"
        if targets.dim() == scores.dim() - 1 and not targets.is_floating_point():
            hint = f"of class indices: one_hot(labels, {scores.shape[1]}).movedim(-1, 1)"
        elif targets.dim() > 2 and targets.movedim(-1, 1).shape == expected:
            hint = "call .movedim(-1, 1)"
        raise LossError(loss, "labels", f"targets of shape {list(expected)}", describe(targets), hint)
    if targets.device != scores.device:
        raise LossError(loss, "labels", f"on the logits' device {scores.device}", str(targets.device))
    pixels = (expected[0], *expected[2:])
    shapes = (pixels,) if together and expected[1] > 1 else (pixels, expected)
    return scores, targets, check_weight(loss, weight, scores, *shapes)
