"""What the lean form of the dense fold reads: targets, scores and weights of every element."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lossfold.folds.arithmetic import PROBABILITY_FLOOR, equals, log_sigmoid, resize, softplus, times_sigmoid, total
from lossfold.folds.dense.spec import DenseSpec
from lossfold.folds.fold import Sum

Sums = dict[Sum, Tensor]
FOCAL = ("focal", "focal_not", "focal_weight")
OF_P = ("prob", "prob_sq", "both", "apart", "map_prob")


def has(spec: DenseSpec, *kinds: str) -> bool:
    """Whether one of these kinds of sums is asked for."""
    return any(kind in kinds for kind, _ in spec.sums)


def gammas(spec: DenseSpec) -> list[float]:
    """Return the powers of focal sums."""
    return list(dict.fromkeys(gamma for kind, gamma in spec.sums if kind in FOCAL))


class Elements(NamedTuple):
    """Targets and scores ``[B, K, P]``, 0 where nothing counts, and weights ``[B, 1, P]`` or ``[B, K, P]``; None for 1.

    Likewise the map, if there is one.
    """

    t: Tensor
    z: Tensor
    w: Tensor | None
    m: Tensor | None

    def log(self, link: str) -> Tensor:
        """Return log p."""
        if link == "sigmoid":
            return log_sigmoid(self.z)
        return self.z.log_softmax(1) if link == "softmax" else self.z.clamp_min(PROBABILITY_FLOOR).log_()

    def minus_log_not(self, link: str) -> Tensor:
        """Return -log (1 - p)."""
        return softplus(self.z) if link == "sigmoid" else (1 - self.z).clamp_min_(PROBABILITY_FLOOR).log_().neg_()

    def summed(self, values: Tensor) -> Tensor:
        """Return the weighted sums, ``[B, K]``."""
        return total(values if self.w is None else values * self.w)

    def summed_products(self, values: Tensor, unknown: Tensor) -> Tensor:
        """Return the weighted sums of products with t or 1 - t, of which 0 times infinity is NaN and means 0.

        Args:
            values: the products.
            unknown: ``[B, K]``, NaN where a score is, else 0.
        """
        return total(values if self.w is None else values * self.w, add=torch.nansum) + unknown


def elements(
    spec: DenseSpec, scores: Tensor, targets: Tensor, weight: Tensor | None, maps: Tensor | None, check: bool = False
) -> Elements:
    """Bring scores, targets, weights and map together; see :func:`lossfold.folds.dense.definition.elements`."""
    z = resize(scores, targets.shape[2:], spec.align_corners)
    z, t = ((x.flatten(2) if x.dim() > 2 else x[..., None]).contiguous() for x in (z, targets))
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    out = equals(t, spec.ignore_index) if whole else None
    w = None
    if weight is not None:
        w = weight.reshape(len(t), t.shape[1] if weight.dim() == targets.dim() else 1, t.shape[2]).contiguous().to(z.dtype)
        out = w == 0 if out is None else out | (w == 0)
    if out is not None and spec.together and out.shape[1] > 1:
        out = out.any(1, keepdim=True)
    t = t.to(z.dtype)
    m = None if maps is None else maps.reshape(z.shape).to(z.dtype)
    if out is not None:
        t, z = torch.where(out, 0.0, t), torch.where(out, 0.0, z)
        m = None if m is None else torch.where(out, 0.0, m)
        w = (~out).to(z.dtype) if w is None else torch.where(out, 0.0, w)
    if check and targets.dtype != torch.bool:
        low, high = (0.0, 1.0) if whole else (-0.01, 1.01)
        least, largest = t.aminmax()
        torch._assert_async((least >= low) & (largest <= high), "lossfold: a target is out of range [0, 1]")
    return Elements(t, z, w, m)


def miss_of(spec: DenseSpec, found: Elements, p: Tensor) -> Tensor:
    """Return u = p (1-t) + q t, held above 0 where a power of it has no derivative there."""
    q = times_sigmoid(None, found.z, negative=True) if spec.link == "sigmoid" else 1 - found.z
    u = torch.lerp(p, q, found.t, out=q)
    return u.clamp_min_(torch.finfo(u.dtype).tiny) if any(gamma < 1 for kind, gamma in spec.sums if kind in FOCAL) else u
