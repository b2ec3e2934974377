"""How the sums that read a map are launched, beside the pass of the others; hosts, for it imports Triton."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossfold.engines.triton import INTERPRETED
from lossfold.folds.gpu import mapped
from lossfold.folds.gpu.launch import MOST_REGISTERS, TILE, flat, launch, options

KINDS = ("map_prob", "map_size")
LINKS = ("softmax", "sigmoid", "identity")
BLOCK = 256 if INTERPRETED else 128


def places_of(kinds: Sequence[int], codes: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return at which places kinds stand that are not among these codes, and at which those do that are."""
    found: tuple[list[int], list[int]] = [], []
    for place, kind in enumerate(kinds):
        found[kind in codes].append(place)
    return found


class Mapped(NamedTuple):
    """One call's tensors as kernels read them.

    Attributes:
        z, m: scores and map ``[B, C, P]`` of any strides.
        w: weights ``[B, P]`` or ``[B, C, P]`` in float32, contiguous, 0 where nothing counts.
        link: how scores become probabilities.
    """

    z: Tensor
    m: Tensor
    w: Tensor
    link: str

    @classmethod
    def of(cls, scores: Tensor, maps: Tensor, weight: Tensor | None, counted: Tensor, link: str) -> Mapped:
        """Return a call; counted: which pixels ``[B, *S]`` or elements ``[B, C, *S]`` do, whatever they weigh."""
        if weight is not None and weight.dim() != counted.dim():
            weight, counted = (x if x.dim() == scores.dim() else x[:, None] for x in (weight, counted))
        w = counted.to(torch.float32) if weight is None else torch.where(counted, weight, 0).to(torch.float32)
        each = w.dim() == scores.dim() and w.shape[1] == scores.shape[1]
        w = w.reshape(len(w), -1, scores.shape[2:].numel()) if each else w.reshape(len(w), -1)
        return cls(flat(scores), flat(maps.view(torch.uint8) if maps.dtype == torch.bool else maps), w.contiguous(), link)

    @property
    def programs(self) -> int:
        """Return how many programs an image has."""
        return math.ceil(self.z.shape[2] / BLOCK)

    def run(self, kernel: Any, first: Sequence[Tensor], last: Tensor, *numbers: int, **constants: Any) -> None:
        """Launch a kernel on these tensors, with others before and after them."""
        images, classes, pixels = self.z.shape
        fixed = {"C": classes, "LINK": LINKS.index(self.link), "EACH": self.w.dim() == self.z.dim(), "TILE": TILE, "BLOCK": BLOCK}
        fixed |= constants | options(4, MOST_REGISTERS)
        sizes = (self.programs, pixels, *self.z.stride(), *self.m.stride(), *numbers)
        launch(kernel, (self.programs * images,), *first, self.z, self.m, self.w, last, *sizes, **fixed)

    def sums(self, kinds: Sequence[str]) -> Tensor:
        """Return ``[B, kinds, C]``."""
        images, classes, _ = self.z.shape
        part = torch.empty((images, self.programs, len(kinds), classes), dtype=torch.float64, device=self.z.device)
        self.run(mapped.fold_maps, (), part, KINDS=tuple(map(KINDS.index, kinds)))
        return part.sum(1)

    def add_gradient(self, g: Tensor, gradient: Tensor) -> Tensor:
        """Add to the gradient of the scores, from the derivatives ``[B, C]`` by Σ w p m."""
        to = flat(gradient)
        itself = torch._C._is_alias_of(to, gradient)  # type: ignore[attr-defined]
        self.run(mapped.unfold_maps, (g,), to, *to.stride(), g.stride(0))
        return gradient if itself else gradient.copy_(to.view(gradient.shape))

    def add_values(self, g: Tensor, kinds: Sequence[str], values: Tensor, alone: bool) -> None:
        """Add shares of the sums that ``g [kinds, C]`` weighs to pixels ``[B, P]``, or alone to elements ``[B, C, P]``."""
        self.run(mapped.map_maps, (g,), values, KINDS=tuple(map(KINDS.index, kinds)), ALONE=alone)
