"""The label fold: per-class sums of scores ``[B, C, *S]`` against integer labels ``[B, *S]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lossfold import engines
from lossfold.engines import cpp, eager
from lossfold.engines.spec import LabelSpec as LabelSpec
from lossfold.engines.spec import Sum as Sum
from lossfold.errors import LossError

LINKS = ("softmax", "identity")
SCORE_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LABEL_DTYPES = (torch.int64, torch.int32, torch.uint8)


@dataclass(frozen=True)
class LabelFold:
    """What was collected: ``fold[kind, gamma]`` is ``[I, C]``, with I images, or 1 once they are added.

    Folds of tiles, micro-batches and ranks add up: ``a + b`` (which pixels are hard is decided within each).
    """

    sums: Tensor  # [I, K, C] float64
    table: Tensor  # [I, 4, C, bins] float64, see eager.Collected
    wanted: tuple[Sum, ...]
    dtype: torch.dtype  # of the results
    fixed_weight: bool = True  # the pixel weights need no gradient, so their sums have none

    def __getitem__(self, key: Sum) -> Tensor:
        index = place(self.wanted, key)
        if index < 0:
            raise KeyError(key)
        row = self.sums[:, index]
        return row.detach() if key[0] in ("weight", "hard_weight") and self.fixed_weight else row

    def __add__(self, other: LabelFold) -> LabelFold:
        if self.wanted != other.wanted or self.sums.shape != other.sums.shape or self.table.shape != other.table.shape:
            raise LossError("LabelFold", "other", f"a fold of {self.wanted} {tuple(self.sums.shape)}", f"{other.wanted}")
        return replace(self, sums=self.sums + other.sums, table=self.table + other.table)

    def sum_images(self) -> LabelFold:
        """Add the images."""
        table = self.table.sum(0, keepdim=True) if self.table.dim() and len(self.table) > 1 else self.table
        return replace(self, sums=self.sums.sum(0, keepdim=True), table=table)


@dataclass(frozen=True)
class LabelNeeds:
    """What a loss wants collected. Losses whose needs :meth:`agree` share one pass, which collects all they want."""

    spec: LabelSpec
    engine: str | None
    per_image: bool = True  # whether anyone asks for the images apart

    def agree(self, other: LabelNeeds) -> bool:
        """Whether one pass can serve both."""
        mine, yours = self.spec, other.spec
        return (
            (mine.softmax, mine.ignore_index, mine.align_corners) == (yours.softmax, yours.ignore_index, yours.align_corners)
            and self.engine == other.engine
            and (mine.bins is None or yours.bins is None or mine.bins.count == yours.bins.count)
            and (mine.hard is None or yours.hard is None or mine.hard == yours.hard)
        )

    def merge(self, other: LabelNeeds) -> LabelNeeds:
        """Return the needs of both."""
        mine, yours = self.spec, other.spec
        more = tuple(s for s in yours.sums if place(mine.sums, s) < 0)
        bins = mine.bins or yours.bins
        if mine.bins and yours.bins:
            bins = replace(mine.bins, per_image=mine.bins.per_image or yours.bins.per_image)
        spec = replace(mine, sums=mine.sums + more, bins=bins, hard=mine.hard or yours.hard)
        return LabelNeeds(spec, self.engine, self.per_image or other.per_image)

    def collect(self, loss: str, scores: Tensor, labels: Tensor, weight: Tensor | None) -> LabelFold:
        """Make the pass over tensors that have been checked."""
        collected = self._fold(loss, scores, labels, weight)
        fixed = weight is None or not weight.requires_grad
        return LabelFold(collected.sums, collected.table, self.spec.sums, result_dtype(scores), fixed)

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


def place(sums: Sequence[Sum], wanted: Sum) -> int:
    """Return where a sum stands, or -1 (spelled out, because torch.compile does not trace ``tuple.index`` with tuples)."""
    for index, (kind, gamma) in enumerate(sums):
        if kind == wanted[0] and gamma == wanted[1]:
            return index
    return -1


def result_dtype(scores: Tensor) -> torch.dtype:
    """Results are float32, or float64 for float64 scores."""
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


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
        raise LossError(self.loss, "labels", expected, f"also {sorted(set(labels[wrong].tolist()))[:5]}") from None


def check_label_inputs(loss: str, scores: object, labels: object, weight: object) -> tuple[Tensor, Tensor, Tensor | None]:
    """Refuse tensors that can't be folded, by shape, dtype and device; values are looked at in the pass.

    Returns:
        The tensors, the weight as ``[B, *S]``.
    """
    if not isinstance(scores, Tensor) or scores.dtype not in SCORE_DTYPES:
        raise LossError(loss, "logits", "a float tensor [B, C, *S]", describe(scores))
    for argument, tensor in (("logits", scores), ("labels", labels), ("weight", weight)):
        if isinstance(tensor, Tensor) and (tensor.layout != torch.strided or tensor.is_nested):
            raise LossError(loss, argument, "a dense strided tensor", f"layout {tensor.layout}", "call .to_dense()")
    if scores.dim() < 2 or scores.shape[1] == 0:
        raise LossError(loss, "logits", "[B, C, *S] with at least one class", describe(scores))
    expected = (scores.shape[0], *scores.shape[2:])
    if not isinstance(labels, Tensor):
        raise LossError(loss, "labels", f"an integer tensor {list(expected)}", describe(labels))
    if labels.dtype not in LABEL_DTYPES:
        hint = "call .long()" if not labels.is_floating_point() else "class indices; soft labels are not supported by this loss yet"
        raise LossError(loss, "labels", "int64, int32 or uint8", describe(labels), hint)
    if scores.dim() == labels.dim() + 1 == 4 and labels.shape[0] == scores.shape[0] and labels.numel() and scores.numel():
        expected = tuple(labels.shape)  # scored at label resolution
    if tuple(labels.shape) != expected:
        squeezable = labels.dim() == scores.dim() and labels.shape[1] == 1
        hint = "call .squeeze(1)" if squeezable else f"for logits {list(scores.shape)}"
        raise LossError(loss, "labels", f"of shape {list(expected)}", describe(labels), hint)
    if labels.device != scores.device:
        raise LossError(loss, "labels", f"on the logits' device {scores.device}", str(labels.device))
    if weight is None:
        return scores, labels, None
    if not isinstance(weight, Tensor):
        raise LossError(loss, "weight", f"a float or bool tensor {list(expected)}", describe(weight))
    if tuple(weight.shape) == (expected[0], 1, *expected[1:]) and weight.dim() == scores.dim():
        weight = weight.squeeze(1)
    if tuple(weight.shape) != expected:
        hint = "did you mean class_weight?" if weight.dim() == 1 else ""
        raise LossError(loss, "weight", f"pixel weights of shape {list(expected)}", describe(weight), hint)
    if weight.dtype not in (*SCORE_DTYPES, torch.bool):
        raise LossError(loss, "weight", "a float or bool tensor", describe(weight), "call .float() or .bool()")
    if weight.device != scores.device:
        raise LossError(loss, "weight", f"on the logits' device {scores.device}", str(weight.device))
    return scores, labels, weight


def describe(value: object) -> str:
    """Say what came, shortly."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"{type(value).__name__} {value!r}"[:80]
