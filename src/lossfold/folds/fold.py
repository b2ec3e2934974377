"""What a pass over the pixels collected, whichever fold it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from typing_extensions import Self

from lossfold.engines.spec import DenseSpec, LabelSpec
from lossfold.engines.spec import Sum as Sum
from lossfold.errors import LossError

SCORE_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGER_DTYPES = (torch.int64, torch.int32, torch.uint8)
MOST_SUMS = 64  # of one pass
CONSTANT = ("weight", "hard_weight", "target", "target_sq")  # kinds that have no part of the scores


@dataclass(frozen=True)
class Fold:
    """What was collected: ``fold[kind, gamma]`` is ``[I, C]``, with I images, or 1 once they are added.

    Folds of tiles, micro-batches and ranks add up: ``a + b`` (which pixels are hard is decided within each).
    """

    sums: Tensor  # [I, K, C] float64
    table: Tensor  # [I, 4, C, bins] float64, see engines.eager.Collected
    wanted: tuple[Sum, ...]
    dtype: torch.dtype  # of the results
    target: str = "labels"  # what the scores were held against: "labels", "masks" or "soft"
    fixed: bool = True  # targets and weights need no gradient, so their sums have none

    def __getitem__(self, key: Sum) -> Tensor:
        index = place(self.wanted, key)
        if index < 0:
            raise KeyError(key)
        row = self.sums[:, index]
        return row.detach() if key[0] in CONSTANT and self.fixed else row

    def __add__(self, other: Fold) -> Fold:
        if self.wanted != other.wanted or self.sums.shape != other.sums.shape or self.table.shape != other.table.shape:
            raise LossError("Fold", "other", f"a fold of {self.wanted} {tuple(self.sums.shape)}", f"{other.wanted}")
        return replace(self, sums=self.sums + other.sums, table=self.table + other.table)

    def only(self, loss: str, gate: Tensor) -> Fold:
        """Return the fold of the images that a gate ``[B]`` lets through."""
        keep = check_gate(loss, gate, self.sums)
        table = torch.where(keep.unsqueeze(-1), self.table, 0.0) if self.table.dim() > 1 else self.table
        return replace(self, sums=torch.where(keep, self.sums, 0.0), table=table)

    def sum_images(self) -> Fold:
        """Add the images."""
        table = self.table.sum(0, keepdim=True) if self.table.dim() and len(self.table) > 1 else self.table
        return replace(self, sums=self.sums.sum(0, keepdim=True), table=table)


Spec = TypeVar("Spec", bound="LabelSpec | DenseSpec")


@dataclass(frozen=True)
class Needs(Generic[Spec]):
    """What a loss wants collected. Losses whose needs ``agree`` share one pass, which collects all they want."""

    spec: Spec
    engine: str | None
    per_image: bool = field(default=True, kw_only=True)  # whether anyone asks for the images apart

    def asking(self, **options: Any) -> Self:
        """Return the same fold with other options of the spec."""
        return replace(self, spec=replace(self.spec, **options))

    def each_image(self) -> Self:
        """Return the same fold, of each image apart."""
        bins = self.spec.bins and replace(self.spec.bins, per_image=True)
        return replace(self.asking(bins=bins), per_image=True)

    def with_sums(self, sums: tuple[Sum, ...]) -> Self:
        """Return the same fold with other sums."""
        return self.asking(sums=sums)

    def reads_alike(self, other: Needs[Spec]) -> bool:
        """Whether one pass can read scores and targets for both, and collect their sums and histograms."""
        mine, yours = self.spec, other.spec
        bins, others = mine.bins, yours.bins
        return (
            mine.reading == yours.reading
            and self.engine == other.engine
            and (bins is None or others is None or (bins.count, bins.hinge) == (others.count, others.hinge))
            and len(mine.sums) + len(yours.sums) <= MOST_SUMS
        )

    def joined(self, other: Needs[Spec], **options: Any) -> Spec:
        """Return the spec with the sums and the histogram of both, and with these options."""
        mine, yours = self.spec, other.spec
        more = tuple(s for s in yours.sums if place(mine.sums, s) < 0)
        bins = mine.bins or yours.bins
        if mine.bins and yours.bins:
            bins = replace(mine.bins, per_image=mine.bins.per_image or yours.bins.per_image)
        return replace(mine, sums=mine.sums + more, bins=bins, **options)


def place(sums: Sequence[Sum], wanted: Sum) -> int:
    """Return where a sum stands, or -1 (spelled out, because torch.compile does not trace ``tuple.index`` with tuples)."""
    for index, (kind, gamma) in enumerate(sums):
        if kind == wanted[0] and gamma == wanted[1]:
            return index
    return -1


def result_dtype(scores: Tensor) -> torch.dtype:
    """Results are float32, or float64 for float64 scores."""
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


def check_scores(loss: str, scores: object, **others: object) -> Tensor:
    """Refuse scores that no fold reads, and tensors beside them that are not dense and strided."""
    if not isinstance(scores, Tensor) or scores.dtype not in SCORE_DTYPES:
        raise LossError(loss, "logits", "a float tensor [B, C, *S]", describe(scores))
    for argument, tensor in (("logits", scores), *others.items()):
        if isinstance(tensor, Tensor) and (tensor.layout != torch.strided or tensor.is_nested):
            raise LossError(loss, argument, "a dense strided tensor", f"layout {tensor.layout}", "call .to_dense()")
    if scores.dim() < 2 or scores.shape[1] == 0:
        raise LossError(loss, "logits", "[B, C, *S] with at least one class", describe(scores))
    return scores


def check_weight(loss: str, weight: object, scores: Tensor, *shapes: tuple[int, ...]) -> Tensor | None:
    """Refuse weights of none of these shapes; the first is that of pixel weights ``[B, *S]``."""
    pixels = shapes[0]
    if weight is None:
        return None
    if not isinstance(weight, Tensor):
        raise LossError(loss, "weight", f"a float or bool tensor {list(pixels)}", describe(weight))
    if tuple(weight.shape) == (pixels[0], 1, *pixels[1:]):
        weight = weight.squeeze(1)
    if tuple(weight.shape) not in shapes:
        hint = "did you mean class_weight?" if weight.dim() == 1 else ""
        raise LossError(loss, "weight", f"pixel weights of shape {list(pixels)}", describe(weight), hint)
    if weight.dtype not in (*SCORE_DTYPES, torch.bool):
        raise LossError(loss, "weight", "a float or bool tensor", describe(weight), "call .float() or .bool()")
    if weight.device != scores.device:
        raise LossError(loss, "weight", f"on the logits' device {scores.device}", str(weight.device))
    return weight


def check_gate(loss: str, gate: Tensor, sums: Tensor) -> Tensor:
    """Refuse a gate that is not one for the images of a fold; return it as ``[B, 1, 1]``."""
    if gate.dtype != torch.bool or tuple(gate.shape) != (len(sums),):
        raise LossError(loss, "when", f"a boolean tensor [{len(sums)}]", describe(gate))
    if gate.device != sums.device:
        raise LossError(loss, "when", f"on the images' device {sums.device}", str(gate.device))
    return gate[:, None, None]


def describe(value: object) -> str:
    """Say what came, shortly."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"{type(value).__name__} {value!r}"[:80]
