"""The shape fold in plain PyTorch, beside the distance transforms: it has no other engine.

A pixel that does not count (ignored, or of weight 0) is in no mask: no distance is measured to it, and it is beyond the border of
what is eroded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lossfold.engines.transforms import inside_transform
from lossfold.folds.arithmetic import resize, total
from lossfold.folds.fold import shares_of
from lossfold.folds.looks import can_look
from lossfold.folds.shape.spec import ShapeSpec
from lossfold.shapes.fields import Steps, depth, depth_of_labels
from lossfold.shapes.soft_skeletons import skeleton


class Masks(NamedTuple):
    """Probabilities and targets ``[B, K, *S]``, and what counts, ``[B, K or 1, *S]``.

    Attributes:
        p, t: 0 where nothing counts.
        w: weights, 0 where nothing counts.
        z: the scores, 0 where nothing counts.
        counted: None where all does.
        labels: ``[B, *S]`` where targets are classes.
    """

    p: Tensor
    t: Tensor
    w: Tensor
    z: Tensor
    counted: Tensor | None
    labels: Tensor | None


class Parts(NamedTuple):
    """What the sums are made of, ``[B, K, *S]``; with the skeletons of each number of iterations."""

    p: Tensor
    t: Tensor
    w: Tensor
    far: Callable[[float], Tensor]
    of_p: Mapping[float, Tensor]
    of_t: Mapping[float, Tensor]


SHARES: dict[str, Callable[[Parts, float], Tensor]] = {
    "weight": lambda x, number: x.w,
    "target": lambda x, number: x.w * x.t,
    "prob": lambda x, number: x.w * x.p,
    "both": lambda x, number: x.w * x.p * x.t,
    "far": lambda x, alpha: x.w * (x.p - x.t).square() * x.far(alpha),
    "skeleton": lambda x, steps: x.w * x.of_p[steps],
    "skeleton_inside": lambda x, steps: x.w * x.of_p[steps] * x.t,
    "target_skeleton": lambda x, steps: x.w * x.of_t[steps],
    "target_skeleton_inside": lambda x, steps: x.w * x.of_t[steps] * x.p,
}
"""What each pixel adds to each kind of sum; the number is the distances' exponent, or the skeletons' iterations."""


def fold(scores: Tensor, targets: Tensor, weight: Tensor | None, spec: ShapeSpec, labels: bool, steps: Steps) -> Tensor:
    """Sum over the pixels, for each image and class, what ``spec`` names: ``[B, len(spec.sums), K]``.

    Args:
        scores: ``[B, K, *S]`` logits or probabilities; ``[B, K, h, w]`` of another size than the targets are brought to it.
        targets: classes ``[B, *S]``, or ``[B, K, *S]`` numbers in [0, 1].
        weight: ``[B, *S]``, or ``[B, K, *S]`` weights of elements, or None for 1.
        spec: what to collect.
        labels: whether targets are classes.
        steps: each sample's spacing.
    """
    found = masks(scores, targets, weight, spec, labels)
    p, t, w, _, counted, _ = found
    parts = Parts(
        p,
        t,
        w,
        lambda alpha: distances(found, spec, alpha, steps),
        {number: skeleton(p, counted, int(number)) for kind, number in spec.sums if kind == "skeleton"},
        {number: skeleton(t, counted, int(number)) for kind, number in spec.sums if kind == "target_skeleton"},
    )
    shares = shares_of(parts, spec.sums, SHARES)
    return torch.stack([total(share.expand(p.shape).contiguous().flatten(2)) for share in shares], 1)


def masks(scores: Tensor, targets: Tensor, weight: Tensor | None, spec: ShapeSpec, labels: bool) -> Masks:
    """Bring scores, targets and weights together."""
    space = targets.shape[1:] if labels else targets.shape[2:]
    z = resize(scores, space, spec.align_corners).contiguous()
    classes = z.shape[1]
    y = targets[:, None] if labels else targets
    whole = labels or (not targets.is_floating_point() and targets.dtype != torch.bool)
    y = y.long() if whole else y
    counted = y != spec.ignore_index if whole else None
    w = z.new_ones(()) if weight is None else weight.to(z.dtype)
    if weight is not None:
        w = w if w.dim() == z.dim() else w[:, None]
        if not weight.requires_grad:
            counted = w != 0 if counted is None else counted & (w != 0)
    if counted is not None and spec.together:
        counted = counted.all(1, keepdim=True)
    if not inside_transform():
        least, most = (0, classes - 1) if labels else (0, 1) if whole else (-0.01, 1.01)
        fine = (y >= least) & (y <= most)
        fine = fine if counted is None else fine | ~counted
        what = f"a label is out of range [0, {classes})" if labels else "a target is out of range [0, 1]"
        torch._assert_async(fine.all(), f"lossfold: {what}")
    if counted is not None:
        w, y = torch.where(counted, w, 0.0), torch.where(counted, y, torch.zeros_like(y))
        z = torch.where(counted, z, 0.0).contiguous()  # the same bits in every layout
        if can_look(counted, False) and bool(counted.all()):
            counted = None  # and masks are as they are
    p = z if spec.link == "identity" else z.softmax(1) if spec.link == "softmax" else z.sigmoid()
    if counted is not None:
        p = torch.where(counted, p, 0.0)
    codes = torch.arange(classes, device=z.device).view(1, -1, *[1] * (z.dim() - 2))
    t = (y == codes).to(z.dtype) if labels else y.to(z.dtype)
    if counted is not None and labels:
        t = torch.where(counted, t, 0.0)
    return Masks(p, t, w, z, counted, y[:, 0] if labels else None)


@torch.no_grad()
def distances(found: Masks, spec: ShapeSpec, alpha: float, steps: Steps) -> Tensor:
    """Return the distances to where predicted and true masks end, each to the power of alpha, added up: ``[B, K, *S]``."""
    p, t, counted = found.p.detach(), found.t.detach(), found.counted
    wide = p.dtype == torch.float64
    if wide or found.labels is None:
        sides = [depth(mask > 0.5, counted, steps, wide) for mask in (p, t)]
    else:  # a pixel is of one class: one transform of labels
        seen = None if counted is None else counted[:, 0]
        most, hard = p.max(1)
        own = [torch.where(most > 0.5, hard, p.shape[1]) if spec.link == "softmax" else None, found.labels]
        sides = [
            depth(p > 0.5, counted, steps, wide) if labels is None else depth_of_labels(labels, p.shape[1], seen, steps)
            for labels in own
        ]
    return sum(side.square() if alpha == 2 else side**alpha for side in sides)  # type: ignore[return-value]
