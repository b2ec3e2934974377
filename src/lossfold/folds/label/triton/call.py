"""What the kernels of the label fold are handed, and what follows from it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossfold.folds.fold import code_of
from lossfold.folds.gpu.launch import flat
from lossfold.folds.gpu.resizing import full
from lossfold.folds.gpu.tables import MOST_PIXELS
from lossfold.folds.label.spec import KINDS
from lossfold.folds.label.triton import walks_cells

OF_EVERY_P = tuple(code_of(KINDS, kind) for kind in ("prob", "prob_sq"))
OF_EVERY_LOG = code_of(KINDS, "nll_all")


class Call(NamedTuple):
    """One call's tensors as kernels read them.

    Attributes:
        z: scores ``[B, C, P]`` of any strides; ``[B, C, h, w]`` where kernels bring them to labels of another size.
        y, w: labels and weights ``[B, *S]``, contiguous.
        kept: the hard pixels.
        fixed: what kernels are compiled for.
        ignore: the label of pixels that do not count.
        align_corners: how scores of another size stand to the labels.
    """

    z: Tensor
    y: Tensor
    w: Tensor
    kept: Tensor
    fixed: dict[str, Any]
    ignore: int
    align_corners: bool

    @classmethod
    def of(
        cls, scores: Tensor, labels: Tensor, weight: Tensor | None, kept: Tensor, ignore: int, softmax: bool, align_corners: bool
    ) -> Call:
        """Return a call."""
        y = labels.contiguous()
        w = y if weight is None else weight.contiguous()
        w = w.view(torch.uint8) if w.dtype == torch.bool else w
        fixed = {"C": scores.shape[1], "HAS_W": weight is not None, "SOFTMAX": softmax}
        return cls(scores if resizes(scores, labels) else flat(scores), y, w, kept, fixed, ignore, align_corners)

    @property
    def resized(self) -> bool:
        """Whether the labels are of another size than the scores."""
        return self.z.dim() == 4

    @property
    def message(self) -> str:
        """What is complained of labels that are no classes."""
        return f"lossfold: a label is out of range [0, {self.z.shape[1]}) and is not ignore_index={self.ignore}"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What a gradient and a map read."""
        return self.z, self.y, self.w, self.kept

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The number of images, of classes and of an image's labels."""
        images, classes = self.z.shape[:2]
        return images, classes, self.y.numel() // max(1, images)


def resizes(scores: Tensor, labels: Tensor) -> bool:
    """Whether labels are of another size than the scores."""
    return scores.dim() == 4 and scores.shape[2:] != labels.shape[1:]


def at_labels(scores: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    """Return scores of which kernels can make a pass: brought to the labels' size where none does that itself."""
    return scores if walks_cells(scores, labels) else full(scores, labels.shape[1:], align_corners)


def reads(kinds: tuple[int, ...]) -> dict[str, bool]:
    """Return whether sums read every class's p, and every class's log p."""
    return {"MIXED": any(kind in OF_EVERY_P for kind in kinds), "LOGS": OF_EVERY_LOG in kinds}


def tables(call: Call, bins: int, apart: bool, counts: bool, programs: int, pixels: int) -> tuple[Tensor, int, int]:
    """Return empty histograms ``[I, tables, C, own | other, bins + 1, words]``, tables to an image, and programs to a table.

    Args:
        call: what is counted.
        bins, apart: their number, and whether each image has its own.
        counts: whether weights are 1, so that a word holds both, of so many pixels.
        programs, pixels: of an image, and of a program at most.
    """
    images, classes, _ = call.sizes
    share = MOST_PIXELS // pixels if counts else programs * images
    groups = math.ceil(programs / share)
    rows, count = (images, groups) if apart else (1, math.ceil(images * programs / share))
    shape = rows, count, classes, 2, bins + 1, 1 if counts else 2
    return torch.zeros(shape, dtype=torch.int64, device=call.z.device), groups, share
